"""Any model seen through the contract: defended or plain, Keras or a loaded SavedModel."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tfdefense._validation import (
    AnyModel,
    Bounds,
    Samples,
    Tensor,
    as_array,
    check_shape,
    checked_bounds,
    is_bounded,
    middle,
    samples,
)

# Bytes of activations that a batch may take, and samples that it has at most.
ROOM = 2**28
MOST = 256


@dataclass(frozen=True)
class Decisions:
    """What a model says of each sample, as arrays. `suspicion` is None for a model that rejects nothing."""

    scores: np.ndarray
    suspicion: np.ndarray | None
    label: np.ndarray


def decide(model: AnyModel, x: Samples, *, batch_size: int | None = None) -> Decisions:
    """Runs a model on samples and gives its scores, suspicion and labels (-1 = rejected).

    Scores are those that attacks work on: of a Keras model what is behind its softmax, of a function that gives probabilities
    their logarithms.

    Args:
        model: A defended model, a plain classifier, a loaded SavedModel, or a `View`.
        x: Samples, any values: what a defended model does not accept it rejects.
        batch_size: Samples at once; None takes as many as keep the activations of a Keras model within 256 MiB, at most 256.
    """
    view = View.of(model)
    x = view.check_shape(samples(x))
    batch_size = batch_size or samples_at_once(view.model, x)
    # Each batch by itself: an array of bytes may be as large as memory.
    parts = [view.run(x[start : start + batch_size].astype("float32", copy=False)) for start in range(0, len(x), batch_size)]
    joined: Any = (None if part[0] is None else np.concatenate([p.numpy() for p in part]) for part in zip(*parts, strict=True))
    return Decisions(*joined)


class View:
    """A model as attacks and metrics see it: scores, suspicion and label of a batch, and the bounds of its inputs.

    Compiled functions are kept with the view, one for every kind of step: `View.of` gives the same view for the same
    model, so that a sweep over sizes compiles once. It is kept with the model and ends with it. What a function stands for may
    change from call to call: its view is made anew, but for whoever passes the view in place of the function.

    At first use a view looks at a few outputs of its model: `classes` is their number, `rejects` whether it says of some samples
    that they are none of them, `probabilities` whether its scores are such, which it then takes the logarithms of.
    """

    # Whether `label` comes from another model than scores and suspicion: these then prove nothing.
    judged_elsewhere = False

    @staticmethod
    def of(model: AnyModel, bounds: Bounds = None) -> View:
        if isinstance(model, View):
            return model
        bounds = None if bounds is None else checked_bounds(bounds)
        return cached_view(model, ("itself", bounds), lambda: View(model, bounds)) if _lasts(model) else View(model, bounds)

    def __init__(self, model: AnyModel, bounds: Bounds = None) -> None:
        import keras

        if keras.backend.backend() != "tensorflow":
            raise ValueError(
                f"Attacks need Keras on TensorFlow. It runs on '{keras.backend.backend()}': set KERAS_BACKEND=tensorflow."
            )
        self.model, self._compiled = model, {}
        # Held, so that nothing later gets the identity of what this view was made with.
        self._seen = _traced(model)
        self.is_keras = isinstance(model, keras.Model)
        self.has_base = False
        self.input_shape, declared, known = None, None, None
        if self.is_keras:
            from tfdefense.contract import bounds_of, is_defended

            self._call: Callable[..., Any] = functools.partial(model, training=False)
            if is_defended(model):
                # A model of these outputs that was built by hand declares nothing.
                declared = bounds_of(model)
                classes = model.output["scores"].shape[-1]
                known = classes and (int(classes), True, False)
                self.has_base = declared is not None
            elif model.built:
                self._call = self._logits_call(model) or self._call
            if any(getattr(layer, "compute_dtype", None) == "float16" for layer in model._flatten_layers()):
                self._call = scaled_gradient(self._call)
            shape = getattr(model, "input_shape", None)
            self.input_shape = shape if isinstance(shape, tuple) else None
        elif hasattr(model, "signatures"):
            self._call, self.input_shape = self._saved_call(model)
        elif callable(model):
            self._call = model
        else:
            raise ValueError(f"Expected a Keras model, a loaded SavedModel or a function. Received {type(model).__name__}.")
        if bounds and declared and not is_bounded(declared):
            # Where the model takes any number, who attacks it may stay in a range.
            declared = bounds
        if declared and bounds and tuple(declared) != tuple(bounds):
            raise ValueError(
                f"The model rejects what is outside its bounds {declared}. Received `bounds={bounds}`: leave them out."
            )
        self.bounds = checked_bounds(declared or bounds or (0.0, 1.0))
        self._few: np.ndarray | None = None
        self._facts: tuple[int, bool, bool] | None = known
        self._sure = known is not None

    @staticmethod
    def _logits_call(model):
        """Attacks on softmax outputs stall where they saturate: use the logits behind them where they can be reached."""
        import keras

        from tfdefense.graph import SeveralLabels, expose, unnoted

        try:
            with unnoted(model):
                exposed = expose(model)
        except SeveralLabels:
            raise
        except ValueError:
            return None
        return functools.partial(keras.Model(exposed.input, exposed.logits), training=False)

    @staticmethod
    def _saved_call(model):
        import tensorflow as tf

        signature = model.signatures.get("serving_default") if model.signatures else None
        if signature is not None:
            spec = signature.structured_input_signature[1]
            (name, tensor_spec), *rest = spec.items()
            if rest:
                raise ValueError(f"Expected a SavedModel with one input. Received one with inputs {list(spec)}.")

            def call(x):
                outputs = signature(**{name: tf.cast(x, tensor_spec.dtype)})
                return outputs if len(outputs) > 1 else next(iter(outputs.values()))

            return call, tuple(tensor_spec.shape)
        if callable(getattr(model, "serve", None)):
            return model.serve, None
        raise ValueError(
            "The SavedModel has neither a 'serving_default' signature nor `serve`. Export it with `model.export(path)`."
        )

    def run(self, x: ArrayLike) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, suspicion and label of a batch, compiled."""
        import tensorflow as tf

        self.expect(x)
        return self._decided(*self._looked(tf.convert_to_tensor(x)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, suspicion (None if nothing is rejected) and label: tensors, inside or outside a compiled function."""
        if self._few is None:
            self.expect(x)
        return self._decided(*self._outputs(x))

    def _decided(self, scores, suspicion, label):
        import tensorflow as tf

        if self.probabilities:
            scores = tf.math.log(tf.maximum(scores, 1e-37))
        return scores, suspicion, tf.argmax(scores, -1, output_type=tf.int32) if label is None else label

    def _looked(self, x):
        """What the model gives, compiled: one function for all looks at it, the first included."""
        return self._traced_once("look", lambda: self._outputs, (x,))

    def _outputs(self, x):
        """What the model gives, as it is: scores, suspicion and label; of a plain one scores alone."""
        import tensorflow as tf

        outputs = self._call(x)
        if isinstance(outputs, dict):
            missing = {"scores", "suspicion", "label"} - set(outputs)
            if missing:
                raise ValueError(f"Expected outputs named scores, suspicion and label. Received: {', '.join(outputs)}.")
            return outputs["scores"], outputs["suspicion"], outputs["label"]
        if isinstance(outputs, list | tuple) or len(outputs.shape) != 2 or outputs.shape[-1] < 2:
            found = [tuple(o.shape) for o in outputs] if isinstance(outputs, list | tuple) else tuple(outputs.shape)
            hint = ""
            if found[1:] == (1,):
                hint = " If that is the probability of class 1: `lambda x: tf.concat([1 - model(x), model(x)], -1)`."
            raise ValueError(f"Expected class scores of shape (batch, classes), at least 2 classes. Received shape {found}.{hint}")
        return tf.cast(outputs, tf.float32), None, None

    def function(self, key: Any, build: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
        """The compiled function under `key`, built once for this model and traced once for any batch size."""
        return lambda *arguments: self._traced_once((key, self.probabilities), build, arguments)

    def _traced_once(self, key, build, arguments):
        import tensorflow as tf

        def any_batch(tensor):
            return tf.TensorSpec([None, *tensor.shape[1:]] if len(tensor.shape) else [], tensor.dtype)

        # Their structure follows from the key.
        full_key = (key, *((tensor.dtype, *tensor.shape.as_list()[1:]) for tensor in tf.nest.flatten(arguments)))
        if full_key not in self._compiled:
            # Without autograph an error raised while tracing reaches the user as it is.
            function = tf.function(build(), autograph=False)
            try:
                self._compiled[full_key] = function.get_concrete_function(*tf.nest.map_structure(any_batch, arguments))
            except NotImplementedError as error:
                raise ValueError(
                    "The function given as a model must be written in TensorFlow, which can follow it and its gradient. "
                    f"Received one that needs values: {str(error).splitlines()[0]}"
                ) from None
        return self._compiled[full_key](*arguments)

    @property
    def classes(self) -> int:
        return self._look()[0]

    @property
    def rejects(self) -> bool:
        return self._look()[1]

    @property
    def probabilities(self) -> bool:
        return self._look()[2]

    def expect(self, x: Tensor) -> None:
        """Keeps a few samples to look at the model with; inside a graph one of that shape, in the middle of the bounds."""
        import tensorflow as tf

        if x is None or (self._sure and self._few is not None):
            return
        symbolic = tf.is_symbolic_tensor(x)
        self._few = self._middle(x.shape) if symbolic else np.array(x[:16], "float32")
        if not self._sure:
            self._facts = None

    def _middle(self, shape):
        if shape is None:
            raise ValueError("What samples look like is not known of this model. Run it on some first: `view.run(x)`.")
        return np.full((1, *(side or 32 for side in shape[1:])), middle(self.bounds), "float32")

    def _look(self) -> tuple[int, bool, bool]:
        """How many classes, whether some are rejected, whether scores are probabilities: looked at until samples that are no
        broken ones have told."""
        if self._facts is None:
            import tensorflow as tf

            with tf.init_scope():  # The first use may be inside a training step.
                few = self._middle(self.input_shape) if self._few is None else self._few
                scores, suspicion, _ = self._looked(tf.constant(few))
                rows = scores.numpy()
            # Compiled, a ReLU makes numbers of what is none: samples count as well.
            rows = rows[np.isfinite(rows).all(-1) & np.isfinite(few).reshape(len(few), -1).all(-1)]
            plain = suspicion is None
            likely = plain and len(rows) > 0 and rows.min() >= 0 and np.allclose(rows.sum(-1), 1, atol=1e-3)
            self._facts, self._sure = (int(scores.shape[-1]), not plain, likely), not plain or len(rows) > 0
        return self._facts

    def check_shape(self, x: np.ndarray) -> np.ndarray:
        x = as_array(x)
        check_shape(x, self.input_shape)
        self.expect(x)
        return x

    def beside(self, model: AnyModel = None) -> View:
        """Another model on the same samples, as a view; None is the undefended classifier inside this one."""
        other = self.base() if model is None else View.of(model, self.bounds)
        other.expect(self._few)
        return other

    def base(self) -> View:
        """The undefended classifier inside a defended Keras model, as a view."""
        if not self.is_keras:
            raise ValueError(
                f"The undefended model inside a {type(self.model).__name__} can't be reached. Say which model to take instead: "
                "`td.attacks.Transfer(attack, source=model)`, or the start `td.attacks.Transferred(model)`."
            )
        from tfdefense.contract import base_model

        return cached_view(self.model, ("base", self.bounds), lambda: View(base_model(self.model), self.bounds))


def _lasts(model):
    import keras

    return isinstance(model, keras.Model) or hasattr(model, "signatures")


def _traced(model):
    """What a compiled function of a model refers to: another in its place the function would not know.

    Adapting may give layers new variables, and some, such as `Normalization`, keep plain tensors.
    """
    import keras
    import tensorflow as tf

    found = list(getattr(model, "variables", ()))
    if isinstance(model, keras.Model):
        values = (value for layer in model._flatten_layers() for value in vars(layer).values())
        found += [value for value in values if isinstance(value, tf.Tensor | np.ndarray)]
    return found


def _identities(model):
    return tuple(id(one) for one in _traced(model))


def scaled_gradient(call: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, with gradients that go back through it at the same size for each sample, whatever they are.

    In float16 those of a sample that the model is sure of would vanish, as they would in training without a scaled loss.
    """
    import tensorflow as tf

    def scaled(x):
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(x)
            outputs = call(x)
        every = tf.nest.flatten(outputs)
        smooth = [output for output in every if output.dtype.is_floating]

        @tf.custom_gradient
        def through(start, *passed):
            def back(*upstream):
                largest = [tf.reduce_max(tf.abs(tf.reshape(one, [tf.shape(one)[0], -1])), -1) for one in upstream]
                size = tf.maximum(tf.reduce_max(tf.stack(largest), 0), 1e-30)

                def times(tensor, factor):
                    return tensor * tf.reshape(factor, [-1] + [1] * (len(tensor.shape) - 1))

                scaled = [tf.cast(times(one, 1 / size), output.dtype) for one, output in zip(upstream, smooth, strict=True)]
                gradient = tape.gradient(smooth, x, output_gradients=scaled)
                return (None if gradient is None else times(gradient, size), *[None] * len(passed))

            return [tf.cast(one, tf.float32) for one in passed], back

        given = iter(tf.nest.flatten(through(x, *smooth)))
        return tf.nest.pack_sequence_as(outputs, [next(given) if one.dtype.is_floating else one for one in every])

    return scaled


def cached_view(model: Any, key: Any, build: Callable[[], Any]) -> Any:
    """The view of a model under `key`, built once for the variables that it has now.

    It is an attribute of the model, which it refers to in turn: both go when nobody else holds the model. A table beside them
    would keep the models of a long sweep alive.
    """
    # Not by `setattr`: Keras tracks what is set on its models.
    views = vars(model).setdefault("_tfdefense_views", {})
    identities = _identities(model)
    if key not in views or views[key][0] != identities:
        views[key] = identities, build()
    return views[key][1]


def samples_at_once(model: Any, x: np.ndarray, most: int = MOST) -> int:
    """As many samples as keep all activations of a model within `ROOM`, at least one and at most `most`.

    All of them, as a model that is called holds each until its last. `most` where a model can't be looked into.
    """
    # A network that asks itself about copies of a sample holds the activations of each.
    copies = max((getattr(operation, "copies", 1) for operation in getattr(model, "operations", ())), default=1)
    return max(1, min(most, ROOM // max(1, copies * _bytes_a_sample(model, x.shape[1:]))))


def _bytes_a_sample(model, shape):
    """Activations as float32. An open dimension is taken for the largest of the input, which it seldom passes."""
    if not getattr(model, "outputs", None):
        return 0
    import keras

    from tfdefense.graph import walk

    total = 0
    for operation, node in walk(model):
        for tensor in node.output_tensors:
            total += 4 * math.prod(max(shape) if length is None else length for length in tensor.shape[1:])
        if isinstance(operation, keras.Model):
            total += _bytes_a_sample(operation, shape)
    return total
