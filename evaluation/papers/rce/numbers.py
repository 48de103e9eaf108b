"""The numbers of Pang et al. (2018), to stand beside ours: rows R4 to R9, networks ResNet-32 and ResNet-56."""

METRICS = ("confidence", "non-me", "density")
TEST_ERROR = {
    "mnist": {"ce": 0.0038, "rce": 0.0029},
    "cifar10": {"ce": 0.0713, "rce": 0.0702},
}
_AUC = {
    "mnist": {
        "FGSM": {"ce": (79.7, 66.8, 98.8), "rce": (98.8, 98.6, 99.4)},
        "BIM": {"ce": (88.9, 70.5, 90.0), "rce": (91.7, 90.6, 91.8)},
        "ILCM": {"ce": (98.4, 50.4, 96.2), "rce": (100.0, 97.0, 98.6)},
        "JSMA": {"ce": (98.6, 60.1, 97.7), "rce": (100.0, 99.4, 99.0)},
        "C&W": {"ce": (98.6, 64.1, 99.4), "rce": (100.0, 99.5, 99.8)},
        "C&W-hc": {"ce": (0.0, 40.0, 91.1), "rce": (0.1, 93.4, 99.6)},
    },
    "cifar10": {
        "FGSM": {"ce": (71.5, 66.9, 99.7), "rce": (92.6, 91.4, 98.0)},
        "BIM": {"ce": (0.0, 64.6, 100.0), "rce": (0.7, 70.2, 100.0)},
        "ILCM": {"ce": (16.4, 37.1, 84.2), "rce": (64.1, 77.8, 93.9)},
        "JSMA": {"ce": (99.2, 27.3, 85.8), "rce": (99.5, 91.9, 95.4)},
        "C&W": {"ce": (99.5, 50.2, 95.3), "rce": (99.6, 94.7, 98.2)},
        "C&W-hc": {"ce": (0.0, 28.8, 75.4), "rce": (0.2, 53.6, 91.8)},
    },
}
WHITE_BOX = {
    "mnist": {"ce": (0.01, 17.12), "rce": (0.77, 31.59)},
    "cifar10": {"ce": (0.00, 1.26), "rce": (0.12, 3.89)},
}
TOLD_OF_TRANSFER = {"mnist": "; the paper, in words: AUC above 0.95, less than half mislead"}
TRANSFER = {"cifar10": {("ce", "ce"): 0.750, ("rce", "ce"): 0.908, ("ce", "rce"): 0.891, ("rce", "rce"): 0.849}}


def auc(dataset, attack, loss, metric):
    """An entry of table 2 as a share, or None where the paper has none."""
    row = _AUC.get(dataset, {}).get(attack, {}).get(loss)
    return None if row is None else round(row[METRICS.index(metric)] / 100, 3)


def of(table, dataset, key):
    """An entry of one of the other tables, or None."""
    return table.get(dataset, {}).get(key)
