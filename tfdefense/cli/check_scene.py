"""`tfdefense check-scene`: whether a picture with depth is one of a real scene."""

from typing import Annotated

import typer

from tfdefense.cli._app import command
from tfdefense.cli._console import tell
from tfdefense.cli._inputs import load_model

MODEL = "nyu_scene.safetynet"
_FALLS = (
    "The model of the zoo answers for careless forgers. Of pairs whose depth an attacker who knows it changed by up to "
    "{size:.3g} mm it is right on, or rejects, {share:.0%}; see `tfdefense zoo {name}`."
)
_HOLES = "{share:.0%} of {path} has no depth (0). It is filled from the nearest pixels, as in the pairs that models learn from."


@command("tfdefense check-scene image.png depth.png")
def check_scene(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="The picture.")],
    depth: Annotated[str, typer.Argument(metavar="DEPTH", help="Its depth map, as large: a 16-bit grey PNG of millimetres.")],
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="A model of pictures with depth: a .keras file, or a SavedModel; else the zoo's."),
    ] = None,
):
    """Is a picture with depth one of a real scene? Prints real, forged or rejected, and the scores."""
    from tfdefense.data.camera import read_pair

    read_pair(image, depth)  # what is wrong with the files is told before the model takes seconds to load
    path = model or _of_the_zoo()
    said, scores, suspicion, warning = _check(load_model(path), image, depth, path)
    if warning:
        tell(f"warning: {warning}")
    if model is None:
        tell(f"note: {_how_it_falls()}")
    text = ", ".join(f"{name} {score:.3f}" for name, score in scores.items())
    limit = "" if suspicion is None else f"; suspicion {suspicion:.3f}, above 0 is rejected"
    print(f"{said}\n  scores: {text}{limit}")


def _of_the_zoo():
    """The path of the model that comes with the library."""
    from tfdefense import zoo

    if MODEL not in zoo.list():
        raise ValueError(
            "No model of pictures with depth comes with this version. Pass one, `--model sceneproof.keras`, or make it in a clone: "
            f"`python -m evaluation zoo --dataset nyu_depth_v2_small --only {MODEL}`."
        )
    return zoo.weights(MODEL)


def _how_it_falls():
    """What its card says of the largest change of depth."""
    from tfdefense import zoo
    from tfdefense.data.camera import FAR

    largest = max(zoo.card(MODEL).attacked, key=lambda row: row["epsilon"])
    return _FALLS.format(size=FAR * largest["epsilon"], share=largest["robust_accuracy"], name=MODEL)


def _check(model, image, depth, path):
    """What the model says of a pair: a word, the scores by name, the suspicion (or None), and a warning (or None)."""
    from tfdefense._validation import range_of
    from tfdefense.data.camera import as_sample, filled, read_pair
    from tfdefense.data.scenes import CLASSES, FORGED, REAL
    from tfdefense.view import View, decide

    view = View.of(model)
    shape = view.input_shape
    if shape is None or len(shape) != 4 or shape[-1] != 4 or None in shape[1:]:
        raise ValueError(
            f"Expected a model of pictures with depth, four channels. {path} takes samples of shape {shape}. "
            "Train one: `python -m training nyu_scene`."
        )
    picture, millimetres = read_pair(image, depth)
    millimetres, share = filled(millimetres)
    low, high = range_of(view.bounds, "A picture with depth")
    decided = decide(model, low + as_sample(picture, millimetres, shape[1:3]) * (high - low))
    if decided.scores.shape[-1] != len(CLASSES):
        raise ValueError(f"Expected a model of two classes, forged and real. {path} has {decided.scores.shape[-1]}.")
    said = {FORGED: "forged", REAL: "real", -1: "rejected"}[int(decided.label[0])]
    scores = dict(zip(CLASSES, decided.scores[0].tolist(), strict=True))
    suspicion = None if decided.suspicion is None else float(decided.suspicion[0])
    return said, scores, suspicion, _HOLES.format(share=share, path=depth) if share else None
