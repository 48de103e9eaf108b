"""The contract: outputs, the guard, calibration, composition, adapting, loading."""

import warnings

import keras
import numpy as np
import pytest

import tfdefense as td

# Every way to attach a defense that does not need data of its own: the contract below holds for each.
DEFENSES = {
    **{name: lambda name=name: td.ThresholdDefense(name) for name in td.layers.scores.SCORES},
    "dustbin": lambda: td.DustbinDefense(threshold=None),
    "detector": lambda: td.AdversaryDetector("conv", width=4, seed=0),
    "rectified": lambda: td.RectifiedRejection(width=4, seed=0),
    "consistency": lambda: td.ConsistencyRejection(0.05, steps=1),
    "radius": lambda: td.RadiusRejection("linf", top=2),
    "any": lambda: td.AnyOf(td.ThresholdDefense(), td.ThresholdDefense("non-me")),
    "all": lambda: td.AllOf(td.ThresholdDefense(), td.ThresholdDefense("non-me")),
    "any-dustbin": lambda: td.AnyOf(td.ThresholdDefense(), td.DustbinDefense(threshold=None)),
    "nested": lambda: td.AnyOf(td.AllOf(td.ThresholdDefense(), td.ThresholdDefense("non-me")), td.ThresholdDefense()),
}


@pytest.fixture(params=DEFENSES, scope="module")
def attached(request, classifier, dustbin):
    """A freshly attached defense of each kind, and the model it was attached to."""
    base = dustbin if "dustbin" in request.param else classifier
    return DEFENSES[request.param]().attach(base), base


def test_contract_of_the_outputs(attached, held_out):
    defended, _ = attached
    td.calibrate(defended, held_out.x, max_rejected=0.05)
    out = defended.predict(held_out.x, verbose=0)
    assert set(out) == {"scores", "suspicion", "label"}
    assert out["scores"].shape == (397, 10) and out["suspicion"].shape == out["label"].shape == (397,)
    assert out["label"].dtype == np.int32
    np.testing.assert_array_equal(out["label"] == -1, out["suspicion"] > 0)
    kept = out["label"] >= 0
    np.testing.assert_array_equal(out["label"][kept], out["scores"][kept].argmax(-1))
    assert (out["label"][kept] == held_out.y[kept]).mean() > 0.95


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.05, 0.3])
def test_calibration_keeps_the_promised_rate_and_uses_it_up(attached, held_out, rate, request):
    defended, _ = attached
    # What is rejected here follows from the promise to fresh samples; nested both ways, one half of the samples decides, and for
    # 1 % its 198 may be too few.
    halves = "nested" in request.node.name
    rate = 0.05 if halves and rate == 0.01 else rate
    told = td.calibrate(defended, held_out.x, max_rejected=rate)
    rejected = (defended.predict(held_out.x, verbose=0)["label"] == -1).mean()
    chance = 4 * (rate * (1 - rate) / 198) ** 0.5 if halves else 0.0
    assert told == pytest.approx(rejected) and rejected <= rate + chance
    assert rejected >= rate - 6 / 397 - chance


def test_guard_rejects_the_sample_and_only_it(attached, held_out):
    defended, _ = attached
    td.calibrate(defended, held_out.x, max_rejected=0.0)
    x = held_out.x[:8].copy()
    clean = defended(x)
    bad = x.copy()
    bad[1, 2, 3, 0], bad[3, 0, 0, 0], bad[5, 7, 7, 0], bad[6, 0, 0, 0] = np.nan, np.inf, 1.001, -0.001
    out = defended(bad)
    rejected = [1, 3, 5, 6]
    np.testing.assert_array_equal(out["label"].numpy()[rejected], -1)
    np.testing.assert_array_equal(out["suspicion"].numpy()[rejected], np.inf)
    for name in ("scores", "suspicion", "label"):
        np.testing.assert_array_equal(out[name].numpy()[[0, 2, 4, 7]], clean[name].numpy()[[0, 2, 4, 7]])
    np.testing.assert_array_equal(
        defended(np.nextafter(np.float32(1), np.float32(2)) * np.ones_like(x))["suspicion"] < np.inf, True
    )


def test_uncalibrated_defense_rejects_everything(classifier, held_out):
    defended = td.ThresholdDefense().attach(classifier)
    out = defended(held_out.x[:5])
    assert (out["label"].numpy() == -1).all() and np.isinf(out["suspicion"]).all()
    assert "td.calibrate" in td.contract.unready(defended)
    td.calibrate(defended, held_out.x)
    assert td.contract.unready(defended) is None


def test_save_and_load_keep_decisions_and_thresholds(attached, held_out, tmp_path):
    defended, _ = attached
    td.calibrate(defended, held_out.x, max_rejected=0.1)
    defended.save(tmp_path / "d.keras")
    again = td.load(tmp_path / "d.keras")
    for name, value in defended.predict(held_out.x, verbose=0).items():
        np.testing.assert_allclose(again.predict(held_out.x, verbose=0)[name], value, atol=1e-5)
    assert td.contract.bounds_of(again) == (0.0, 1.0)
    td.calibrate(again, held_out.x, max_rejected=0.0)
    assert (again.predict(held_out.x, verbose=0)["label"] >= 0).all()


def test_base_model_is_the_undefended_one(attached, held_out, tmp_path):
    defended, base = attached
    # The dustbin is no class of it.
    np.testing.assert_allclose(td.base_model(defended)(held_out.x[:9]), base(held_out.x[:9])[:, :10], atol=1e-5)
    defended.save(tmp_path / "d.keras")
    loaded = td.load(tmp_path / "d.keras")
    np.testing.assert_allclose(td.base_model(loaded)(held_out.x[:9]), base(held_out.x[:9])[:, :10], atol=1e-5)


def test_bounds_are_those_given(classifier, held_out):
    defended = td.ThresholdDefense(threshold=100.0).attach(classifier, bounds=(-1, 2))
    x = held_out.x[:3] * 2
    assert (defended(x)["label"].numpy() >= 0).all() and (defended(x * 1.1 + 0.1)["label"].numpy() == -1).any()


def test_any_and_all_are_the_larger_and_the_smaller_suspicion(classifier, held_out):
    x = held_out.x[:50]
    thresholds = {"confidence": -4.0, "non-me": -1.0}
    parts = [td.ThresholdDefense(metric, threshold) for metric, threshold in thresholds.items()]
    one, other = (part.attach(classifier)(x)["suspicion"].numpy() for part in parts)
    assert ((one > 0) != (other > 0)).any()
    np.testing.assert_allclose(td.AnyOf(*parts).attach(classifier)(x)["suspicion"], np.maximum(one, other), atol=1e-6)
    np.testing.assert_allclose(td.AllOf(*parts).attach(classifier)(x)["suspicion"], np.minimum(one, other), atol=1e-6)


def test_compiles_with_a_loss_on_the_scores_alone(digits, held_out):
    from tests.conftest import small_cnn

    keras.utils.set_random_seed(3)
    defended = td.ThresholdDefense().attach(small_cnn(10, "fresh"))
    defended.compile("adam", loss={"scores": keras.losses.SparseCategoricalCrossentropy(from_logits=True)})
    defended.fit(digits.x, digits.y, epochs=3, verbose=0)
    td.calibrate(defended, held_out.x, max_rejected=0.05)
    assert td.evaluate(defended, held_out.x, held_out.y).accuracy > 0.7


@keras.saving.register_keras_serializable(package="tests")
class Centres(td.layers.AdaptableLayer):
    """The distance to the nearest class centre."""

    def build(self, shape):
        super().build(shape)
        self.centres = self.add_weight(name="centres", shape=(10, shape[-1]), initializer="zeros", trainable=False)
        self.centres.assign(np.full((10, shape[-1]), np.nan))

    def call(self, features):
        distance = keras.ops.sum((features[:, None] - self.centres[None]) ** 2, axis=-1)
        return keras.ops.min(distance, axis=-1)

    def compute_output_shape(self, shape):
        return shape[:1]

    def adapt(self, features, labels):
        self.centres.assign(np.stack([features[labels == label].mean(0) for label in range(10)]))


class Nearest(td.defenses.Defense):
    layers = ("features",)

    def connect(self, logits, taps):
        return logits, Centres()(taps["features"])


def test_adapt_sets_states_then_thresholds(classifier, digits, held_out, tmp_path):
    defended = Nearest().attach(classifier)
    assert (defended(held_out.x[:4])["label"].numpy() == -1).all()
    with pytest.raises(ValueError, match=r"not adapted yet. Call `td.adapt\("):
        td.calibrate(defended, held_out.x)
    td.adapt(defended, digits.x, digits.y, calibration=held_out.x[:200], max_rejected=0.1)
    features = keras.Model(classifier.input, classifier.get_layer("features").output)
    centre = features(digits.x[digits.y == 4]).numpy().mean(0)
    layer = next(layer for layer in defended.layers if isinstance(layer, Centres))
    np.testing.assert_allclose(layer.centres[4], centre, rtol=1e-4)
    outcomes = td.evaluate(defended, held_out.x[200:], held_out.y[200:])
    assert 0.02 < outcomes.rejection < 0.25 and outcomes.accuracy > 0.75
    noise = np.random.default_rng(0).uniform(size=(200, 8, 8, 1)).astype("float32")
    assert (defended(noise)["label"].numpy() == -1).mean() > 0.4
    defended.save(tmp_path / "d.keras")
    assert td.contract.unready(td.load(tmp_path / "d.keras")) is None


def test_adapt_without_held_out_samples_warns(classifier, digits):
    with pytest.warns(UserWarning, match="Pass `calibration=x_held_out`"):
        td.adapt(Nearest().attach(classifier), digits.x[:300], digits.y[:300])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        td.adapt(Nearest().attach(classifier), digits.x[:300], digits.y[:300], max_rejected=None)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda d, m, x, y: td.calibrate(m, x), "Expected a defended model. Received 'digits_cnn'"),
        (lambda d, m, x, y: td.calibrate(d, x, max_rejected=1.5), r"a share in \[0, 1\)"),
        (lambda d, m, x, y: td.calibrate(d, x, confidence=95), r"`confidence` must be None or lie in \(0, 1\)"),
        (lambda d, m, x, y: td.calibrate(d, x, max_rejected=0, confidence=0.95), "No number of samples shows"),
        (lambda d, m, x, y: td.calibrate(d, x[:0]), "at least one sample"),
        (lambda d, m, x, y: td.calibrate(d, x[..., 0]), r"Expected samples of shape \(None, 8, 8, 1\)"),
        (lambda d, m, x, y: td.adapt(d, x, y[:-1]), "`x` and `y` must have equal lengths"),
        (lambda d, m, x, y: td.calibrate(d, x.astype(str)), "Expected numbers. Received an array of dtype <U"),
        (lambda d, m, x, y: td.adapt(d, x.astype(object), y), "Expected numbers. Received an array of dtype object"),
        (lambda d, m, x, y: td.calibrate(d, x * np.nan), "have a detector score that is not finite"),
        (lambda d, m, x, y: td.base_model(m), "Expected a defended model"),
        (lambda d, m, x, y: td.ThresholdDefense("entropie"), "'confidence', .*'non-me'.*Received: 'entropie'"),
        (lambda d, m, x, y: td.AnyOf(td.ThresholdDefense()), "Expected two or more defenses"),
        (lambda d, m, x, y: td.AnyOf(td.ThresholdDefense(), m), "Expected two or more defenses"),
        (lambda d, m, x, y: td.ThresholdDefense().attach(m, bounds=(1, 0)), "low < high"),
        (lambda d, m, x, y: td.layers.Join("some"), "'any' or 'all'"),
    ],
)
def test_bad_input(classifier, held_out, call, words):
    defended = td.ThresholdDefense().attach(classifier)
    with pytest.raises(ValueError, match=words), warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        call(defended, classifier, held_out.x, held_out.y)


def test_samples_outside_the_bounds_do_not_set_thresholds(classifier, digits, held_out):
    defended = td.ThresholdDefense().attach(classifier)
    for call in (lambda: td.calibrate(defended, held_out.x * 255), lambda: td.adapt(defended, digits.x * 255, digits.y)):
        with pytest.raises(ValueError, match=r"Expected samples in \(0, 1\).*\[0, 255\].*bounds=\(0, 255\)"):
            call()
    assert td.contract.unready(defended)


def test_thresholds_that_were_given_stay(dustbin, held_out):
    both = td.AnyOf(td.DustbinDefense(threshold=0.0), td.ThresholdDefense()).attach(dustbin)
    told = td.calibrate(both, held_out.x, max_rejected=0.2)
    given, set_now = (layer for layer in both.layers if isinstance(layer, td.layers.Threshold))
    assert float(given.value) == 0.0 and np.isfinite(float(set_now.value))
    assert told == pytest.approx(0.2, abs=6 / 397) == (both(held_out.x)["label"].numpy() == -1).mean()
    strict = td.AnyOf(td.DustbinDefense(threshold=-100.0), td.ThresholdDefense()).attach(dustbin)
    with pytest.warns(UserWarning, match="thresholds that were given reject 100.0%"):
        td.calibrate(strict, held_out.x, max_rejected=0.05)


def test_too_few_samples_to_calibrate_on_are_told(classifier, held_out):
    one = td.ThresholdDefense().attach(classifier)
    two = td.AnyOf(td.ThresholdDefense(), td.ThresholdDefense("non-me")).attach(classifier)
    for defended, confidence, least in ((one, None, 19), (one, 0.95, 59), (two, None, 39), (two, 0.95, 93)):
        with pytest.raises(ValueError, match=f"{least - 1} samples are too few to promise.* Expected at least {least}"):
            td.calibrate(defended, held_out.x[: least - 1], max_rejected=0.05, confidence=confidence)
        assert td.contract.unready(defended), "nothing is set"
    td.calibrate(one, held_out.x[:59], confidence=0.95)
    assert td.contract.unready(one) is None


def test_the_promise_is_taken_the_same_way_everywhere(classifier, digits, held_out):
    """By `td.adapt`, the callback and the layer as by `td.calibrate`."""
    x, found = held_out.x[:200], []
    for confidence in (None, 0.95):
        models = [td.ThresholdDefense().attach(classifier) for _ in range(3)]
        td.calibrate(models[0], x, confidence=confidence)
        td.adapt(models[1], digits.x[:20], digits.y[:20], calibration=x, confidence=confidence)
        callback = td.callbacks.CalibrateRejection(x, confidence=confidence)
        models[2].compile("sgd", loss={"scores": "sparse_categorical_crossentropy"})
        models[2].fit(digits.x[:20], digits.y[:20], epochs=0, verbose=0, callbacks=[callback])
        values = [float(layer.value) for model in models for layer in model.layers if isinstance(layer, td.layers.Threshold)]
        alone = td.layers.Threshold()
        alone.calibrate(models[0](x)["suspicion"] + values[0], 0.05, confidence)
        assert values == [values[0]] * 3 and float(alone.value) == pytest.approx(values[0], abs=1e-5)
        found.append((models[0](x)["label"].numpy() == -1).sum())
    # The 10th and the 5th largest score, which themselves are not above.
    assert found == [9, 4]


def test_defense_inside_a_bigger_model_is_seen(classifier, held_out):
    inner = td.ThresholdDefense().attach(classifier, name="inner")
    inputs = keras.Input((8, 8, 1))
    outer = keras.Model(inputs, inner(keras.layers.Rescaling(1 / 255)(inputs)))
    assert "no threshold yet" in td.contract.unready(outer)
    with pytest.raises(ValueError, match="no threshold yet"):
        td.attacks.FGSM(1.0)(outer, held_out.x[:2] * 255, held_out.y[:2], bounds=(0, 255))
    with pytest.raises(ValueError, match="inside the submodel 'inner'"):
        td.calibrate(outer, held_out.x * 255)
    td.calibrate(inner, held_out.x)
    result = td.attacks.PGD(30.0, steps=5)(outer, held_out.x[:20] * 255, held_out.y[:20], bounds=(0, 255))
    assert result.success.any() and result.distance.max() <= 30 * (1 + 1e-6)


def test_integer_inputs_are_taken(classifier, held_out):
    inputs = keras.Input((8, 8, 1), dtype="uint8")
    whole = keras.Model(inputs, classifier(keras.layers.Rescaling(1 / 255)(inputs)))
    defended = td.ThresholdDefense().attach(whole, bounds=(0, 255))
    pixels = np.round(held_out.x * 255).astype("uint8")
    assert td.calibrate(defended, pixels, max_rejected=0.05) <= 0.05
    assert td.evaluate(defended, pixels, held_out.y).accuracy > 0.9


def test_dustbin_needs_two_classes_beside_it():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="at least 2 classes and the dustbin"):
        td.DustbinDefense().attach(model)


def test_dustbin_answers_none_of_these(dustbin, held_out):
    defended = td.DustbinDefense().attach(dustbin)
    letters = td.data.load("letters8", "test", limit=200).x
    assert (defended(letters)["label"].numpy() == -1).mean() > 0.9
    assert td.evaluate(defended, held_out.x, held_out.y).accuracy > 0.93
    assert defended(letters)["scores"].shape[-1] == 10


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(AttributeError, match="Did you mean `calibrate`"):
        td.calibrat  # noqa: B018


def test_decide_takes_anything_and_rejects_what_it_must(defended, classifier, held_out):
    x = held_out.x[:10].copy()
    x[4] = np.nan
    rejecting, plain = td.view.decide(defended, x, batch_size=3), td.view.decide(classifier, held_out.x[:10])
    assert rejecting.label[4] == -1 and rejecting.suspicion[4] == np.inf
    assert plain.suspicion is None and plain.label.dtype == np.int32
    np.testing.assert_array_equal(plain.label, classifier(held_out.x[:10]).numpy().argmax(-1))


def test_scores_of_a_function_stay_what_they_are_when_it_was_attacked(classifier, held_out):
    x, y = held_out.x[:20], held_out.y[:20]
    functions = {"probabilities": lambda x: keras.ops.softmax(classifier(x)), "scores": lambda x: classifier(x)}
    for kind, function in functions.items():
        broken = x[:1] * np.nan
        td.view.decide(function, broken)  # tells nothing of what the function gives
        before = td.view.decide(function, x).scores
        td.attacks.FGSM(0.1)(function, x, y)
        np.testing.assert_array_equal(before, td.view.decide(function, x).scores)
        expected = functions[kind](x).numpy()
        np.testing.assert_allclose(before, np.log(expected) if kind == "probabilities" else expected, atol=1e-4)
