"""What Keras notes on a user's layers when others are called on their outputs."""

import contextlib

import keras

from tfdefense.graph import behind, walk


@contextlib.contextmanager
def unnoted(model):
    """Takes back what the calls inside note on the layers of `model`: a base would hold each defense ever attached to it.

    Keras lists on every operation the calls that use its outputs, and reads that list nowhere: saving, cloning and running go
    from a call back to its inputs.
    """
    known = {id(operation): operation for operation in _operations(model)}
    before = [(operation, len(operation._inbound_nodes), len(operation._outbound_nodes)) for operation in known.values()]
    try:
        yield
    finally:
        again = []
        for operation, calls, uses in before:
            del operation._outbound_nodes[uses:]
            again += [tensor for node in operation._inbound_nodes[calls:] for tensor in node.arguments.keras_tensors]
        # Where the layers were called again, as in the copy of a graph, they hold what these calls came from, such as its input.
        for operation, _ in behind(again):
            if id(operation) not in known:
                operation._outbound_nodes.clear()


def _operations(model):
    """All operations of a model, those of submodels too; none of one that is subclassed, or not built."""
    if not (getattr(model, "built", False) and getattr(model, "outputs", None)):
        return
    for operation in {id(operation): operation for operation, _ in walk(model)}.values():
        yield operation
        if isinstance(operation, keras.Model):
            yield from _operations(operation)
