"""A model, defended or plain, as one artifact for other programs: the rejection is inside and needs no tfdefense.

Every format has a free batch size. A plain model's one output is called `output_0`. Those of a defended model are `scores`,
`suspicion`, `label` and, but for `.keras`, `reason`: 0 accepted, 1 suspicious, 2 invalid input (NaN, infinity, out of bounds),
3 broken model (a weight or a score that is not finite). A SavedModel also has `detector`, the number of the detector that
rejected a suspicious sample, and -1 of all others; the file `assets.extra/tfdefense.json` in it has their names.

A SavedModel has the signature `serving_default`, which takes what the model takes, and of a defended model `serve_threshold`, which
takes thresholds beside; where the model has bounds also `serve_uint8`, which takes pixels from 0 to 255, and `serve_image`, where
that was asked for, which takes JPEG and PNG files. docs/serving.md has requests for each.

A SavedModel checks its weights at each request; the other formats hold them as constants, which are checked when they are written.
A request of the wrong shape is an error; LiteRT looks only at how many numbers a sample has. An empty batch gives an empty answer.
"""

from tfdefense.export.formats import FORMATS, export, keras, litert, onnx, saved_model
from tfdefense.export.gradients import gradients
from tfdefense.export.served import served, served_image, served_threshold, served_uint8

__all__ = [
    "FORMATS",
    "export",
    "gradients",
    "keras",
    "litert",
    "onnx",
    "saved_model",
    "served",
    "served_image",
    "served_threshold",
    "served_uint8",
]
