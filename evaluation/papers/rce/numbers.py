"""The numbers of Pang et al. (2018), to stand beside ours: networks ResNet-32 and ResNet-56."""

DETECTORS = ("confidence", "non-ME", "K-density")
TABLE1 = {"mnist": {"CE": 0.0038, "RCE": 0.0029}, "cifar10": {"CE": 0.0713, "RCE": 0.0702}}
# Percent, in the order of DETECTORS.
TABLE2 = {
    "mnist": {
        "FGSM": {"CE": (79.7, 66.8, 98.8), "RCE": (98.8, 98.6, 99.4)},
        "BIM": {"CE": (88.9, 70.5, 90.0), "RCE": (91.7, 90.6, 91.8)},
        "ILCM": {"CE": (98.4, 50.4, 96.2), "RCE": (100.0, 97.0, 98.6)},
        "JSMA": {"CE": (98.6, 60.1, 97.7), "RCE": (100.0, 99.4, 99.0)},
        "C&W": {"CE": (98.6, 64.1, 99.4), "RCE": (100.0, 99.5, 99.8)},
        "C&W-hc": {"CE": (0.0, 40.0, 91.1), "RCE": (0.1, 93.4, 99.6)},
    },
    "cifar10": {
        "FGSM": {"CE": (71.5, 66.9, 99.7), "RCE": (92.6, 91.4, 98.0)},
        "BIM": {"CE": (0.0, 64.6, 100.0), "RCE": (0.7, 70.2, 100.0)},
        "ILCM": {"CE": (16.4, 37.1, 84.2), "RCE": (64.1, 77.8, 93.9)},
        "JSMA": {"CE": (99.2, 27.3, 85.8), "RCE": (99.5, 91.9, 95.4)},
        "C&W": {"CE": (99.5, 50.2, 95.3), "RCE": (99.6, 94.7, 98.2)},
        "C&W-hc": {"CE": (0.0, 28.8, 75.4), "RCE": (0.2, 53.6, 91.8)},
    },
}
# The share with f2 > 0 and the distortion.
TABLE3 = {"mnist": {"CE": (0.01, 17.12), "RCE": (0.77, 31.59)}, "cifar10": {"CE": (0.00, 1.26), "RCE": (0.12, 3.89)}}
# By substitute and target.
TABLE4 = {"cifar10": {("CE", "CE"): 0.750, ("RCE", "CE"): 0.908, ("CE", "RCE"): 0.891, ("RCE", "RCE"): 0.849}}


def auc(dataset, attack, system, detector):
    """An entry of table 2 as a share, or None where the paper has none."""
    found = TABLE2.get(dataset, {}).get(attack)
    return found and round(found[system][DETECTORS.index(detector)] / 100, 3)


def of(table, dataset, key):
    """An entry of one of the other tables, or None."""
    return table.get(dataset, {}).get(key)
