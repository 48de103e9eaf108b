import keras


@keras.saving.register_keras_serializable(package="tfdefense")
class ReverseLogits(keras.layers.Layer):
    """Negates logits, so that a network trained to give its true class the lowest score gives it the highest.

    Always active. Goes last, with `td.losses.ReverseCrossEntropy` as the loss.

    Example:

    >>> [float(score) for score in ReverseLogits()(np.array([[-2.0, 1.0]]))[0]]
    [2.0, -1.0]

    Reference: Pang et al., 2018, Towards robust detection of adversarial examples.
    """

    def call(self, logits):
        return -logits

    def compute_output_shape(self, input_shape):
        return input_shape
