"""What a network is given: whole batches whose every random choice follows from the seed, the epoch and their place in it."""

import keras
import numpy as np

from tfdefense.metrics import benign_perturbation


class ShuffledBatches(keras.utils.PyDataset):
    """Whole batches in an order drawn from (seed, epoch). Keras's own shuffling can't be taken up again half way."""

    def __init__(self, x, y, batch_size, seed, augment=False, benign=None, noise=0.0):
        super().__init__()
        self.x, self.y, self.batch_size, self.seed, self.augment, self.benign = x, y, batch_size, seed, augment, benign
        self.noise = noise
        self.start(0)

    def start(self, epoch):
        self.epoch = epoch
        self.order = np.random.default_rng([self.seed, epoch]).permutation(len(self.x))

    def __len__(self):
        return len(self.x) // self.batch_size

    def __getitem__(self, index):
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        x = self.x[chosen]
        if self.augment:
            x = augmented(x, np.random.default_rng([self.seed, self.epoch, index]))
        if self.benign:
            x = varied(x, self.benign, np.random.default_rng([self.seed, self.epoch, index, 1]))
        if self.noise:
            drawn = np.random.default_rng([self.seed, self.epoch, index, 2]).standard_normal(x.shape, "float32")
            x = x + np.float32(self.noise) * drawn
        return x, self.y[chosen]


class WholeBatches(keras.utils.PyDataset):
    """All samples in their order, in batches of about 512 that leave none of so many replicas without a sample."""

    def __init__(self, x, y, replicas=1):
        super().__init__()
        self.x, self.y = x, y
        count = -(-len(x) // 512)
        self.ends = [len(x) * number // count for number in range(count + 1)]
        if len(x) // count < replicas:
            raise ValueError(f"`strategy` has {replicas} replicas. Received {len(x)} test samples, fewer than one for each.")

    def __len__(self):
        return len(self.ends) - 1

    def __getitem__(self, index):
        chosen = slice(self.ends[index], self.ends[index + 1])
        return self.x[chosen], self.y[chosen]


def augmented(x, rng, pixels=4):
    """Images moved by up to so many pixels, black where nothing comes in, half of them mirrored: He et al.'s augmentation."""
    height, width = x.shape[1:3]
    padded = np.pad(x, [(0, 0), (pixels, pixels), (pixels, pixels), (0, 0)])
    corners = rng.integers(0, 2 * pixels + 1, (len(x), 2))
    moved = np.stack([image[i : i + height, j : j + width] for image, (i, j) in zip(padded, corners, strict=True)])
    mirrored = rng.random(len(x)) < 0.5
    moved[mirrored] = moved[mirrored, :, ::-1]
    return moved


def varied(x, largest, rng):
    """The images, half of them with a benign perturbation, each of one kind and of a size up to the largest."""
    kinds = sorted(largest)
    chosen = rng.integers(-len(kinds), len(kinds), len(x))
    x = x.copy()
    for number, kind in enumerate(kinds):
        rows, size, seed = np.flatnonzero(chosen == number), largest[kind], int(rng.integers(2**31))
        size = int(rng.integers(1, size + 1)) if kind == "shift" else float(rng.uniform(0, size))
        if len(rows):
            x[rows] = benign_perturbation(x[rows], size, kind, seed=seed)
    return x
