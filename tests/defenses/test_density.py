import keras
import numpy as np
import pytest

import tfdefense as td
from tfdefense.attacks import CarliniWagner, Penalty
from tfdefense.layers import KernelDensity


@pytest.fixture(scope="module")
def defended(classifier, digits, held_out):
    model = td.DensityDefense().attach(classifier)
    return td.adapt(model, digits.x, digits.y, calibration=held_out.x[:200], max_rejected=0.05)


def density_layer(model):
    return next(layer for layer in model.layers if isinstance(layer, KernelDensity))


def test_default_layer_is_what_the_last_dense_takes(defended, classifier, digits, held_out):
    named = td.DensityDefense(layer="features").attach(classifier)
    td.adapt(named, digits.x, digits.y, max_rejected=None)
    features = keras.Model(classifier.inputs[0], classifier.get_layer("features").output)
    layer, x = density_layer(defended), held_out.x[:50]
    want = layer(features(x), classifier(x))
    np.testing.assert_allclose(density_layer(named)(features(x), classifier(x)), want, rtol=1e-5)
    assert layer.points.shape[-1] == 32


@pytest.mark.parametrize("ending", ["reverse", "softmax", "activation"])
def test_features_are_found_behind_any_ending(ending):
    image = keras.Input((4,))
    hidden = keras.layers.Dense(7, name="hidden")(image)
    output = keras.layers.Dense(3, activation="softmax" if ending == "softmax" else None)(hidden)
    output = {"reverse": td.layers.ReverseLogits(), "activation": keras.layers.Softmax()}.get(ending, lambda x: x)(output)
    layer = density_layer(td.DensityDefense().attach(keras.Model(image, output)))
    assert layer.points.shape[-1] == 7


def test_rejection_keeps_its_rate_and_the_classes(defended, classifier, held_out):
    outcomes = td.evaluate(defended, held_out.x[200:], held_out.y[200:])
    assert 0 < outcomes.rejection < 0.2
    np.testing.assert_array_equal(defended(held_out.x)["scores"], classifier(held_out.x))


def test_noise_is_rejected_far_more_often_than_digits(defended):
    noise = np.random.default_rng(0).random((100, 8, 8, 1), dtype="float32")
    assert np.mean(defended(noise)["label"].numpy() == -1) > 0.5


def test_everything_is_rejected_before_adapt(classifier, held_out):
    model = td.DensityDefense().attach(classifier)
    assert (model(held_out.x[:20])["label"].numpy() == -1).all()
    with pytest.raises(ValueError, match="is not adapted yet. Call `td.adapt"):
        td.calibrate(model, held_out.x)


def test_class_without_training_samples_is_rejected(classifier, digits, held_out):
    known = digits.y != 3
    model = td.DensityDefense().attach(classifier)
    td.adapt(model, digits.x[known], digits.y[known], calibration=held_out.x[held_out.y != 3], max_rejected=0.05)
    taken_for_3 = classifier(held_out.x).numpy().argmax(-1) == 3
    out = model(held_out.x)
    assert taken_for_3.any() and (out["label"].numpy()[taken_for_3] == -1).all()
    assert np.isposinf(out["suspicion"].numpy()[taken_for_3]).all() and not np.isnan(out["suspicion"]).any()


def test_saved_and_exported_models_decide_alike(defended, held_out, tmp_path):
    import tensorflow as tf

    want = defended(held_out.x)["label"].numpy()
    defended.save(tmp_path / "d.keras")
    np.testing.assert_array_equal(td.load(tmp_path / "d.keras")(held_out.x)["label"], want)
    defended.export(tmp_path / "d", verbose=False)
    served = tf.saved_model.load(tmp_path / "d")
    np.testing.assert_array_equal(served.serve(held_out.x)["label"], want)


def test_joins_with_other_defenses(classifier, digits, held_out):
    model = td.AnyOf(td.DensityDefense(), td.ThresholdDefense("non-me")).attach(classifier)
    td.adapt(model, digits.x, digits.y, calibration=held_out.x, max_rejected=0.1)
    assert 0.03 < np.mean(model(held_out.x)["label"].numpy() == -1) <= 0.1


def test_a_model_whose_last_dense_is_hidden_asks_for_the_layer():
    image = keras.Input((6, 6, 1))
    x = keras.layers.Conv2D(3, 3, name="conv")(image)
    model = keras.Model(image, keras.layers.Add()([keras.layers.GlobalAveragePooling2D()(x), keras.layers.GlobalMaxPooling2D()(x)]))
    with pytest.raises(ValueError, match=r"ends in '.*' \(Add\).*td.DensityDefense\(layer='name'\)"):
        td.DensityDefense().attach(model)
    assert density_layer(td.DensityDefense(layer="conv").attach(model)).points.shape[-1] == 48


def test_bad_bandwidth_is_named_at_once():
    with pytest.raises(ValueError, match="`sigma` must be a finite number above 0. Received: 0"):
        td.DensityDefense(sigma=0)


def test_penalty_is_the_two_hinges_of_the_paper():
    scores = np.array([[2.0, 0.0], [0.0, 3.0], [0.0, 3.0], [2.0, 0.0]], "float32")
    suspicion = np.array([5.0, 4.0, -1.0, -7.0], "float32")
    y = np.zeros(4, "int32")
    found = Penalty().value(scores, suspicion, y, None, (1.0, 1.0))
    np.testing.assert_allclose(found, [7.0, 4.0, -1.0, 2.0])
    np.testing.assert_allclose(Penalty(0.5).value(scores, suspicion, y, None, (1.0, 1.0)), [4.5, 2.0, -0.5, 2.0])
    np.testing.assert_allclose(Penalty().value(scores, None, y, None, (1.0, 1.0)), [2.0, -3.0, -3.0, 2.0])


def test_white_box_reaches_the_median_density_of_the_training_set(classifier, digits, held_out):
    # Wide, so that a training sample's density is not just its own kernel.
    model = td.DensityDefense(sigma=5.0).attach(classifier)
    td.adapt(model, digits.x, digits.y, calibration=digits.x, max_rejected=0.5)
    assert np.median(model(digits.x)["suspicion"]) == pytest.approx(0, abs=0.05), "the threshold is eta"
    x, y = held_out.x[:24], held_out.y[:24]
    attack = CarliniWagner(steps=100, binary_search_steps=3, objective=Penalty(), starts=("base",))
    result = attack(model, x, y)
    out = model(result.x_adv)
    won = result.success
    assert won.mean() > 0.4
    assert (out["suspicion"].numpy()[won] <= 0).all() and (out["scores"].numpy().argmax(-1)[won] != y[won]).all()
    oblivious = CarliniWagner(steps=100, binary_search_steps=3)(classifier, x, y)
    assert np.mean(model(oblivious.x_adv)["suspicion"].numpy() > 0) > 0.9, "without the penalty the detector sees them"


def test_what_capping_changes_is_told(classifier, digits, held_out):
    capped, whole = (td.DensityDefense(max_points=points).attach(classifier) for points in (200, len(digits)))
    with pytest.warns(UserWarning, match="stores 200 of 1,400 training points.*`max_points=1400` stores all"):
        td.adapt(capped, digits.x, digits.y, max_rejected=None)
    td.adapt(whole, digits.x, digits.y, max_rejected=None)
    probes = held_out.x[:60]
    scores = [density_layer(model)(*_inputs(model, probes)).numpy() for model in (capped, whole)]
    error = td.capping_error(capped, digits.x, digits.y, probes)
    np.testing.assert_allclose(error, scores[1] - scores[0], atol=1e-3)
    assert np.abs(error).max() > 0.1
    np.testing.assert_allclose(td.capping_error(whole, digits.x, digits.y, probes), 0, atol=1e-5)
    with pytest.raises(ValueError, match="has no `td.layers.KernelDensity`"):
        td.capping_error(classifier, digits.x, digits.y, probes)


def _inputs(model, x):
    return keras.Model(model.inputs[0], density_layer(model).input)(x)


def _with_small_features(classifier, factor):
    """The same classifier, whose last hidden features are on another scale."""
    features = keras.layers.Rescaling(factor)(classifier.get_layer("features").output)
    head = keras.layers.Dense(10)
    model = keras.Model(classifier.inputs[0], head(features))
    kernel, bias = classifier.get_layer("scores").get_weights()
    head.set_weights([kernel / factor, bias])
    return model


def test_bandwidth_follows_the_scale_of_the_features(classifier, digits, held_out):
    letters = td.data.load("letters8", "test", limit=300).x

    def rejected(network, **options):
        model = td.DensityDefense(**options).attach(network)
        td.adapt(model, digits.x, digits.y, calibration=held_out.x, max_rejected=0.05)
        return np.mean(model(letters)["label"].numpy() == -1)

    chosen, small = rejected(classifier), _with_small_features(classifier, 0.01)
    assert chosen > 0.75 and rejected(small) == pytest.approx(chosen, abs=0.02)
    # The paper's number is for features of the size of its own: here all samples look alike to it.
    assert rejected(small, sigma=(1 / 0.26) ** 0.5) < chosen - 0.1
