"""The page that runs a defended model in a browser: `make live` writes it to build/live.

What people write lies beside this file. Three files are added: ONNX Runtime Web, its WebAssembly as text, and the model with its
gradients, exported by `td.export`, as text too. A page that is opened from a folder may not fetch files, but it may run scripts:
so it needs no server. The package of ONNX Runtime Web is fetched once, by npm, and is what its hash says, or nothing is written.
"""

import base64
import gzip
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
SOURCE, LIVE, FETCHED = Path(__file__).parent, ROOT / "build" / "live", ROOT / "build" / "npm"
PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
# The smallest that accepts drawn digits and rejects drawn letters; its threshold is that of its card.
MODEL = "mnist_resnet8.rce"
STATIC = ("*.html", "*.css", "*.js")


def fetched():
    """The path of the package of ONNX Runtime Web, which npm fetches where it is not there yet."""
    path = FETCHED / f"{PACKAGE}-{VERSION}.tgz"
    if not path.exists():
        if shutil.which("npm") is None:
            raise OSError(f"{PACKAGE} is not there and npm, which fetches it, is not installed. Install npm, then: make live")
        FETCHED.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=FETCHED) as folder:
            command = ["npm", "pack", "--silent", "--pack-destination", folder, f"{PACKAGE}@{VERSION}"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise OSError(f"npm can't fetch {PACKAGE} {VERSION}: {(done.stderr or done.stdout).strip()[-300:]}")
            (Path(folder) / path.name).replace(path)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256:
        raise OSError(f"Expected {path} with the sha256 {SHA256[:12]}... Received {found[:12]}... Remove it, then: make live")
    return path


def packed(content):
    """Bytes as text that a script may hold: compressed, and the same for the same bytes."""
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


def script(name, content):
    """A script that sets `Live.name`."""
    return f"window.Live = window.Live || {{}};\nLive.{name} = {json.dumps(content)};\n"


def runtime(folder):
    """ONNX Runtime Web, for one thread on the CPU: the scripts and the WebAssembly."""
    with tarfile.open(fetched()) as archive:
        files = {
            name: archive.extractfile(f"package/dist/{name}").read()
            for name in ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
        }
    (folder / "ort.wasm.min.js").write_bytes(files["ort.wasm.min.js"])
    content = {"mjs": files["ort-wasm-simd-threaded.mjs"].decode(), "wasm": packed(files["ort-wasm-simd-threaded.wasm"])}
    (folder / "runtime.js").write_text(script("runtime", content))


def model(folder):
    """The model and its gradients, and what the page says of it: the numbers of its card, which are measured."""
    import tfdefense as td

    defended, card = td.zoo.load(MODEL), td.zoo.card(MODEL)
    with tempfile.TemporaryDirectory() as made:
        files = {
            "model": td.export.export(defended, Path(made) / "model.onnx"),
            "gradients": td.export.gradients(defended, Path(made) / "gradients.onnx"),
        }
        content = {name: packed(path.read_bytes()) for name, path in files.items()}
    clean = card.clean
    about = f"Of {clean['n']:,} clean digits it gets {clean['accuracy']:.1%} right and rejects {clean['false_positive_rate']:.1%}."
    names = list(td.contract.class_names(defended) or map(str, range(10)))
    content |= {"name": MODEL, "classes": names, "about": about}
    (folder / "model.js").write_text(script("model", content))


def alone(index):
    """The page outside of the site, where what explains it is not beside it."""
    return re.sub(r'<a [^>]*id="more".*?</a>', "", index)


def write_static(folder):
    """What people write, into a folder."""
    for kind in STATIC:
        for path in SOURCE.glob(kind):
            text = path.read_text()
            (folder / path.name).write_text(alone(text) if path.suffix == ".html" else text)


def build(folder=LIVE):
    """Writes the page whole, or leaves what was there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        new = Path(made) / "live"
        new.mkdir()
        write_static(new)
        runtime(new)
        model(new)
        shutil.rmtree(folder, ignore_errors=True)
        new.replace(folder)
    return folder / "index.html"


if __name__ == "__main__":
    try:
        print(build())
    except OSError as error:
        sys.exit(str(error))
