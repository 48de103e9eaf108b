"""What goes to workers: each model once, by its content; everything else as a pickle that refers to them."""

from __future__ import annotations

import io
import pickle
from typing import Any

from tfdefense._cache import content
from tfdefense._cluster.models import check_keras, from_bytes, to_bytes
from tfdefense.view import View


class Sent:
    """The side of the driver.

    Args:
        ray: The module, connected.
    """

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        # Name -> the bytes of a model in the cluster's memory, and whether it is a defended one.
        self._models: dict[str, Any] = {}

    def packed(self, value: Any) -> tuple[Any, dict[str, Any]]:
        """A reference to the pickle of a value, and the models that it refers to; for `Received.unpacked`.

        Models and views in it, at whatever depth, become the same ones of the worker, which compiles them once.
        """
        from ray import cloudpickle

        used: dict[str, Any] = {}

        def name(model):
            check_keras(model)
            try:
                found = content(model)
            except ValueError as error:  # without its settings it has no file either
                why = "a layer does not tell its settings. Give it a `get_config`."
                raise ValueError(f"Model '{model.name}' can't be sent to the workers of a cluster: {why}") from error
            if found not in self._models:
                written, defended = to_bytes(model)
                self._models[found] = self._ray.put(written), defended
            used[found] = self._models[found]
            return found

        class Pickler(cloudpickle.Pickler):
            def persistent_id(self, one):
                return _reference(one, name)

        buffer = io.BytesIO()
        try:
            Pickler(buffer).dump(value)
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            raise ValueError(f"What the attack is made of can't be sent to the workers of a cluster: {error}") from error
        return self._ray.put(buffer.getvalue()), used


def _reference(one, name):
    import keras

    if isinstance(one, keras.Model):
        return "model", name(one)
    if isinstance(one, View):
        if type(one) is not View:
            raise ValueError(f"On a cluster each worker makes its own view of a model. Received a {type(one).__name__}.")
        # The few samples that it has looked at say what kind of scores the model gives.
        return "view", name(one.model), one.bounds, one._few
    return None


class Received:
    """The side of a worker: it holds the models that it was sent."""

    def __init__(self) -> None:
        self._models: dict[str, Any] = {}

    def unpacked(self, reference: Any, models: dict[str, Any]) -> Any:
        """The value of `Sent.packed`."""
        import ray

        def model(name):
            if name not in self._models:
                written, defended = models[name]
                self._models[name] = from_bytes(ray.get(written), defended)
            return self._models[name]

        class Unpickler(pickle.Unpickler):
            def persistent_load(self, about):
                kind, name, *of_view = about
                if kind == "model":
                    return model(name)
                bounds, few = of_view
                view = View.of(model(name), bounds)
                view.expect(few)
                return view

        return Unpickler(io.BytesIO(ray.get(reference))).load()
