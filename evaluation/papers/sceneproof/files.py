"""Models on what files hold of their input: who attacks through a file searches for changes that survive it."""

import keras
from keras import ops

from tfdefense.data.scenes import COLOUR_STEPS, DEPTH_STEPS
from tfdefense.graph import as_functional


@keras.saving.register_keras_serializable(package="tfdefense")
class WholeParts(keras.layers.Layer):
    """Colours in whole parts of 255, depth of 65535. Gradients pass as if nothing were rounded."""

    def call(self, inputs):
        steps = ops.convert_to_tensor([COLOUR_STEPS] * 3 + [DEPTH_STEPS], inputs.dtype)
        rounded = ops.round(ops.clip(inputs, 0.0, 1.0) * steps) / steps
        # What is added is 0, exactly, and has the gradient of the inputs.
        return ops.stop_gradient(rounded) + (inputs - ops.stop_gradient(inputs))


def on_files(model):
    """The same layers behind a rounding of the input; outputs are those of the model for inputs that a file can hold."""
    rounding = WholeParts(name="as_in_a_file")

    def call(layer, *args, **kwargs):
        args = keras.tree.map_structure(lambda one: rounding(one) if _is_input(one) else one, args)
        return layer(*args, **kwargs)

    return keras.models.clone_model(as_functional(model), clone_function=lambda layer: layer, call_function=call)


def _is_input(tensor):
    return isinstance(tensor, keras.KerasTensor) and isinstance(tensor._keras_history.operation, keras.layers.InputLayer)
