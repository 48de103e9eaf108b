"""A binary classifier, one unit with a sigmoid: two scores, 0 and what is behind the sigmoid."""

import keras
import numpy as np
import pytest

import tfdefense as td


@pytest.fixture(scope="module")
def ones_and_sevens(digits, held_out):
    """Digits 1 (class 0) and 7 (class 1): training samples, and held-out ones."""

    def chosen(images):
        rows = np.isin(images.y, (1, 7))
        return images.x[rows], (images.y[rows] == 7).astype("int32")

    return *chosen(digits), *chosen(held_out)


@pytest.fixture(scope="module")
def binary(ones_and_sevens):
    """As most binary classifiers end: `Dense(1, activation="sigmoid")`, trained by binary cross-entropy."""
    x, y, *_ = ones_and_sevens
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Flatten(), keras.layers.Dense(16, "relu", name="hidden"), keras.layers.Dense(1, "sigmoid", name="p")]
    model = keras.Sequential([keras.Input((8, 8, 1)), *layers], name="binary")
    model.compile(keras.optimizers.Adam(1e-2), "binary_crossentropy", metrics=["accuracy"])
    model.fit(x, y, epochs=15, batch_size=64, verbose=0)
    return model


def with_head(binary, kind):
    """The same decisions with another ending, all on the weights of one model."""
    inputs = keras.Input((8, 8, 1))
    if kind == "submodel":
        return keras.Model(inputs, binary(keras.layers.Rescaling(1.0)(inputs)))
    hidden = binary.get_layer("hidden")(keras.layers.Flatten()(inputs))
    last = keras.layers.Dense(1)
    logit = last(hidden)
    last.set_weights(binary.get_layer("p").get_weights())
    return keras.Model(inputs, keras.layers.Activation("sigmoid")(logit) if kind == "activation" else keras.ops.sigmoid(logit))


@pytest.mark.parametrize("kind", ["dense", "activation", "operation", "submodel"])
def test_scores_are_those_whose_softmax_is_the_sigmoid(kind, binary, ones_and_sevens):
    *_, x, y = ones_and_sevens
    model = binary if kind == "dense" else with_head(binary, kind)
    share = model.predict(x, verbose=0)[:, 0]
    defended = td.ThresholdDefense().attach(model)
    td.calibrate(defended, x, max_rejected=0.1)
    out = defended(x)
    np.testing.assert_allclose(keras.ops.softmax(out["scores"]), np.stack([1 - share, share], 1), atol=1e-5)
    kept = out["label"].numpy() >= 0
    assert 0.85 < kept.mean() < 1
    np.testing.assert_array_equal(out["label"].numpy()[kept], (share > 0.5)[kept])
    assert td.evaluate(model, x, y).accuracy == np.mean((share > 0.5) == y) > 0.95
    np.testing.assert_array_equal(td.base_model(defended)(x), out["scores"])
    assert td.evaluate(td.base_model(defended), x, y).accuracy == td.evaluate(model, x, y).accuracy


@pytest.mark.parametrize(
    "make", [td.ThresholdDefense, lambda: td.DeepNeuralRejection(["hidden", "p"]), lambda: td.DensityDefense(layer="hidden")],
    ids=["threshold", "dnr", "density"],
)  # fmt: skip
def test_every_kind_of_defense_takes_it_and_every_file_holds_it(make, binary, ones_and_sevens, tmp_path):
    import tensorflow as tf

    x, y, new, truth = ones_and_sevens
    defended = make().attach(binary)
    td.adapt(defended, x, y, calibration=new[:40], max_rejected=0.1)
    out = defended(new)
    assert td.evaluate(defended, new, truth).robust_accuracy > 0.9
    defended.save(tmp_path / "d.keras")
    td.export.export(defended, tmp_path / "saved")
    td.export.export(defended, tmp_path / "d.tflite")
    lite = tf.lite.Interpreter(str(tmp_path / "d.tflite")).get_signature_runner("serving_default")
    served = tf.saved_model.load(tmp_path / "saved").signatures["serving_default"]
    (argument,) = served.structured_input_signature[1]
    found = {
        "keras": td.load(tmp_path / "d.keras")(new),
        "saved_model": served(**{argument: tf.constant(new)}),
        "litert": lite(**{next(iter(lite.get_input_details())): new}),
    }
    for name, output in found.items():
        np.testing.assert_array_equal(output["label"], out["label"], err_msg=name)
        np.testing.assert_allclose(output["scores"], out["scores"], atol=1e-4, err_msg=name)


def test_binary_decisions_survive_onnx(binary, ones_and_sevens, tmp_path):
    pytest.importorskip("tf2onnx", reason="`pip install tfdefense[export]`")
    onnxruntime = pytest.importorskip("onnxruntime")
    *_, x, _ = ones_and_sevens
    defended = td.ThresholdDefense().attach(binary)
    td.calibrate(defended, x, max_rejected=0.1)
    td.export.export(defended, tmp_path / "d.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "d.onnx"))
    (label,) = session.run(["label"], {session.get_inputs()[0].name: x})
    np.testing.assert_array_equal(label, defended(x)["label"])


def test_attacks_succeed_on_it_plain_and_defended(binary, ones_and_sevens):
    *_, x, y = ones_and_sevens
    x, y = x[:30], y[:30]
    assert td.attacks.PGD(0.4, steps=20)(binary, x, y).success.mean() > 0.8
    defended = td.ThresholdDefense().attach(binary)
    td.calibrate(defended, x, max_rejected=0.1)
    found = td.attacks.PGD(0.5, steps=20)(defended, x, y)
    outcomes = td.evaluate(defended, found, y)
    assert outcomes.error > 0.8 and found.zero_gradient.mean() < 0.1


def test_adversarial_training_and_its_callback_take_it(binary, ones_and_sevens):
    x, y, new, truth = ones_and_sevens
    model = keras.models.clone_model(binary)
    model.set_weights(binary.get_weights())
    trainer = td.AdversarialTraining(model, td.attacks.FGSM(0.2), seed=0)
    trainer.compile(keras.optimizers.Adam(1e-2), "binary_crossentropy")
    watch = td.callbacks.RobustAccuracy(td.attacks.FGSM(0.2), new, truth)
    trainer.fit(x, y, epochs=3, verbose=0, callbacks=[watch])
    before, after = (td.evaluate(one, td.attacks.FGSM(0.2)(one, new, truth), truth).accuracy for one in (binary, model))
    assert after > before


def test_probabilities_of_one_class_are_told_how_to_be_two(binary, ones_and_sevens):
    import tensorflow as tf

    *_, x, y = ones_and_sevens
    with pytest.raises(
        ValueError, match=r"Received shape \(None, 1\).*`lambda x: tf.concat\(\[1 - model\(x\), model\(x\)\], -1\)`"
    ):
        td.evaluate(lambda x: binary(x), x, y)
    found = td.evaluate(lambda x: tf.concat([1 - binary(x), binary(x)], -1), x, y)
    assert found.accuracy == td.evaluate(binary, x, y).accuracy


def test_a_dustbin_needs_two_units(binary):
    with pytest.raises(ValueError, match=r"Received one that ends in one unit with a sigmoid.*`Dense\(2\)`"):
        td.graft_dustbin(binary)
