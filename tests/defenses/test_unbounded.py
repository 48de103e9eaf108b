"""`bounds=None`: tabular or standardised features, of which any finite number is valid."""

import json
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from typer.testing import CliRunner

import tfdefense as td
from tfdefense.cli import app

A = td.attacks


@pytest.fixture(scope="module")
def features():
    """Standardised features of three classes, in units of their spread: training samples, then held-out ones."""
    rng = np.random.default_rng(0)
    y = np.arange(600) % 3
    x = rng.normal(size=(600, 5)) + 2 * np.eye(5)[y]
    x = ((x - x.mean(0)) / x.std(0)).astype("float32")
    return x[:400], y[:400], x[400:], y[400:]


@pytest.fixture(scope="module")
def plain(features):
    x, y, *_ = features
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(16, "relu", name="hidden"), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((5,), name="features"), *layers])
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, epochs=15, verbose=0)
    return model


@pytest.fixture(scope="module")
def unbounded(plain, features):
    defended = td.ThresholdDefense().attach(plain, bounds=None)
    td.calibrate(defended, features[2], max_rejected=0.1)
    return defended


def broken(features):
    """Four held-out samples: one far out but finite, then NaN, infinity and minus infinity."""
    x = features[2][:4].copy()
    x[0] = [37, 0, 0, 0, -37]
    x[1:, 0] = np.nan, np.inf, -np.inf
    return x


def test_any_finite_number_is_valid_and_nothing_else(unbounded, plain, features):
    out = unbounded(broken(features))
    assert out["label"].numpy().tolist() == [plain(broken(features)).numpy()[0].argmax(), -1, -1, -1]
    assert np.isposinf(out["suspicion"].numpy()[1:]).all()
    _, _, x, y = features
    assert td.evaluate(unbounded, x, y).accuracy > 0.7
    assert td.contract.bounds_of(unbounded) == (-np.inf, np.inf)


def test_files_hold_it_without_an_infinity(unbounded, features, tmp_path):
    x = np.concatenate([features[2], broken(features)])
    unbounded.save(tmp_path / "d.keras")
    config = zipfile.ZipFile(tmp_path / "d.keras").read("config.json").decode()
    json.loads(config, parse_constant=lambda name: pytest.fail(f"no JSON: {name}"))
    assert '"bounds": null' in config
    td.export.export(unbounded, tmp_path / "saved")
    served = tf.saved_model.load(tmp_path / "saved").signatures["serving_default"]
    (argument,) = served.structured_input_signature[1]
    for found in (td.load(tmp_path / "d.keras")(x), served(**{argument: tf.constant(x)})):
        np.testing.assert_array_equal(found["label"], unbounded(x)["label"])


def test_onnx_file_decides_alike(unbounded, features, tmp_path):
    pytest.importorskip("tf2onnx", reason="`pip install tfdefense[export]`")
    onnxruntime = pytest.importorskip("onnxruntime")
    td.export.export(unbounded, tmp_path / "d.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "d.onnx"))
    x = np.concatenate([features[2], broken(features)])
    (label,) = session.run(["label"], {session.get_inputs()[0].name: x})
    np.testing.assert_array_equal(label, unbounded(x)["label"])


@pytest.mark.parametrize(
    "attack",
    [
        A.PGD(1.5, norm="l2", steps=20),
        A.PGD(4.0, norm="l1", steps=20, starts="random"),
        A.FGSM(1.0),
        A.OrthogonalPGD(1.5, norm="l2", steps=20),
        A.Square(1.5, norm="l2", queries=200),
        A.DeepFool(),
        A.MinimumNorm(starts=("base", "interpolated", "sample")),
    ],
    ids=lambda attack: type(attack).__name__,
)  # fmt: skip
def test_attacks_with_a_ball_need_no_box(attack, unbounded, features):
    _, _, x, y = features
    x, y = x[:30], y[:30]
    assert x.min() < -1 and x.max() > 2
    found = attack(unbounded, x, y)
    right = unbounded(x)["label"].numpy() == y
    assert found.success[right].mean() > 0.2 and np.isfinite(found.x_adv).all()
    if hasattr(attack, "epsilon"):
        assert found.distance.max() <= attack.epsilon * (1 + 1e-5)


RANGE = [
    A.CarliniWagner(steps=30, binary_search_steps=2),
    A.JSMA(gamma=0.5),
    A.HopSkipJump(queries=400),
    A.DeepFool(starts="random"),
]


@pytest.mark.parametrize("attack", RANGE, ids=lambda attack: type(attack).__name__)
def test_attacks_that_measure_in_the_range_say_so_and_take_one(attack, unbounded, features):
    _, _, x, y = features
    x, y = x[:20], y[:20]
    with pytest.raises(ValueError, match=r"needs the range of the values.*`bounds=\(x.min\(\), x.max\(\)\)`"):
        attack(unbounded, x, y)
    low, high = float(x.min()), float(x.max())
    found = attack(unbounded, x, y, bounds=(low, high))
    assert found.success.any() and low <= found.x_adv.min() and found.x_adv.max() <= high


def test_plain_model_is_attacked_without_bounds(plain, features):
    _, _, x, y = features
    with pytest.raises(ValueError, match=r"`x` must lie in \(0, 1\)"):
        A.FGSM(1.0)(plain, x, y)
    assert A.FGSM(1.0)(plain, x, y, bounds=(-np.inf, np.inf)).success.mean() > 0.5
    trainer = td.AdversarialTraining(keras.models.clone_model(plain), A.FGSM(0.2), bounds=(-np.inf, np.inf))
    trainer.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert np.isfinite(trainer.fit(x, y, verbose=0).history["loss"]).all()


def test_detector_that_learns_from_attacks_takes_them(plain, features):
    x, y, new, _ = features
    defended = td.SafetyNet(["hidden"]).attach(plain, bounds=None)
    x_adv = A.BIM(1.0)(plain, x, y, bounds=(-np.inf, np.inf)).x_adv
    td.adapt(defended, x, y, adversarial=x_adv, calibration=new, max_rejected=0.1)
    assert (defended(new)["label"].numpy() == -1).mean() <= 0.1
    through = A.BPDA(A.PGD(1.5, norm="l2", steps=10), schedule=((10.0, 1.0),), exact_forward=False)
    assert through(defended, new[:30], features[3][:30]).success.any()
    with pytest.raises(ValueError, match="Received the clean ones"):
        td.adapt(defended, x, y, adversarial=x, max_rejected=None)


def test_command_line_and_report_say_what_they_lack(unbounded, features, tmp_path):
    unbounded.save(tmp_path / "d.keras")
    run = CliRunner().invoke(app, ["attack", str(tmp_path / "d.keras"), "--data", "digits", "--epsilon", "1"])
    assert run.exit_code == 2 and "takes any finite number" in run.stderr and "--bounds -3 3" in run.stderr
    info = CliRunner().invoke(app, ["info", str(tmp_path / "d.keras")])
    assert info.exit_code == 0 and "any finite number" in info.output
    with pytest.raises(ValueError, match="A report needs the range of the values"):
        td.report(unbounded, (features[2], features[3]))


@pytest.mark.parametrize("bounds", [(0, np.inf), (-np.inf, 1), (np.nan, 1), (np.inf, -np.inf)])
def test_half_a_range_is_none(bounds, plain):
    with pytest.raises(ValueError, match="two finite numbers .low, high. with low < high, or None where any finite number"):
        td.ThresholdDefense().attach(plain, bounds=bounds)
