"""A base model does not hold the defenses that were attached to it, nor do caches."""

import gc
import weakref

import keras
import numpy as np
import pytest

import tfdefense as td
from tests.conftest import small_cnn
from tfdefense.graph import _operations

X = np.random.default_rng(0).random((24, 8, 8, 1), "float32")
Y = np.arange(24) % 3


def flat():
    return small_cnn(3, "flat")


def nested():
    inputs, inner = keras.Input((8, 8, 1)), small_cnn(3, "inner")
    backbone = keras.Model(inner.inputs[0], inner.get_layer("features").output, name="backbone")
    x = backbone(keras.layers.Rescaling(1.0)(inputs))
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax", name="scores")(x))


def sequential():
    layers = keras.layers
    hidden = layers.Dense(8, name="features")
    return keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), hidden, layers.Dense(3, activation="softmax")])


def adapted(base):
    defended = td.AnyOf(td.NeuralRejection("features"), td.ThresholdDefense()).attach(base)
    return td.adapt(defended, X, Y, calibration=X, max_rejected=0.1)


def attacked(base):
    defended = td.ThresholdDefense().attach(base)
    td.calibrate(defended, X, max_rejected=0.1)
    td.evaluate(td.base_model(defended), X, Y)
    td.attacks.PGD(0.1, steps=1, starts=("base",))(defended, X[:4], Y[:4])
    return defended


def surrogate(base):
    defended = td.SafetyNet(["features"], threshold=0.0).attach(base)
    td.differentiable(defended)
    return defended


def trained(base):
    defended = td.AdversaryDetector("conv", width=4).attach(base)
    td.DetectorTraining(defended)
    return defended


def refused(base):
    defended = td.ThresholdDefense().attach(base)
    with pytest.raises(ValueError, match="low < high"):
        td.NeuralRejection("features").attach(base, bounds=(1, 0))
    return defended


def of_the_defense(defended):
    """Weak references to a defended model and to those of its layers that are this library's."""
    ours = [layer for layer in defended.layers if type(layer).__module__.startswith("tfdefense")]
    return [weakref.ref(defended), *map(weakref.ref, ours)]


@pytest.mark.parametrize(
    ("kind", "use"),
    [
        *((flat, use) for use in (adapted, attacked, surrogate, trained, refused)),
        (nested, adapted),
        (nested, surrogate),
        (sequential, adapted),
    ],
)
def test_base_lets_go_of_a_defense(kind, use):
    base = kind()
    uses = [len(operation._outbound_nodes) for operation in _operations(base)]
    found = [reference for _ in range(2) for reference in of_the_defense(use(base))]
    assert len(found) > 2
    gc.collect()
    assert [reference() for reference in found if reference() is not None] == []
    assert [len(operation._outbound_nodes) for operation in _operations(base)] == uses


def test_twenty_defenses_leave_a_base_as_it_was(tmp_path):
    base = flat()
    held = {id(operation): (len(operation._inbound_nodes), len(operation._outbound_nodes)) for operation in base.operations}
    found = []
    for _ in range(20):
        defended = td.ThresholdDefense().attach(base)
        td.calibrate(defended, X, max_rejected=0.1)
        found += of_the_defense(defended)
    del defended
    gc.collect()
    assert not any(reference() for reference in found)
    assert {id(each): (len(each._inbound_nodes), len(each._outbound_nodes)) for each in base.operations} == held
    # What is made of the base and of its last defense goes on as before.
    defended = td.AnyOf(td.ThresholdDefense(), td.ThresholdDefense("non-me")).attach(base)
    td.calibrate(defended, X, max_rejected=0.1)
    defended.save(tmp_path / "defended.keras")
    for model in (td.load(tmp_path / "defended.keras"), cloned(defended)):
        np.testing.assert_allclose(model(X)["suspicion"], defended(X)["suspicion"], atol=1e-5)
    base.save(tmp_path / "base.keras")
    for model in (keras.models.load_model(tmp_path / "base.keras"), cloned(base), td.base_model(defended)):
        np.testing.assert_allclose(model(X), base(X), atol=1e-5)
    base.summary(print_fn=lambda line: None)


def cloned(model):
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def test_calibrating_again_adds_nothing_to_a_model():
    defended = td.AnyOf(td.ThresholdDefense(), td.ThresholdDefense("non-me")).attach(flat())
    counts = []
    for _ in range(3):
        td.calibrate(defended, X, max_rejected=0.1)
        counts.append([(len(each._inbound_nodes), len(each._outbound_nodes)) for each in defended.operations])
    assert counts[0] == counts[1] == counts[2]


def test_view_is_kept_with_its_model_and_made_anew_for_new_weights():
    defended = td.ThresholdDefense().attach(flat())
    view = td.view.View.of(defended)
    assert td.view.View.of(defended) is view and view.base() is view.base()
    assert td.view.View.of(defended, (0, 1)) is not view
    svms = td.NeuralRejection("features").attach(flat())
    before = td.view.View.of(svms)
    td.adapt(svms, X, Y, max_rejected=None)
    assert td.view.View.of(svms) is not before
