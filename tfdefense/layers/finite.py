"""What is no number must not look like a clean sample: comparisons, ReLU and max-pooling make an ordinary number of NaN."""

from keras import ops


def unless_finite(values, features):
    """The values, one or a row a sample, and +inf or NaN for each sample whose features are not all finite.

    Nothing accepts those. Where a sample has as many features as values, each value stands for its own.
    """
    finite = ops.isfinite(features)
    if len(values.shape) < len(features.shape) or values.shape[1:] != features.shape[1:]:
        finite = ops.all(finite, axis=tuple(range(1, len(features.shape))))
        finite = ops.reshape(finite, (-1, *[1] * (len(values.shape) - 1)))
    # Minus log 0 is +inf, minus log 1 is 0: `where` may be written as a product with infinity.
    return values - ops.log(ops.cast(finite, values.dtype))
