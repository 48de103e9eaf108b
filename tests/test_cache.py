"""Long calls that are stopped go on, no process does what another has done, and what other code has made is made again."""

import random
import shutil
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

import tfdefense as td
from tfdefense import _cache

A = td.attacks


@pytest.fixture(scope="module")
def samples(held_out):
    return held_out.x[:50], held_out.y[:50]


def test_progress_is_shown_where_it_is_asked_for_and_where_somebody_waits(classifier, samples, tmp_path, capsys, monkeypatch):
    attack = A.FGSM(0.1)
    attack(classifier, *samples, batch_size=20)
    assert capsys.readouterr().out == ""
    attack(classifier, *samples, batch_size=20, progress=True)
    assert "50/50" in capsys.readouterr().out
    for terminal, place in ((False, "first"), (True, "second")):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal, raising=False)
        with _cache.caching(tmp_path / place):
            attack(classifier, *samples, batch_size=20)
        assert ("50/50" in capsys.readouterr().out) == terminal, "a log file needs no bar"


def test_stopped_attack_goes_on_with_what_is_missing(classifier, samples, tmp_path, monkeypatch):
    attack = A.PGD(0.2, steps=3, random_start=True)
    whole = attack(classifier, *samples, batch_size=20)
    sizes, original = [], A.PGD.perturb

    def stopped(self, batch, start):
        if len(sizes) == 1:
            raise KeyboardInterrupt
        return counted(self, batch, start)

    def counted(self, batch, start):
        sizes.append(len(batch.x))
        return original(self, batch, start)

    monkeypatch.setattr(A.PGD, "perturb", stopped)
    with pytest.raises(KeyboardInterrupt):
        attack(classifier, *samples, batch_size=20, cache=tmp_path)
    sizes.clear()
    monkeypatch.setattr(A.PGD, "perturb", counted)
    again = attack(classifier, *samples, batch_size=20, cache=tmp_path)
    assert len(sizes) == 2, "the first batch is there"
    for name in ("x_adv", "success", "distance", "steps", "label", "zero_gradient"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))
    attack(classifier, *samples, batch_size=20, cache=tmp_path)
    assert len(sizes) == 2, "all are there"
    other = keras.models.clone_model(classifier)
    other.set_weights([1.001 * weight for weight in classifier.get_weights()])
    for changed in (
        (attack, other, samples[0]),
        (A.PGD(0.2, steps=2), classifier, samples[0]),
        (attack, classifier, samples[0] * 0.9),
    ):
        before = len(sizes)
        changed[0](changed[1], changed[2], samples[1], batch_size=20, cache=tmp_path)
        assert len(sizes) > before, "another model, attack or sample is another result"


def test_attacks_made_of_attacks_keep_theirs(defended, samples, tmp_path):
    ours = A.WorstCase([A.Transfer(A.FGSM(0.1)), A.PGD(0.1, steps=2, starts="sample")], until_success=True)
    found = [ours(defended, *samples, batch_size=50, cache=tmp_path).x_adv for _ in range(2)]
    np.testing.assert_array_equal(*found)
    np.testing.assert_array_equal(found[0], ours(defended, *samples, batch_size=50).x_adv)
    assert len(list(tmp_path.glob("*/000000.npz"))) == 2


def test_what_has_no_readable_content_is_refused(classifier, samples, tmp_path):
    with pytest.raises(ValueError, match="that of a function can't be read. Expected a Keras model"):
        A.FGSM(0.1)(lambda x: classifier(x), *samples, cache=tmp_path)


@pytest.mark.parametrize("cached", [True, False])
def test_parts_that_others_make_may_come_in_any_order_and_are_kept_as_they_come(cached, tmp_path):
    asked, told = [], []

    def others(numbers):
        for number in sorted(numbers, reverse=True):
            if number == 1 and len(asked) < 2:
                raise ValueError("lost")
            asked.append(number)
            yield number, {"a": np.array([number])}

    def never(number):
        raise AssertionError("made here")

    where = tmp_path if cached else None
    with pytest.raises(ValueError, match="lost"):
        _cache.batches(where, never, 3, told.append, several=others)
    asked.append("again")
    found = _cache.batches(where, never, 3, told.append, several=others)
    assert [part["a"].tolist() for part in found] == [[0], [1], [2]]
    assert asked == ([2, "again", 1, 0] if cached else [2, "again", 2, 1, 0])
    assert told == ([0, 1, 1, 2, 3] if cached else [0, 1, 0, 1, 2, 3])
    _cache.batches(where, never, 3, several=others)
    assert len(asked) == (4 if cached else 8)


def test_processes_share_the_parts(tmp_path):
    made, found = [], {}

    def work(name):
        def make(number):
            made.append(number)
            time.sleep(0.02)
            return {"x": np.full(2, number)}

        found[name] = _cache.batches(tmp_path, make, 12)

    threads = [threading.Thread(target=work, args=[name]) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == list(range(12)), "none twice"
    assert [part["x"].tolist() for part in found["a"]] == [[n, n] for n in range(12)] == [p["x"].tolist() for p in found["b"]]


SLOW_PARTS = """
import sys, time
import numpy as np
from tfdefense import _cache

def make(number):
    time.sleep(0.01)
    return {"x": np.full(200_000, number)}

print("begun", flush=True)
_cache.batches(sys.argv[1], make, 500)
"""


@pytest.mark.long
def test_kill_spoils_no_part(tmp_path):
    for seed in range(3):
        child = subprocess.Popen([sys.executable, "-c", SLOW_PARTS, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        child.stdout.readline()
        before = len(list(tmp_path.glob("[0-9]*.npz")))
        while len(list(tmp_path.glob("[0-9]*.npz"))) < before + 5:
            time.sleep(0.001)
        time.sleep(random.Random(seed).uniform(0, 0.03))
        child.kill()
        child.wait()
    there, made, told = sorted(int(path.stem) for path in tmp_path.glob("[0-9]*.npz")), [], []
    assert 0 < len(there) < 500, "the children were killed at work"

    def make(number):
        made.append(number)
        return {"x": np.full(200_000, number)}

    found = _cache.batches(tmp_path, make, 500, told.append)
    assert all((part["x"] == number).all() for number, part in enumerate(found))
    assert made == [number for number in range(500) if number not in there]
    assert told[0] == len(there) and told[-1] == 500


@pytest.fixture
def project(tmp_path):
    """A project of its own whose code may be changed: `run` gives what a new process prints, which makes an entry."""
    root = tmp_path / "project"
    for file in Path(_cache.__file__).parent.glob("*.py"):
        (root / "tfdefense").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, root / "tfdefense" / file.name)
    (root / "models").mkdir()
    for name in ("loaded", "late", "unused", "behind"):
        (root / "models" / f"{name}.py").write_text(f'"""Of {name}."""\n\nVALUE = "{name}"\n')
    return root


def run(root, code):
    begin = "from tfdefense._cache import entry\nfrom pathlib import Path\nread = lambda path: path.read_text()\n"
    # Python takes a file of the same second and length for the same one.
    command = [sys.executable, "-B", "-c", begin + code]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


ENTRY = """
import models.loaded

def write(new):
    import models.late
    print("made")
    new.write_text(f"{models.loaded.VALUE} {models.late.VALUE}")

print(entry("found.txt", write, read))
"""


def test_entry_is_made_again_when_code_that_was_loaded_has_changed(project):
    def change(name, old, new):
        file = project / "models" / f"{name}.py"
        file.write_text(file.read_text().replace(old, new))

    assert run(project, ENTRY) == ["made", "loaded", "late"]
    assert run(project, ENTRY) == ["loaded", "late"]
    change("loaded", '"""Of loaded."""', "# A comment.\n")
    change("late", "VALUE =", "VALUE  =  ")
    change("unused", "VALUE", "OTHER")
    assert run(project, ENTRY) == ["loaded", "late"], "comments, docstrings, layout and other modules are no code of it"
    for name in ("loaded", "late"):
        change(name, f'"{name}"', '"new"')
        assert run(project, ENTRY)[0] == "made", name
        assert run(project, ENTRY)[0] != "made"
    (project / "models" / "late.py").unlink()
    with pytest.raises(AssertionError, match="No module named 'models.late'"):
        run(project, ENTRY)


def test_entry_goes_with_the_code_behind_another_that_it_was_made_from(project):
    inner = "def inner(new):\n    import models.behind\n    print('inner')\n    new.write_text(models.behind.VALUE)\n\n"
    inner += "value = entry('inner.txt', inner, read)\n"
    outer = inner + "entry('outer.txt', lambda new: (print('outer'), new.write_text(value)))"
    assert run(project, inner) == ["inner"]
    assert run(project, outer) == ["outer"], "this process reads the inner one and never loads the code behind it"
    assert run(project, outer) == []
    (project / "models" / "behind.py").write_text("VALUE = 'new'\n")
    assert run(project, outer) == ["inner", "outer"]


def test_code_counts_as_it_was_loaded_and_not_as_it_was_edited_since(project):
    edit = "Path('models/loaded.py').write_text('VALUE = 2\\n')"
    assert run(project, ENTRY.replace("import models.late", f"import models.late; {edit}")) == ["made", "loaded", "late"]
    assert run(project, ENTRY) == ["made", "2", "late"]


def test_modules_are_those_that_are_loaded(project):
    code = "from tfdefense._cache import imported\nimport models.loaded\nprint(*imported())\n"
    files = run(project, code)
    assert {"models/loaded.py", "tfdefense/_cache.py"} <= set(files) and "models/unused.py" not in files
    assert "models/unused.py" in run(project, "import models.unused\n" + code)


def test_damaged_entry_or_record_is_made_again(tmp_path):
    made = []

    def write(new):
        made.append(new.name)
        np.save(new, np.arange(3))

    def found():
        return _cache.entry(tmp_path / "a.npy", write, np.load)

    found()
    record = tmp_path / "a.npy.code.json"
    damages = [record.unlink, (tmp_path / "a.npy").unlink]
    damages += [lambda text=text: record.write_text(text) for text in ("{", "[1]", "{}", '{"tfdefense/none.py": null}')]
    for damage in damages:
        damage()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            before = len(made)
            np.testing.assert_array_equal(found(), np.arange(3))
            np.testing.assert_array_equal(found(), np.arange(3))
        assert len(made) == before + 1
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY")
    with pytest.warns(UserWarning, match="a.npy is made again"):
        np.testing.assert_array_equal(found(), np.arange(3))


def test_entry_that_is_interrupted_counts_for_nothing(tmp_path, monkeypatch):
    made, path = [], tmp_path / "a.txt"

    def found(*stopped):
        return _cache.entry(path, lambda new: (made.append(new), new.write_text("whole"), *[stop() for stop in stopped]), read)

    def read(path):
        if path.read_text() != "whole":
            raise ValueError(f"{path} is not whole.")

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        found(stop)
    assert not path.exists()
    found()
    path.write_text("half")
    with monkeypatch.context() as patched, pytest.warns(UserWarning, match="is not whole"), pytest.raises(KeyboardInterrupt):
        patched.setattr(_cache, "write_text", stop)
        found()
    found()
    assert len(made) == 4, "who is stopped between the file and its record leaves what may be of any code"


LOCKED = """
import sys, time
from tfdefense import _cache

with _cache.lock(sys.argv[1]):
    print("locked", flush=True)
    time.sleep(600)
"""


def test_lock_of_a_killed_process_is_free(tmp_path):
    path = tmp_path / "folder" / "part"
    child = subprocess.Popen([sys.executable, "-c", LOCKED, str(path)], stdout=subprocess.PIPE, text=True)
    child.stdout.readline()
    with _cache.lock(path, wait=False) as mine, _cache.lock(tmp_path / "other", wait=False) as other:
        assert (mine, other) == (False, True)
    child.kill()
    child.wait()
    with _cache.lock(path, wait=False) as mine:
        assert mine
    with _cache.lock(path) as mine:
        assert mine


def test_cache_lies_where_it_is_told_to(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDEFENSE_CACHE", str(tmp_path))
    assert _cache.directory() == tmp_path and _cache.directory("a", "b") == tmp_path / "a" / "b"
    monkeypatch.delenv("TFDEFENSE_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if sys.platform == "linux":
        assert _cache.directory("a") == tmp_path / ".cache" / "tfdefense" / "a"


def test_content_changes_with_what_the_values_hold_and_with_nothing_else(classifier):
    content = _cache.content
    assert content({"a": 1, "b": [2]}) == content({"b": [2], "a": 1}) != content({"a": 1, "b": [3]})
    assert content(np.zeros((2, 0))) != content(np.zeros((0, 2)))
    assert content(np.arange(6).reshape(2, 3).T) == content(np.arange(6).reshape(2, 3).T.copy())
    with pytest.raises(ValueError, match="that of a ndarray can't be read"):
        content(np.array([{}, None]))
    same = keras.models.clone_model(classifier)
    same.set_weights(classifier.get_weights())
    same.name = "other"
    before = content(same)
    same.compile("sgd", "mse")
    assert content(classifier) == before == content(same)
    same.layers[-1].activation = keras.activations.tanh
    assert content(same) != before, "another activation has the same weights"
