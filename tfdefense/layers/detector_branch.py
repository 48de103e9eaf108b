from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfdefense.layers.finite import unless_finite

# The paper's feature maps of the first convolution, how many times as many each further one has, the number of convolutions before
# the last one, and behind which of them a pooling may stand.
FORMS = {"cifar": (96, 2, 3, (0, 1)), "imagenet": (196, 1, 5, (0,))}
# Normalisation, ReLU and pooling of a number wait for memory: as long as so many multiplications take, measured on two CPUs.
AFTER = 200
# What a branch has that was saved before its depth was.
EARLIER = {"cifar": 4, "imagenet": 5}


@keras.saving.register_keras_serializable(package="tfdefense")
class DetectorBranch(keras.layers.Layer):
    """A small convolutional network on the feature maps of an inner layer, which says how likely the input is adversarial.

    Gives one number a sample: the log-odds of "adversarial" against "clean". Convolutions of 3x3, each with batch
    normalisation and ReLU; a 1x1 convolution to the two classes (of the form for ImageNet the paper writes ten, which cannot
    be meant); the mean over all places. A pooling halves maps of at least 12 pixels a side and is left out for smaller ones,
    which gives the paper's two poolings at 32 pixels, one at 16, none at 8. Differentiable; its weights are trained
    by `td.DetectorTraining`.

    Args:
        form: "cifar": each convolution but the first has twice the width, a pooling behind the first two. "imagenet": all of
            equal width, a pooling behind the first.
        width: Feature maps of the first convolution; None is the paper's, 96 and 196.
        depth: Convolutions of 3x3, before the last one; None is the paper's, 3 (its figure 1) and 5. Earlier versions
            had 4 in the form "cifar"; models that they saved keep them.
        seed: Of the first weights; None draws them anew each time.

    Example:

    >>> DetectorBranch(width=8)(np.zeros((5, 16, 16, 3), "float32")).shape
    TensorShape([5])

    Reference: Metzen et al., 2017, On detecting adversarial perturbations, fig. 1 and section 4.2.
    """

    def __init__(
        self, form: str = "cifar", width: int | None = None, seed: int | None = None, depth: int | None = None, **kwargs: Any
    ):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if form not in FORMS:
            raise ValueError(f"`form` must be one of {', '.join(map(repr, FORMS))}. Received: {form!r}.")
        if width is not None and (not isinstance(width, int) or width < 1):
            raise ValueError(f"`width` must be a whole number of at least 1, or None for the paper's. Received: {width!r}.")
        if depth is not None and (not isinstance(depth, int) or depth < 1):
            raise ValueError(f"`depth` must be a whole number of at least 1, or None for the paper's. Received: {depth!r}.")
        self.form, self.width, self.seed = form, width, seed
        self.depth = FORMS[form][2] if depth is None else depth

    @staticmethod
    def plan(input_shape: tuple[Any, ...], form: str, width: int | None, depth: int | None) -> tuple[list[int], list[bool]]:
        """The maps of each convolution but the last, and which of them a pooling follows."""
        default, multiple, usual, pooled = FORMS[form]
        first, depth = width or default, depth or usual
        maps, pools, side = [first] + [multiple * first] * (depth - 1), [], min(input_shape[1:3])
        for number in range(depth):
            pools.append(number in pooled and side >= 12)
            side //= 1 + pools[-1]
        return maps, pools

    @classmethod
    def widest(cls, input_shape: tuple[Any, ...], most: float, form: str = "cifar", depth: int | None = None) -> int:
        """The largest width at which a branch makes at most so many multiplications a sample.

        It is one of 4, 8, 12 and so on: no less than 4, with which little is seen, no more than the paper's.
        """
        widths = [width for width in range(4, FORMS[form][0] + 1, 4) if cls.cost(input_shape, form, width, depth) <= most]
        return max(widths, default=4)

    @classmethod
    def cost(cls, input_shape: tuple[Any, ...], form: str, width: int, depth: int | None = None) -> int:
        """Multiplications a sample; what follows each convolution counts as `AFTER` for each of its numbers."""
        (_, high, wide, before), total = input_shape, 0
        for maps, pool in zip(*cls.plan(input_shape, form, width, depth), strict=True):
            total += high * wide * maps * (9 * before + AFTER)
            high, wide, before = (high // 2, wide // 2, maps) if pool else (high, wide, maps)
        return total + 2 * high * wide * before

    def build(self, input_shape):
        if len(input_shape) != 4 or None in input_shape[1:]:
            raise ValueError(
                "A detector branch watches feature maps of shape (batch, height, width, channels), all but the batch known. "
                f"Received shape {tuple(input_shape)}. Watch a convolution, a pooling or a block of them."
            )
        maps, pools = self.plan(input_shape, self.form, self.width, self.depth)
        self.convolutions, self.norms, self.pools = [], [], []
        shape = tuple(input_shape)
        for number, filters in enumerate([*maps, 2]):
            last = number == len(maps)
            initializer = keras.initializers.HeNormal(None if self.seed is None else self.seed + number)
            options = {"kernel_initializer": initializer, "use_bias": last, "padding": "same", "dtype": self.dtype_policy}
            convolution = keras.layers.Conv2D(filters, 1 if last else 3, **options, name=f"conv_{number + 1}")
            convolution.build(shape)
            self.convolutions.append(convolution)
            shape = (*shape[:3], filters)
            if last:
                break
            norm = keras.layers.BatchNormalization(momentum=0.9, dtype=self.dtype_policy, name=f"norm_{number + 1}")
            norm.build(shape)
            self.norms.append(norm)
            self.pools.append(pools[number])
            if self.pools[-1]:
                shape = (shape[0], shape[1] // 2, shape[2] // 2, filters)

    def call(self, maps, training=False):
        x = maps
        for convolution, norm, pool in zip(self.convolutions, self.norms, self.pools, strict=False):
            x = ops.relu(norm(convolution(x), training=training))
            # Tuples: Keras 3.15 fails on JAX with anything else.
            x = ops.max_pool(x, (2, 2), (2, 2)) if pool else x
        x = ops.mean(ops.cast(self.convolutions[-1](x), "float32"), axis=(1, 2))
        return unless_finite(x[:, 1] - x[:, 0], maps)

    def compute_output_spec(self, maps, training=False):
        if not self.built:
            self.build(maps.shape)
        return keras.KerasTensor(maps.shape[:1], dtype="float32")

    def get_config(self):
        own = {"form": self.form, "width": self.width, "seed": self.seed, "depth": self.depth}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config):
        return super().from_config({"depth": EARLIER.get(config.get("form", "cifar")), **config})
