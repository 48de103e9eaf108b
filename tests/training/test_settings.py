"""What `python -m training` can be told: another network, another precision, other data."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras

from training import recipe as recipes
from training.cache import train

ROOT = Path(__file__).parents[2]


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
    found = {"HOME": str(tmp_path), "TFDEFENSE_DATA": "", "TFDS_DATA_DIR": ""}
    command = [sys.executable, "-m", "training", "mnist_carlini", "--data-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | found)
    assert done.returncode == 2 and "`mnist` was not found" in done.stderr and "Traceback" not in done.stderr
