"""One decision in four formats."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdefense as td

# Only tensorflow: the artifact must not need the library that made it.
IN_A_FRESH_PROCESS = """
import sys
sys.modules["tfdefense"] = None  # importing it fails now, wherever it is installed
import numpy as np
import tensorflow as tf
x = np.load(sys.argv[1])
found = {}
for name in sys.argv[3].split(","):
    serve = tf.saved_model.load(f"{sys.argv[2]}/{name}").signatures["serving_default"]
    for size in (1, 7):
        parts = [serve(tf.constant(x[i : i + size])) for i in range(0, len(x), size)]
        for output in ("label", "suspicion", "scores", "reason"):
            found[f"{name}-{size}-{output}"] = np.concatenate([part[output] for part in parts])
    # As a server does it: through a session, which checks no shapes itself.
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        signature = tf.compat.v1.saved_model.load(session, ["serve"], f"{sys.argv[2]}/{name}").signature_def["serving_default"]
        image, label = signature.inputs["image"].name, signature.outputs["label"].name
        for shape in ((4, 8, 8), (4, 8, 8, 3), (4, 9, 8, 1), (4,), ()):
            try:
                session.run(label, {image: np.zeros(shape, "float32")})
            except (ValueError, tf.errors.InvalidArgumentError):
                continue
            raise SystemExit(f"{name} took samples of shape {shape}")
        assert session.run(label, {image: x[:3]}).shape == (3,), "the server goes on"
        assert session.run(label, {image: x[:0]}).shape == (0,)
np.savez(sys.argv[2] + "/found.npz", **found)
assert not any(name.startswith("tfdefense.") for name in sys.modules)
"""


@pytest.fixture(scope="module")
def models(classifier, dustbin, held_out):
    attached = {
        "threshold": td.ThresholdDefense().attach(classifier),
        "dustbin": td.DustbinDefense().attach(dustbin),
        "any": td.AnyOf(td.DustbinDefense(), td.ThresholdDefense()).attach(dustbin),
    }
    for name in ("threshold", "any"):
        td.calibrate(attached[name], held_out.x[:200], max_rejected=0.1)
    return attached


@pytest.fixture(scope="module")
def samples(models, held_out):
    """Clean, adversarial and invalid samples. The first 200 hold the very one that the threshold was set by."""
    x, y = held_out.x[200:260], held_out.y[200:260]
    attack = td.attacks.PGD(0.15, steps=10)
    adversarial = [attack(model, x, y).x_adv for model in models.values()]
    invalid = x[:6].copy()
    invalid[0], invalid[1, 2, 2], invalid[2, 0, 0], invalid[3, 7, 7] = np.nan, np.nan, np.inf, -np.inf
    invalid[4, 3, 3], invalid[5, 3, 3] = 1.5, -0.5
    everything = np.concatenate([held_out.x[:200], x, *adversarial, held_out.x[:1] * 1e38, invalid])
    return everything, slice(-6, None)


@pytest.fixture(scope="module")
def expected(models, samples):
    return {name: {k: v.numpy() for k, v in model(samples[0]).items()} for name, model in models.items()}


def in_batches(run, x, size):
    parts = [run(x[i : i + size]) for i in range(0, len(x), size)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def check(found, expected, invalid, infinity=np.inf):
    np.testing.assert_array_equal(found["label"], expected["label"])
    assert found["label"].dtype == np.int32
    assert (found["label"][invalid] == -1).all() and (found["suspicion"][invalid] == infinity).all()
    # The labels must be worth comparing: many classes, and decisions both ways.
    assert set(range(10)) <= set(found["label"]) and 0 < (found["label"][:200] == -1).mean() < 0.3
    if "reason" in found:
        why = np.where(found["label"] >= 0, 0, 1)
        # The one before these is out of bounds too.
        why[invalid.start - 1 :] = 2
        np.testing.assert_array_equal(found["reason"], why)
    judged = np.isfinite(expected["suspicion"])
    np.testing.assert_allclose(found["suspicion"][judged], expected["suspicion"][judged], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["scores"][judged], expected["scores"][judged], rtol=1e-4, atol=1e-4)


NAMES = ("threshold", "dustbin", "any")
OUTPUTS = {"scores", "suspicion", "label", "reason"}


@pytest.mark.parametrize("size", [1, 7])
@pytest.mark.parametrize("name", NAMES)
def test_keras_file_decides_alike(name, size, models, samples, expected, tmp_path):
    path = td.export.export(models[name], tmp_path / "model.keras")
    loaded = tf.function(td.load(path))
    check(in_batches(lambda x: {k: v.numpy() for k, v in loaded(x).items()}, samples[0], size), expected[name], samples[1])


def test_saved_model_decides_alike_in_a_process_without_tfdefense(models, samples, expected, tmp_path):
    np.save(tmp_path / "x.npy", samples[0])
    for name, model in models.items():
        td.export.export(model, tmp_path / name)
    arguments = [str(tmp_path / "x.npy"), str(tmp_path), ",".join(models)]
    done = subprocess.run([sys.executable, "-c", IN_A_FRESH_PROCESS, *arguments], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    found = np.load(tmp_path / "found.npz")
    for name in models:
        for size in (1, 7):
            outputs = {output: found[f"{name}-{size}-{output}"] for output in ("label", "suspicion", "scores", "reason")}
            check(outputs, expected[name], samples[1])


@pytest.mark.parametrize("name", NAMES)
def test_onnx_decides_alike(name, models, samples, expected, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install tfdefense[export]")
    pytest.importorskip("tf2onnx", reason="pip install tfdefense[export]")
    session = onnxruntime.InferenceSession(td.export.export(models[name], tmp_path / "model.onnx"))
    names = [output.name for output in session.get_outputs()]
    assert set(names) == OUTPUTS
    run = {
        size: in_batches(lambda x: dict(zip(names, session.run(None, {"image": x}), strict=True)), samples[0], size)
        for size in (1, 7)
    }
    for outputs in run.values():
        check(outputs, expected[name], samples[1])


@pytest.mark.parametrize("name", NAMES)
def test_litert_decides_alike(name, models, samples, expected, tmp_path):
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="pip install tfdefense[export]")
    path = td.export.export(models[name], tmp_path / "model.tflite")
    for size in (1, 7):
        interpreter = litert.Interpreter(model_path=str(path))
        assert set(interpreter.get_signature_list()["serving_default"]["outputs"]) == OUTPUTS
        run = interpreter.get_signature_runner("serving_default")
        check(in_batches(lambda x, run=run: run(image=x), samples[0], size), expected[name], samples[1])


@pytest.mark.parametrize("by_class", [False, True])
def test_discrete_codes_decide_alike_in_all_formats(by_class, classifier, digits, held_out, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install tfdefense[export]")
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="pip install tfdefense[export]")
    x, y = digits.x[:600], digits.y[:600]
    coded, attack = td.SafetyNet(["features", "conv_1"], by_class=by_class).attach(classifier), td.attacks.BIM(0.25)
    td.adapt(coded, x, y, adversarial=attack(classifier, x, y).x_adv, calibration=held_out.x[:200], max_rejected=0.1)
    new = np.concatenate([held_out.x[200:280], attack(classifier, held_out.x[280:320], held_out.y[280:320]).x_adv])
    expected = {name: value.numpy() for name, value in coded(new).items()}
    assert (expected["label"] >= 0).sum() > 40 and (expected["label"][80:] == -1).sum() > 20
    onnx = onnxruntime.InferenceSession(td.export.export(coded, tmp_path / "model.onnx"))
    lite = litert.Interpreter(model_path=str(td.export.export(coded, tmp_path / "model.tflite"))).get_signature_runner(
        "serving_default"
    )
    saved = tf.saved_model.load(str(td.export.export(coded, tmp_path / "saved"))).signatures["serving_default"]
    names = [output.name for output in onnx.get_outputs()]
    for run in (
        lambda part: dict(zip(names, onnx.run(None, {"image": part}), strict=True)),
        lambda part: lite(image=part),
        lambda part: {name: value.numpy() for name, value in saved(tf.constant(part)).items()},
    ):
        found = in_batches(run, new, 40)
        np.testing.assert_array_equal(found["label"], expected["label"])
        # A unit may lie on its threshold to the last digit.
        assert np.isclose(found["suspicion"], expected["suspicion"], atol=1e-3).mean() > 0.95


def test_plain_models_are_exported_in_all_formats(classifier, held_out, tmp_path):
    import onnxruntime
    from ai_edge_litert.interpreter import Interpreter

    x = held_out.x[:5]
    expected = classifier(x).numpy()
    paths = {suffix: td.export.export(classifier, tmp_path / f"model{suffix}") for suffix in (".keras", "", ".onnx", ".tflite")}
    saved = tf.saved_model.load(paths[""]).signatures["serving_default"](tf.constant(x))
    found = {
        "keras": keras.models.load_model(paths[".keras"])(x),
        "saved": saved["output_0"],
        "onnx": onnxruntime.InferenceSession(paths[".onnx"]).run(["output_0"], {"image": x})[0],
        "litert": Interpreter(model_path=str(paths[".tflite"])).get_signature_runner()(image=x)["output_0"],
    }
    for scores in found.values():
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)


def test_format_goes_before_the_suffix_and_folders_are_made(classifier, tmp_path):
    path = td.export.export(classifier, tmp_path / "deep" / "model.v1", format="litert")
    assert path.read_bytes()[4:8] == b"TFL3"
    assert (td.export.export(classifier, tmp_path / "serving" / "1") / "saved_model.pb").exists()


@pytest.mark.parametrize("suffix", [".keras", "", ".onnx", ".tflite"])
def test_unfinished_defense_is_refused(suffix, classifier, tmp_path):
    with pytest.raises(ValueError, match=r"no threshold yet.*td\.calibrate"):
        td.export.export(td.ThresholdDefense().attach(classifier), tmp_path / f"model{suffix}")
    assert not list(tmp_path.iterdir())


def test_missing_extra_is_one_sentence(models, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"^[^\n]*pip install tfdefense\[export\]$"):
        td.export.onnx(models["dustbin"], tmp_path / "model.onnx")


def test_export_prints_nothing(classifier, tmp_path, capfd):
    for suffix in (".keras", "", ".onnx", ".tflite"):
        td.export.export(classifier, tmp_path / f"model{suffix}")
    print("the streams work again")
    assert capfd.readouterr() == ("the streams work again\n", "")


def test_what_a_format_lacks_is_said(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: keras.ops.erfinv(x)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match=r"can't be written for ONNX: .*SavedModel can hold"):
        td.export.onnx(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_what_the_suffix_says_is_written(models, tmp_path):
    for name, begin in (("m.onnx", None), ("m.tflite", b"TFL3"), ("m.keras", b"PK")):
        models["dustbin"].export(tmp_path / name)
        content = (tmp_path / name).read_bytes()
        assert begin is None or begin in content[:8]
    for name, format in (("m.onnx", "saved_model"), ("m.tflite", "onnx"), ("m.keras", "litert"), ("M.ONNX", "tf_saved_model")):
        with pytest.raises(ValueError, match=r"ends in \.\w+ is a file of format '\w+'\. Received: .*m\.\w+ with format"):
            models["dustbin"].export(tmp_path / name.lower(), format=format)
    for format in (None, "saved_model"):
        with pytest.raises(ValueError, match=r"No format has the suffix \.h5"):
            models["dustbin"].export(tmp_path / "m.h5", format=format)
    with pytest.raises(ValueError, match="ends in .onnx is a file of format 'onnx'"):
        td.export.saved_model(models["dustbin"], tmp_path / "folder.onnx")
    assert all(path.is_file() for path in tmp_path.iterdir())
    models["dustbin"].export(tmp_path / "served", format="tf_saved_model")
    assert (tmp_path / "served" / "saved_model.pb").exists()


def test_pixels_of_eight_bits_have_a_signature_of_their_own(models, held_out, classifier, tmp_path):
    pixels = np.round(held_out.x[:50] * 255).astype("uint8")
    model = models["any"]
    saved = tf.saved_model.load(str(td.export.export(model, tmp_path / "saved"))).signatures
    found, expected = saved["serve_uint8"](image=tf.constant(pixels)), model(pixels.astype("float32") / 255)
    np.testing.assert_array_equal(found["label"], expected["label"])
    np.testing.assert_allclose(found["suspicion"], expected["suspicion"], rtol=1e-4, atol=1e-5)
    assert (found["label"].numpy() >= 0).sum() > 30
    # A plain model does not say what range its pixels have.
    assert set(tf.saved_model.load(str(td.export.export(classifier, tmp_path / "plain"))).signatures) == {
        "serve",
        "serving_default",
    }


def test_an_empty_batch_gives_an_empty_answer_in_every_format(models, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install tfdefense[export]")
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="pip install tfdefense[export]")
    model, nothing = models["any"], np.zeros((0, 8, 8, 1), "float32")
    lite = litert.Interpreter(model_path=str(td.export.export(model, tmp_path / "m.tflite"))).get_signature_runner(
        "serving_default"
    )
    session = onnxruntime.InferenceSession(td.export.export(model, tmp_path / "m.onnx"))
    onnx = dict(zip([output.name for output in session.get_outputs()], session.run(None, {"image": nothing}), strict=True))
    for outputs in (model(nothing), model.predict(nothing), onnx, lite(image=nothing)):
        assert outputs["label"].shape == (0,) and outputs["suspicion"].shape == (0,) and outputs["scores"].shape == (0, 10)


def test_gradients_are_those_of_the_model(models, classifier, held_out, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install tfdefense[export]")
    pytest.importorskip("tf2onnx", reason="pip install tfdefense[export]")
    x = held_out.x[:5]
    weights = np.random.default_rng(0).normal(size=(len(x), 11)).astype("float32")
    # The gradient of a convolution that leaves the last row out has zeros there.
    layers = [keras.layers.Conv2D(4, 1, strides=2), keras.layers.Flatten(), keras.layers.Dense(10, name="scores")]
    strided = keras.Sequential([keras.Input((8, 8, 1), name="image"), *layers], name="strided")
    for model in (models["threshold"], classifier, strided):
        session = onnxruntime.InferenceSession(td.export.gradients(model, tmp_path / f"{model.name}.onnx"))
        feed = {"image": x, "to_scores": weights[:, :10], "to_suspicion": weights[:, 10]}
        names = [each.name for each in session.get_inputs()]
        assert names == ["image", "to_scores", "to_suspicion"][: 3 if model is models["threshold"] else 2]
        (found,) = session.run(["gradient"], {name: feed[name] for name in names})
        with tf.GradientTape() as tape:
            image = tf.constant(x)
            tape.watch(image)
            out = model(image)
            scores, suspicion = (out, 0.0) if model is not models["threshold"] else (out["scores"], out["suspicion"])
            value = tf.reduce_sum(scores * weights[:, :10]) + tf.reduce_sum(suspicion * weights[:, 10])
        np.testing.assert_allclose(found, tape.gradient(value, image), atol=1e-4)
    with pytest.raises(ValueError, match="ends in '.onnx'"):
        td.export.gradients(classifier, tmp_path / "gradients")


def test_bad_arguments_are_named(classifier, tmp_path):
    with pytest.raises(ValueError, match="`format` must be one of 'keras', 'saved_model', 'onnx', 'litert'.*'torch'"):
        td.export.export(classifier, tmp_path / "x", format="torch")
    with pytest.raises(ValueError, match="Expected a Keras model. Received an object of type dict"):
        td.export.export({}, tmp_path / "x")
    with pytest.raises(ValueError, match="no known input shape"):
        td.export.export(keras.Sequential([keras.layers.Dense(3)]), tmp_path / "x")
    with pytest.raises(ValueError, match="end in '.keras'"):
        td.export.export(classifier, tmp_path / "x", format="keras")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text(json.dumps("years of work"))
    with pytest.raises(ValueError, match="is there already and no SavedModel"):
        td.export.export(classifier, tmp_path / "mine")


def test_keras_own_onnx_export_rejects_what_must_be_rejected(models, samples, tmp_path):
    """Its converter writes `where` as products; the guard must not depend on which way a user exports."""
    onnxruntime = pytest.importorskip("onnxruntime")
    model, x = models["threshold"], samples[0].astype("float32")
    model.predict(x[:1], verbose=0)
    keras.Model.export(model, tmp_path / "own.onnx", format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "own.onnx")
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(None, {session.get_inputs()[0].name: x}), strict=True))
    np.testing.assert_array_equal(found["label"], model(x)["label"])
    assert np.isinf(found["suspicion"][found["label"] == -1]).any()
