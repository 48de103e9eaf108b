"""The Keras models that a defense gives: inference is their default, and they are written whole."""

import functools
from pathlib import Path

import keras

from tfdefense._files import write_file
from tfdefense._validation import batch_hint


@keras.saving.register_keras_serializable(package="tfdefense")
class InferenceModel(keras.Model):
    """A functional model whose plain call is one for inference, whatever layers are inside; `fit` trains it as any other.

    Keras calls augmentation layers as in training unless told otherwise: `model(x)` would draw, `model.predict(x)` would not.
    """

    def __call__(self, inputs, *args, **options):
        # Keras adds an axis where one is lacking: of one image it makes as many as it has rows.
        if not isinstance(inputs, list | tuple | dict) and hasattr(inputs, "shape"):
            _check_shape(inputs, self.inputs[0].shape)
        return super().__call__(inputs, *args, **options)

    def call(self, inputs, training=None, mask=None):
        call = functools.partial(super().call, training=bool(training), mask=mask)
        if not _is_empty(inputs):
            return call(inputs)
        # Convolutions of TensorFlow know no empty batch: a sample is put in its place, and its answer is left out.
        return keras.tree.map_structure(lambda output: output[:0], call(keras.ops.zeros((1, *inputs.shape[1:]), inputs.dtype)))

    def predict(self, x, *args, **options):
        if not _is_empty(x):
            return super().predict(x, *args, **options)
        return keras.tree.map_structure(keras.ops.convert_to_numpy, self(x))


@keras.saving.register_keras_serializable(package="tfdefense")
class DefendedModel(InferenceModel):
    """What `td.defend` and `attach` give: a functional model with the outputs of the contract."""

    def save(self, filepath, overwrite=True, zipped=None, **options):
        """Saves the model as Keras does; a `.keras` file that is there already is replaced by a whole one or not at all."""
        save = functools.partial(super().save, overwrite=overwrite, zipped=zipped, **options)
        # Keras asks before it overwrites where it was told to, and names what it can't write.
        if overwrite and str(filepath).endswith(".keras") and Path(filepath).parent.is_dir():
            write_file(filepath, save)
        else:
            save(filepath)

    def export(self, filepath, format=None, verbose=False, **options):
        """Writes what the suffix of the path names, with the rejection inside: see `td.export.export`."""
        import tfdefense

        if options:
            raise ValueError(f"`export` takes a path and a format. Received: {', '.join(options)}.")
        # Keras's own name for it.
        path = tfdefense.export.export(self, filepath, "saved_model" if format == "tf_saved_model" else format)
        if verbose:
            print(f"Written: {path}")


def _check_shape(x, expected):
    if getattr(x.shape, "rank", 0) is None:  # a tensor of which nothing is known
        return
    shape = tuple(x.shape)
    # A last axis of one may be left out, or be there twice: that much is clear.
    forms = (shape, (*shape, 1), shape[:-1] if shape[-1:] == (1,) else shape)
    if not any(_fits(form, expected) for form in forms):
        raise ValueError(f"Expected samples of shape {tuple(expected)}. Received {shape}.{batch_hint(shape, expected)}")


def _fits(shape, expected):
    return len(shape) == len(expected) and all(None in pair or pair[0] == pair[1] for pair in zip(shape, expected, strict=True))


def _is_empty(x):
    """Whether an array or a tensor holds no sample, as far as its shape says."""
    return len(getattr(x, "shape", None) or ()) > 0 and x.shape[0] == 0
