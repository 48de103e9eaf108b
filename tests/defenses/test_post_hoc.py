"""`td.ThresholdDefense` with every post-hoc score: the contract, files and exports, and what it says where a score can't be."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdefense as td

S = td.layers.scores
# Scores that need training samples, and those that look at features.
ADAPTED = ["fdbd", "kl-matching", "knn", "mahalanobis", "nnguide", "react", "rmds", "vim"]
SHAPED = ["ash", "scale", "react"]
OPTIONS = {"knn": {"k": 10, "components": 16, "storage": "int8", "max_points": 400}, "nnguide": {"storage": "float16"}}


@pytest.fixture(scope="module")
def every(classifier, digits, held_out):
    """One model with all of them: each attached by itself would take as long as all."""
    defended = td.AnyOf(*(td.ThresholdDefense(name, **OPTIONS.get(name, {})) for name in S.POST_HOC)).attach(classifier)
    return td.adapt(defended, digits.x, digits.y, calibration=held_out.x, max_rejected=0.2)


def suspicions(defended):
    """A model that gives what each detector says, not the joined suspicion alone."""
    thresholds = [layer for layer in defended.layers if isinstance(layer, td.layers.Threshold)]
    return keras.Model(defended.inputs[0], [layer.output for layer in thresholds])


def test_every_score_is_in_one_of_the_lists():
    assert set(S.POST_HOC) == {*S.SCORES, *ADAPTED, *SHAPED}
    assert {name for name, kind in S.POST_HOC.items() if issubclass(kind, td.layers.AdaptableLayer)} == set(ADAPTED)


def test_all_scores_join_in_one_model_that_keeps_its_promise(every, classifier, held_out):
    out = every(held_out.x)
    assert 0.1 < (out["label"].numpy() == -1).mean() <= 0.2
    np.testing.assert_allclose(out["scores"], classifier(held_out.x), atol=1e-5)
    assert td.contract.unready(every) is None


def test_letters_look_more_suspicious_than_digits_to_each(every, held_out):
    letters, detectors = td.data.load("letters8", limit=200), suspicions(every)
    for name, clean, other in zip(S.POST_HOC, detectors(held_out.x), detectors(letters.x), strict=True):
        # ASH and SCALE are made for wide layers, here there are 32 units; non-ME for another training.
        least = {"ash": 0.5, "scale": 0.5, "non-me": 0.0}.get(name, 0.7)
        assert td.metrics.auc(clean.numpy(), other.numpy()) > least, name


def test_everything_is_rejected_before_adapt(classifier, held_out):
    """By each of them, though their thresholds are as high as can be."""
    joined = td.AnyOf(*(td.ThresholdDefense(name, threshold=1e9) for name in ADAPTED)).attach(classifier)
    assert (joined(held_out.x[:20])["label"].numpy() == -1).all()
    for name, found in zip(ADAPTED, suspicions(joined)(held_out.x[:20]), strict=True):
        # The energy of a ReAct that is not adapted may be minus infinity, which is no suspicion either.
        assert not np.isfinite(found).any() or name == "react", name
    alone = td.ThresholdDefense("react", threshold=1e9).attach(classifier)
    assert (alone(held_out.x[:20])["label"].numpy() == -1).all()
    with pytest.raises(ValueError, match=r"not adapted yet. Call `td.adapt\("):
        td.calibrate(joined, held_out.x)


def test_an_unadapted_model_comes_back_from_a_file_and_is_adapted_there(classifier, digits, held_out, tmp_path):
    joined = td.AnyOf(*(td.ThresholdDefense(name) for name in ("knn", "vim", "react", "rmds"))).attach(classifier)
    joined.save(tmp_path / "d.keras")
    again = td.load(tmp_path / "d.keras")
    assert (again(held_out.x[:9])["label"].numpy() == -1).all()
    for model in (joined, again):
        td.adapt(model, digits.x, digits.y, calibration=held_out.x, max_rejected=0.1)
    np.testing.assert_allclose(again(held_out.x)["suspicion"], joined(held_out.x)["suspicion"], atol=1e-4)


def test_an_adapted_model_is_adapted_again_to_more_samples(classifier, digits, held_out, tmp_path):
    defended = td.ThresholdDefense("knn", k=3).attach(classifier)
    for count in (100, 700):
        td.adapt(defended, digits.x[:count], digits.y[:count], calibration=held_out.x, max_rejected=0.1)
        want = defended.predict(held_out.x, verbose=0)["suspicion"]
        np.testing.assert_allclose(defended(held_out.x)["suspicion"], want, atol=1e-5)
        defended.save(tmp_path / f"{count}.keras")
        np.testing.assert_allclose(td.load(tmp_path / f"{count}.keras")(held_out.x)["suspicion"], want, atol=1e-5)
    assert (tmp_path / "700.keras").stat().st_size - (tmp_path / "100.keras").stat().st_size > 600 * 32 * 3


def test_training_goes_on_and_the_scores_follow_the_new_weights(digits, held_out):
    from tests.conftest import small_cnn, trained

    model = trained(small_cnn(10, "goes_on"), digits.x[:300], digits.y[:300], epochs=1)
    defended = td.ThresholdDefense("fdbd", threshold=0.0).attach(model)
    td.adapt(defended, digits.x, digits.y, max_rejected=None)
    trained(model, digits.x, digits.y, epochs=2)
    td.adapt(defended, digits.x, digits.y, max_rejected=None)
    fresh = td.ThresholdDefense("fdbd", threshold=0.0).attach(model)
    td.adapt(fresh, digits.x, digits.y, max_rejected=None)
    np.testing.assert_allclose(defended(held_out.x)["suspicion"], fresh(held_out.x)["suspicion"], rtol=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("suffix", [".keras", "", ".onnx", ".tflite"])
def test_every_format_decides_alike(suffix, every, held_out, tmp_path):
    x = held_out.x[:300].copy()
    x[3, 2, 2], x[4, 0, 0] = np.nan, 7.0
    x[5:60] = np.random.default_rng(0).random((55, 8, 8, 1), dtype="float32")
    want = {name: value.numpy() for name, value in every(x).items()}
    path = td.export.export(every, tmp_path / f"model{suffix}")
    if suffix == ".keras":
        loaded = td.load(path)
        run = loaded
        for here, there in zip(suspicions(every)(x), suspicions(loaded)(x), strict=True):
            np.testing.assert_allclose(there, here, atol=1e-4)
    elif suffix == "":
        served = tf.saved_model.load(path).signatures["serving_default"]
        run = lambda part: served(tf.constant(part))  # noqa: E731
    elif suffix == ".onnx":
        onnxruntime = pytest.importorskip("onnxruntime", reason="pip install tfdefense[export]")
        session = onnxruntime.InferenceSession(path)
        names = [output.name for output in session.get_outputs()]
        run = lambda part: dict(zip(names, session.run(None, {"image": part}), strict=True))  # noqa: E731
    else:
        litert = pytest.importorskip("ai_edge_litert.interpreter", reason="pip install tfdefense[export]")
        runner = litert.Interpreter(model_path=str(path)).get_signature_runner("serving_default")
        run = lambda part: runner(image=part)  # noqa: E731
    for size in (1, 50):
        chosen = x[:12] if size == 1 else x
        parts = [run(chosen[i : i + size]) for i in range(0, len(chosen), size)]
        label, suspicion = (np.concatenate([np.asarray(part[name]) for part in parts]) for name in ("label", "suspicion"))
        np.testing.assert_array_equal(label, want["label"][: len(chosen)])
        assert (label[3:5] == -1).all() and (label >= 0).any()
        sound = np.isfinite(want["suspicion"][: len(chosen)])
        np.testing.assert_allclose(suspicion[sound], want["suspicion"][: len(chosen)][sound], rtol=1e-3, atol=1e-3)


@pytest.mark.long
def test_each_score_alone_is_the_same_in_every_format(every, held_out, tmp_path):
    """The joined suspicion is that of the score that leads: another one could be wrong unseen."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install tfdefense[export]")
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="pip install tfdefense[export]")
    detectors, x, formats = suspicions(every), held_out.x[:50], td.export.formats
    names, spec = list(S.POST_HOC), formats.spec_of(every)

    def alone(image):
        return dict(zip(names, detectors(image, training=False), strict=True))

    formats._write_saved_model(detectors, tmp_path / "saved", {"serve": (alone, spec)})
    session = onnxruntime.InferenceSession(formats.as_onnx(alone, spec))
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved"), signature_keys=["serving_default"])
    runner = litert.Interpreter(model_content=converter.convert()).get_signature_runner("serving_default")
    outputs = [output.name for output in session.get_outputs()]
    found = {
        "SavedModel": tf.saved_model.load(tmp_path / "saved").signatures["serving_default"](tf.constant(x)),
        "ONNX": dict(zip(outputs, session.run(None, {session.get_inputs()[0].name: x}), strict=True)),
        "LiteRT": runner(image=x),
    }
    want = {name: value.numpy() for name, value in alone(tf.constant(x)).items()}
    for format, scores in found.items():
        assert set(scores) == set(names)
        for name, score in scores.items():
            spread = want[name].std()
            np.testing.assert_allclose(score, want[name], rtol=1e-3, atol=1e-3 * spread, err_msg=f"{name} in {format}")


@pytest.mark.parametrize("name", ["knn", "vim"])
def test_attacks_follow_the_gradients_as_they_are(name, classifier, digits, held_out):
    defended = td.ThresholdDefense(name).attach(classifier)
    td.adapt(defended, digits.x, digits.y, calibration=held_out.x[:200], max_rejected=0.1)
    x, y = held_out.x[200:216], held_out.y[200:216]
    situation = td.attacks.suites.situation.Situation.of(defended, (x, y), "linf", 0.4, steps=15)
    assert situation.rejects and not situation.coded
    result = situation.pgd(objective=td.attacks.Evade(), starts=("sample",))(defended, x, y)
    assert result.success.any(), "a wide enough ball holds a sample that evades"
    label = defended(result.x_adv)["label"].numpy()[result.success]
    assert (label >= 0).all() and (label != y[result.success]).all()


def mixed_model(last="float32"):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        inputs = keras.Input((8, 8, 1))
        x = keras.layers.Flatten()(inputs)
        x = keras.layers.Dense(32, activation="relu", name="features")(x)
        return keras.Model(inputs, keras.layers.Dense(10, name="last", dtype=last)(x))
    finally:
        keras.mixed_precision.set_global_policy(before)


def test_mixed_precision_changes_little(classifier, digits, held_out):
    half = mixed_model()
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Dense(32, activation="relu", name="features")(keras.layers.Flatten()(inputs))
    whole = keras.Model(inputs, keras.layers.Dense(10, name="last")(x))
    whole.set_weights(half.get_weights())
    names = [name for name in S.POST_HOC if name != "mahalanobis"]  # RMDS is made of it
    found = []
    for model in (half, whole):
        joined = td.AnyOf(*(td.ThresholdDefense(name) for name in names)).attach(model)
        td.adapt(joined, digits.x, digits.y, calibration=held_out.x, max_rejected=0.2)
        found.append([np.asarray(part) for part in suspicions(joined)(held_out.x)])
    for name, here, there in zip(names, *found, strict=True):
        assert here.dtype == np.float32 and np.isfinite(here).all(), name
        assert np.corrcoef(here, there)[0, 1] > 0.98, name


def test_exponentials_in_float16_are_refused():
    model = mixed_model(last="mixed_float16")
    with pytest.raises(ValueError, match="float16 can't hold. Layer 'last' computes in float16.*take 'react'"):
        td.ThresholdDefense("scale").attach(model)
    td.ThresholdDefense("react").attach(model)


def test_the_dustbin_is_no_class_to_a_score_beside_it(dustbin, digits, held_out):
    for name in ("vim", "react", "scale"):
        defended = td.AnyOf(td.DustbinDefense(threshold=None), td.ThresholdDefense(name)).attach(dustbin)
        td.adapt(defended, digits.x, digits.y, calibration=held_out.x, max_rejected=0.1)
        assert (defended(held_out.x)["label"].numpy() == -1).mean() <= 0.1
    defended = td.AnyOf(td.DustbinDefense(threshold=1e9), td.ThresholdDefense("scale", threshold=0.0, percentile=0)).attach(dustbin)
    features = keras.Model(dustbin.inputs[0], dustbin.get_layer("features").output)(held_out.x[:9]).numpy()
    kernel, bias = (np.asarray(weight)[..., :10] for weight in dustbin.get_layer("scores").weights)
    want = -np.log(np.exp(np.e * features @ kernel + bias).astype("float64").sum(1))
    np.testing.assert_allclose(defended(held_out.x[:9])["suspicion"], want, rtol=1e-4)


@pytest.mark.parametrize("ending", ["softmax", "activation", "reverse"])
@pytest.mark.parametrize("name", ["vim", "fdbd", "react", "scale"])
def test_the_last_dense_layer_is_found_behind_any_ending(name, ending):
    rng = np.random.default_rng(0)
    inputs = keras.Input((4,))
    x = keras.layers.Dense(12, activation="relu", name="hidden", bias_initializer="ones")(inputs)
    kernel, bias = rng.normal(size=(12, 3)).astype("float32"), rng.normal(size=3).astype("float32")
    z = keras.layers.Dense(3, activation="softmax" if ending == "softmax" else None, name="last")(x)
    outputs = {"reverse": td.layers.ReverseLogits(), "activation": keras.layers.Softmax()}.get(ending, lambda z: z)(z)
    model = keras.Model(inputs, outputs)
    model.get_layer("last").set_weights([kernel, bias])
    plain = keras.Model(inputs, keras.layers.Dense(3, name="plain")(x))
    sign = -1 if ending == "reverse" else 1
    plain.get_layer("plain").set_weights([sign * kernel, sign * bias])
    samples, labels = rng.normal(size=(80, 4)).astype("float32"), rng.integers(0, 3, 80)
    found = []
    for each in (model, plain):
        defended = td.ThresholdDefense(name, threshold=0.0).attach(each, bounds=None)
        td.adapt(defended, samples, labels, max_rejected=None)
        found.append(defended(samples)["suspicion"].numpy())
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3, atol=1e-4)
    assert np.ptp(found[0]) > 0.1


def ends_in_pooling():
    inputs = keras.Input((6, 6, 1))
    x = keras.layers.Conv2D(3, 3, name="conv")(inputs)
    pools = [keras.layers.GlobalAveragePooling2D()(x), keras.layers.GlobalMaxPooling2D()(x)]
    return keras.Model(inputs, keras.layers.Add(name="sum")(pools))


def dense_on_maps():
    inputs = keras.Input((6, 6, 1))
    x = keras.layers.Dense(3, name="per_place")(keras.layers.Conv2D(5, 3, name="conv")(inputs))
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda m: td.ThresholdDefense("knn", n=3),
            "no option `n`. It has `k`, `max_points`, `components`, `storage`, `seed`",
        ),
        (lambda m: td.ThresholdDefense("knn", max_point=3), "no option `max_point`.*Did you mean `max_points`"),
        (lambda m: td.ThresholdDefense("confidence", temperature=2), "'confidence' has no option `temperature`. It has none"),
        (lambda m: td.ThresholdDefense("energy", layer="features"), "looks at class scores alone.*Received: 'features'"),
        (lambda m: td.ThresholdDefense("knn", k=0), "`k` must be a whole number of at least 1. Received: 0"),
        (lambda m: td.ThresholdDefense("knn", layer="feature").attach(m), "no layer 'feature'. Nearest: features"),
        (
            lambda m: td.ThresholdDefense("vim", layer="conv").attach(m),
            "last Dense layer 'scores' takes. Received layer 'conv'",
        ),
        (lambda m: td.ThresholdDefense("vim", components=32).attach(m), "must be below the 32 features.*Received: 32"),
        (lambda m: td.ThresholdDefense("vim").attach(ends_in_pooling()), r"ends in 'sum' \(Add\).*'knn', 'energy'"),
        (
            lambda m: td.ThresholdDefense("knn").attach(ends_in_pooling()),
            r"ends in 'sum' .*Defense\(\"knn\", layer=",
        ),
        (lambda m: td.ThresholdDefense("react").attach(dense_on_maps()), "'per_place'. Received shape .None, 4, 4, 5.*'knn'"),
    ],
)
def test_bad_input_is_one_clear_sentence(call, words, classifier):
    with pytest.raises(ValueError, match=words):
        call(classifier)


def test_named_layers_and_feature_maps_are_watched(classifier, digits, held_out):
    a = td.ThresholdDefense("vim", layer="features", threshold=0.0).attach(classifier)
    b = td.ThresholdDefense("vim", threshold=0.0).attach(classifier)
    for defended in (a, b):
        td.adapt(defended, digits.x[:400], digits.y[:400], max_rejected=None)
    np.testing.assert_array_equal(a(held_out.x)["suspicion"], b(held_out.x)["suspicion"])
    for name in ("knn", "mahalanobis"):
        defended = td.ThresholdDefense(name, layer="conv").attach(classifier)
        td.adapt(defended, digits.x, digits.y, calibration=held_out.x, max_rejected=0.1)
        assert (defended(held_out.x)["label"].numpy() == -1).mean() <= 0.1
