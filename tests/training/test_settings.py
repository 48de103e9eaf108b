"""What `python -m training` can be told: another network, another precision, other data."""

import json

import keras
import pytest
import typer
from typer.testing import CliRunner

from training import recipe as recipes
from training.__main__ import command
from training.train import train


def test_another_model_is_trained_with_its_own_options_on_images_of_any_shape(tmp_path):
    wider = recipes.find("mnist_carlini").changed(dataset="digits", model="resnet:resnet", depth=8)
    assert wider.model_options == {"depth": 8}, "dropout is an option of the recipe's own network"
    options = {"epochs": 1, "train_samples": 128, "batch_size": 64, "model": "resnet:resnet", "depth": 8}
    done = train("mnist_carlini", cache=tmp_path, verbose=0, dataset="digits", **options)
    model = keras.models.load_model(done / "model.keras", compile=False)
    assert model.name == "resnet_8" and model.input_shape == (None, 8, 8, 1) and model.output_shape == (None, 10)


def test_mixed_precision_trains_and_leaves_a_plain_model(tmp_path):
    done = train("digits", cache=tmp_path, verbose=0, epochs=4, mixed_precision=True)
    config = json.loads((done / "config.json").read_text())
    model = keras.models.load_model(done / "model.keras", compile=False)
    assert config["precision"].startswith("mixed_") and config["test_accuracy"] > 0.8
    assert {layer.compute_dtype for layer in model.layers} == {"float32"} and keras.config.dtype_policy().name == "float32"


def test_missing_data_end_the_command_with_one_sentence(tmp_path):
    app, found = typer.Typer(), {"HOME": str(tmp_path), "TFDEFENSE_DATA": "", "TFDS_DATA_DIR": ""}
    app.command()(command)
    done = CliRunner().invoke(app, ["mnist_carlini", "--data-dir", str(tmp_path)], env=found)
    assert done.exit_code == 2 and "`mnist` was not found" in done.stderr and isinstance(done.exception, SystemExit)


def test_depth_is_for_residual_networks():
    deeper = recipes.find("mnist_resnet_ce").changed(depth=20)
    assert deeper.model_options == {"input_shape": (28, 28, 1), "depth": 20}
    assert recipes.find("mnist_resnet_ce").changed(depth=None) == recipes.find("mnist_resnet_ce")
    with pytest.raises(ValueError, match="`depth` is a setting of residual networks. Received 20"):
        recipes.find("digits").changed(depth=20)


def test_learning_rate_and_optimizer_replace_the_recipes_own():
    recipe = recipes.find("mnist_resnet_ce")
    assert recipe.changed(learning_rate=0.5).optimizer_options == {"learning_rate": 0.5, "weight_decay": 0.02}
    other = recipe.changed(optimizer="SGD", learning_rate=0.1)
    assert (other.optimizer, other.optimizer_options) == ("SGD", {"learning_rate": 0.1}), "AdamW's settings are not SGD's"
    with pytest.raises(ValueError, match="`learning_rate` must be above 0. Received 0"):
        recipe.changed(learning_rate=0)


@pytest.mark.parametrize("name", ["digits_ccat", "digits_rectified"])
def test_a_network_that_learns_to_reject_is_trained_and_saved(name, tmp_path):
    done = train(name, cache=tmp_path, verbose=0, epochs=1, train_samples=128)
    model, config = keras.models.load_model(done / "model.keras", compile=False), json.loads((done / "config.json").read_text())
    assert 0 < config["test_accuracy"] < 1
    if name == "digits_rectified":
        assert set(model.output) == {"scores", "suspicion", "label"} and model.layers[-1].name == "reject"
    else:
        assert model.output_shape == (None, 10)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rejection": "cat"}, "`rejection` must be one of 'ccat', 'rectified', or None. Received 'cat'"),
        ({"rejection": "ccat", "attack": {}, "loss": "reverse_cross_entropy"}, "is trained on attacked samples with cross-entropy"),
        ({"noise": -1.0}, "`noise` must be a deviation above 0, of a recipe of classes without `attack`"),
    ],
)
def test_what_cannot_be_trained_together_is_told(settings, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        train("digits_pgd", cache=tmp_path, **settings)
