"""Every file that the project writes goes through `tfdefense._files`: read from the source."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("tfdefense", "models", "training", "evaluation")

# Which argument is the file; None: the object whose method it is.
FILE = {
    **dict.fromkeys(["save", "savez", "savez_compressed", "savetxt", "savefig", "save_weights", "export", "tofile", "open"], 0),
    **dict.fromkeys(["fdopen", "ZipFile", "TarFile", "File", "to_csv", "create_file_writer"], 0),
    **dict.fromkeys(["copyfile", "copy2", "copytree", "move", "rename", "replace", "symlink", "save_model", "dump"], 1),
    **dict.fromkeys(["write_text", "write_bytes", "touch"], None),
}
# These are other things on other objects: `str.replace`, `ast.dump`, `Path.open`.
ONLY_OF = {"replace": {"os"}, "rename": {"os"}, "move": {"shutil"}, "dump": {"json", "pickle", "joblib"}, "File": {"h5py"}}
WITH_MODE = {"open", "fdopen", "ZipFile", "TarFile", "File"}

# File and beginning of the call: why it may.
ALLOWED = {
    ("tfdefense/_files.py", "os."): "the place itself",
    ("tfdefense/_progress.py", "open(os.devnull"): "nothing is kept",
    ("tfdefense/contract.py", "save(filepath)"): "Keras's own, of other formats or where it is told to ask first",
    ("tfdefense/export/formats.py", "model.save(path)"): "of a defended model, whose `save` is whole",
    ("training/train.py", "os.replace(path, gone)"): "on its way to being removed",
    ("training/checkpoints.py", "tf.summary.create_file_writer"): "a log, to which TensorFlow adds lines",
    ("evaluation/benchmarks/speed/alone.py", "os.fdopen(os.dup(1)"): "standard output",
    ("evaluation/runner/peers.py", "os.fdopen(os.dup(1)"): "standard output",
    ("evaluation/benchmarks/zoo.py", "zipfile.ZipFile(made"): "in memory",
    ("tfdefense/data/scenes.py", "Image.fromarray(whole(plane)).save(file"): "in memory",
    ("tfdefense/reporting/material.py", "picture.save(buffer"): "in memory",
    ("tfdefense/cli/service/monitor.py", "watching.save(output)"): "Monitor.save, which writes its file through write_text",
    ("tfdefense/reporting/__init__.py", "found.save(path)"): "Report.save, which writes its files through write_text",
}


def writes(source):
    """Calls that write in place. What is named after `new`, the parameter of a function for `write_file`, is not in its place
    yet, and what lies in a temporary directory has none."""
    return [ast.unparse(call) for call in _found(ast.parse(source), frozenset())]


def _found(node, free):
    if isinstance(node, ast.FunctionDef | ast.Lambda):
        free = free | ({"new"} & {argument.arg for argument in node.args.args})
    if isinstance(node, ast.With):
        free = free | {
            item.optional_vars.id
            for item in node.items
            if item.optional_vars is not None and "TemporaryDirectory" in ast.unparse(item.context_expr)
        }
    if isinstance(node, ast.Call) and _writes(node) and not free & _names(_file(node)):
        yield node
    for child in ast.iter_child_nodes(node):
        yield from _found(child, free)


def _writes(call):
    owner, name = _called(call)
    if name not in FILE or owner not in ONLY_OF.get(name, {owner}):
        return False
    if owner.endswith("export") or (owner, name) in {("", "write_text"), ("", "export")}:
        return False  # our own
    if name not in WITH_MODE:
        return True
    # `Path.open` has its mode first; `archive` is what a `ZipFile` is called here, and its `open` has a name first.
    place = 0 if name == "open" and not _is_path_first(call) else 1
    mode = next((word.value for word in call.keywords if word.arg == "mode"), None)
    mode = call.args[place] if mode is None and len(call.args) > place else mode
    return mode is not None and (not isinstance(mode, ast.Constant) or bool(set("wax+") & set(str(mode.value))))


def _is_path_first(call):
    return isinstance(call.func, ast.Name) or _called(call)[0] in ("io", "gzip", "os", "codecs", "Image", "archive")


def _called(call):
    """What stands before the last dot, and after it."""
    if isinstance(call.func, ast.Attribute):
        return ast.unparse(call.func.value), call.func.attr
    return "", getattr(call.func, "id", "")


def _file(call):
    place = FILE[_called(call)[1]]
    if place is None or (_called(call)[1] == "open" and not _is_path_first(call)):
        return call.func
    return call.args[place] if len(call.args) > place else call


def _names(node):
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


@pytest.mark.parametrize(
    "source",
    [
        "path.write_text(x)",
        "(directory / 'a').write_bytes(x)",
        "model.save(path)",
        "np.savez(path, new=x)",
        "figure.savefig(path)",
        "open(path, 'wb')",
        "open(path, mode)",
        "path.open('w')",
        "open(path, mode='a')",
        "zipfile.ZipFile(path, 'w')",
        "archive.open(info, 'w')",
        "archive.open(info, mode=mode)",
        "shutil.copyfile(new, path)",
        "os.replace(new, path)",
        "json.dump(x, file)",
        "model.export(path, verbose=False)",
        "write_file(path, lambda new: np.save(path, x))",
        "write_file(path, lambda: np.save(new, x))",
        "def write(new):\n    pass\ndef other(path):\n    new = path\n    model.save(new)",
    ],
)
def test_writing_in_place_is_seen(source):
    assert writes(source)


@pytest.mark.parametrize(
    "source",
    [
        "write_file(path, lambda new: np.save(new, x))",
        "write_file(path, model.save)",
        "write_text(path, text)",
        "def write(new):\n    (new / 'a').write_text(x)\n    with open(new / 'b', 'w') as file:\n        pass",
        "with tempfile.TemporaryDirectory() as folder:\n    model.save(Path(folder) / 'a.keras')",
        "open(path)",
        "open(path, 'rb')",
        "path.open()",
        "Image.open(path)",
        "archive.open(info)",
        "td.export.export(model, path)",
        "export(model, path)",
        "text.replace('a', 'b')",
        "ast.dump(tree)",
    ],
)
def test_reading_and_writing_beside_are_not(source):
    assert not writes(source)


@pytest.mark.parametrize("part", PARTS)
def test_everything_is_written_whole(part):
    files = sorted((ROOT / part).rglob("*.py"))
    assert files, f"nothing to read in {part}"
    for path in files:
        name = path.relative_to(ROOT).as_posix()
        allowed = tuple(begin for file, begin in ALLOWED if file == name)
        wrong = [call for call in writes(path.read_text()) if not (allowed and call.startswith(allowed))]
        assert not wrong, f"{name} writes in place, and an interruption loses the file: {wrong}. Use tfdefense._files.write_file."


def test_exceptions_are_needed():
    for name, begin in ALLOWED:
        assert any(call.startswith(begin) for call in writes((ROOT / name).read_text())), f"{name} has no {begin!r} any more"
