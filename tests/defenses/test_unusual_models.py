"""Models as users build them: own names, layers that keep tensors, probabilities on the way; and samples that are alike."""

import io
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from typer.testing import CliRunner

import tfdefense as td
from tfdefense.cli import app


def dense_model(x, y, classes=10, **names):
    """A trained classifier of two dense layers."""
    inputs = keras.Input((8, 8, 1))
    hidden = keras.layers.Dense(32, "relu", name=names.get("hidden", "hidden"))(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(classes, name=names.get("scores", "scores"))(hidden))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, epochs=8, verbose=0)
    return model


@pytest.fixture(scope="module")
def plain(digits):
    keras.utils.set_random_seed(0)
    return dense_model(digits.x, digits.y)


def test_grafting_keeps_what_a_normalization_has_learnt(digits):
    norm = keras.layers.Normalization(axis=None)
    norm.adapt(digits.x)
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, keras.layers.Dense(10)(keras.layers.Flatten()(norm(inputs))))
    grafted = td.graft_dustbin(model)
    np.testing.assert_allclose(grafted(digits.x[:50])[:, :-1], model(digits.x[:50]), atol=1e-5)


@pytest.mark.parametrize("name", ["reject", "confidence", "threshold"])
def test_a_users_names_are_no_hindrance(name, plain, held_out, tmp_path):
    keras.backend.clear_session()  # as in a new process: Keras counts its own names from the start
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, keras.layers.Identity(name=name)(plain(inputs)))
    for defense in (td.ThresholdDefense(), td.AnyOf(td.ThresholdDefense(), td.ThresholdDefense("non-me"))):
        defended = defense.attach(model)
        td.calibrate(defended, held_out.x, max_rejected=0.1)
        assert model.layers[-1].name == name and defended.get_layer(name) is model.layers[-1], "theirs keeps its name"
        defended.save(tmp_path / "a.keras")
        again = td.load(tmp_path / "a.keras")
        np.testing.assert_array_equal(again(held_out.x)["label"], defended(held_out.x)["label"])


def test_slices_of_a_loaded_model_are_no_hindrance(held_out, tmp_path):
    inputs = keras.Input((8, 8, 1))
    keras.Model(inputs, keras.layers.Dense(11)(inputs[:, 0, :, 0])).save(tmp_path / "sliced.keras")
    keras.backend.clear_session()
    model = keras.models.load_model(tmp_path / "sliced.keras")
    defended = td.DustbinDefense().attach(model)
    expected = model(held_out.x).numpy()
    np.testing.assert_allclose(defended(held_out.x)["scores"], expected[:, :-1], atol=1e-5)


@pytest.mark.parametrize(
    "behind",
    [
        [keras.layers.Activation("linear", dtype="float32")],
        [keras.layers.Identity()],
        [keras.layers.Dropout(0.1), keras.layers.Activation("linear")],
    ],
    ids=["linear", "identity", "dropout"],
)
def test_a_softmax_is_seen_through_what_changes_nothing(behind, plain, held_out):
    inputs = keras.Input((8, 8, 1))
    outputs = keras.layers.Softmax()(plain(inputs))
    for layer in behind:
        outputs = layer(outputs)
    defended = td.ThresholdDefense().attach(keras.Model(inputs, outputs))
    np.testing.assert_allclose(defended(held_out.x)["scores"], plain(held_out.x), atol=1e-4)
    # Where there is no softmax, what follows the scores stays.
    kept = keras.Model(inputs, keras.layers.Activation("linear", name="last")(plain(inputs)))
    assert td.ThresholdDefense().attach(kept).get_layer("last") is kept.get_layer("last")


@pytest.mark.parametrize("defense", [td.ThresholdDefense(), td.NeuralRejection("hidden"), td.SafetyNet(["hidden"])])
def test_samples_that_are_alike_are_rejected_together_or_not_at_all(defense, plain, digits, held_out):
    defended = defense.attach(plain)
    x, y = digits.x[:300], digits.y[:300]
    if not isinstance(defense, td.ThresholdDefense):
        x_adv = td.attacks.BIM(0.2)(plain, x, y).x_adv if isinstance(defense, td.SafetyNet) else None
        td.adapt(defended, x, y, adversarial=x_adv, calibration=held_out.x, max_rejected=0.05)
    td.calibrate(defended, held_out.x[:180], max_rejected=0.05)
    worst = np.argsort(defended(held_out.x[:180])["suspicion"].numpy())[-4]
    tied = np.concatenate([held_out.x[:180], np.repeat(held_out.x[worst : worst + 1], 20, axis=0)])
    rejected = td.calibrate(defended, tied, max_rejected=0.05)
    for size in (1, 32, 200):
        suspicion = td.view.decide(defended, tied, batch_size=size).suspicion
        assert (suspicion > 0).mean() == pytest.approx(rejected) and rejected <= 0.05
        assert np.abs(suspicion[180:]).min() > 1e-6, "on the threshold rounding decides"


def test_thresholds_stay_where_no_others_are_found(plain, held_out):
    defended = td.AnyOf(td.ThresholdDefense(), td.ThresholdDefense("non-me")).attach(plain)
    td.calibrate(defended, held_out.x, max_rejected=0.05)
    label = defended(held_out.x)["label"].numpy()
    broken = held_out.x[:20].copy()
    broken[:3] = np.nan
    with pytest.raises(
        ValueError, match=r"15.0% of these samples have a detector score that is not finite.*Received `max_rejected=0.1`"
    ):
        td.calibrate(defended, broken, max_rejected=0.1)
    np.testing.assert_array_equal(defended(held_out.x)["label"], label)
    with pytest.raises(ValueError, match="detector score that is not finite"):
        td.calibrate(defended, np.full_like(broken, np.nan), max_rejected=0.1)
    np.testing.assert_array_equal(defended(held_out.x)["label"], label)
    # Where there is room for them, they take their part of it.
    assert 0.15 <= td.calibrate(defended, broken, max_rejected=0.25) <= 0.25


def test_an_exported_model_takes_samples_of_its_own_kind(plain, held_out, tmp_path):
    inputs = keras.Input((8, 8, 1), dtype="uint8")
    model = keras.Model(inputs, plain(keras.layers.Rescaling(1 / 255)(inputs)))
    defended = td.ThresholdDefense().attach(model, bounds=(0, 255))
    x = np.uint8(np.round(255 * held_out.x))
    td.calibrate(defended, x, max_rejected=0.1)
    defended.export(tmp_path / "model", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "model")
    found, known = (td.evaluate(one, x, held_out.y) for one in (loaded, defended))
    assert found.rejection == known.rejection and found.accuracy == known.accuracy


def test_an_unbuilt_model_is_told_to_be_built(held_out, tmp_path):
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(10)])
    with pytest.raises(ValueError, match="has no known input shape yet. Build it first"):
        td.calibrate(model, held_out.x)
    model.save(tmp_path / "model.keras")
    run = CliRunner().invoke(app, ["info", str(tmp_path / "model.keras")])
    assert run.exit_code == 2 and "has no known input shape yet" in run.stderr and "Traceback" not in run.output


def test_what_cannot_be_seen_in_a_submodel_is_told():
    def encoder(outputs):
        inputs = keras.Input((4,))
        hidden = keras.layers.Dense(4, name="inner")(inputs)
        return keras.Model(inputs, hidden if outputs == 1 else [hidden, keras.layers.Dense(3)(hidden)], name="encoder")

    inputs = keras.Input((4,))
    several, twice = encoder(2), encoder(1)
    models = {
        "Submodel 'encoder' of 'one' has 2 outputs": several(inputs)[0],
        "Submodel 'encoder' is called 2 times in 'one'": keras.layers.Add()([twice(inputs), twice(-inputs)]),
    }
    for words, tensor in models.items():
        with pytest.raises(ValueError, match=words):
            td.NeuralRejection("inner").attach(keras.Model(inputs, keras.layers.Dense(3)(tensor), name="one"))


def test_channels_that_come_first_are_told():
    inputs = keras.Input((1, 8, 8))
    maps = keras.layers.Conv2D(4, 3, data_format="channels_first", name="maps")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(maps)))
    with pytest.raises(ValueError, match="'maps' gives its maps with the channels first"):
        td.AdversaryDetector("maps").attach(model)


def test_what_is_kept_has_a_name_of_its_own():
    from tfdefense._cache import content

    assert content((0.0, 11.0)) != content((0.01, 1.0)) and content(1, 23) != content(12, 3)


def test_data_that_are_damaged_or_of_another_kind(tmp_path):
    from PIL import Image

    whole = io.BytesIO()
    np.savez(whole, x=np.zeros((4, 8, 8, 1), "float32"), y=np.arange(4))
    data = bytearray(whole.getvalue())
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as file:
        data[file.infolist()[0].header_offset + 300] ^= 1
    (tmp_path / "bad.npz").write_bytes(data)
    with pytest.raises(ValueError, match="bad.npz is damaged"):
        td.data.load(tmp_path / "bad.npz", "all")
    np.savez(tmp_path / "named.npz", x=np.zeros((4, 8, 8, 1), "uint8"), y=np.array([b"cat", b"dog", b"cat", b"dog"]))
    assert td.data.load(tmp_path / "named.npz", "all").classes == ("cat", "dog")
    (tmp_path / "deep" / "one").mkdir(parents=True)
    Image.fromarray(np.full((8, 8), 40_000, "uint16")).save(tmp_path / "deep" / "one" / "a.png")
    with pytest.raises(ValueError, match=r"8 bits a channel. Received: .*a.png of mode I"):
        td.data.load(tmp_path / "deep", "all")


def test_the_dustbin_may_be_counted_from_the_labels(digits):
    pairs = td.data.mix(digits.x[:64], digits.y[:64], digits.x[64:96], dustbin=digits.y.astype("int64").max() + 1)
    assert {int(label) for _, labels in pairs for label in labels} == set(range(11))
