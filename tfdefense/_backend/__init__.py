"""What `keras.ops` does not have, by backend."""

import keras

from tfdefense._validation import Tensor


def rows(array: Tensor, places: Tensor) -> Tensor:
    """The rows at those places. `ops.take` also cares for negative ones, in operations that an exported graph keeps."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.gather(array, places)
    return keras.ops.take(array, places, axis=0)
