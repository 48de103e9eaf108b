"""A picture and its depth map from files of a camera, as a model of pairs takes them."""

import numpy as np

from tfdefense._untrusted import read_image
from tfdefense.data.scenes import as_in_files

FAR = 10_000  # millimetres that a depth of 1 stands for
_DEEP = ("I;16", "I;16B", "I;16L", "I")


def read_pair(image, depth):
    """A picture (height, width, 3), uint8, and its depth in millimetres, (height, width), from 16 bits."""
    picture, map_ = read_image(image), read_image(depth)
    if picture.mode in (*_DEEP, "F"):
        raise ValueError(
            f"Expected a picture of 8 bits a colour first. Received {image}, which is a map of more: all above 255 would be white. "
            "Give the picture first and its depth map second."
        )
    picture = picture.convert("RGB")
    if map_.mode not in _DEEP:
        bits = {"1": "1-bit", "L": "8-bit", "P": "8-bit", "RGB": "colour", "RGBA": "colour", "F": "float"}
        raise ValueError(
            f"Expected a 16-bit grey PNG of millimetres as the depth map. Received {depth}, which is "
            f"{bits.get(map_.mode, map_.mode)}: its distances are lost. Save the sensor's own values as uint16."
        )
    if map_.size != picture.size:
        raise ValueError(
            f"Expected a depth map of the picture's size, {_by(picture.size)}. Received {_by(map_.size)} in {depth}. "
            "Register the depth map to the picture first: resized alone the two do not lie on each other."
        )
    return np.asarray(picture), np.asarray(map_).astype("float32")


def as_sample(picture, millimetres, size):
    """The pair as one sample of a model of that (height, width), float32 in [0, 1]."""
    from PIL import Image

    height, width = size
    if abs(picture.shape[1] * height / (picture.shape[0] * width) - 1) > 0.02:
        raise ValueError(
            f"The model looks at pictures of {_by((width, height))}. Received {_by(picture.shape[1::-1])}, of another shape: "
            f"squeezed, no scene looks real. Crop both files to {width}:{height}."
        )
    small = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)) / 255
    rows = (np.arange(height) + 0.5) * picture.shape[0] / height
    columns = (np.arange(width) + 0.5) * picture.shape[1] / width
    nearest = millimetres[rows.astype(int)][:, columns.astype(int)]
    # The pairs that models learn from have had 255 steps, whose middle is the distance; here all 16 bits count.
    far = nearest / FAR - 0.5 / 255
    return as_in_files(np.concatenate([small, far[..., None]], -1))[None]


def filled(millimetres):
    """Holes, 0, filled from the nearest pixel with depth, and their share; a map that is mostly holes stays as it is."""
    from scipy.ndimage import distance_transform_edt

    holes = millimetres == 0
    share = float(holes.mean())
    if not 0 < share < 0.5:
        return millimetres, 0.0
    rows, columns = distance_transform_edt(holes, return_distances=False, return_indices=True)
    return millimetres[rows, columns], share


def _by(size):
    return f"{size[0]}x{size[1]}"
