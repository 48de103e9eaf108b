"""Long calls that are stopped go on, and no process does what another has done."""

import random
import subprocess
import sys
import threading
import time

import keras
import numpy as np
import pytest

import tfdefense as td
from tfdefense import kept

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
        with kept.everything(tmp_path / place):
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
        attack(classifier, *samples, batch_size=20, kept=tmp_path)
    sizes.clear()
    monkeypatch.setattr(A.PGD, "perturb", counted)
    again = attack(classifier, *samples, batch_size=20, kept=tmp_path)
    assert len(sizes) == 2, "the first batch is there"
    for name in ("x_adv", "success", "distance", "steps", "label", "zero_gradient"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))
    attack(classifier, *samples, batch_size=20, kept=tmp_path)
    assert len(sizes) == 2, "all are there"
    other = keras.models.clone_model(classifier)
    other.set_weights([1.001 * weight for weight in classifier.get_weights()])
    for changed in (
        (attack, other, samples[0]),
        (A.PGD(0.2, steps=2), classifier, samples[0]),
        (attack, classifier, samples[0] * 0.9),
    ):
        before = len(sizes)
        changed[0](changed[1], changed[2], samples[1], batch_size=20, kept=tmp_path)
        assert len(sizes) > before, "another model, attack or sample is another result"


def test_attacks_made_of_attacks_keep_theirs(defended, samples, tmp_path):
    ours = A.WorstCase([A.Transfer(A.FGSM(0.1)), A.PGD(0.1, steps=2, starts="sample")], until_success=True)
    found = [ours(defended, *samples, batch_size=50, kept=tmp_path).x_adv for _ in range(2)]
    np.testing.assert_array_equal(*found)
    np.testing.assert_array_equal(found[0], ours(defended, *samples, batch_size=50).x_adv)
    assert len(list(tmp_path.glob("*/000000.npz"))) == 2


def test_what_has_no_readable_content_is_refused(classifier, samples, tmp_path):
    with pytest.raises(ValueError, match="that of a function can't be read. Expected a Keras model"):
        A.FGSM(0.1)(lambda x: classifier(x), *samples, kept=tmp_path)


def test_processes_share_the_parts(tmp_path):
    made, found = [], {}

    def work(name):
        def make(number):
            made.append(number)
            time.sleep(0.02)
            return {"x": np.full(2, number)}

        found[name] = kept.parts(tmp_path, make, 12)

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
from tfdefense import kept

def make(number):
    time.sleep(0.01)
    return {"x": np.full(200_000, number)}

print("begun", flush=True)
kept.parts(sys.argv[1], make, 500)
"""


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

    found = kept.parts(tmp_path, make, 500, told.append)
    assert all((part["x"] == number).all() for number, part in enumerate(found))
    assert made == [number for number in range(500) if number not in there]
    assert told[0] == len(there) and told[-1] == 500
