"""Attacks one zoo model for `outsiders` where foolbox and ART are installed: a request names an attack, the answer a file.

Of the library only the layers of the model are used, and the differentiable surrogate of one that has no gradient.
"""

import importlib.util
import sys
from pathlib import Path

from evaluation.runner.peers import installed, serve

OWN = "own script"
ONLY = {"foolbox DDN": "l2"}
OWN_STEPS, OWN_STARTS, SURROGATE_STEPS = 50, 5, 20


class Worker:
    """Has the model and its samples.

    Args:
        model: Path of the `.keras` file.
        samples: Path of arrays: `x` and `y` are attacked; `train_x` and `train_y` are what an attacker may know besides.
        folder: Where adversarial samples go.
    """

    def __init__(self, model, samples, folder):
        import keras
        import numpy as np

        from evaluation.benchmarks.outsiders import libraries, starts
        from evaluation.benchmarks.outsiders.logits import Logits

        with np.load(samples) as file:
            self.x, self.y, x, y = (file[name] for name in ("x", "y", "train_x", "train_y"))
        self.folder, self.compiled = Path(folder), {}
        self.logits = Logits(keras.models.load_model(model, compile=False), x[:500])
        pool, pool_y = x[:2000], y[:2000]
        accepted = self.logits.decide(pool) == pool_y
        self.pool = pool[accepted], pool_y[accepted]
        self.surrogate = starts.network(x, y, self.logits.classes)
        self.attacks, versions = {}, {}
        for name, make in libraries.ADAPTERS.items():
            if importlib.util.find_spec(name):
                self.attacks |= {f"{name} {attack}": find for attack, find in make(self.logits).items()}
                versions[name] = installed(name)
        self.attacks[OWN] = self.own
        names = {norm: [name for name in self.attacks if norm in ONLY.get(name, norm)] for norm in ("linf", "l2")}
        self.about = {"versions": versions, "attacks": names, "surrogate": self.logits.surrogate}

    def own(self, x, y, norm, size):
        """Annealed attacks with two losses, each from the sample, other classes' images, the other network's examples, noise."""
        import numpy as np

        from evaluation.benchmarks.outsiders.own import LOSSES, Attack
        from evaluation.benchmarks.outsiders.starts import nearest

        def attack(loss, logits, temperature=1.0):
            if (loss, norm, logits) not in self.compiled:
                self.compiled[loss, norm, logits] = Attack(logits, self.logits.shape, norm, loss, temperature)
            return self.compiled[loss, norm, logits]

        near = nearest(x, y, *self.pool, OWN_STARTS)
        misled = [attack("log-sum-exp", self.surrogate)(x, y, start, size, SURROGATE_STEPS)[0] for start in (x, near[0])]
        noise = (x + np.random.default_rng(0).uniform(-size, size, x.shape)).astype("float32")
        for loss in LOSSES:
            search = attack(loss, self.logits, self.logits.temperature)
            for start in (x, *near, *misled, noise):
                yield lambda rows, search=search, start=start: search(x[rows], y[rows], start[rows], size, OWN_STEPS)[0]

    def answer(self, attack, norm, size, rows):
        """The first point found that is neither right nor rejected for each of these samples, else the sample."""
        import numpy as np

        from tfdefense._files import write_file

        x, y = self.x[rows], self.y[rows]
        found, left = x.copy(), np.arange(len(rows))
        for attempt in self.attacks[attack](x, y, norm, size):
            points = attempt(left)
            points = shortened(x[left], np.where(np.isfinite(points), points, x[left]), norm, size)
            decided = self.logits.decide(points)
            good = (decided != y[left]) & (decided != self.logits.classes)
            found[left[good]] = points[good]
            left = left[~good]
            if not len(left):
                break
        path = self.folder / "found.npz"
        write_file(path, lambda new: np.savez(new, x_adv=found))
        return {"file": str(path)}


def shortened(x, points, norm, size):
    """What lies outside of the ball, as a minimum-norm attack's may, does not count; rounding of float32 is taken back."""
    import numpy as np

    change = points.astype("float64") - x
    if norm == "linf":
        change = np.clip(change, -size, size)
    else:
        length = np.linalg.norm(change.reshape(len(x), -1), axis=1).reshape(-1, *[1] * (x.ndim - 1))
        change *= np.minimum(1.0, size / np.maximum(length, 1e-12))
    return np.clip(x + change, 0, 1).astype("float32")


if __name__ == "__main__":
    serve("tensorflow", lambda: Worker(*sys.argv[1:]))
