"""Which part may import which: the arrows of the house, read from the source, and what a plain import loads."""

import ast
import collections
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("tfdefense", "models", "training", "evaluation")
ALLOWED = {
    "tfdefense": set(),
    "models": set(),
    "training": {"tfdefense", "models"},
    "evaluation": {"tfdefense", "models"},
}
# Inside tfdefense, from the bottom up. What stands at the top may know all below.
_TOP = {"attacks", "metrics", "defenses", "trainers", "callbacks", "reporting", "comparison", "plots", "zoo", "cli", "certificates"}
_BELOW_THE_CONTRACT = _TOP | {"contract", "calibration", "view", "export", "data"}
# What each of these may not know.
FORBIDDEN = {
    "conformal": _BELOW_THE_CONTRACT | {"layers", "losses", "graph"},
    "layers": _BELOW_THE_CONTRACT,
    "losses": _BELOW_THE_CONTRACT,
    "graph": _BELOW_THE_CONTRACT,
    "contract": _BELOW_THE_CONTRACT - {"contract"},
    "view": _TOP | {"calibration", "export", "data"},
    "calibration": _TOP | {"export", "data"},
    "_cluster": _TOP | {"calibration", "prediction", "export", "data"},
    "attacks": {"defenses", "metrics", "trainers", "callbacks", "reporting", "comparison", "cli"},
    "metrics": {"defenses", "attacks", "trainers", "callbacks", "reporting", "comparison", "cli"},
    "defenses": {"attacks", "metrics", "trainers", "callbacks", "reporting", "comparison", "cli"},
    "trainers": {"defenses", "callbacks", "reporting", "comparison", "cli"},
    "data": {"defenses", "attacks", "metrics", "trainers", "callbacks", "reporting", "comparison", "cli"},
    "certificates": {"defenses", "attacks", "trainers", "callbacks", "reporting", "comparison", "cli", "export", "data"},
    "prediction": {"defenses", "attacks", "metrics", "trainers", "callbacks", "reporting", "comparison", "cli", "monitoring"},
    "monitoring": {"defenses", "attacks", "trainers", "callbacks", "reporting", "comparison", "cli", "layers"},
    "reporting": {"cli", "comparison"},
    "comparison": {"cli", "callbacks", "trainers"},
}
LINES, FILES = 400, 15  # of a file, of a package

WITHOUT_TENSORFLOW = ("tfdefense/conformal", "tfdefense/layers", "tfdefense/losses", "models")


def imports(path, root=ROOT, types=True):
    """Full names of what a file imports, anywhere in it, relative ones resolved; `from a import b` gives a and a.b.

    Without `types` those are left out that only a type checker follows.
    """
    package = path.relative_to(root).with_suffix("").parts
    found, nodes = set(), list(ast.walk(ast.parse(path.read_text())))
    unseen = [node for node in nodes if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    left_out = set() if types else {inner for node in unseen for inner in ast.walk(node)}
    for node in nodes:
        if node in left_out:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(package[: len(package) - node.level]) if node.level else ""
            module = ".".join(name for name in (start, node.module) if name)
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def roots(path):
    return {name.split(".")[0] for name in imports(path)}


def files(part):
    path = ROOT / part
    return [path.with_suffix(".py")] if path.with_suffix(".py").exists() else sorted(path.rglob("*.py"))


def test_imports_are_seen_wherever_they_stand(tmp_path):
    file = tmp_path / "part" / "inner" / "a.py"
    file.parent.mkdir(parents=True)
    file.write_text("def f():\n    import b.c as d\n    from .. import e\n    from .g import h\n    from i.j import k\n")
    expected = {"b.c", "part", "part.e", "part.inner.g", "part.inner.g.h", "i.j", "i.j.k"}
    assert imports(file, tmp_path) == expected
    file.write_text(file.read_text() + "if TYPE_CHECKING:\n    import k\n")
    assert imports(file, tmp_path) == expected | {"k"}
    assert imports(file, tmp_path, types=False) == expected


@pytest.mark.parametrize("part", PARTS)
def test_parts_import_only_along_the_arrows(part):
    assert files(part), f"nothing to read in {part}"
    for path in files(part):
        wrong = roots(path) & (set(PARTS) - {part} - ALLOWED[part])
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


@pytest.mark.parametrize("part", FORBIDDEN)
def test_library_imports_only_along_the_arrows(part):
    for path in files(f"tfdefense/{part}"):
        wrong = {name for name in imports(path) if name.startswith(tuple(f"tfdefense.{x}" for x in FORBIDDEN[part]))}
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


@pytest.mark.parametrize("part", [*PARTS, "tests"])
def test_files_and_packages_stay_small(part):
    paths = list((ROOT / part).rglob("*.py"))
    long = {str(path.relative_to(ROOT)): lines for path in paths if (lines := len(path.read_text().splitlines())) > LINES}
    assert not long, f"Expected at most {LINES} lines: split by what the parts are about."
    files = collections.Counter(str(path.parent.relative_to(ROOT)) for path in paths)
    full = {name: count for name, count in files.items() if count > FILES}
    assert not full, f"Expected at most {FILES} files: make a package of those that belong together."


@pytest.mark.parametrize("part", WITHOUT_TENSORFLOW)
def test_backend_independent_parts_do_not_import_tensorflow(part):
    for path in files(part):
        assert "tensorflow" not in roots(path), f"{path.relative_to(ROOT)} imports tensorflow; use keras.ops"


def test_models_import_keras_alone():
    for path in files("models"):
        wrong = roots(path) - {"keras", "models"} - set(sys.stdlib_module_names)
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


def circles(imported):
    """Those of the modules that import themselves, however far round."""
    found = set()
    for start in imported:
        seen, ahead = set(), list(imported[start])
        while ahead:
            name = ahead.pop()
            if name not in seen:
                seen.add(name)
                ahead += imported.get(name, ())
        found |= {start} & seen
    return found


def test_no_module_imports_itself_however_far_round():
    assert circles({"a": ["b"], "b": ["c", "d"], "c": ["a"], "d": ["e"], "e": []}) == {"a", "b", "c"}
    # A package's face only hands names on.
    paths = [path for part in PARTS for path in files(part) if path.name != "__init__.py"]
    imported = {".".join(path.relative_to(ROOT).with_suffix("").parts): imports(path, types=False) for path in paths}
    assert not circles(imported)


@pytest.mark.parametrize("name", ["tfdefense", "models", "training", "evaluation", "evaluation.__main__"])
def test_plain_import_loads_neither_tensorflow_nor_keras(name):
    code = f"import sys, {name}; print(*{{'tensorflow', 'keras', 'sklearn', 'matplotlib'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stdout + done.stderr


def test_help_of_the_protocols_does_not_load_tensorflow():
    code = (
        "import sys; sys.argv[1:] = ['speed', '--help']; from evaluation.__main__ import main\n"
        "try: main()\nexcept SystemExit: pass\nprint(*{'tensorflow', 'keras'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--peers-python" in done.stdout
    assert done.stdout.splitlines()[-1].strip() == ""


@pytest.mark.parametrize("name", ["layers", "graph", "contract", "attacks"])
def test_each_part_can_be_the_first_that_is_loaded(name):
    """Keras's import loads the layers and the contract, in the middle of whatever part asked for Keras first."""
    done = subprocess.run([sys.executable, "-c", f"import tfdefense.{name}"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
