"""What Keras notes on a user's layers when others are called on their outputs."""

import contextlib

import keras

from tfdefense.graph import walk


@contextlib.contextmanager
def unnoted(model):
    """Takes back what the calls inside note on the layers of `model`: a base would hold each defense ever attached to it.

    Keras lists on every operation the calls that use its outputs, and reads that list nowhere: saving, cloning and running go
    from a call back to its inputs.
    """
    operations = list(_operations(model))
    before = [len(operation._outbound_nodes) for operation in operations]
    try:
        yield
    finally:
        for operation, count in zip(operations, before, strict=True):
            del operation._outbound_nodes[count:]


def _operations(model):
    """All operations of a model, those of submodels too; none of one that is subclassed, or not built."""
    if not (getattr(model, "built", False) and getattr(model, "outputs", None)):
        return
    for operation in {id(operation): operation for operation, _ in walk(model)}.values():
        yield operation
        if isinstance(operation, keras.Model):
            yield from _operations(operation)
