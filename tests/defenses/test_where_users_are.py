"""Defenses on models as users have them in production: a network of `keras.applications` inside another model, pixels as whole
numbers, half precision. Weights are random: what is tested is how things are joined."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdefense as td

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3)).astype("uint8")
Y = np.arange(40) % 4
INSIDE = "block_3_expand"  # of the network inside


def nested(whole_numbers, policy):
    """A transfer-learning model as the Keras guides have it: preprocessing, a network without its top, a head of one's own."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        keras.utils.set_random_seed(0)
        body = keras.applications.MobileNetV2((32, 32, 3), 0.35, include_top=False, weights=None, pooling="avg")
        # Random weights blur what differs between pictures, unless normalisation has the means of data, as after training.
        for layer in body.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = 0.0
        body(PIXELS / np.float32(127.5) - 1, training=True)
        image = keras.Input((32, 32, 3), dtype="uint8" if whole_numbers else "float32", name="image")
        x = keras.layers.Rescaling(1 / 127.5 if whole_numbers else 2.0, offset=-1.0)(image)
        x = keras.layers.RandomFlip("horizontal", seed=1)(x)
        x = keras.layers.Dense(16, "relu", name="hidden")(keras.layers.Dropout(0.5)(body(x)))
        # As Keras advises: probabilities in float32 whatever the policy is.
        return keras.Model(image, keras.layers.Dense(4, "softmax", name="classes", dtype="float32")(x))
    finally:
        keras.config.set_dtype_policy(before)


KINDS = {
    "nested, uint8": (True, "float32"),
    "nested, half precision": (False, "mixed_float16"),
}


@pytest.fixture(scope="module", params=KINDS)
def attached(request):
    """A model, its defense with an inner layer of the inner network, adapted and calibrated, its samples and its bounds."""
    whole_numbers, policy = KINDS[request.param]
    model = nested(whole_numbers, policy)
    bounds = (0, 255) if whole_numbers else (0.0, 1.0)
    x = PIXELS if whole_numbers else PIXELS / np.float32(255)
    detectors = td.NeuralRejection(INSIDE), td.DensityDefense(layer="hidden", sigma=1.0)
    defended = td.AnyOf(td.ThresholdDefense("energy"), *detectors).attach(model, bounds=bounds)
    td.adapt(defended, x[:20], Y[:20], calibration=x[20:], max_rejected=0.5)
    return model, defended, x, bounds


def test_base_answers_as_the_model_did(attached):
    model, defended, x, _ = attached
    found = keras.ops.softmax(td.base_model(defended)(x), -1)
    # With dropout and mirrored pictures it would be far from that.
    np.testing.assert_allclose(found, model(x, training=False), atol=1e-5)


def test_promise_holds_and_outputs_are_whole_precision(attached):
    _, defended, x, _ = attached
    out = defended(x)
    assert 0 < (out["label"].numpy()[20:] == -1).mean() <= 0.5
    assert out["suspicion"].dtype == out["scores"].dtype == tf.float32 and out["label"].dtype == tf.int32
    assert np.isfinite(out["suspicion"]).all()


def test_invalid_input_is_rejected(attached):
    _, defended, x, bounds = attached
    if defended.inputs[0].dtype == "uint8":
        pytest.skip("a byte can't be out of bounds")
    broken = np.stack([x[0], x[0], x[0]])
    broken[0, 0, 0, 0], broken[1, 0, 0, 0], broken[2, 0, 0, 0] = np.nan, np.inf, bounds[1] + 1
    assert defended(broken)["label"].numpy().tolist() == [-1] * 3


@pytest.mark.long
def test_files_and_exports_decide_alike(attached, tmp_path):
    _, defended, x, _ = attached
    expected = td.view.decide(defended, x)
    defended.save(tmp_path / "d.keras")
    loaded = [td.load(tmp_path / "d.keras")]
    if defended.inputs[0].dtype == "uint8":  # One is enough: it takes seconds to write.
        defended.export(tmp_path / "saved")
        loaded.append(tf.saved_model.load(tmp_path / "saved"))
    # Half precision rounds differently where operations are joined otherwise.
    size = 1e-2 * max(1, np.abs(expected.suspicion).max())
    near = np.abs(expected.suspicion) < size
    for one in loaded:
        found = td.view.decide(one, x)
        np.testing.assert_array_equal(found.label[~near], expected.label[~near])
        np.testing.assert_allclose(found.suspicion, expected.suspicion, atol=size)


def test_attack_finds_a_gradient_or_says_what_has_none(attached):
    _, defended, x, bounds = attached
    labels = td.view.decide(td.base_model(defended), x[:8]).scores.argmax(-1)
    attack = td.attacks.PGD(0.05 * bounds[1], steps=3, objective=td.attacks.LogSumExp(), starts="sample")
    if defended.inputs[0].dtype == "uint8":
        with pytest.raises(ValueError, match="input has dtype uint8, through which no gradient flows. Give it a float input"):
            attack(defended, x[:8], labels, regardless=True)
        return
    result = attack(defended, x[:8], labels, regardless=True)
    assert not result.zero_gradient.all() and (result.distance > 0).any()


def test_image_classifier_of_keras_hub(tmp_path):
    hub = pytest.importorskip("keras_hub", reason="pip install keras-hub")
    keras.utils.set_random_seed(0)
    body = hub.models.VGGBackbone([1, 1], [4, 8], image_shape=(32, 32, 3))
    model = hub.models.ImageClassifier(backbone=body, num_classes=4)
    defended = td.ThresholdDefense("energy").attach(model, bounds=(0, 255))
    td.calibrate(defended, PIXELS[:20], max_rejected=0.1)
    out = defended(PIXELS)
    np.testing.assert_allclose(out["scores"], model(PIXELS.astype("float32"), training=False), atol=1e-4)
    assert (out["label"].numpy()[:20] == -1).sum() <= 2
    defended.save(tmp_path / "d.keras")
    np.testing.assert_array_equal(td.load(tmp_path / "d.keras")(PIXELS)["suspicion"], out["suspicion"])
    # Its body lies in a model inside; an inner layer of that is found by its name alone.
    inner = next(layer.name for layer in body.layers if isinstance(layer, keras.layers.Conv2D))
    guarded = td.NeuralRejection(inner).attach(model, bounds=(0, 255))
    td.adapt(guarded, PIXELS[:20], Y[:20], calibration=PIXELS[20:], max_rejected=0.5)
    assert np.isfinite(guarded(PIXELS)["suspicion"]).all()
