"""Models in formats of older versions, and with layers that a file may hold and not give back."""

import warnings
import zipfile

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

import tfdefense as td
from tfdefense.cli import app

X = np.random.default_rng(0).random((20, 4)).astype("float32")


def network(*first):
    return keras.Sequential([keras.Input((4,)), *first, keras.layers.Dense(8, "relu"), keras.layers.Dense(3)], name="network")


def test_hdf5_is_converted_as_it_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = network()
    # By that name a file of HDF5 does not give it back: hence `compile=False`.
    model.compile("adam", "mse")
    model.save("m.h5")
    with pytest.raises(ValueError, match="m.h5 has the format of older Keras versions. Expected a .keras file") as told:
        td.load("m.h5")
    first, second = (part.split("`")[0] for part in str(told.value).split(": `")[1:])
    exec(first, {"keras": keras})
    np.testing.assert_allclose(keras.models.load_model("m.keras")(X), model(X), atol=1e-6)
    again = network()
    exec(second, {"model": again})
    np.testing.assert_allclose(again(X), model(X), atol=1e-6)
    run = CliRunner().invoke(app, ["info", "m.h5"])
    assert run.exit_code == 2 and "keras.models.load_model('m.h5', compile=False).save('m.keras')" in run.stderr


def test_models_of_keras_2_are_told_the_way(tmp_path):
    network().export(tmp_path / "saved", verbose=False)
    with pytest.raises(ValueError, match="saved is a SavedModel, which holds no layers any more. Expected a .keras file"):
        td.load(tmp_path / "saved")
    (tmp_path / "saved" / "keras_metadata.pb").touch()  # what Keras 2 writes beside a model, and Keras 3 does not
    network().save(tmp_path / "new.keras")
    with zipfile.ZipFile(tmp_path / "new.keras") as new, zipfile.ZipFile(tmp_path / "old.keras", "w") as old:
        for name in new.namelist():
            content = new.read(name)
            old.writestr(name, content.replace(keras.__version__.encode(), b"2.15.0") if name == "metadata.json" else content)
    for path in (tmp_path / "saved", tmp_path / "old.keras"):
        with pytest.raises(ValueError, match="was written by Keras 2.*`pip install tf_keras`.*save.'old.h5'.*compile=False"):
            td.load(path)
    run = CliRunner().invoke(app, ["info", str(tmp_path / "old.keras")])
    assert run.exit_code == 2 and "was written by Keras 2" in run.stderr


@keras.saving.register_keras_serializable(package="tests")
class Doubled(keras.layers.Layer):
    """What the warning advises in place of a Lambda."""

    def call(self, x):
        return 2 * x


def saved_model_layer(folder):
    inputs = keras.Input((4,))
    keras.Model(inputs, 2 * inputs).export(folder, verbose=False)
    return keras.layers.TFSMLayer(folder, call_endpoint="serve", name="doubling")


@pytest.mark.parametrize("kind", ["lambda", "lambda in a submodel", "saved model"])
def test_layers_that_no_file_gives_back_are_told_when_attached(kind, tmp_path):
    if kind == "saved model":
        layer = saved_model_layer(str(tmp_path / "saved"))
    else:
        layer = keras.layers.Lambda(lambda x: 2 * x, name="doubling")
    if kind.endswith("submodel"):
        layer = keras.Sequential([keras.Input((4,)), layer])
    with pytest.warns(UserWarning, match="Layer 'doubling'.*can't be loaded again.*register_keras_serializable.*safe_mode=False"):
        defended = td.ThresholdDefense(threshold=10.0).attach(network(layer))
    defended.save(tmp_path / "d.keras")
    with pytest.raises(ValueError, match="arbitrary code execution"):
        td.load(tmp_path / "d.keras")
    again = td.load(tmp_path / "d.keras", safe_mode=False)
    np.testing.assert_allclose(again(X)["scores"], defended(X)["scores"], atol=1e-6)


def test_registered_layers_come_back_without_a_word(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        defended = td.ThresholdDefense(threshold=10.0).attach(network(Doubled()))
        defended.save(tmp_path / "d.keras")
    np.testing.assert_allclose(td.load(tmp_path / "d.keras")(X)["scores"], defended(X)["scores"], atol=1e-6)


def test_how_a_model_was_compiled_is_no_matter():
    inputs = keras.Input((4,))
    flat = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Dense(8, "relu", name="hidden")(inputs)))
    nested = keras.Model(inputs, network()(keras.layers.Rescaling(2.0)(inputs)))
    for model in (flat, nested):
        model.compile("adam", loss=lambda y, scores: keras.ops.mean(scores))
    np.testing.assert_allclose(td.graft_dustbin(flat)(X)[:, :3], flat(X), atol=1e-6)
    defended = td.ThresholdDefense(threshold=10.0).attach(nested)
    np.testing.assert_allclose(defended(X)["scores"], nested(X), atol=1e-6)
    assert flat.compiled and nested.compiled
    coded = td.SafetyNet(["hidden"], threshold=0.0).attach(flat)
    td.adapt(coded, X, np.arange(20) % 3, adversarial=1 - X, max_rejected=None)
    coded.compile("adam", loss={"scores": lambda y, scores: keras.ops.mean(scores)})
    assert td.differentiable(coded)(X)["suspicion"].shape == (20,)
