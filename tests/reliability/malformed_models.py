"""Malformed models, cards and cached batches: what is wrong with each, and what writes it into an empty folder."""

import json
import shutil
import zipfile

import numpy as np

from tests.reliability.malforming import NO_ARCHIVE, as_file, cuts, flips, header, no_files, npy, npz, zipped
from tfdefense import zoo

ZOO = zoo.CARDS / "digits_cnn.dnr.keras"


def keras_with(**members):
    """The zoo's file with other members; None leaves one out."""
    with zipfile.ZipFile(ZOO) as archive:
        whole = {name: archive.read(name) for name in archive.namelist()}
    names = {"config": "config.json", "weights": "model.weights.h5", "metadata": "metadata.json"}
    whole |= {names.get(name, name): content for name, content in members.items()}
    return zipped({name: content for name, content in whole.items() if content is not None})


def of_keras():
    whole = ZOO.read_bytes()
    with zipfile.ZipFile(ZOO) as archive:
        config, weights = json.loads(archive.read("config.json")), archive.read("model.weights.h5")
    layers = config["config"]["layers"]

    def changed(change):
        text = json.loads(json.dumps(config))
        change(text["config"])
        return json.dumps(text).encode()

    lambda_layer = {"module": "keras.layers", "class_name": "Lambda", "config": {"name": "l", "function": {}}}
    lambda_layer["config"]["function"] = {
        "class_name": "__lambda__",
        "config": {"code": "4wEAAAAAAAAAAAAAAAEAAAABAAAAUwAAAA==", "defaults": None, "closure": None},
    }
    configs = {
        "no JSON": b"hello",
        "nothing": b"",
        "null": b"null",
        "a list": b"[]",
        "a number": b"7",
        "nested": b"[" * 100_000,
        "no text": b"\xff\xfe\x00",
        "cut": json.dumps(config).encode()[:300],
        "a module of Python": json.dumps({"module": "os", "class_name": "system", "config": {"command": "false"}}).encode(),
        "a layer alone": json.dumps({"module": "keras.layers", "class_name": "Dense", "config": {"units": 3}}).encode(),
        "a lambda": json.dumps(lambda_layer).encode(),
        "no layers": changed(lambda text: text.update(layers=[])),
        "layers of text": changed(lambda text: text.update(layers="hello")),
        "an unknown layer": changed(lambda text: text["layers"][1].update(class_name="Nonsense")),
        "an input of text": changed(lambda text: text["layers"][0]["config"].update(batch_shape="hello")),
        "no outputs": changed(lambda text: text.update(output_layers=[])),
        "half of the layers": changed(lambda text: text.update(layers=layers[: len(layers) // 2])),
    }
    found = {f"config: {name}": keras_with(config=content) for name, content in configs.items()}
    found |= {
        "no config": keras_with(config=None),
        "no weights": keras_with(weights=None),
        "empty weights": keras_with(weights=b""),
        "weights of text": keras_with(weights=b"hello" * 100),
        "half of the weights": keras_with(weights=weights[: len(weights) // 2]),
        "the head of the weights": keras_with(weights=weights[:2000]),
        "zip of other things": zipped({"a.txt": b"hello", "b/c.png": b""}),
        "zip of nothing": zipped({}),
    }
    found |= {name: content for name, content in NO_ARCHIVE.items() if name != "end of zip"}
    found |= cuts(whole, 12) | flips(whole, 12)
    return as_file("model.keras", found) | no_files("model.keras")


def of_card():
    card = json.loads(ZOO.with_suffix(".json").read_text()) | {"name": "some.model"}
    text = json.dumps(card).encode()
    found = {}
    for name in (name for name in card if name != "classes"):
        found[f"without {name}"] = json.dumps({key: value for key, value in card.items() if key != name}).encode()
        for wrong in (None, 7, True, "hello", ["a"], {"a": 1}, float("nan")):
            right = {str: ("hello",), int: (7,), type(None): ("hello", None)}.get(type(card[name]), ())
            free = name == "golden" and isinstance(wrong, dict) or name == "versions" and isinstance(wrong, dict)
            if not (type(wrong) is type(card[name]) and wrong in right or name == "file" and wrong in ("hello", None) or free):
                found[f"{name}: {wrong!r}"] = json.dumps(card | {name: wrong}).encode()
    found["an unknown field"] = json.dumps(card | {"colour": "red"}).encode()
    found["a file elsewhere"] = json.dumps(card | {"file": "../../secret.keras"}).encode()
    found["another name"] = json.dumps(card | {"name": "other.model"}).encode()
    found["rows of text"] = json.dumps(card | {"attacked": ["a", "b"]}).encode()
    found["no rows"] = json.dumps(card | {"attacked": []}).encode()
    found["three bounds"] = json.dumps(card | {"bounds": [0, 1, 2]}).encode()
    found["clean without samples"] = json.dumps(card | {"clean": {"accuracy": 1.0, "rejection": 0.0}}).encode()
    found |= {"empty": b"", "a list": b"[]", "nested": b"[" * 100_000, "no text": b"\xff\xfe", **cuts(text, 5)}
    return as_file("some.model.json", found) | {"pipe": no_files("some.model.json")["pipe"]}


def of_cached():
    whole = npz(x=np.arange(4.0))
    found = (
        NO_ARCHIVE | cuts(whole, 5) | {"other names": npz(z=np.arange(4)), "nothing": zipped({}), "objects": npz(x=np.array([{}]))}
    )
    found |= {"more": npz(x=np.arange(4), z=1), "huge": zipped({"x.npy": npy(header((10**12,)))})}
    return as_file("000000.npz", found) | {"pipe": no_files("000000.npz")["pipe"]}


def of_saved_model(base):
    inside = {str(file.relative_to(base)): file.read_bytes() for file in base.rglob("*") if file.is_file()}

    def write(folder, name, content):
        shutil.copytree(base, folder / "saved")
        (folder / "saved" / name).unlink()
        if callable(content):
            content((folder / "saved" / name).parent)
        elif content is not None:
            (folder / "saved" / name).write_bytes(content)

    found = {}
    for name, content in inside.items():
        if not name.startswith(("saved_model", "variables")):
            continue
        wrong = {"missing": None, "empty": b"", "text": b"hello" * 9} | cuts(content, 4) | no_files(name.split("/")[-1])
        found |= {f"{name}: {what}": lambda folder, n=name, c=one: write(folder, n, c) for what, one in wrong.items()}
    return found | {"empty folder": lambda folder: (folder / "saved").mkdir()}
