from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfdefense._validation import Tensor, check_number
from tfdefense.attacks.base import Attack, Batch, Candidates, succeeds
from tfdefense.attacks.gradients import gradient_or_error
from tfdefense.attacks.searches.loop import check_search, lengths_of, search
from tfdefense.attacks.searches.projected import all_zero, move
from tfdefense.attacks.starts import accepted_others, distances
from tfdefense.view import View


@dataclass(frozen=True)
class Impersonation(Attack):
    """Moves the features of a sample to those of an accepted image of another class.

    What detectors on inner layers watch is then what they have seen of a clean image. It needs no gradient of their score, so that
    codes and narrow kernels don't hide it. The distance in each layer counts in units of what it is for the clean sample.

    Args:
        epsilon: Size of the ball.
        norm: "linf", "l2" or "l1".
        steps: Gradient steps.
        layers: Names of the layers whose outputs are the features. None takes what the defense of a Keras model looks at, and the
            class scores; of a model without one, what its last Dense layer takes, or else the scores.
        goals: How many images to impersonate, one after the other: the nearest in the features, then that of another class.
        step_size: Length of the first step; by default epsilon.
        schedule: "cosine" or "fixed", see `PGD`.
        early_stop: Leave a sample alone once the attack succeeds. Otherwise the last point counts.
        starts: Where to begin, as in `PGD`.
        seed: Of random starts.
        targets: As in `PGD`.

    Example:

    >>> Impersonation(epsilon=0.3, steps=10)(model, x, y).x_adv.shape == x.shape
    True

    Reference: Sabour et al., 2016, Adversarial manipulation of deep representations.
    """

    epsilon: float
    norm: str = "linf"
    steps: int = 40
    layers: tuple | None = None
    goals: int = 1
    step_size: float | None = None
    schedule: str = "cosine"
    early_stop: bool = True
    starts: tuple | str | None = ("sample",)
    seed: int = 0
    targets: int = 0

    looks_at_others = True

    def __post_init__(self):
        check_search(self)
        check_number("goals", self.goals, low=1, whole=True)
        if self.layers is not None:
            object.__setattr__(self, "layers", (self.layers,) if isinstance(self.layers, str) else tuple(self.layers))

    def perturb(self, batch: Batch, start: np.ndarray) -> Candidates:
        view = batch.view
        look = view.function(("features", self.layers), lambda: features_of(view, self.layers))
        away = self._away(look, batch)
        x, spent = np.array(start), np.zeros(len(start), int)
        zero, waiting = np.zeros(len(start), bool), np.ones(len(start), bool)
        for rank in range(self.goals):
            rows = np.flatnonzero(waiting)
            if len(rows) == 0:
                break
            some = batch.rows(rows)
            goal = batch.pool[0][accepted_others(some, away[rows], rank)]
            final, steps = search(self._step(some), self._begin(look, some, start[rows], goal), self.steps)
            success = some.succeeded(view.run(final["x"])[2].numpy())
            # Of failures the nearest goal's is kept.
            x[rows] = np.where(np.reshape(success | (rank == 0), [-1] + [1] * (x.ndim - 1)), final["x"], x[rows])
            spent[rows] += steps
            zero[rows] |= final["zero"]
            waiting[rows] = ~success
        return Candidates(x, spent, zero)

    def _away(self, look, batch, batch_size=128):
        """The distance of the features from each sample to each of the pool, each layer in units of its mean."""
        total, pool = np.zeros((len(batch.x), len(batch.pool[0]))), batch.pool[0]
        own = [part.numpy() for part in look(tf.constant(batch.x))]
        parts = []
        for first in range(0, len(pool), batch_size):
            others = [part.numpy() for part in look(tf.constant(pool[first : first + batch_size]))]
            parts.append([distances(a, b) for a, b in zip(own, others, strict=True)])
        for layer in zip(*parts, strict=True):
            distance = np.concatenate(layer, 1)
            total += distance / max(distance.mean(), 1e-30)
        return total

    def _begin(self, look, batch, start, goal):
        wanted = look(tf.constant(goal))
        state = batch.state(start)
        for number, (here, there) in enumerate(zip(look(tf.constant(batch.x)), wanted, strict=True)):
            state[f"goal_{number}"] = there
            state[f"unit_{number}"] = tf.maximum(tf.reduce_sum(tf.square(here - there), -1), 1e-30)
        return state

    def _step(self, batch):
        view, left = batch.view, iter(lengths_of(self, self.epsilon))
        epsilon = tf.constant(self.epsilon, tf.float32)
        key = ("impersonation", self.norm, self.layers, self.early_stop)
        step = view.function(key, lambda: _build_step(view, self.ball, self.layers, self.early_stop))
        return lambda state: step(state, tf.constant(next(left)), epsilon)


def _build_step(view, ball, layers, early_stop):
    look = features_of(view, layers)

    def step(state, length, epsilon):
        x = state["x"]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            value = tf.add_n(
                [
                    tf.reduce_sum(tf.square(part - state[f"goal_{number}"]), -1) / state[f"unit_{number}"]
                    for number, part in enumerate(look(x))
                ]
            )
        gradient = gradient_or_error(view, tape, value, x, state.get("free"))
        success = succeeds(view.forward(x)[2], state) if early_stop else tf.zeros(tf.shape(x)[:1], tf.bool)
        state = dict(state)
        state["zero"] |= all_zero(gradient) & ~success
        state["done"] = success
        moved = move(x, state["clean"], gradient, length, epsilon, ball, view.bounds)
        state["x"] = tf.where(tf.reshape(success, [-1] + [1] * (len(x.shape) - 1)), x, moved)
        return state

    return step


def features_of(view: View, layers: tuple[str, ...] | None = None) -> Callable[[Tensor], list[Tensor]]:
    """A function from samples to what a defense looks at, each flat."""
    if not view.is_keras:
        if layers is not None:
            raise ValueError(
                f"`layers` are those of a Keras model. Received a {type(view.model).__name__}. Leave them out: the features are "
                "then the class scores."
            )
        return lambda x: [view.forward(x)[0]]
    import keras

    from tfdefense.graph import for_inference, unnoted

    with unnoted(view.model):
        input, tensors = _tapped(for_inference(view.model), layers)
    # Not a `keras.Model`: one cut from inner tensors spoils the original, which could then not be saved.
    inner = keras.Function(input, tensors)

    def look(x: Tensor) -> list[Tensor]:
        return [tf.reshape(tf.cast(part, tf.float32), [tf.shape(x)[0], -1]) for part in inner(x)]

    return look


def _tapped(model, layers) -> tuple[Any, list[Any]]:
    """The symbolic input, and the tensors whose values are the features."""
    from tfdefense.contract import base_model, is_defended, reject_node
    from tfdefense.graph import before_last_dense, behind, expose

    if layers is not None:
        exposed = expose(base_model(model) if is_defended(model) else model, layers)
        return exposed.input, [*exposed.taps.values()]
    if not is_defended(model):
        exposed = expose(model)
        hidden = before_last_dense(exposed.logits)[0]
        return exposed.input, [exposed.logits if hidden is None else hidden]
    _, node = reject_node(model)
    scores = node.arguments.kwargs.get("base")
    scores = node.arguments.args[1] if scores is None else scores
    undefended = {id(one) for _, one in behind([scores])}
    # Where the calls of the defense take what the calls of the undefended model give.
    taken = {id(scores): scores}
    for _, one in behind(node.arguments.keras_tensors):
        if id(one) not in undefended:
            for tensor in one.arguments.keras_tensors:
                history = tensor._keras_history
                if id(history.operation._inbound_nodes[history.node_index]) in undefended and tensor is not model.inputs[0]:
                    taken[id(tensor)] = tensor
    return model.inputs[0], list(taken.values())
