"""A weight that is not finite: the model rejects everything, and whoever would work with it is told."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from typer.testing import CliRunner

import tfdefense as td
from tfdefense import cli
from tfdefense.cli._inputs import load_model


@pytest.fixture(scope="module")
def models(classifier, dustbin, digits, held_out):
    """One defense of each kind of arithmetic, on networks with ReLU and max-pooling, which swallow NaN."""
    copy = keras.models.clone_model(classifier)
    copy.set_weights(classifier.get_weights())
    branch = td.AdversaryDetector("conv", width=4, seed=0).attach(copy)
    density, coded = td.DensityDefense(sigma=1.0, max_points=300).attach(copy), td.SafetyNet(["features"]).attach(copy)
    rejection, joined = (
        td.DeepNeuralRejection(["features", "conv_1"]).attach(copy),
        td.AllOf(td.DustbinDefense(threshold=None), td.ThresholdDefense()).attach(dustbin),
    )
    x, y = digits.x[:300], digits.y[:300]
    td.adapt(density, x, y, max_rejected=None), td.adapt(rejection, x, y, max_rejected=None)
    td.adapt(coded, x, y, adversarial=td.attacks.FGSM(0.2)(copy, x, y).x_adv, max_rejected=None)
    found = {"branch": branch, "density": density, "coded": coded, "rejection": rejection, "all of two": joined}
    for model in found.values():
        td.calibrate(model, held_out.x[:100], max_rejected=0.2)
    return found


NAMES = ("branch", "density", "coded", "rejection", "all of two")


@pytest.fixture
def poisoned():
    """`poisoned(variable, value)` spoils one number of a variable until the test is over."""
    before = []

    def poison(variable, value):
        values = np.array(variable)
        before.append((variable, values.copy()))
        values.flat[values.size // 2] = value
        variable.assign(values)

    yield poison
    for variable, values in before:
        variable.assign(values)


def floats(variables):
    return [variable for variable in variables if np.issubdtype(np.array(variable).dtype, np.floating)]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", NAMES)
def test_one_broken_number_rejects_every_sample(name, value, models, held_out, tmp_path):
    model, x = models[name], held_out.x[100:120]
    served = tf.saved_model.load(str(td.export.export(model, tmp_path / "saved")))
    serve, graph = served.signatures["serving_default"], tf.function(model)
    # One trace for all: what it checks must be the variables, not what they were.
    assert all((ask(tf.constant(x))["label"].numpy() >= 0).any() for ask in (serve, graph))
    passed, faults = [], [(graph, variable) for variable in floats(model.variables)]
    faults += [(serve, variable) for variable in floats(served.variables)]
    assert len(faults) >= 20
    for ask, variable in faults:
        whole = np.array(variable)
        broken = whole.copy()
        broken.flat[broken.size // 2] = value
        variable.assign(broken)
        outputs = ask(tf.constant(x))
        if not ((outputs["label"].numpy() == -1).all() and (outputs["suspicion"].numpy() == np.inf).all()):
            passed.append(variable.name)
        if ask is serve and not (outputs["reason"].numpy() == 3).all():
            passed.append(f"{variable.name}: wrong reason")
        variable.assign(whole)
    assert not passed


@pytest.mark.parametrize("suffix", [".keras", "", ".onnx", ".tflite"])
def test_a_broken_model_is_not_exported(suffix, models, poisoned, tmp_path):
    kernel = models["branch"].get_layer("conv").kernel
    poisoned(kernel, np.nan)
    with pytest.raises(ValueError, match=r"Weight '\S*conv/kernel' holds NaN or infinity.*Load or train"):
        models["branch"].export(tmp_path / f"model{suffix}")
    assert not list(tmp_path.iterdir())


def test_a_broken_plain_model_is_not_exported(classifier, poisoned, tmp_path):
    poisoned(classifier.get_layer("features").bias, np.inf)
    with pytest.raises(ValueError, match="features/bias' holds NaN or infinity"):
        td.export.export(classifier, tmp_path / "model")


def test_who_would_work_with_a_broken_model_is_told(models, digits, held_out, poisoned, tmp_path):
    model = models["density"]
    keras.Model.save(model, tmp_path / "whole.keras")
    poisoned(model.get_layer("conv").kernel, np.nan)
    keras.Model.save(model, tmp_path / "broken.keras")
    for act in (
        lambda: td.load(tmp_path / "broken.keras"),
        lambda: td.calibrate(model, held_out.x[:100]),
        lambda: td.adapt(model, digits.x[:100], digits.y[:100], max_rejected=None),
    ):
        with pytest.raises(ValueError, match="conv/kernel' holds NaN or infinity, so every sample is rejected"):
            act()
    assert "conv/kernel" in td.contract.unready(model)
    assert td.contract.unready(td.load(tmp_path / "whole.keras")) is None


@pytest.mark.parametrize("broken, value", [("conv/kernel", np.nan), ("/value", np.inf)])
def test_the_command_line_refuses_what_load_refuses(broken, value, models, poisoned, tmp_path):
    model, path = models["density"], tmp_path / "broken.keras"
    (weight,) = (weight for weight in model.variables if weight.path.endswith(broken))
    poisoned(weight, value)
    keras.Model.save(model, path)
    with pytest.raises(ValueError, match=f"{broken}' holds NaN or infinity") as told:
        td.load(path)
    tried = {
        "export": [path, tmp_path / "out.onnx"],
        "calibrate": [path, "--data", "digits", "--output", tmp_path / "out.keras"],
        "evaluate": [path, "--data", "digits"],
        "attack": [path, "--data", "digits", "--epsilon", 0.1],
    }
    for command, arguments in tried.items():
        run = CliRunner().invoke(cli.app, [command, *map(str, arguments)])
        assert (run.exit_code, run.stdout, run.stderr) == (2, "", f"error: {told.value}\n"), command
    assert list(tmp_path.iterdir()) == [path]
    # To look at it is allowed; it is not shown as whole.
    shown = CliRunner().invoke(cli.app, ["info", str(path)], terminal_width=300)
    assert shown.exit_code == 0 and "holds NaN or infinity, so every sample is rejected" in " ".join(shown.stdout.split())


def test_the_command_line_has_the_model_that_load_gives(models, classifier, tmp_path):
    model = models["density"]
    keras.Model(model.input, model.output).save(tmp_path / "old.keras")
    classifier.save(tmp_path / "plain.keras")
    for read in (td.load, load_model):
        assert type(read(tmp_path / "old.keras")) is td.contract.DefendedModel
    assert type(load_model(tmp_path / "plain.keras")) is type(classifier)


def test_what_is_to_be_set_anew_may_be_broken(models, digits, held_out, poisoned):
    model = models["density"]
    threshold = next(layer for layer in model.layers if isinstance(layer, td.layers.Threshold))
    poisoned(threshold.value, np.inf)
    assert (model(held_out.x[100:120])["label"].numpy() == -1).all()
    td.calibrate(model, held_out.x[:100], max_rejected=0.2)
    assert (model(held_out.x[100:120])["label"].numpy() >= 0).any()


@pytest.mark.parametrize("threshold", [np.inf, -np.inf, np.nan])
def test_a_threshold_that_is_no_number_is_refused(threshold):
    with pytest.raises(ValueError, match="`threshold` must be a finite number, or None"):
        td.layers.Threshold(threshold)


def test_a_broken_detector_is_not_outvoted():
    suspicions = [np.array([-1.0, np.nan, np.inf], "float32"), np.array([-2.0, -2.0, -2.0], "float32")]
    for how in ("any", "all"):
        for order in (suspicions, suspicions[::-1]):
            joined = td.layers.Join(how)(order).numpy()
            assert not joined[1] <= 0 and joined[0] == (-1.0 if how == "any" else -2.0)
    assert td.layers.Join("all")(suspicions).numpy()[2] == -2.0


NESTED = [("any", "all"), ("all", "any"), ("all", "all"), ("any", "any")]


def of_logarithms(inner, outer):
    """Three detectors that give the logarithm of a number each: NaN for -1, -inf for 0, and finite weights all the same."""
    inputs = keras.Input((3,))
    first, second, third = (keras.ops.log(inputs[:, index]) for index in range(3))
    suspicion = td.layers.Join(outer)([td.layers.Join(inner)([first, second]), third])
    return td.contract.defend(inputs, keras.layers.Dense(2)(inputs), suspicion, bounds=None)


BROKEN = [np.where(np.eye(3), value, np.exp(-1)) for value in (-1.0, 0.0)]
WHOLE = np.exp([[-1.0, -2.0, -3.0], [-2.0, -1.0, -1.0]])


@pytest.mark.parametrize(("inner", "outer"), NESTED)
def test_a_broken_detector_is_not_outvoted_from_within(inner, outer):
    model, x = of_logarithms(inner, outer), np.concatenate([*BROKEN, WHOLE]).astype("float32")
    for ask in (model, tf.function(model, jit_compile=True)):
        assert (np.asarray(ask(x)["label"]) >= 0).tolist() == [False] * 6 + [True] * 2
        assert (np.asarray(ask(x)["suspicion"])[:6] == np.inf).all()


def test_a_broken_detector_is_not_outvoted_in_a_file(tmp_path):
    """ONNX and LiteRT have their own largest and smallest of NaN and another."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install tfdefense[export]")
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="pip install tfdefense[export]")
    model, x = of_logarithms("any", "all"), np.concatenate([*BROKEN, WHOLE]).astype("float32")
    onnx = onnxruntime.InferenceSession(td.export.export(model, tmp_path / "model.onnx"))
    lite = litert.Interpreter(model_path=str(td.export.export(model, tmp_path / "model.tflite"))).get_signature_runner()
    served = tf.saved_model.load(str(td.export.export(model, tmp_path / "saved"))).signatures["serving_default"]
    answers = {
        "onnx": onnx.run(["label"], {onnx.get_inputs()[0].name: x})[0],
        "litert": np.concatenate([lite(**{next(iter(lite.get_input_details())): row[None]})["label"] for row in x]),
        "saved": served(tf.constant(x))["label"].numpy(),
    }
    for name, label in answers.items():
        assert (label >= 0).tolist() == [False] * 6 + [True] * 2, name


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["svm", "density", "branch", "codes"])
def test_a_detector_does_not_take_what_is_no_number_for_clean(kind, value):
    """Finite weights may overflow all the same, in float16 above all."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 6)).astype("float32"), np.arange(40) % 2
    if kind == "svm":
        layer = td.layers.RBFSVM(2)
        layer.adapt(x, y)
        inputs = [x]
    elif kind == "density":
        layer = td.layers.KernelDensity(sigma=1.0, max_points=40)
        layer.adapt(x, y)
        inputs = [x, np.eye(2, dtype="float32")[y]]
    elif kind == "branch":
        layer, x = td.layers.DetectorBranch(width=2, seed=0), rng.normal(size=(4, 14, 14, 2)).astype("float32")
        inputs = [x]
    else:
        layer, inputs = td.layers.QuantizedReLU([0.0]), [x]
    run = tf.function(lambda *inputs: layer(*inputs))
    clean = [np.asarray(ask(*inputs)) for ask in (layer, run)]
    x[1].flat[3] = value
    for ask, before in zip((layer, run), clean, strict=True):
        found = np.asarray(ask(*inputs))
        # What is behind rejects NaN and what grows without a limit.
        assert not np.isfinite(found[1]).all() and not (found[1] == -np.inf).any()
        np.testing.assert_array_equal(np.delete(found, 1, axis=0), np.delete(before, 1, axis=0))
