"""Labels by the nodes of a Ray cluster: every worker holds the model, the driver writes one Parquet file a part.

A part is written when its labels are there, whole, by the driver alone. So a part whose worker is lost is labelled by another, a
run that was stopped goes on with the parts that are missing, and no picture has two rows.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from tfdefense._cluster import Workers, from_bytes, to_bytes
from tfdefense._files import plain, write_text
from tfdefense._progress import estimate
from tfdefense._tables import checked, write
from tfdefense._validation import AnyModel, PathLike
from tfdefense.prediction.predicting import joined, stream
from tfdefense.prediction.sources import _are_paths, _expanded

MANIFEST = "parts.json"


class Labeller:
    """What each worker does: it has the model, and labels files."""

    def __init__(self, content: bytes, defended: bool, options: dict[str, Any]) -> None:
        self.model, self.options = from_bytes(content, defended), options

    def __call__(self, files: list[str]) -> Any:
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
    content, defended = to_bytes(model)
    output = Path(output)
    checked(output / "part.parquet")
    parts = _parts(data, part)
    _begin(output, content, parts, plain(options))
    missing = [place for place in parts if not _path(output, place).exists()]
    if not missing:
        return
    done = len(parts) - len(missing)
    with estimate(progress) as tell, Workers(address, Labeller, content, defended, options) as workers:

        def labelling(place):
            return f"labelling {parts[place][0]} and those after it"

        for place, found in workers.each(missing, lambda place: (parts[place],), labelling):
            write(_path(output, place), [found])
            done += 1
            tell(f"{done:,} of {len(parts):,} parts", done, len(parts))


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
