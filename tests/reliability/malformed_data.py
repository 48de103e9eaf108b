"""Malformed data sets, pictures and depth maps: what is wrong with each, and what writes it into an empty folder."""

import io
import json
import shutil
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image

from tests.reliability.malforming import NO_ARCHIVE, RNG, X, Y, as_file, cuts, flips, header, no_files, npy, npz, zipped


def of_npz():
    labels = zipfile.ZipFile(io.BytesIO(npz(y=Y))).read("y.npy")
    headers = {
        "huge shape": header((10**12, 28, 28)),
        "shape of 2^200": header((2**200,)),
        "negative shape": header((-1, 6, 5, 3)),
        "shape of text": header("('a',)"),
        "shape of floats": header("(1e9, 2)"),
        "no shape": "{'descr': '|u1', 'fortran_order': False}\n",
        "objects": header((20,), "'|O'"),
        "structured": header((20,), "[('a', '<i4')]"),
        "no type": header((20,), "'nonsense'"),
        "empty strings": header((10**12,), "'|S0'"),
        "long strings": header((1,), "'<U1000000000'"),
        "nested": "(" * 5000,
        "calls": header((20,), "__import__('os').system('false')"),
        "open string": "{'descr': '",
        "nothing": "",
    }
    strange = {f"header: {name}": zipped({"x.npy": npy(text, bytes(90)), "y.npy": labels}) for name, text in headers.items()}
    strange |= {
        "version 9": zipped({"x.npy": npy(header((20, 2, 2)), bytes(80), (9, 0)), "y.npy": labels}),
        "header longer than file": zipped({"x.npy": b"\x93NUMPY\x02\x00" + b"\xff" * 4, "y.npy": labels}),
        "text in place of array": zipped({"x.npy": b"hello", "y.npy": labels}),
        "data left over": zipped({"x.npy": npy(header((20, 2, 2)), bytes(81)), "y.npy": labels}),
        "data missing": zipped({"x.npy": npy(header((20, 2, 2)), bytes(79)), "y.npy": labels}),
        "bzip2": zipped({"x.npy": npy(header((20, 2, 2)), bytes(80)), "y.npy": labels}, zipfile.ZIP_BZIP2),
        "other names": zipped({"readme.txt": b"hello"}),
    }
    # What the list of contents claims of a member, behind its signature: flags, method, sizes.
    listed = npz(np.savez_compressed, x=X, y=Y)
    entry = listed.index(b"PK\x01\x02")
    for name, place, value in (("encrypted", 8, b"\x01\x00"), ("claims 3 GiB", 24, struct.pack("<I", 3 << 30))):
        strange[name] = listed[: entry + place] + value + listed[entry + place + len(value) :]
    arrays = {
        "y of 2^62": {"y": np.where(np.arange(20) == 3, 2**62, Y)},
        "y of 2^64-1": {"y": np.full(20, 2**64 - 1, "uint64")},
        "y below 0": {"y": Y - 1},
        "y of floats": {"y": Y / 2},
        "y of times": {"y": Y.astype("datetime64[s]")},
        "y of complex": {"y": Y * 1j},
        "y of bytes": {"y": np.array([b"\xff\xfe"] * 20)},
        "y 0-d": {"y": 3},
        "y one-hot": {"y": np.eye(4)[Y]},
        "y too short": {"y": Y[:-1]},
        "y objects": {"y": np.array([{}] * 20)},
        "classes 0-d": {"y": Y, "classes": "cat"},
        "classes 2-d": {"y": Y, "classes": [["cat"] * 4]},
        "classes objects": {"y": Y, "classes": np.array(["cat", None, "dog", 1], object)},
        "classes too few": {"y": Y, "classes": ["cat"]},
        "classes no text": {"y": Y, "classes": np.array([b"\xff"] * 4)},
        "x of text": {"x": np.array(["cat"] * 20)},
        "x of text in pixels": {"x": np.full((20, 2, 2), "cat")},
        "x of booleans": {"x": X > 3},
        "x of complex": {"x": X * 1j},
        "x of times": {"x": X.astype("timedelta64[s]")},
        "x objects": {"x": np.array([None] * 20)},
        "x 0-d": {"x": 3},
        "x without pixels": {"x": X[:, :0]},
        "x of NaN": {"x": np.full((20, 2, 2), np.nan)},
        "x of 256": {"x": X.astype("int32") + 1},
    }
    found = {name: npz(**({"x": X, "y": Y} | some)) for name, some in arrays.items()}
    split = {"x_train": X[:15], "y_train": Y[:15], "x_test": X[15:], "y_test": Y[15:]}
    halves = {
        "test of other size": {"x_test": X[15:, :3]},
        "train by name": {"y_train": np.array(["cat"] * 15)},
        "no train labels": {"y_train": Y[:0]},
        "0-d train labels": {"y_train": 3},
    }
    found |= {name: npz(**(split | some)) for name, some in halves.items()}
    whole, packed = npz(x=X, y=Y), npz(np.savez_compressed, x=X, y=Y)
    changed = cuts(whole, 12) | {f"packed, {name}": content for name, content in cuts(packed, 8).items()}
    changed |= flips(whole, 15) | {f"packed, {name}": content for name, content in flips(packed, 15).items()}
    return as_file("mine.npz", NO_ARCHIVE | strange | found | changed) | no_files("mine.npz")


def picture(format, size=(32, 24), mode="RGB"):
    file = io.BytesIO()
    shape = (*size[::-1], 3) if mode == "RGB" else size[::-1]
    deep = mode == "I;16"
    pixels = RNG.integers(1, 60_000 if deep else 256, shape, dtype="uint16" if deep else "uint8")
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()


def png_of(width, height, bits=8, colour=2):
    """A PNG whose head claims that size; of its pixels there are few."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(1000)))]
    chunks = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in [*parts, (b"IEND", b"")]]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def no_pictures():
    return {
        "bomb": png_of(60_000, 60_000),
        "small bomb": png_of(10_000, 10_000),
        "bomb by height": png_of(1, 2**31 - 1),
        "no width": png_of(0, 10),
        "few pixels": png_of(500, 500),
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 24\n%%EndComments\nshowpage\n",
        "pdf": b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n",
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "photoshop": b"8BPS\x00\x01" + bytes(40),
        "fits": b"SIMPLE  =                    T" + bytes(200),
        "empty": b"",
        "text": b"hello",
    }


def of_folder():
    files = no_pictures() | {"16 bits": picture("PNG", mode="I;16"), "other size": picture("PNG", (5, 5))}
    for format in ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF"):
        whole = picture(format)
        # The last bytes of some formats are of no use, and no reader misses them.
        files |= {f"{format} cut at {at}": whole[:at] for at in (3, 12, len(whole) // 3)}

    def write(folder, bad):
        (folder / "cat").mkdir()
        (folder / "cat" / "0.png").write_bytes(picture("PNG"))
        bad(folder / "cat")

    bad = as_file("1.png", files) | no_files("1.png") | {"folder": lambda folder: (folder / "1.png").mkdir()}
    found = {name: lambda folder, one=one: write(folder, one) for name, one in bad.items() if name != "dangling link"}
    return found | {"no classes": lambda folder: (folder / "0.png").write_bytes(picture("PNG")), "nothing": lambda folder: None}


def of_scene():
    depth = picture("PNG", mode="I;16")
    files = no_pictures() | {
        "8 bits": picture("PNG", mode="L"),
        "colours": picture("PNG"),
        "other size": picture("PNG", (9, 9), "I;16"),
    }
    files |= {f"cut at {at}": depth[:at] for at in (3, 20, 60, len(depth) // 2)}

    def write(folder, bad):
        (folder / "image.png").write_bytes(picture("PNG"))
        bad(folder)

    bad = as_file("depth.png", files) | no_files("depth.png")
    return {name: lambda folder, one=one: write(folder, one) for name, one in bad.items()}


def of_tfds(base):
    whole = {file.name: file.read_bytes() for file in base.iterdir()}
    records = next(name for name in whole if "tfrecord" in name)
    info, features = (json.loads(whole[name]) for name in ("dataset_info.json", "features.json"))

    def with_split(**values):
        text = json.loads(json.dumps(info))
        text["splits"][0] |= values
        return json.dumps({**text}).encode()

    def with_feature(name, **values):
        text = json.loads(json.dumps(features))
        text["featuresDict"]["features"][name] |= values
        return json.dumps(text).encode()

    infos = {f"shardLengths {value}": with_split(shardLengths=value) for value in (["1000000000"], [4], [-1], ["a"], [], None, 7)}
    infos |= {f"shardLengths {value}": with_split(shardLengths=value) for value in ([10**30], [2, 3], [[5]], [True])}
    infos |= {f"splits {value}": json.dumps(info | {"splits": value}).encode() for value in (None, {}, [1], [{}], "a")}
    infos |= {"parquet": json.dumps(info | {"fileFormat": "parquet"}).encode(), "other template": with_split(filepathTemplate="a")}
    infos |= {
        "a list": b"[]",
        "no text": b"\xff\xfe",
        "nested": b"[" * 100_000,
        "empty": b"",
        "version 7": json.dumps(info | {"version": 7}).encode(),
    }
    infos |= cuts(whole["dataset_info.json"], 3)
    image = {"dtype": "uint8", "shape": {"dimensions": ["28", "28", "1"]}}
    kinds = "tensorflow_datasets.core.features."
    described = {
        "another module": with_feature("label", pythonClassName="antigravity.Label"),
        "another module, old form": json.dumps({"type": "antigravity.Features", "content": {}}).encode(),
        "no class": with_feature("label", pythonClassName=kinds + "class_label_feature.Nonsense"),
        "no module": with_feature("label", pythonClassName=kinds + "nonsense.ClassLabel"),
        "1e9 classes": with_feature("label", classLabel={"numClasses": "1000000000"}),
        "classes of text": with_feature("label", classLabel={"numClasses": "many"}),
        "3 classes": with_feature("label", classLabel={"numClasses": "3"}),
        "huge images": with_feature("image", image=image | {"shape": {"dimensions": ["1000000", "1000000", "1"]}}),
        "negative images": with_feature("image", image=image | {"shape": {"dimensions": ["-28", "-28", "1"]}}),
        "images of text": with_feature("image", image=image | {"dtype": "nonsense"}),
        "no features": json.dumps(features | {"featuresDict": {"features": {}}}).encode(),
        "a list": b"[]",
        "nested": b"[" * 100_000,
        "empty": b"",
    } | cuts(whole["features.json"], 3)
    data = whole[records]
    long = struct.pack("<Q", 2**60) + data[8:]
    changed = cuts(data, 8) | flips(data, 8) | {"empty": b"", "text": b"hello" * 9, "one more": data + data, "long record": long}

    def write(folder, name, content):
        place = folder / "mnist" / "3.0.1"
        shutil.copytree(base, place)
        (place / name).unlink()
        if callable(content):
            content(place)
        elif content is not None:
            (place / name).write_bytes(content)

    found = {}
    for name, contents in (("dataset_info.json", infos), ("features.json", described), (records, changed)):
        contents |= no_files(name) | {"missing": None}
        found |= {f"{name}: {wrong}": lambda folder, n=name, c=content: write(folder, n, c) for wrong, content in contents.items()}
    return {
        name: one for name, one in found.items() if name not in ("dataset_info.json: missing", "dataset_info.json: dangling link")
    }


def of_notmnist():
    x, y = RNG.integers(0, 256, (20, 28, 28), dtype="uint8"), np.arange(20) % 10
    whole = npz(images=x, labels=y)
    found = NO_ARCHIVE | cuts(whole, 4) | {"other names": npz(x=x, y=y), "no labels": npz(images=x)}
    arrays = {"small": (x[:, 1:], y), "floats": (x / 255, y), "letters": (x, np.array(list("ABCDEFGHIJ" * 2))), "11": (x, y + 1)}
    arrays |= {"fewer": (x, y[:-1]), "0-d": (x, 3), "nothing": (x[:0], y[:0]), "objects": (np.array([None] * 20), y)}
    return as_file("notmnist.npz", found | {name: npz(images=a, labels=b) for name, (a, b) in arrays.items()})
