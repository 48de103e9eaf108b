"""Consistency and radius rejection on whole models: radius, files, formats, attacks, together with other defenses."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdefense as td
from tfdefense.attacks.suites import Situation


@pytest.fixture(scope="module")
def small():
    """A network of pictures of 4x4, and samples of its two classes."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 4, 1))
    x = keras.layers.Conv2D(3, 3, padding="same", activation="relu")(inputs)
    x = keras.layers.Flatten()(keras.layers.MaxPooling2D()(x))
    model = keras.Model(inputs, keras.layers.Dense(2, name="logits")(x))
    x = np.random.default_rng(0).uniform(0, 1, (120, 4, 4, 1)).astype("float32")
    lead = np.asarray(model(x))
    # As many of one class as of the other.
    model.get_layer("logits").bias.assign([0.0, np.median(lead[:, 0] - lead[:, 1])])
    return model, x, np.asarray(model(x)).argmax(1)


DEFENSES = {
    "consistency": lambda: td.ConsistencyRejection(0.2, steps=2),
    "radius": lambda: td.RadiusRejection("linf"),
    "both": lambda: td.AnyOf(td.ConsistencyRejection(0.1, 1, "linf"), td.RadiusRejection(top=1), td.ThresholdDefense()),
}


@pytest.fixture(scope="module", params=DEFENSES)
def attached(request, small):
    model, x, _ = small
    defended = DEFENSES[request.param]().attach(model)
    td.calibrate(defended, x, max_rejected=0.1)
    return defended


def outputs(model, x):
    return {name: np.asarray(value) for name, value in model(x).items()}


def same(found, expected):
    np.testing.assert_array_equal(found["label"], expected["label"])
    np.testing.assert_allclose(found["suspicion"], expected["suspicion"], rtol=1e-4, atol=1e-5)
    assert 0 < (expected["label"] == -1).mean() < 0.15


def test_radius_is_where_the_wanted_share_has_another_class():
    """On a linear classifier it is a quantile of the distances to the boundary."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    x = np.random.default_rng(0).normal(size=(400, 6)).astype("float32")
    scores, kernel = np.asarray(model(x)), np.asarray(model.layers[-1].kernel)
    distance = np.abs(scores[:, 1] - scores[:, 0]) / np.linalg.norm(kernel[:, 1] - kernel[:, 0])
    defended = td.ConsistencyRejection(steps=2).attach(model, bounds=None)
    assert (outputs(defended, x)["label"] == -1).all() and "not adapted" in td.contract.unready(defended)
    td.adapt(defended, x[:200], scores[:200].argmax(1), calibration=x[200:], max_rejected=0.2)
    layer = next(layer for layer in defended.layers if isinstance(layer, td.layers.Consistency))
    assert float(layer.used_radius) == pytest.approx(np.quantile(distance[:200], 0.2), rel=0.03)
    threshold = next(layer for layer in defended.layers if isinstance(layer, td.layers.Threshold))
    assert abs(float(threshold.value)) < 0.2 * np.median(np.abs(scores[:, 1] - scores[:, 0]))
    assert (outputs(defended, x[200:])["label"] == -1).mean() == pytest.approx(0.2, abs=0.01)


def test_a_radius_that_was_given_stays(small):
    model, x, y = small
    defended = td.AnyOf(td.ConsistencyRejection(0.2, steps=1), td.ThresholdDefense()).attach(model)
    td.adapt(defended, x[:60], y[:60], calibration=x[60:])
    layer = next(layer for layer in defended.layers if isinstance(layer, td.layers.Consistency))
    assert float(layer.used_radius) == pytest.approx(0.2)


def test_a_sample_is_rejected_where_another_class_is_within_the_radius(small):
    model, x, y = small
    defended = td.ConsistencyRejection(0.3, steps=5, threshold=0.0).attach(model)
    rejected = outputs(defended, x)["label"] == -1
    nearest = td.attacks.MinimumNorm("l2", steps=20)(model, x, y)
    near = nearest.success & (nearest.distance <= 0.3)
    assert 0.1 < rejected.mean() < 0.9
    assert (rejected & ~near).mean() <= 0.02 and (rejected & near).sum() >= 0.9 * near.sum()


def test_a_file_decides_alike(attached, small, tmp_path):
    expected, x = outputs(attached, small[1]), small[1]
    attached.save(tmp_path / "d.keras")
    loaded = td.load(tmp_path / "d.keras")
    same(outputs(loaded, x), expected)
    np.testing.assert_allclose(td.base_model(loaded)(x), small[0](x), atol=1e-6)


def test_onnx_decides_alike(small, tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    model, x, _ = small
    defended = td.AnyOf(td.ConsistencyRejection(0.2, steps=2), td.RadiusRejection("linf")).attach(model)
    td.calibrate(defended, x, max_rejected=0.1)
    defended.export(tmp_path / "d.onnx")
    session, expected = runtime.InferenceSession(tmp_path / "d.onnx"), outputs(defended, x)
    for rows in (x, x[:1], x[:0]):
        answers = session.run(None, {session.get_inputs()[0].name: rows})
        found = dict(zip((one.name for one in session.get_outputs()), answers, strict=True))
        np.testing.assert_array_equal(found["label"], expected["label"][: len(rows)])
        np.testing.assert_allclose(found["suspicion"], expected["suspicion"][: len(rows)], rtol=1e-4, atol=1e-5)


def test_litert_decides_alike(small, tmp_path):
    model, x, _ = small
    defended = td.ConsistencyRejection(0.2, steps=1).attach(model)
    td.calibrate(defended, x, max_rejected=0.1)
    defended.export(tmp_path / "d.tflite")
    runner = tf.lite.Interpreter(str(tmp_path / "d.tflite")).get_signature_runner()
    found = runner(**{next(iter(runner.get_input_details())): x})
    same(found, outputs(defended, x))


def test_what_a_format_lacks_is_told_in_one_sentence(tmp_path):
    inputs = keras.Input((6, 6, 1))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.DepthwiseConv2D(3)(inputs))
    defended = td.RadiusRejection(threshold=0.0).attach(keras.Model(inputs, keras.layers.Dense(2)(x)))
    with pytest.raises(ValueError, match="can't be written for ONNX: .*Backprop.* A SavedModel can hold every model"):
        defended.export(tmp_path / "d.onnx")


def test_a_saved_model_can_be_attacked_through_its_search(small, tmp_path):
    model, x, y = small
    defended = td.ConsistencyRejection(0.2, steps=1).attach(model)
    td.calibrate(defended, x, max_rejected=0.1)
    defended.export(tmp_path / "d")
    attack = td.attacks.PGD(0.5, "l2", steps=2, starts="sample")
    found = [attack(one, x[:8], y[:8], batch_size=8).x_adv for one in (defended, tf.saved_model.load(str(tmp_path / "d")))]
    np.testing.assert_allclose(*found, atol=1e-4)
    assert np.abs(found[0] - x[:8]).max() > 0.01


def test_suites_attack_it_in_both_ways(attached, small):
    model, x, y = small
    situation = Situation.of(attached, (x, y), "l2", 0.5, steps=2)
    assert situation.smooth and not situation.coded
    found = td.attacks.suite("standard-1").attacks(situation)
    assert isinstance(found["selective PGD, BPDA"], td.attacks.BPDA) and isinstance(found["PGD"], td.attacks.PGD)
    surrogate = td.differentiable(attached, exact_forward=True)
    np.testing.assert_allclose(surrogate(x)["suspicion"], attached(x)["suspicion"], rtol=1e-4, atol=1e-5)


def test_inside_other_defenses(small):
    model, x, y = small
    for make in (
        lambda: td.PerClass(td.ConsistencyRejection(0.2, steps=1)),
        lambda: td.TemperatureScaled(td.RadiusRejection("l2", top=1)),
        lambda: td.AllOf(td.ConsistencyRejection(0.2, steps=1), td.ThresholdDefense()),
    ):
        defended = make().attach(model)
        td.adapt(defended, x[:60], y[:60], calibration=x[60:], max_rejected=0.2)
        assert (outputs(defended, x[60:])["label"] == -1).mean() <= 0.2


def test_they_can_be_compared(small):
    model, x, y = small
    candidates = {
        "around": td.ConsistencyRejection(0.2, steps=1),
        "radius": td.RadiusRejection(),
        "confidence": td.ThresholdDefense(),
    }
    found = td.compare(model, candidates, (x, y), max_rejected=0.1, attack=None)
    assert {"around", "radius", "confidence"} <= set(found.summary().replace("|", " ").split())
    assert td.contract.unready(found.winner) is None


def test_search_keeps_to_the_bounds_of_the_model(small):
    found = [
        next(layer for layer in defense.attach(small[0], bounds=bounds).layers if isinstance(layer, td.layers.Consistency)).bounds
        for bounds in ((-1.0, 2.0), None)
        for defense in (td.ConsistencyRejection(0.1), td.AnyOf(td.ThresholdDefense(), td.ConsistencyRejection(0.1)))
    ]
    assert found == [(-1.0, 2.0)] * 2 + [(-np.inf, np.inf)] * 2


@pytest.mark.parametrize(
    ("shape", "dtype", "words"),
    [((4, 4, 1), "uint8", "takes uint8, through which none flows"), ((None, None, 1), "float32", "`keras.Input` of a fixed shape")],
)
def test_what_nothing_can_be_searched_around_is_told(shape, dtype, words):
    inputs = keras.Input(shape, dtype=dtype)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    for defense in (td.ConsistencyRejection(0.1), td.RadiusRejection()):
        with pytest.raises(ValueError, match=words):
            defense.attach(model, bounds=(0, 255))
