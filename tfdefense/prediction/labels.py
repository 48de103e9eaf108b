"""Labels for sets of any size: by this process, or by the nodes of a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfdefense._tables import write
from tfdefense._validation import AnyModel, Bounds, PathLike
from tfdefense.prediction.cluster import predict_on_ray
from tfdefense.prediction.predicting import Predictions, joined, stream


def predict(
    model: AnyModel,
    data: Any,
    *,
    output: PathLike | None = None,
    batch_size: int | None = None,
    bounds: Bounds = None,
    resize: bool = False,
    devices: Sequence[str] | None = None,
    ray: str | None = None,
    progress: bool = False,
) -> Predictions | None:
    """Labels of samples, however many there are: they are read, decided and forgotten batch by batch.

    Args:
        model: A defended model, a plain classifier, a loaded SavedModel, or a function from samples to scores.
        data: An array, one larger than memory such as `np.load(path, mmap_mode="r")` among them; a data set of batches such as a
            `tf.data.Dataset`, whose labels are passed over; or a path, or a list of paths: of pictures, of folders of pictures, of
            patterns such as "photos/*.jpg", of `.npz`, `.npy` and `.tfrecord` files. An `.npz` file alone is read whole.
            Arrays are taken as they are; what a file holds is moved into the bounds of the model.
        output: A `.csv` or `.parquet` file to write the rows to as they come; see `td.prediction.write`. Memory is then the same
            for any number of samples. Without it what is returned takes 13 bytes a sample, and the names.
        batch_size: Samples at once, over all devices; None takes as many as keep the network's activations within 256 MiB, at most
            256, on each.
        bounds: Range of the values of a plain model, for files; by default (0, 1).
        resize: Whether pictures of another size are moved to the model's, bilinearly. Without it they are rows that say so.
        devices: Names of devices that share each batch, such as `["GPU:0", "GPU:1"]`, each with a copy of the Keras model. None
            takes all GPUs where there are several.
        ray: Address of a Ray cluster, such as "auto", whose nodes share the work. Then `data` are paths that all nodes see, and
            `output` is a folder, which gets one Parquet file for each 4,096 files; called again, it goes on with those that are
            missing. Needs `pip install tfdefense[cluster,parquet]`.
        progress: Whether to show how far it is.

    Returns:
        `Predictions`; None where they went into `output`.

    Example:

    >>> found = predict(defended, x_held_out)
    >>> len(found), found.label.dtype.name
    (397, 'int32')
    >>> bool((found.label == defended.predict(x_held_out, verbose=0)["label"]).all())
    True
    """
    if ray is not None:
        if output is None or devices is not None:
            raise ValueError("With `ray` labels are written as they come: expected `output`, a folder, and no `devices`.")
        predict_on_ray(model, data, output, ray, progress=progress, batch_size=batch_size, bounds=bounds, resize=resize)
        return None
    found = stream(model, data, batch_size=batch_size, bounds=bounds, resize=resize, devices=devices, progress=progress)
    if output is not None:
        write(output, found)
        return None
    return joined(list(found))
