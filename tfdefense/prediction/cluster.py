"""Labels by the nodes of a Ray cluster: every worker holds the model, the driver writes one Parquet file a part.

A part is written when its labels are there, whole, by the driver alone. So a part whose worker is lost is labelled by another, a
run that was stopped goes on with the parts that are missing, and no picture has two rows.
"""

from __future__ import annotations

import collections
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfdefense._files import plain, write_text
from tfdefense._progress import estimate, quiet
from tfdefense._tables import checked, write
from tfdefense._validation import AnyModel, PathLike
from tfdefense.prediction.predicting import joined, stream
from tfdefense.prediction.sources import _are_paths, _expanded

MANIFEST = "parts.json"
# How often a part may lose its worker: one that ends a worker each time would end them all.
_LOSSES = 3


class Worker:
    """A process of the cluster with a model in it."""

    def __init__(self, content: bytes, options: dict[str, Any]) -> None:
        import keras

        from tfdefense import contract

        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "model.keras").write_bytes(content)
            path = Path(folder) / "model.keras"
            self.model = contract.load(path) if options.pop("defended") else keras.models.load_model(path, compile=False)
        self.options = options

    def ready(self) -> bool:
        return True

    def label(self, files: list[str]) -> Any:
        return joined(list(stream(self.model, files, **self.options)))


def predict_on_ray(
    model: AnyModel,
    data: Any,
    output: PathLike,
    address: str,
    *,
    part: int = 4096,
    progress: bool = False,
    **options: Any,
) -> None:
    """Labels files on a Ray cluster, as Parquet files in a folder; `td.predict(..., ray=address)`.

    Args:
        model: A Keras model.
        data: Paths as of `td.predict`, which every node sees under the same names.
        output: A folder, on the driver's machine. What is in it already of the same model and files is not labelled again.
        address: Of the cluster: "auto" on one of its nodes, "local" for this machine alone, or "ray://host:10001".
        part: Files of one Parquet file.
        progress: Whether to show how far it is.
        options: `batch_size`, `bounds` and `resize` of `td.predict`.
    """
    content, defended = _content(model)
    output = Path(output)
    checked(output / "part.parquet")
    parts = _parts(data, part)
    _begin(output, content, parts, plain(options))
    missing = {place: files for place, files in parts.items() if not _path(output, place).exists()}
    if not missing:
        return
    done = len(parts) - len(missing)
    with estimate(progress) as tell:
        for place, found in _labelled(_ray(address), content, options | {"defended": defended}, missing):
            write(_path(output, place), [found])
            done += 1
            tell(f"{done:,} of {len(parts):,} parts", done, len(parts))


def _ray(address):
    try:
        import ray
    except ImportError:
        raise ImportError("A cluster needs Ray, which is not installed: pip install 'tfdefense[cluster]'") from None
    if not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=False)
        except (ConnectionError, ValueError) as error:
            why = str(error).strip().splitlines()[0]
            raise ValueError(f"No Ray cluster answers at {address!r}: {why} Start one: ray start --head") from None
    return ray


def _labelled(ray, content, options, parts) -> Iterator[tuple[int, Any]]:
    """Parts as they are done. A worker that is lost is replaced where the cluster has room, and its part given to another."""
    gpus = int(ray.cluster_resources().get("GPU", 0))
    count = min(len(parts), gpus or max(1, int(ray.cluster_resources().get("CPU", 1))))
    # Each takes its share: TensorFlow would take all cores, and all memory of a GPU.
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3"} | ({} if gpus else {"TF_NUM_INTRAOP_THREADS": "1"})
    if "PYTHONPATH" in os.environ:
        environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
    kind = ray.remote(num_cpus=1, num_gpus=1 if gpus else 0, runtime_env={"env_vars": environment})(Worker)
    shared = ray.put(content)
    waiting = collections.deque(parts)
    losses: collections.Counter[int | None] = collections.Counter()
    idle: list[Any] = []
    # What each worker is at: a part, or None while it starts. One that finds no room waits for it, such as a new node.
    busy: dict[Any, tuple[Any, int | None]] = {}

    def start():
        worker = kind.remote(shared, dict(options))
        busy[worker.ready.remote()] = (worker, None)

    for _ in range(count):
        start()
    left = set(parts)
    try:
        while left:
            while idle and waiting:
                place = waiting.popleft()
                worker = idle.pop()
                busy[worker.label.remote(parts[place])] = (worker, place)
            (future, *_), _ = ray.wait(list(busy), num_returns=1)
            worker, place = busy.pop(future)
            try:
                found = ray.get(future)
            except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError) as error:
                if place is None and "creation task" in str(error):
                    raise ValueError(f"A worker could not load the model: {str(error).strip().splitlines()[-1]}") from error
                losses[place] += 1
                if losses[place] > _LOSSES:
                    files = "starting" if place is None else f"labelling {parts[place][0]} and those after it"
                    raise RuntimeError(
                        f"Workers were lost {losses[place]} times while {files}. Finished parts are kept."
                    ) from error
                if place is not None:
                    waiting.appendleft(place)
                ray.kill(worker)
                start()
                continue
            # It stays, with nothing to do too: it may be needed for a part whose worker is lost.
            idle.append(worker)
            if place is not None:
                yield place, found
                left.remove(place)
    finally:
        for worker in [*idle, *(worker for worker, _ in busy.values())]:
            ray.kill(worker)


def _path(output, place):
    return output / f"part-{place:06d}.parquet"


def _parts(data, size):
    """Place -> files of one part, absolute, so that every node reads the same."""
    if isinstance(data, str | os.PathLike):
        data = [data]
    if not _are_paths(data):
        raise ValueError(f"On a cluster the nodes read files: expected paths. Received: {type(data).__name__}.")
    files = [os.path.abspath(path) for path in _expanded(data)]
    if not files:
        raise ValueError(f"No pictures in {', '.join(map(str, data))}.")
    return {number: files[start : start + size] for number, start in enumerate(range(0, len(files), size))}


def _content(model: Any) -> tuple[bytes, bool]:
    """A Keras model as a file's bytes, which need no file system that all nodes see; and whether it is a defended one."""
    import keras

    from tfdefense.contract import DefendedModel

    if not isinstance(model, keras.Model):
        raise ValueError(f"On a cluster each worker loads a Keras model. Received a {type(model).__name__}.")
    with tempfile.TemporaryDirectory() as folder, quiet():
        model.save(Path(folder) / "model.keras")
        return (Path(folder) / "model.keras").read_bytes(), isinstance(model, DefendedModel)


def _weights(content):
    """What a model's file holds; the bytes themselves have the time in them."""
    import io
    import zipfile

    found = hashlib.sha256()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in sorted(archive.namelist()):
            if name != "metadata.json":
                found.update(name.encode() + archive.read(name))
    return found.hexdigest()


def _begin(output: Path, content: bytes, parts: dict[int, list[str]], options: Any) -> None:
    """Makes the folder, or sees that what is in it belongs to this run."""
    output.mkdir(parents=True, exist_ok=True)
    files = hashlib.sha256()
    for place, names in parts.items():
        files.update("\0".join([str(place), *names, ""]).encode("utf-8", "surrogateescape"))
    about: dict[str, Any] = {"model": _weights(content), "files": files.hexdigest(), "parts": len(parts), "options": options}
    path = output / MANIFEST
    if path.exists():
        before = json.loads(path.read_text())
        if other := [name for name in about if before.get(name) != about[name]]:
            differ = ", ".join(other)
            raise ValueError(f"{output} holds the labels of another run, with other {differ}. Choose another folder, or remove it.")
    elif any(output.glob("*.parquet")):
        raise ValueError(f"{output} holds Parquet files of something else. Choose another folder.")
    else:
        write_text(path, json.dumps(about, indent=1))
