"""`td.Monitor` from a model to the numbers that a service shows."""

import json
import math
import re

import numpy as np
import pytest

import tfdefense as td


@pytest.fixture(scope="module")
def reference(defended, held_out, tmp_path_factory):
    path = tmp_path_factory.mktemp("reference") / "reference.json"
    td.monitoring.reference(defended, held_out.x[:200], path, max_rejected=0.05)
    return path


def said(defended, x):
    return td.predict(defended, x).suspicion


def test_the_reference_is_small_and_says_what_was_held_out(reference, defended, held_out):
    content = json.loads(reference.read_text())
    suspicion = said(defended, held_out.x[:200])
    assert reference.stat().st_size < 20_000
    assert (content["samples"], content["rejected"], content["max_rejected"]) == (200, (suspicion > 0).sum(), 0.05)
    assert sum(content["pool"]) == 100 and len(content["suspicion"]) == 200
    np.testing.assert_allclose(content["suspicion"], np.sort(suspicion), rtol=1e-5)
    assert content["detectors"] == list(td.prediction.detectors(defended))


def test_no_alarm_on_samples_of_the_same_kind(reference, defended, held_out):
    watching = td.Monitor(reference)
    status = watching.update(said(defended, held_out.x[200:]))
    assert status.alarms == {} and status.samples == 197 and status.ks_p > 0.01
    assert status.interval[0] < status.rate < status.interval[1] and "no alarm" in watching.summary()


@pytest.mark.parametrize("kind", ["darker", "letters"])
def test_a_real_shift_is_found(kind, reference, defended, held_out):
    x = held_out.x[200:] * 0.5 if kind == "darker" else td.data.load("letters8", "test", limit=300).x
    watching = td.Monitor(reference)
    watching.update(said(defended, held_out.x[200:300]))
    assert watching.alarms == {}
    status = watching.update(said(defended, x))
    assert 100 < status.alarms["drift"] <= status.samples
    assert ("rejected" in status.alarms) == (kind == "letters")
    assert status.ks_p < 1e-3 and "ALARM: " in watching.summary()


def simulated(rng, held_out=400):
    """A reference whose threshold rejects 5 % of what was held out, and the function that gives the suspicions of a service."""
    scores = rng.normal(size=held_out)
    threshold = np.sort(scores)[-held_out // 20 - 1]
    return td.monitoring.of_suspicion(scores - threshold), lambda n, shift=0.0: rng.normal(size=n) + shift - threshold


@pytest.mark.slow
def test_all_alarms_together_stay_below_the_promised_rate():
    rng, rung = np.random.default_rng(0), 0
    for _ in range(100):
        reference, serve = simulated(rng)
        watching = td.Monitor(reference, limits={"invalid input": 0.01})
        for _ in range(3):
            watching.update(serve(200))
        rung += bool(watching.alarms)
    assert rung <= 8  # 5 % give more than that in 6 of 100 trials


def test_reasons_are_counted_and_ring_above_their_limit():
    reference, serve = simulated(np.random.default_rng(1))
    watching, rng = td.Monitor(reference, limits={"invalid input": 0.02, "unreadable": 0.5}), np.random.default_rng(2)
    for _ in range(5):
        suspicion = serve(200)
        reason = (suspicion > 0).astype(int)
        broken = rng.random(200) < 0.1
        suspicion[broken], reason[broken] = np.inf, 2
        status = watching.update(suspicion, reason)
    count, share, (low, high) = status.reasons["invalid input"]
    assert 50 < count < 150 and low < share == count / 1000 < high
    # What is no picture of the world is no drift of it.
    assert set(status.alarms) == {"invalid input", "rejected"} and status.reasons["unreadable"][0] == 0
    assert status.rejected == sum(count for count, _, _ in status.reasons.values())


def test_it_goes_on_from_its_file(tmp_path):
    reference, serve = simulated(np.random.default_rng(3))
    parts = [serve(150, 0.3 * number) for number in range(4)]
    whole, saved = td.Monitor(reference, alpha=0.1), td.Monitor(reference, alpha=0.1)
    for part in parts:
        expected = whole.update(part)
        saved.update(part)
        saved.save(tmp_path / "monitor.json")
        saved = td.Monitor(tmp_path / "monitor.json")
    assert saved.alpha == 0.1 and saved.status.alarms == expected.alarms != {}
    assert saved.status.evidence == pytest.approx(expected.evidence) and saved.history == whole.history
    with pytest.raises(ValueError, match="keeps its `alpha`"):
        td.Monitor(tmp_path / "monitor.json", alpha=0.01)


def test_memory_does_not_grow(tmp_path):
    reference, serve = simulated(np.random.default_rng(4))
    watching = td.Monitor(reference)
    watching.history = [[number, 0.05, 0.04, 0.06, 0.0] for number in range(1000)]
    watching.update(serve(5000))
    watching.save(tmp_path / "monitor.json")
    assert len(watching.history) < 600 and watching.history[-1][0] == 5000
    assert len(json.loads((tmp_path / "monitor.json").read_text())["state"]["window"]) == 1000


def test_prometheus_can_read_it(reference):
    watching = td.Monitor(reference, limits={"unreadable": 0.1})
    empty = watching.prometheus()
    assert "tfdefense_drift_ks NaN" in empty and "tfdefense_samples_total 0" in empty
    watching.update([-1.0, 0.5, np.inf])
    lines = watching.prometheus(model='a "b"').splitlines()
    sample = re.compile(r'^tfdefense_\w+\{model="a \\"b\\""(,\w+="[^"]*")*\} (\d[\d.e+-]*|NaN|\+Inf)$')
    values = [line for line in lines if not line.startswith("# ")]
    assert all(sample.match(line) for line in values), values
    families = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    assert {line.split("{")[0] for line in values} == families
    assert 'tfdefense_rejections_total{model="a \\"b\\"",reason="invalid input"} 1' in values
    assert 'tfdefense_alarm{model="a \\"b\\"",test="drift"} 0' in values


def test_it_is_drawn(tmp_path):
    reference, serve = simulated(np.random.default_rng(5))
    watching = td.Monitor(reference)
    with pytest.raises(ValueError, match="call `update` first"):
        watching.plot()
    for number in range(8):
        watching.update(serve(100, number / 5))
    watching.plot(tmp_path / "monitor.png")
    assert (tmp_path / "monitor.png").read_bytes()[1:4] == b"PNG"


def test_what_is_wrong_is_one_sentence(reference, tmp_path):
    watching = td.Monitor(reference)
    (tmp_path / "x.json").write_text('{"kind": "else"}')
    content = json.loads(reference.read_text())
    wrong = [
        (lambda: td.Monitor(tmp_path / "gone.json"), "There is no file"),
        (lambda: td.Monitor(tmp_path / "x.json"), "no reference of a monitor"),
        (lambda: td.Monitor(content | {"pool": [1, 2]}), "is damaged"),
        (lambda: td.Monitor(reference, alpha=1.0), "below 1"),
        (lambda: td.Monitor(reference, limits={"dark": 0.1}), "must be of reasons"),
        (lambda: watching.update([math.nan]), "NaN"),
        (lambda: watching.update([0.0], [7]), "from 0 to 4"),
        (lambda: watching.update([0.0, 1.0], [0]), "equal lengths"),
        (lambda: td.monitoring.of_suspicion(np.zeros(39)), "at least 40"),
    ]
    for call, expected in wrong:
        with pytest.raises((ValueError, OSError), match=expected):
            call()
    assert watching.update([]).samples == 0


def test_a_table_that_is_given_twice_counts_once(reference, tmp_path):
    suspicion = np.random.default_rng(0).normal(-1, 1, 40)
    lines = [
        "file,suspicion,reason",
        *(f"{n}.png,{s},{'suspicious' if s > 0 else 'accepted'}" for n, s in enumerate(suspicion)),
    ]
    (tmp_path / "monday.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "again.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "tuesday.csv").write_text("\n".join(lines[:11]) + "\n")
    watching = td.Monitor(reference)
    assert watching.read(tmp_path / "monday.csv") and not watching.read(tmp_path / "again.csv")
    watching.save(tmp_path / "state.json")
    later = td.Monitor(tmp_path / "state.json")
    assert not later.read(tmp_path / "monday.csv") and later.read(tmp_path / "tuesday.csv")
    assert later.status.samples == 50 and watching.status.samples == 40
