"""`td.calibrate` on models: a risk in place of a rate, thresholds for each class, scores at a fitted temperature."""

import keras
import numpy as np
import pytest

import tfdefense as td


@pytest.fixture(scope="module")
def points():
    """A classifier of points whose two scores are given: sure where the first feature is large, wrong as the third says."""
    inputs = keras.Input((3,))
    doubt, side = inputs[:, 0:1], inputs[:, 1:2]
    scores = keras.layers.Lambda(lambda pair: keras.ops.concatenate([pair[1], -pair[1]], -1) * (2 - pair[0]))([doubt, side])
    return keras.Model(inputs, scores)


def drawn(samples, seed=0, slope=0.3):
    """Points, and classes that are wrong as often as a tenth of the doubt: the more, the larger it is."""
    rng = np.random.default_rng(seed)
    doubt, side = rng.random(samples), rng.choice([-1.0, 1.0], samples)
    guess = (side < 0).astype(int)
    wrong = rng.random(samples) < slope * doubt**2
    return np.stack([doubt, side, doubt], 1).astype("float32"), np.where(wrong, 1 - guess, guess)


def attached(model, *defenses):
    defense = defenses[0] if len(defenses) == 1 else td.AnyOf(*defenses)
    with pytest.warns(UserWarning, match="Lambda"):
        return defense.attach(model, bounds=None)


def test_the_risk_of_fresh_samples_is_kept(points):
    defended, (x, y), (fresh, true) = attached(points, td.ThresholdDefense()), drawn(3000), drawn(30_000, seed=1)
    rejected = td.calibrate(defended, x, y, risk=0.07)
    found = td.evaluate(defended, fresh, true)
    assert td.evaluate(defended, x, y).rejection == pytest.approx(rejected)
    assert 0.045 < found.risk <= 0.07 and found.coverage > 0.65
    assert found.accuracy_before_rejection == pytest.approx(0.9, abs=0.01)


def test_joined_detectors_take_a_risk(points):
    defended = attached(points, td.ThresholdDefense(), td.ThresholdDefense("energy"))
    (x, y), (fresh, true) = drawn(3000), drawn(30_000, seed=1)
    td.calibrate(defended, x, y, risk=0.06, confidence=0.9)
    assert td.evaluate(defended, fresh, true).risk <= 0.06


def test_errors_of_a_risk_are_one_sentence(classifier, held_out):
    defended = td.ThresholdDefense().attach(classifier)
    x, y = held_out.x, held_out.y
    for arguments, options, text in (
        ((x,), {"risk": 0.05}, "Expected labels"),
        ((x, y), {"risk": 0.05, "max_rejected": 0.05}, "Expected one promise"),
        ((x, y), {"risk": 1.5}, "between 0 and 1"),
        ((x, y), {"risk": 0.001}, "too few to promise that with 95 % confidence at most 0.1 %"),
        ((x, (y + 1) % 10), {"risk": 0.05}, "No threshold"),
        ((x, y[:9]), {"risk": 0.05}, "one length"),
    ):
        with pytest.raises(ValueError, match=text if text != "one length" else "9"):
            td.calibrate(defended, *arguments, **options)
    assert "no threshold" in td.contract.unready(defended), "what is refused changes nothing"


def test_thresholds_of_each_class_keep_the_rate_in_each(points, tmp_path):
    """Class 0 is in more doubt than class 1: one threshold rejects it more often, two do not."""
    rng = np.random.default_rng(0)

    def draw(samples):
        side = rng.choice([-1.0, 1.0], samples)
        doubt = rng.random(samples) * np.where(side > 0, 1.0, 0.5)
        return np.stack([doubt, side, side], 1).astype("float32")

    def rates(defended, x):
        label = np.asarray(defended(x)["label"])
        return [float((label[x[:, 1] * sign > 0] == -1).mean()) for sign in (1, -1)]

    x, fresh = draw(2000), draw(20_000)
    one, each = attached(points, td.ThresholdDefense()), attached(points, td.PerClass(td.ThresholdDefense()))
    assert "no threshold" in td.contract.unready(each)
    td.calibrate(one, x, max_rejected=0.1)
    td.calibrate(each, x, max_rejected=0.1)
    assert rates(one, fresh)[0] > 0.15 and rates(one, fresh)[1] == 0
    assert rates(each, fresh) == pytest.approx([0.1, 0.1], abs=0.03)
    td.calibrate(each, x, max_rejected=0.1, confidence=0.95)
    assert max(rates(each, fresh)) < 0.1
    y = (x[:, 1] < 0).astype(int)
    td.calibrate(each, x, y, risk=0.05)
    assert max(rates(each, fresh)) < 0.01, "none is wrong"


def test_thresholds_of_each_class_are_saved_exported_and_attacked(classifier, held_out, tmp_path):
    defended = td.PerClass(td.ThresholdDefense("energy")).attach(classifier)
    td.calibrate(defended, held_out.x, max_rejected=0.1)
    defended.save(tmp_path / "each.keras")
    expected = np.asarray(defended(held_out.x)["label"])
    assert 0 < (expected == -1).mean() <= 0.1
    np.testing.assert_array_equal(td.load(tmp_path / "each.keras")(held_out.x)["label"], expected)
    td.export.export(defended, tmp_path / "saved")
    import tensorflow as tf

    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    np.testing.assert_array_equal(td.view.decide(loaded, held_out.x).label, expected)
    found = td.attacks.PGD(0.2, steps=5, objective=td.attacks.LogSumExp())(defended, held_out.x[:10], held_out.y[:10])
    assert found.distance.max() <= 0.2 + 1e-6 and found.zero_gradient.mean() < 0.5


def test_a_class_with_too_few_samples_is_named(classifier, held_out):
    defended = td.PerClass(td.ThresholdDefense()).attach(classifier)
    with pytest.raises(ValueError, match=r"Of \d samples that are taken for class 0: .*too few.* Or take one threshold for all"):
        td.calibrate(defended, held_out.x[:60], max_rejected=0.05)
    assert "no threshold" in td.contract.unready(defended)


def test_what_has_no_single_score_is_refused(classifier, held_out):
    joined = td.AnyOf(td.ThresholdDefense(), td.ThresholdDefense("energy"))
    with pytest.raises(ValueError, match=r"`td.AnyOf\(td.PerClass\(a\), td.PerClass\(b\)\)`"):
        td.PerClass(joined)
    with pytest.raises(ValueError, match="Expected a defense"):
        td.TemperatureScaled("confidence")
    half = td.AnyOf(td.PerClass(td.ThresholdDefense()), td.ThresholdDefense("energy")).attach(classifier)
    with pytest.raises(ValueError, match=r"Wrap each in `td.PerClass`"):
        td.calibrate(half, held_out.x)
    both = td.AnyOf(td.PerClass(td.ThresholdDefense()), td.PerClass(td.ThresholdDefense("energy"))).attach(classifier)
    assert td.calibrate(both, held_out.x, max_rejected=0.1) <= 0.1


@pytest.mark.parametrize("temperature", [0.02, 0.5, 3.0, 200.0])
def test_the_temperature_of_scaled_logits_is_found_back(temperature):
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(20_000, 5))
    likely = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    y = (likely.cumsum(1) < rng.random((len(logits), 1))).sum(1)
    layer = td.layers.TemperatureScaling()
    assert np.isnan(np.asarray(layer(logits[:2]))).all(), "not adapted yet"
    layer.adapt(temperature * logits, y)
    assert float(layer.temperature) == pytest.approx(temperature, rel=0.03)


def test_a_scaled_defense_says_how_often_it_is_right(classifier, held_out, tmp_path):
    defended = td.TemperatureScaled(td.ThresholdDefense()).attach(classifier)
    x, y = held_out.x, held_out.y
    assert (np.asarray(defended(x[:5])["label"]) == -1).all(), "an unfinished defense rejects all"
    td.adapt(defended, x[:200], y[:200], calibration=x[200:], max_rejected=0.1)
    before, after = np.asarray(classifier(x)), np.asarray(defended(x)["scores"])
    np.testing.assert_array_equal(before.argmax(1), after.argmax(1))

    def loss(logits):
        return float(keras.ops.mean(keras.losses.sparse_categorical_crossentropy(y[:200], logits[:200], from_logits=True)))

    assert loss(after) < loss(before)
    np.testing.assert_allclose(np.asarray(td.base_model(defended)(x)), before, atol=1e-5)
    defended.save(tmp_path / "scaled.keras")
    np.testing.assert_allclose(td.load(tmp_path / "scaled.keras")(x)["scores"], after, atol=1e-5)
