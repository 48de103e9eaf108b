"""Attacks and reports on a Ray cluster give what this process alone gives, whatever becomes of a worker."""

import dataclasses
import os
import signal
import sys
import threading
import time

import keras
import numpy as np
import pytest

import tfdefense as td
from tfdefense._cluster import Sent
from tfdefense.attacks.suites import Suite, standard
from tfdefense.reporting import protocol

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))


@pytest.fixture(scope="module")
def on_cluster():
    """Two workers of a cluster of this machine."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'tfdefense[cluster]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", ROOT)
        ray.init(address="local", num_cpus=2, log_to_driver=False)
        try:
            with td.attacks.workers("local") as found:
                yield found
        finally:
            ray.shutdown()


def same(one, other):
    for name in ("success", "label", "steps", "zero_gradient"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    for name in ("x_adv", "distance"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-6, err_msg=name)


STUCK = 10


def noting(folder):
    """An attack that leaves a note on which process began which batch; of one that pickle can't find, so it goes along whole.

    Who first begins the batch of sample `STUCK` never ends it.
    """

    @dataclasses.dataclass(frozen=True)
    class Noting(td.attacks.PGD):
        def perturb(self, batch, start):
            (folder / f"{os.getpid()} {batch.number[0]}").touch()
            if batch.number[0] == STUCK and len(list(folder.glob(f"* {STUCK}"))) == 1:
                time.sleep(600)
            return super().perturb(batch, start)

    return Noting


@pytest.mark.long
def test_a_batch_whose_worker_is_killed_is_attacked_by_another(defended, held_out, on_cluster, tmp_path):
    x, y = held_out.x[200:216], held_out.y[200:216]
    begun, cache = tmp_path / "begun", tmp_path / "cache"
    begun.mkdir()
    attack = noting(begun)(0.15, steps=3, starts=("sample",))
    right = td.evaluate(defended, x, y).label == y
    killed = []

    def kill():
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            # In the middle of a batch, once another is done.
            if list(cache.glob("*/*.npz")) and (stuck := list(begun.glob(f"* {STUCK}"))):
                killed.append(stuck[0].name)
                os.kill(int(stuck[0].name.split()[0]), signal.SIGKILL)
                return
            time.sleep(0.01)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    found = attack(defended, x, y, batch_size=2, ray=on_cluster, cache=cache)
    killer.join()
    notes = [path.name.split() for path in begun.iterdir()]
    again = {pid for pid, number in notes if number == killed[0].split()[1]}
    assert len(again) == 2, "the batch of the lost worker was begun by another"
    assert str(os.getpid()) not in {pid for pid, _ in notes} and found.success.sum() > (~right).sum()
    assert len(list(cache.glob("*/*.npz"))) == 8
    # What is in the cache is that of a call without a cluster: nothing is attacked again.
    same(attack(defended, x, y, batch_size=2, cache=cache), found)
    assert len(list(begun.iterdir())) == len(notes)
    same(td.attacks.PGD(0.15, steps=3, starts=("sample",))(defended, x, y, batch_size=2), found)


@pytest.mark.long
def test_attacks_of_every_kind_are_those_without_a_cluster(classifier, defended, held_out, on_cluster):
    x, y = held_out.x[200:212], held_out.y[200:212]
    pool = (held_out.x[:50], held_out.y[:50])
    starts = ("sample", "random", td.attacks.Transferred(classifier), td.attacks.Accepted(pool=pool))
    search = td.attacks.PGD(0.1, steps=3, starts=starts, seed=3)
    both = td.attacks.WorstCase([td.attacks.Transfer(td.attacks.PGD(0.1, steps=3)), search], until_success=True)
    for attack in (both, td.attacks.ForcedRejection(td.attacks.MinimumNorm("l2", steps=3))):
        same(attack(defended, x, y, batch_size=4, ray=on_cluster), attack(defended, x, y, batch_size=4))
    # Set to another threshold it is another model.
    stricter = td.ThresholdDefense(threshold=-0.999).attach(classifier)
    same(search(stricter, x, y, batch_size=4, ray=on_cluster), search(stricter, x, y, batch_size=4))
    # An error in a worker is the one that would come here, and the workers go on.
    blind = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), Sign(), keras.layers.Dense(10)])
    with pytest.raises(ValueError, match="A worker could not load the model: .*Sign"):
        td.attacks.PGD(0.1, steps=2)(blind, x, y, batch_size=4, ray=on_cluster)
    same(search(defended, x[:4], y[:4], ray=on_cluster), search(defended, x[:4], y[:4]))


class Sign(keras.layers.Layer):
    """A layer that nobody registered."""

    def call(self, inputs):
        return keras.ops.sign(inputs - 0.5)


@pytest.mark.long
def test_a_report_has_the_numbers_of_one_without_a_cluster(defended, held_out, on_cluster, monkeypatch):
    monkeypatch.setattr(protocol, "TASK", 6)
    small = Suite("small", tuple(one for one in standard.QUICK if one.search)[:2])
    data = held_out.x[200:], held_out.y[200:]
    options = {"samples": 12, "clean": 50, "steps": 2, "linf": (0.1, 0.5), "l2": (), "queries": 10, "suite": small}
    calls = []
    each = type(on_cluster).each
    monkeypatch.setattr(
        type(on_cluster), "each", lambda self, names, *how: calls.append(names := list(names)) or each(self, names, *how)
    )
    one, other = td.report(defended, data, **options), td.report(defended, data, **options, ray=on_cluster)
    assert len(calls) > 5 and max(map(len, calls)) == 2, "each attack is two tasks"
    assert one.content["curves"] == other.content["curves"] and one.content["checks"] == other.content["checks"]
    assert one.verdict == other.verdict and len(one.content["attacks"]) == len(other.content["attacks"])
    # How many iterations were spent depends on how many samples go from how many starts at once, and nothing else does.
    for a, b in zip(one.content["attacks"], other.content["attacks"], strict=True):
        a, b = ({name: value for name, value in entry.items() if name != "steps"} for entry in (a, b))
        assert {name: pytest.approx(value, rel=1e-4) if isinstance(value, float) else value for name, value in a.items()} == b


@pytest.mark.parametrize("ask", ["attack", "report"])
def test_what_a_cluster_can_not_attack_is_said_before_it_is_asked(ask, defended, held_out, monkeypatch):
    x, y = held_out.x[:4], held_out.y[:4]

    def asked(model, ray="auto"):
        if ask == "report":
            return td.report(model, (x, y), samples=4, ray=ray)
        return td.attacks.WorstCase([td.attacks.FGSM(0.1)])(model, x, y, ray=ray)

    pytest.importorskip("ray", reason="Ray is not installed: pip install 'tfdefense[cluster]'")
    with pytest.raises(ValueError, match="No Ray cluster answers at 'auto'.* Start one: ray start --head"):
        asked(defended)
    with pytest.raises(ValueError, match='`ray` must be the address of a Ray cluster, such as "auto". Received: 2'):
        asked(defended, 2)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"needs Ray, which is not installed: pip install 'tfdefense\[cluster\]'"):
        asked(defended)
    if ask == "report":
        with pytest.raises(ValueError, match="each worker loads a Keras model. Received a function"):
            asked(lambda x: defended(x))


def test_what_has_no_file_can_not_be_sent(held_out):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'tfdefense[cluster]'")

    class Untold(keras.layers.Layer):
        def __init__(self, own):
            super().__init__()
            self.own = own

        def call(self, inputs):
            return inputs

    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), Untold(object()), keras.layers.Dense(10)], name="own")
    for value, message in (
        (model, "Model 'own' can't be sent to the workers of a cluster: .*Give it a `get_config`"),
        (td.attacks.Transferred(td.view.View.of(lambda x: x)), "each worker loads a Keras model. Received a function"),
        ({"a": threading.Lock()}, "can't be sent to the workers of a cluster: cannot pickle"),
    ):
        with pytest.raises(ValueError, match=message):
            Sent(None).packed(value)
