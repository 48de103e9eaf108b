"""The search against a detector score: images are moved until it accepts them, or until it rejects them.

It follows the score's own gradient through the network, and that of its surrogate where it has one. Steps begin with one radius of
the ball or a quarter of it and shrink to 0, from the image and from a random point. Of each image the point with the best score of
all searches is kept: an AUROC asks for scores, whatever the threshold is.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfdefense.attacks import PGD, Objective
from tfdefense.attacks.bpda import SCHEDULE
from tfdefense.attacks.surrogate import anneal, differentiable, has_steps, has_surrogate
from tfdefense.view import View

ACCEPT, REJECT = "towards acceptance", "towards rejection"
# Length of the first step in radii, and where it is taken from. The last one goes on from the best point.
SEARCHES = ((1.0, "sample"), (0.25, "sample"), (1.0, "random"), (0.25, "random"))
BEST = 0.25
LONGER = 4


@dataclass(frozen=True)
class Guide(Objective):
    """What a search makes small: the number that its view calls suspicion."""

    def value(self, scores, suspicion, y, target, scale):
        return suspicion


@dataclass(frozen=True, eq=False)
class At:
    """A start: the points that are given, one for each sample of the call."""

    x: np.ndarray

    def points(self, attack, batch):
        return self.x[batch.number]


class Sight:
    """A defended model as the search sees it: `scores` are its suspicion and the negative of it, class 1 is where the search ends.

    It ends where nothing more is to be gained: an OOD image that looks less suspicious than every known one adds nothing to an
    AUROC, nor does a known one that looks more suspicious than every OOD image.

    Args:
        outputs: Gives the suspicion of images, and what a search is to make small for it to fall.
    """

    def __init__(self, outputs):
        self.outputs, self.sign, self.end = outputs, tf.Variable(1.0), tf.Variable(-np.inf)
        self.view = View(self)

    def __call__(self, x):
        own, guide = self.outputs(x)
        reached = self.sign * own < self.end
        return {"scores": tf.stack([own, -own], -1), "suspicion": self.sign * guide, "label": tf.cast(reached, tf.int32)}

    def aim(self, direction, others):
        """Sets the direction; `others` are the scores of the samples that are not attacked."""
        self.sign.assign(1.0 if direction == ACCEPT else -1.0)
        self.end.assign(np.min(others) if direction == ACCEPT else -np.max(others))

    def suspicion(self, x, batch):
        parts = [self.view.run(x[i : i + batch])[0][:, 0].numpy() for i in range(0, len(x), batch)]
        # What is no number is rejected.
        return np.nan_to_num(np.concatenate(parts), nan=np.inf, posinf=np.inf, neginf=-np.inf)


def through(body, model, spread=None):
    """Suspicion and guide of images: of a model of features behind the body, or of one of images where there is no body.

    Args:
        spread: Of several detectors those of their scores on known samples. The guide is then a smooth maximum in these units, so
            that the search sees all detectors at once; a maximum in their own hides all but one.
    """
    import keras

    from tfdefense.contract import nodes_of
    from tfdefense.layers import Threshold

    each = [node.output_tensors[0] for _, node in nodes_of(model, Threshold)] if spread is not None else []
    looked = keras.Model(model.inputs[0], [model.output["suspicion"], *each])

    def outputs(x):
        found = looked(x if body is None else body(x, training=False), training=False)
        own, *parts = found if isinstance(found, list | tuple) else [found]
        return own, tf.reduce_logsumexp(tf.stack(parts, -1) / spread, -1) if parts else own

    return outputs


def spreads(model, x):
    """The spread of each of several detectors' scores; None where there is but one."""
    import keras

    from tfdefense.calibration import run_batches
    from tfdefense.contract import nodes_of
    from tfdefense.layers import Threshold

    each = [node.output_tensors[0] for _, node in nodes_of(model, Threshold)]
    if len(each) < 2:
        return None
    return np.array([max(float(np.std(s)), 1e-6) for s in run_batches(keras.Model(model.inputs[0], each), x)], "float32")


class Search:
    """All searches against one model.

    Args:
        spread: See `through`.
        steps: Of each search.
        batch: Images at once.
    """

    def __init__(self, body, model, spread=None, steps=20, batch=100):
        self.steps, self.batch, self.taken = steps, batch, 0  # the last counts
        self.judge = Sight(through(body, model))
        # Where a model has no useful gradient, that of its surrogate alone leads anywhere.
        own = [] if has_steps(model) else [self.judge]
        self.sights = own + ([Sight(through(body, model, spread))] if spread is not None and own else [])
        self.surrogate = differentiable(model, exact_forward=True) if has_surrogate(model) else None
        self.smooth = Sight(through(body, self.surrogate)) if self.surrogate is not None else None

    def aim(self, direction, others):
        self.direction = direction
        self.better = np.less if direction == ACCEPT else np.greater
        for sight in {self.judge, *self.sights, *([self.smooth] if self.smooth else [])}:
            sight.aim(direction, others)

    def __call__(self, x, size, tried=()):
        """Moves images within a ball.

        Args:
            tried: Images of this ball to begin with, arrays like `x`: those found in a smaller one, and against other scores.

        Returns:
            The images, their suspicion, and whether no search had a gradient at any of its points.
        """
        self.x, self.best, self.stuck = x, x.copy(), np.ones(len(x), bool)
        self.own = self.judge.suspicion(x, self.batch)
        for points in tried:
            self._take(np.clip(np.clip(points, x - size, x + size), 0, 1).astype("float32"))
        for seed, (share, start) in enumerate(SEARCHES):
            for sight in self.sights:
                self._run(sight, size, share, start, seed)
        if self.smooth is not None:
            for seed, (slope, widen) in enumerate(SCHEDULE):
                anneal(self.surrogate, slope, widen)
                if not self.sights:
                    for number, (share, start) in enumerate(SEARCHES):
                        self._run(self.smooth, size, share, start, 4 * seed + number)
                self._run(self.smooth, size, BEST, At(self.best.copy()), seed)
        for sight in self.sights:
            self._run(sight, size, BEST, At(self.best.copy()), len(SEARCHES))
        return self.best, self.own, self.stuck & ~self._ended()

    def longer(self, x, size, found):
        """The suspicion of points after a search of many more steps from those that were found."""
        self.x, self.best, self.stuck, kept = x, found.copy(), np.ones(len(x), bool), self.steps
        self.own = self.judge.suspicion(found, self.batch)
        self.steps = LONGER * kept
        for sight in self.sights or [self.smooth]:
            self._run(sight, size, BEST, At(self.best.copy()), 99)
            self._run(sight, size, 1.0, "random", 99)
        self.steps = kept
        return self.own

    def _run(self, sight, size, share, start, seed):
        waiting = ~self._ended()
        if not waiting.any():
            return
        attack = PGD(size, "linf", self.steps, share * size, objective=Guide(), starts=(start,), early_stop=True, seed=seed)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*gradient was all zeros")
            found = attack(sight.view, self.x, np.zeros(len(self.x), int), only=waiting, batch_size=self.batch)
        self.taken += int(found.steps.sum())
        self.stuck &= ~waiting | found.zero_gradient
        self._take(found.x_adv)

    def _ended(self):
        sign, end = float(self.judge.sign), float(self.judge.end)
        return sign * self.own < end

    def _take(self, points):
        own = self.judge.suspicion(points, self.batch)
        better = self.better(own, self.own)
        self.best[better], self.own[better] = points[better], own[better]
