"""Images for a model: their classes are numbered as its scores are."""

from pathlib import Path

from tfdefense._validation import are_numbers, checked_names


def load_for(model, name, split, *, classes=None, **options):
    """`td.data.load`, by the class names of a model, or by those given in their place.

    Where nobody names the classes, folders are numbered alphabetically: as Keras does when it reads them to train on, and
    right only if all of them are there.
    """
    from tfdefense.data import load

    names = names_for(model, classes)
    images = load(name, split, classes=names, **options)
    if names is None and images.classes:
        _check_count(images, _score_count(model))
    return images


def numbered_for(model, images, classes=None):
    """Images that are loaded already, in the same way. Those whose classes have no names stay as they are."""
    names = names_for(model, classes)
    return images if names is None or are_numbers(images.classes) else images.numbered(names)


def names_for(model, classes=None):
    """The class names of a model, or those given in their place, as a tuple; None where nobody names them."""
    from tfdefense.contract import class_names

    return class_names(model) if classes is None else checked_names(classes, _score_count(model))


def _check_count(images, count):
    own = count is not None and Path(images.name).exists() and not are_numbers(images.classes)
    if own and len(images.classes) != count:
        raise ValueError(
            f"{images.name} has {len(images.classes)} classes and the model {count}, so which is which is not known. Name "
            "the model's classes in the order of its scores: --classes a,b,c here, `classes=[...]` in Python; or once for all, "
            "`attach(model, class_names=[...])`."
        )


def _score_count(model):
    """How many classes a model gives scores for, where it says so."""
    output = getattr(model, "output", None)
    if output is None:
        signature = (getattr(model, "signatures", None) or {}).get("serving_default")
        output = signature and signature.structured_outputs
    if isinstance(output, dict):
        output = output.get("scores", next(iter(output.values())))
    shape: tuple[int | None, ...] = getattr(output, "shape", ())
    return shape[-1] if len(shape) == 2 else None
