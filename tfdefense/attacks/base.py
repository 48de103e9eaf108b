"""What all attacks share: checked input, batches, starts, the ball and the bounds, the worst case of each sample over starts."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from tfdefense import __version__
from tfdefense._cache import batches, is_watched, place
from tfdefense._cluster import check_keras
from tfdefense._progress import bar
from tfdefense._renamed import renamed_keywords
from tfdefense._validation import AnyModel, Bounds, PathLike, Tensor, check_labels, check_number
from tfdefense.attacks.arguments import check, check_mask, check_only
from tfdefense.attacks.norms import L1, L2, NORMS, Linf
from tfdefense.attacks.objectives import CrossEntropy, Evade, Objective
from tfdefense.attacks.on_ray import spread, workers
from tfdefense.attacks.result import ARRAYS, AttackResult, arrays_of
from tfdefense.attacks.starts import resolve
from tfdefense.view import View


@dataclass(frozen=True)
class Batch:
    """Samples under attack, the model as seen by the attack, and what the attack aims at.

    `only_target` says that another class than the target is no success: the caller named the target, not
    the attack. `pool` are the samples that a start may move towards, `number` each sample's place in the call: random starts follow
    from it and from the seed, whatever the batch size. `free` says of every value whether it may change; None: all may.
    """

    view: View
    x: np.ndarray
    y: np.ndarray
    target: np.ndarray | None
    only_target: bool
    scale: tuple
    pool: tuple
    number: np.ndarray
    free: np.ndarray | None = None

    def succeeded(self, label, rows=slice(None)):
        """Whether each label is what the attack wants of its sample, or of those of `rows`."""
        if self.only_target and self.target is not None:
            return label == self.target[rows]
        return (label != self.y[rows]) & (label != -1)

    def rows(self, index):
        target = None if self.target is None else self.target[index]
        free = None if self.free is None else self.free[index]
        return dataclasses.replace(self, x=self.x[index], y=self.y[index], target=target, number=self.number[index], free=free)

    def towards(self, target):
        """This batch with targets of the attack's own choice; any wrong class is a success. None: away from the true class."""
        return self if target is None else dataclasses.replace(self, target=target)

    @staticmethod
    def stacked(batches):
        """Batches on the same samples as one, one after the other."""
        first = batches[0]
        if len(batches) == 1:
            return first
        arrays = {name: [getattr(batch, name) for batch in batches] for name in ("x", "y", "target", "number", "free")}
        joined = {name: None if parts[0] is None else np.concatenate(parts) for name, parts in arrays.items()}
        return dataclasses.replace(first, **joined)

    def within(self, x):
        """Points with the clean values where nothing may change."""
        return x if self.free is None else np.where(self.free, x, self.x)

    def state(self, start):
        """What the state of every search holds: where it is, the clean sample, the aim, what counts, and what may change."""
        none = tf.zeros(len(start), tf.bool)
        wanted = self.target if self.only_target and self.target is not None else np.full(len(start), -1)
        state = {"x": tf.constant(start), "clean": tf.constant(self.x), "aim": self.aim, "zero": none, "done": none}
        state |= {"y": tf.constant(self.y, tf.int32), "wanted": tf.constant(wanted, tf.int32)}
        return state if self.free is None else state | {"free": tf.constant(self.free)}

    @property
    def aim(self):
        """The class that the objective is about, as a tensor: the target, or the true class."""
        return tf.constant(self.y if self.target is None else self.target)


def succeeds(label: Tensor, state: dict[str, Tensor]) -> Tensor:
    """Inside a step, whether each label is what the attack wants of its sample."""
    wrong = (label != state["y"]) & (label != -1)
    return tf.where(state["wanted"] >= 0, label == state["wanted"], wrong)


@dataclass
class Candidates:
    """The result of a search: one candidate a sample, the iterations it took, and where gradients were all zero.

    `label` is what the model said of `x`, where the search has looked: it spares another look.
    """

    x: np.ndarray
    steps: np.ndarray
    zero_gradient: np.ndarray
    label: np.ndarray | None = None


class Attack:
    """An attack is called with a model and samples; a subclass writes `perturb` and can break neither ball nor bounds.

    Subclasses are frozen dataclasses. Those with a field `epsilon` stay in a ball of that size and stop caring once a
    sample is broken; the others look for the smallest distance. An `objective` of None means: the cross-entropy of the
    scores on a plain model, whatever it was trained with, and `Evade` on one that rejects.

    Example:

    >>> import dataclasses
    >>> @dataclasses.dataclass(frozen=True)
    ... class Darken(td.attacks.Attack):
    ...     epsilon: float
    ...     norm = "linf"
    ...
    ...     def perturb(self, batch, start):
    ...         count = len(start)
    ...         return td.attacks.Candidates(start - self.epsilon, np.ones(count, int), np.zeros(count, bool))
    >>> bool((abs(Darken(0.1)(model, x, y).x_adv - x) <= 0.1 + 1e-6).all())
    True
    """

    norm: str = "l2"
    objective: Objective | None = None
    starts: tuple | str | None = ("sample",)
    restarts: int = 1
    seed: int = 0
    default_target: str | None = None
    # So many of the likeliest wrong classes to aim at in turn, from each start; 0 aims away from the true one.
    targets: int = 0
    # Whether `perturb` looks at the other samples of the call.
    looks_at_others = False

    @property
    def ball(self) -> Linf | L2 | L1:
        return NORMS[self.norm]

    def objective_on(self, view: View) -> Objective:
        if self.objective is not None:
            if not isinstance(self.objective, Objective):
                raise ValueError(f"`objective` must be an object such as `td.attacks.Margin()`. Received: {self.objective!r}.")
            return self.objective
        return Evade() if view.rejects else CrossEntropy()

    def perturb(self, batch: Batch, start: np.ndarray) -> Candidates:
        """From the points `start`, returns `Candidates` for the batch. The only method that an attack must write."""
        raise NotImplementedError

    def finish(self, batch: Batch, best: AttackResult) -> AttackResult:
        """What an attack still does with the best of all starts: nothing."""
        return best

    def online(self, view: View) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """`perturb(x, y, seeds)` for use inside a training step: tensors to a tensor. Here the attack itself, out of the graph."""
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            raise ValueError(
                f"{type(self).__name__} runs beside the training step, on one device. Received a distribution strategy. Take an "
                "attack that runs inside the step, such as `td.attacks.PGD`."
            )
        if "1" in (os.environ.get("TF_NUM_INTEROP_THREADS"), str(tf.config.threading.get_inter_op_parallelism_threads())):
            # The step holds that thread until the attack is done, and the attack would wait for it.
            raise ValueError(
                f"{type(self).__name__} runs beside the training step and needs a second thread. TensorFlow was given one. Set "
                "TF_NUM_INTEROP_THREADS=2, or take an attack that runs inside the step, such as `td.attacks.PGD`."
            )

        def attacked(x, y, seeds):
            if len(x) == 0:
                return x
            attack: Any = self
            seeded = dataclasses.replace(attack, seed=int(seeds[0])) if hasattr(self, "__dataclass_fields__") else self
            with warnings.catch_warnings():
                # Not every batch can be moved; whoever evaluates the trained model hears of it.
                warnings.filterwarnings("ignore", message=".*gradient was all zeros")
                return seeded(view, x, y, regardless=True).x_adv

        def perturb(x, y, seeds):
            found = tf.numpy_function(attacked, [x, y, seeds], tf.float32)
            return tf.ensure_shape(found, x.shape)

        return perturb

    @renamed_keywords(kept="cache")
    def __call__(
        self,
        model: AnyModel,
        x: ArrayLike,
        y: ArrayLike,
        target: ArrayLike | str | None = None,
        *,
        mask: ArrayLike | None = None,
        only: ArrayLike | None = None,
        regardless: bool = False,
        bounds: Bounds = None,
        batch_size: int = 128,
        progress: bool = False,
        cache: PathLike | None = None,
        ray: Any = None,
    ) -> AttackResult:
        """Attacks samples.

        Args:
            model: A defended model, a plain Keras classifier, a loaded SavedModel, or a function from samples to scores.
            x: Clean samples, floats or uint8, inside the bounds.
            y: Their true classes, integers.
            target: Classes to be classified as, "least_likely" or "most_likely" (of the wrong ones); None: any wrong class.
            mask: What may change: booleans that broadcast to one sample or to all, such as `[False, False, False, True]` for the
                last of four channels. None: everything.
            only: Which samples to attack, a boolean each; the others are given back as they are, without success. Each of
                those attacked fares as if all were: the others remain samples that a start may move towards.
            regardless: Whether to go on where the model is wrong already, for samples that are meant for another one. Searches that
                end with the first success, and those for the smallest change, have nothing to change there all the same.
            bounds: Lowest and highest pixel value, `(-np.inf, np.inf)` for none. A defended model knows its own; otherwise (0, 1).
            batch_size: Samples at once.
            progress: Whether to show a bar with an estimate of the time left.
            cache: A directory for finished batches: a call that was stopped goes on, and several processes share one. Needs a
                Keras model, whose weights can be compared.
            ray: Address of a Ray cluster, such as "auto", whose nodes share the batches; or `td.attacks.workers(address)`. Needs a
                Keras model, which is sent to them, and `pip install tfdefense[cluster]`. Results are those of the same batches.

        Returns:
            An `AttackResult`.
        """
        view, x, y = check(model, x, y, bounds)
        if ray is not None:
            check_keras(view.model)  # before the work
        free = check_mask(mask, x.shape)
        objective = self.objective_on(view)
        check_number("batch_size", batch_size, low=1, whole=True)
        targets = self._targets(view, x, y, self.default_target if target is None else target, batch_size)
        chosen = _of_every_class(y)
        pool = (x[chosen], y[chosen])
        starts = resolve(self.starts, view, pool[1], targets, self.restarts)
        scale = objective.measure(view, x, y)
        whole = Batch(view, x, y, targets, target is not None, scale, pool, np.arange(len(x)), free)
        only = check_only(only, len(x))
        rows = np.arange(len(x)) if only is None else np.flatnonzero(only)
        options = (starts, regardless, batch_size)

        def part(number):
            return whole.rows(rows[number * batch_size : (number + 1) * batch_size])

        def attacked(number):
            return arrays_of(self._attack(part(number), *options))

        about = (view.model, view.bounds, self, x, y, target is not None, targets, free, rows, regardless, batch_size, __version__)
        folder = place(cache, *about)
        show = bar(len(rows), batch_size) if progress or is_watched() else None
        names = [field.name for field in ARRAYS]
        with workers(ray) as spread_over:
            several = None if spread_over is None else spread(spread_over, self, part, *options)
            found = batches(folder, attacked, -(-len(rows) // batch_size), show, names, several)
        if only is not None:
            found.append(_left_alone(whole.rows(~only), batch_size))
        order = np.argsort(np.concatenate([rows, np.flatnonzero(~only)])) if only is not None else rows
        arrays = {field.name: np.concatenate([part[field.name] for part in found])[order] for field in ARRAYS}
        result = AttackResult(**arrays, norm=self.norm)
        _warn_of_zeros(self, result)
        return result

    def _attack(self, batch, starts, regardless, batch_size):
        best = self._judge(batch, Candidates(batch.x, np.zeros(len(batch.x), int), np.zeros(len(batch.x), bool)))
        # What is misclassified without any change is left alone.
        waiting = ~best.success | regardless
        aims = self._aims(batch) if self.targets and batch.target is None else [None]
        turns, first = [(start, aim) for aim in aims for start in starts], True
        while turns and waiting.any():
            rows = np.flatnonzero(waiting)
            # Few samples go from several starts at once: a small batch costs nearly as much as a full one.
            together = turns[: max(1, batch_size // len(rows))]
            turns = turns[len(together) :]
            each = [batch.rows(rows).towards(None if aim is None else aim[rows]) for _, aim in together]
            some = Batch.stacked(each)
            points = np.concatenate([start.points(self, one) for (start, _), one in zip(together, each, strict=True)])
            whole = self._judge(some, self.perturb(some, self._inside(some, points)))
            for part in whole.parts(len(rows)):
                found = part.spread(rows, best)
                # Of failures the first start's is kept, so that a result always shows an attempt; as of what was misclassified.
                better = best.beaten_by(found) | (waiting if first else False)
                if hasattr(self, "epsilon") and not first:
                    better &= ~best.success
                best, first = best.with_rows(better, found), False
            if hasattr(self, "epsilon"):
                waiting &= ~best.success
        return self.finish(batch, best)

    def _aims(self, batch):
        """The likeliest wrong classes of each sample, one array a rank."""
        scores = batch.view.run(batch.x)[0].numpy()
        scores[np.arange(len(scores)), batch.y] = -np.inf
        order = np.argsort(-scores, -1, kind="stable")[:, : min(self.targets, scores.shape[1] - 1)]
        return list(order.T.astype("int32"))

    def _judge(self, batch, found):
        x_adv = self._inside(batch, found.x)
        label = found.label
        if label is None or not np.array_equal(x_adv, found.x):
            label = batch.view.run(x_adv)[2].numpy()
        flat = (x_adv.astype("float64") - batch.x).reshape(len(x_adv), -1)
        # What is no picture is no success, whatever class a model gives it.
        success = batch.succeeded(label) & np.isfinite(flat).all(1)
        return AttackResult(x_adv, success, self.ball.distance(flat), found.steps, label, found.zero_gradient, self.norm)

    def _inside(self, batch, x):
        """Points moved into mask, ball and bounds: exactly those given back where they are inside already."""
        x = batch.within(np.asarray(x, "float32"))
        if hasattr(self, "epsilon"):
            flat = (x - batch.x).reshape(len(x), -1)
            outside = self.ball.distance(flat.astype("float64")) > self.epsilon * (1 + 1e-6)
            if outside.any():
                moved = self.ball.project(tf.constant(flat[outside]), tf.constant(self.epsilon, tf.float32)).numpy()
                x = x.copy()
                x[outside] = batch.x[outside] + moved.reshape(x[outside].shape)
        return np.clip(x, *batch.view.bounds).astype("float32")

    def _targets(self, view, x, y, target, batch_size):
        if target is None:
            return None
        if isinstance(target, str):
            if target not in ("least_likely", "most_likely"):
                raise ValueError(f"`target` must be classes, 'least_likely' or 'most_likely'. Received: {target!r}.")
            parts = [view.run(x[i : i + batch_size])[0].numpy() for i in range(0, len(x), batch_size)]
            scores = np.concatenate(parts)
            ruled_out = ~np.isfinite(scores)
            ruled_out[np.arange(len(y)), y] = True
            scores[ruled_out] = np.inf if target == "least_likely" else -np.inf
            return (scores.argmin(-1) if target == "least_likely" else scores.argmax(-1)).astype("int32")
        targets = check_labels(target, "target", samples=len(x), classes=view.classes).astype("int32")
        same = np.flatnonzero(targets == y)
        if len(same):
            raise ValueError(f"Expected targets other than the true classes. Sample {same[0]} has both {y[same[0]]}.")
        return targets


def _of_every_class(y, most=2048):
    """Numbers of so many samples, as many of each class as there are: those in a row may all be of one."""
    if len(y) <= most:
        return slice(None)
    order = np.argsort(y, kind="stable")
    place = np.empty(len(y), int)
    place[order] = np.arange(len(y)) - np.searchsorted(y[order], y[order])
    return np.sort(np.argsort(place, kind="stable")[:most])


def _left_alone(batch, batch_size):
    """The arrays of a result for samples that nobody attacks."""
    count = len(batch.x)
    label = [batch.view.run(batch.x[i : i + batch_size])[2].numpy() for i in range(0, count, batch_size)]
    none, never = np.zeros(count, int), np.zeros(count, bool)
    arrays = (batch.x, never, np.zeros(count), none, np.concatenate([none[:0], *label]), never)
    return {field.name: array for field, array in zip(ARRAYS, arrays, strict=True)}


def _warn_of_zeros(attack, result):
    share = result.zero_gradient.mean()
    if share > 0:
        warnings.warn(
            f"{type(attack).__name__}: the gradient was all zeros for {share:.1%} of the samples, so the attack could not move "
            "them. This is how masked gradients show: it says nothing for the defense. Try another objective (`Margin()`), "
            "`starts='all'`, or a transfer attack.",
            UserWarning,
            stacklevel=4,
        )
