"""Keras models as the bytes of a file: nodes need no file system that all of them see."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from tfdefense._progress import quiet
from tfdefense._validation import Model


def check_keras(model: Any) -> None:
    """Says of what no other process could load that it is no Keras model."""
    import keras

    if not isinstance(model, keras.Model):
        raise ValueError(f"On a cluster each worker loads a Keras model. Received a {type(model).__name__}.")


def to_bytes(model: Any) -> tuple[bytes, bool]:
    """What the file of a Keras model holds; and whether it is a defended one, which `from_bytes` asks for."""
    from tfdefense.contract import DefendedModel

    check_keras(model)
    with tempfile.TemporaryDirectory() as folder, quiet():
        try:
            model.save(Path(folder) / "model.keras")
        except Exception as error:  # of somebody else's layers
            raise ValueError(f"Model '{model.name}' can't be sent to the workers of a cluster: {_first_line(error)}") from error
        return (Path(folder) / "model.keras").read_bytes(), isinstance(model, DefendedModel)


def from_bytes(content: bytes, defended: bool) -> Model:
    """The model of `to_bytes`, in another process."""
    import keras

    from tfdefense import contract

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model.keras").write_bytes(content)
        path = Path(folder) / "model.keras"
        try:
            return contract.load(path) if defended else keras.models.load_model(path, compile=False)
        except Exception as error:  # layers that this process does not know, or may not run
            raise ValueError(
                f"A worker could not load the model: {_first_line(error)} Layers of your own must be in a package on every node "
                "that registers them, by `keras.saving.register_keras_serializable`."
            ) from error


def _first_line(error):
    # Keras tells the cause below the settings of the whole model.
    text = str(error).rsplit("Exception encountered: ", 1)[-1].strip()
    return next(iter(text.splitlines()), type(error).__name__)[:300]
