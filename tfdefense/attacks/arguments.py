"""What attacks are given, checked: each complaint is one sentence that says what was expected and what came."""

import numpy as np

from tfdefense._validation import check_labels
from tfdefense.view import View, samples_at_once


def check(model, x, y, bounds):
    """The model as a view, samples as float32 inside its bounds, labels as int32 inside its classes; or a clear error."""
    view = View.of(model, bounds)
    lack = _unready(view.model)
    if lack:
        raise ValueError(lack)
    x = check_samples(view, x)
    return view, x, check_labels(y, samples=len(x), classes=view.classes).astype("int32")


def check_samples(view, x, name="x"):
    """Samples as float32 inside the bounds of a model, seen as `view`; or a clear error, in which they are called `name`."""
    # The arithmetic of an honest pipeline may end a hair outside.
    return check_values(view, x, name).astype("float32").clip(*view.bounds)


def check_values(view, x, name="x"):
    """Samples as they are, not copied, when they are of the model's shape, finite and inside its bounds; or a clear error."""
    x = view.check_shape(x)
    if not np.isfinite(x).all():
        bad = np.flatnonzero(~np.isfinite(x).reshape(len(x), -1).all(-1))
        raise ValueError(
            f"Expected finite samples. {len(bad)} of {len(x)} hold NaN or infinity, the first is number {bad[0]}. Drop them."
        )
    low, high = view.bounds
    slack = 1e-6 * (high - low)
    if x.min() < low - slack or x.max() > high + slack:
        likely = [b for b in ((0, 1), (-0.5, 0.5), (-1, 1), (0, 255)) if b[0] <= x.min() and x.max() <= b[1]]
        hint = f", or pass `bounds={likely[0]}` where the model takes such values" if likely else ""
        raise ValueError(
            f"`{name}` must lie in ({low:g}, {high:g}). Received values in [{x.min():.7g}, {x.max():.7g}]. Rescale{hint}."
        )
    return x


def check_mask(mask, shape):
    """What may change, one boolean a value of all samples; None stays None."""
    if mask is None:
        return None
    mask = np.asarray(mask)
    if mask.dtype.kind not in "biuf" or not np.isin(mask, (0, 1)).all():
        raise ValueError(f"`mask` must hold booleans, True where a value may change. Received dtype {mask.dtype}.")
    try:
        free = np.broadcast_to(mask.astype(bool), shape)
    except ValueError:
        raise ValueError(f"`mask` must broadcast to one sample, {shape[1:]}, or to all, {shape}. Received {mask.shape}.") from None
    fixed = np.flatnonzero(~free.reshape(len(free), -1).any(-1))
    if len(fixed):
        raise ValueError(f"`mask` must leave something of each sample to change. It is False in all of sample {fixed[0]}.")
    return free


def check_only(only, samples):
    """Which samples to attack, a boolean each; None stays None: all."""
    if only is None:
        return None
    only = np.asarray(only)
    if only.dtype != bool or only.shape != (samples,):
        raise ValueError(
            f"`only` must hold one boolean a sample, shape ({samples},). Received dtype {only.dtype}, shape {only.shape}."
        )
    return only


def _unready(model):
    import keras

    from tfdefense.contract import is_defended, unready

    return unready(model) if isinstance(model, keras.Model) and is_defended(model) else None


def attacked_at_once(model, x):
    """As many samples as an attack may take at once, at most 128: its gradient goes back through each pass that a layer such as
    `td.layers.Consistency` makes, and holds the activations of all."""
    passes = sum(getattr(layer, "passes", 0) for layer in getattr(model, "layers", ()))
    return max(4, min(128, 4 * samples_at_once(model, x) // (1 + 2 * passes))) if passes else 128
