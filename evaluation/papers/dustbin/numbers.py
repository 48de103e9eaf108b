"""The numbers of Abbasi et al. (2018), table I, to stand beside ours: MNIST on cuda-convnet, CIFAR-10 on VGG16."""

NETWORKS = ("naive", "out", "both")
# Accuracy, rejection and error under each attack, in percent, for the three networks.
_BLACK_BOX = {
    "mnist": {
        "FGS": ((35.14, None, 64.86), (19.15, 65.19, 15.66), (0.35, 99.59, 0.06)),
        "I-FGS": ((16.37, None, 83.63), (30.97, 27.08, 41.95), (0.0, 100, 0.0)),
        "T-FGS": ((19.99, None, 80.01), (1.17, 95.92, 2.91), (0.0, 100, 0.0)),
        "DeepFool": ((1.89, None, 98.11), (11.45, 4.72, 83.83), (5.37, 89.84, 4.8)),
        "C&W": ((22.49, None, 77.51), (27.5, 5.99, 66.51), (7.5, 77.49, 15.01)),
    },
    "cifar10": {
        "FGS": ((36.16, None, 63.84), (27.65, 38.94, 33.41), (23.94, 49.23, 26.83)),
        "I-FGS": ((50.34, None, 49.66), (45.98, 18.57, 35.45), (41.92, 25.88, 32.2)),
        "T-FGS": ((36.24, None, 63.76), (27.06, 40.54, 32.4), (24.2, 50.77, 25.03)),
        "DeepFool": ((56.82, None, 43.18), (45.63, 31.0, 23.37), (42.31, 38.86, 18.83)),
        "C&W": ((42.5, None, 57.5), (46.5, 18.5, 35), (39, 39.5, 21.5)),
    },
}
CLEAN = {"mnist": (0.995, 0.9947, 0.9948), "cifar10": (0.9053, 0.8858, 0.8665)}
FOREIGN = {"mnist": (None, 0.9996, 0.9998), "cifar10": (None, 0.9536, 0.9621)}
# Samples in the dustbin for each training sample.
SHARE = {"mnist": (None, 0.2, 0.5), "cifar10": (None, 0.3, 0.6)}
AVERAGE_ERROR = {"mnist": (0.8082, 0.4217, 0.0397), "cifar10": (0.5559, 0.3192, 0.2488)}


def of(table, row, network):
    """The entry of a network in a row of a table, or None where the paper has none."""
    return table[row][NETWORKS.index(network)] if row in table and network in NETWORKS else None


def black_box(dataset, attack, network):
    """Accuracy, rejection and error as shares; three times None where the paper has none."""
    row = of(_BLACK_BOX.get(dataset, {}), attack, network) or (None, None, None)
    return tuple(None if value is None else round(value / 100, 4) for value in row)
