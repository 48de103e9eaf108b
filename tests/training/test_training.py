import csv
import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import tfdefense.layers
import training
from training import recipe as recipes
from training.recipe import Recipe
from training.train import train

ROOT = Path(__file__).parents[2]


class StopAfter(keras.callbacks.Callback):
    """The interruption: after the epoch's state is kept, as a killed process would find it."""

    def __init__(self, epoch):
        super().__init__()
        self.last = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.last:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def trained(cache):
    return train("digits", cache=cache, verbose=0)


def weights(path):
    return keras.models.load_model(path / "model.keras", compile=False).get_weights()


def test_digits_recipe_reaches_its_accuracy(trained):
    from tfdefense import data

    test = data.load("digits", "test")
    model = keras.models.load_model(trained / "model.keras", compile=False)
    accuracy = np.mean(model.predict(test.x, verbose=0).argmax(1) == test.y)
    config = json.loads((trained / "config.json").read_text())
    assert accuracy > 0.97
    assert config["test_accuracy"] == pytest.approx(accuracy, abs=1e-4)
    assert config["seed"] == 0 and {"keras", "tensorflow", "python"} <= set(config["versions"])


def test_history_has_each_epoch_once_and_improves(trained):
    with open(trained / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(20))
    assert float(rows[-1]["val_accuracy"]) > float(rows[0]["val_accuracy"]) + 0.1


def test_second_run_comes_from_the_cache(cache, trained, monkeypatch):
    monkeypatch.setattr("training.loop.fit", lambda *args, **kwargs: pytest.fail("trained again"))
    assert train("digits", cache=cache) == trained
    model = training.run("digits", cache=cache)
    assert model.outputs[0].shape == (None, 10)


SHORT_BRANCH = {"watched": {"recipe": "digits", "layer": "conv_1", "width": 4, "settings": {"epochs": 1}}}


@pytest.mark.parametrize(
    "name, settings", [("digits", {}), ("digits_pgd", {}), pytest.param("digits_detector", SHORT_BRANCH, marks=pytest.mark.long)]
)
def test_interrupted_run_resumes_to_the_same_weights(name, settings, tmp_path):
    settings = {"epochs": 3, "train_samples": 320, "verbose": 0, "model_options": {"dropout": 0.5}} | settings
    whole = train(name, cache=tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        train(name, cache=tmp_path / "cut", callbacks=[StopAfter(1)], **settings)
    assert not list((tmp_path / "cut").glob(f"{name}-*/config.json")), "an interrupted run must not look like a result"
    seen = []
    count = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append(epoch))
    resumed = train(name, cache=tmp_path / "cut", callbacks=[count], **settings)
    assert seen == [1, 2]
    for expected, received in zip(weights(whole), weights(resumed), strict=True):
        np.testing.assert_array_equal(received, expected)
    assert len((resumed / "history.csv").read_text().splitlines()) == 4
    assert not list((tmp_path / "cut").glob("*.partial"))


def test_order_of_samples_depends_on_seed_and_epoch():
    from training.batches import ShuffledBatches

    x = np.arange(100)
    first, again, other = (ShuffledBatches(x, x, 10, seed) for seed in (0, 0, 1))
    assert np.array_equal(first[0][0], again[0][0])
    assert not np.array_equal(first[0][0], other[0][0])
    first.start(1)
    assert not np.array_equal(first[0][0], again[0][0])
    assert sorted(np.concatenate([first[i][0] for i in range(10)])) == list(range(100))


def test_warmup_rises_to_the_rate_and_stays():
    from training.loop import RisingCosine

    schedule = RisingCosine(0.1, 10, alpha=1.0, warmup_steps=4)
    rates = [float(schedule(step)) for step in (0, 1, 3, 4, 1000)]
    assert rates == pytest.approx([0.025, 0.05, 0.1, 0.1, 0.1])
    assert RisingCosine(**schedule.get_config())(1) == schedule(1)


def test_key_follows_the_settings():
    recipe = recipes.find("digits")
    assert recipe.changed(epochs=20).key() == recipe.key()
    assert recipe.changed(epochs=21).key() != recipe.key()
    assert recipe.changed(seed=1).key() != recipe.key()
    assert recipe.changed(model_options={"classes": 4}).key() != recipe.key()


def test_training_samples_may_be_the_first_so_many(tmp_path, monkeypatch):
    from training import loop

    seen = []
    original = loop.ShuffledBatches
    monkeypatch.setattr(loop, "ShuffledBatches", lambda x, *rest: seen.append(x) or original(x, *rest))
    train("digits", cache=tmp_path, verbose=0, epochs=1, train_samples=256)
    from tfdefense import data

    np.testing.assert_array_equal(seen[0], data.load("digits").x[:256])
    with pytest.raises(ValueError, match="`train_samples` must be at most the 1400 that there are. Received 1401"):
        train("digits", cache=tmp_path, verbose=0, epochs=1, train_samples=1401)
    with pytest.raises(ValueError, match="`train_samples` must be a whole number"):
        recipes.find("digits").changed(train_samples=0)


def test_branches_trained_before_their_depth_was_a_setting_keep_their_key():
    recipe = recipes.find("mnist_detector")
    assert recipe.watched["depth"] == 4 and recipe.key() == "1e2eef20697c"
    paper, three = ({name: value for name, value in recipe.watched.items() if name != "depth"} | own for own in ({}, {"depth": 3}))
    keys = {recipe.key(), recipe.changed(watched=paper).key(), recipe.changed(watched=three).key()}
    assert len(keys) == 3, "what says nothing has the paper's depth"


def test_settings_left_out_do_not_change_the_key():
    recipe = recipes.find("digits")
    assert recipe.key() == recipe.changed(train_samples=None).key() != recipe.changed(train_samples=300).key()


def test_every_recipe_names_a_model_and_says_what_it_costs():
    import importlib

    assert {"digits", "mnist_carlini", "mnist_detector"} <= set(recipes.names())
    for name in recipes.names():
        recipe = recipes.find(name)
        file, function = recipe.model.split(":")
        model = getattr(importlib.import_module(f"models.{file}"), function)(**recipe.model_options)
        assert isinstance(recipe, Recipe) and model.layers[-1].name == ("depth" if recipe.task == "depth" else "logits")
    told = []
    for file in (ROOT / "training" / "recipes").glob("[a-z]*.py"):
        text = importlib.import_module(f"training.recipes.{file.stem}").__doc__
        commands = re.findall(r"^Command: python -m training (\w+)", text, re.MULTILINE)
        assert len(commands) == text.count("\nCost: ") == text.count("\nExpected: "), file.name
        told += commands
    assert sorted(told) == recipes.names()


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"epochs": 0}, "`epochs` must be a whole number of at least 1. Received 0"),
        ({"batch_size": 1.5}, "`batch_size` must be a whole number"),
        ({"epoch": 3}, "A recipe has the settings .*Received \\['epoch'\\]"),
        ({"batch_size": 5000}, "`batch_size` must be at most the 1[0-9]+ training samples. Received 5000"),
    ],
)
def test_bad_settings_are_named(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        train("digits", cache=tmp_path, **settings)


def test_unknown_recipe_suggests_the_nearest():
    with pytest.raises(ValueError, match="Received 'mnist_carlni'. Did you mean `mnist_carlini`?"):
        recipes.find("mnist_carlni")


def test_command_prints_the_path_alone(cache, trained, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDEFENSE_CACHE", str(tmp_path))
    (tmp_path / "training").symlink_to(cache)
    command = [sys.executable, "-m", "training", "digits", "--output", str(tmp_path / "copy" / "digits.keras")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "copy" / "digits.keras")
    assert (tmp_path / "copy" / "digits.keras").read_bytes() == (trained / "model.keras").read_bytes()


@pytest.mark.parametrize("arguments", [["digit"], ["digits", "--epochs", "0"], ["digits", "--output", "model.h5"]])
def test_command_ends_with_one_line_and_code_2(arguments):
    done = subprocess.run([sys.executable, "-m", "training", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Received" in done.stderr and len(done.stderr.splitlines()) == 1


def test_later_settings_change_the_key_only_where_they_are_used():
    import dataclasses

    recipe = recipes.find("digits")
    for name, value in {"decay": True, "loss": "reverse_cross_entropy", "loss_options": {"weight": 1}, "augment": True}.items():
        assert dataclasses.replace(recipe, **{name: value}).key() != recipe.key()
    # The networks in users' caches were trained under these.
    assert "augment" not in json.dumps(recipes._counted(recipe))


def test_pairs_of_recipes_differ_in_the_loss_alone():
    import dataclasses

    for name in ("digits", "mnist", "cifar10"):
        one, other = (dataclasses.asdict(recipes.find(f"{name}_resnet_{loss}")) for loss in ("ce", "rce"))
        assert {key for key in one if one[key] != other[key]} == {"loss"}
        smoothed = dataclasses.asdict(recipes.find(f"{name}_resnet_ls"))
        assert {key for key in one if one[key] != smoothed[key]} == {"loss", "loss_options"}
        by_sgd = [dataclasses.asdict(recipes.find(f"{name}_resnet_{loss}_sgd")) for loss in ("ce", "rce")]
        assert {key for key in by_sgd[0] if by_sgd[0][key] != by_sgd[1][key]} == {"loss"}


def test_reverse_recipe_gives_ordinary_logits(tmp_path):
    done = train("digits", cache=tmp_path, verbose=0, loss="reverse_cross_entropy", epochs=6)
    from tfdefense import data

    test = data.load("digits", "test")
    model = training.run("digits", cache=tmp_path, loss="reverse_cross_entropy", epochs=6)
    accuracy = np.mean(model.predict(test.x, verbose=0).argmax(1) == test.y)
    assert type(model.layers[-1]).__name__ == "ReverseLogits" and accuracy > 0.9
    assert json.loads((done / "config.json").read_text())["test_accuracy"] == pytest.approx(accuracy, abs=1e-4)
    with pytest.raises(ValueError, match="`loss` must be one of cross_entropy, .*Received 'reverse'"):
        train("digits", cache=tmp_path, loss="reverse")


def test_augmentation_moves_and_mirrors_and_depends_on_the_epoch():
    from training.batches import ShuffledBatches, augmented

    x = np.zeros((200, 8, 8, 1), "float32")
    x[:, 2, 3] = 1
    moved = augmented(x, np.random.default_rng(0), pixels=1)
    places = {tuple(place[1:3]) for place in np.argwhere(moved)}
    assert places == {(row, column) for row in (1, 2, 3) for column in (2, 3, 4, 5)}, "3 +- 1, mirrored 4 +- 1"
    assert x[:, 2, 3].all() and x.sum() == 200, "the training set itself stays"
    batches = ShuffledBatches(x, np.arange(200), 50, seed=0, augment=True)
    first = batches[1][0]
    np.testing.assert_array_equal(batches[1][0], first)
    batches.start(1)
    assert not np.array_equal(batches[1][0], first)


def test_run_keeps_what_makes_it_believable(trained):
    config = json.loads((trained / "config.json").read_text())
    with open(trained / "history.csv") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert config["best_epoch"] == int(np.argmin(losses)) and config["precision"] == "float32"
    assert set(config["data"]) == {"train", "test"} and "tfdefense" in config["versions"]
    assert keras.models.load_model(trained / "best.keras", compile=False).outputs[0].shape == (None, 10)
    (events,) = (trained / "tensorboard").iterdir()
    assert b"epoch_val_accuracy" in events.read_bytes()


def test_a_run_that_diverged_is_no_result(tmp_path):
    settings = {"cache": tmp_path, "verbose": 0, "train_samples": 128, "batch_size": 32}
    with pytest.raises(ValueError, match="no finite numbers any more in epoch 1. Lower the learning rate"):
        train("digits", epochs=2, optimizer="SGD", learning_rate=1e38, **settings)
    assert not list(tmp_path.glob("*/config.json")) and not list(tmp_path.glob("*/epoch-*"))


def test_versions_of_every_start_are_kept(tmp_path):
    settings = {"cache": tmp_path, "verbose": 0, "epochs": 2, "train_samples": 128}
    with pytest.raises(KeyboardInterrupt):
        train("digits", callbacks=[StopAfter(1)], **settings)
    config = json.loads((train("digits", **settings) / "config.json").read_text())
    assert len(config["starts"]) == 2 and config["starts"][1] == config["versions"]


def test_outputs_follow_the_classes_of_the_data(tmp_path, monkeypatch):
    from tfdefense import data

    known = data.load

    def more(name, split, **options):
        images = known(name, split, **options)
        return dataclasses.replace(images, y=np.where(np.arange(len(images.y)) == 1000, 13, images.y))

    monkeypatch.setattr(data, "load", more)
    done = train("digits", cache=tmp_path, verbose=0, epochs=1, train_samples=128)
    assert keras.models.load_model(done / "model.keras", compile=False).output_shape == (None, 14)


def test_detector_recipe_trains_a_branch_alone(cache, trained):
    """On the network of another recipe; its key follows that one's."""
    done = train("digits_detector", cache=cache, verbose=0, epochs=2, train_samples=256)
    model = tfdefense.load(done / "model.keras")
    base = tfdefense.base_model(model)
    for expected, received in zip(weights(trained), base.get_weights(), strict=True):
        np.testing.assert_array_equal(received, expected)
    assert len(model.get_weights()) > len(base.get_weights()) and "calibrate" in tfdefense.contract.unready(model)
    assert 0.4 < json.loads((done / "config.json").read_text())["test_detectability"] <= 1
    recipe = recipes.find("digits_detector")
    other = recipe.changed(watched=recipe.watched | {"settings": {"epochs": 3}})
    assert other.key() != recipe.key()


@pytest.mark.parametrize("name", ["small:nothing", "foo:bar", "small", "small:digits_cn"])
def test_unknown_model_is_told(name):
    with pytest.raises(ValueError, match=f"`model` must be FILE:FUNCTION of models/, one of .*small:digits_cnn.*Received '{name}'"):
        recipes.find("digits").changed(model=name)


def test_fresh_begins_anew_and_other_data_is_no_resumption(tmp_path):
    settings = {"cache": tmp_path, "verbose": 0, "epochs": 1, "train_samples": 128}
    done = train("digits", **settings)
    (done / "mark").touch()
    assert (train("digits", **settings) / "mark").exists()
    done = train("digits", fresh=True, **settings)
    assert not (done / "mark").exists()
    partial = done.rename(done.with_name(f"{done.name}.partial"))
    (partial / "data.json").write_text('{"train": "other", "test": "other"}')
    with pytest.raises(ValueError, match="Expected the data that the run in .* began with, .*other.*Begin anew: --fresh"):
        train("digits", **settings)


def test_batches_are_shared_evenly(tmp_path):
    from training.batches import WholeBatches
    from training.loop import fit
    from training.strategy import Place

    place = Place("three")
    place.replicas = 3
    with pytest.raises(ValueError, match="`batch_size` must be a multiple of the 3 replicas. Received 64"):
        fit(recipes.find("digits"), tmp_path, place=place, trained=train)
    x = np.arange(1025)
    batches = WholeBatches(x, x, replicas=8)
    sizes = [len(batches[i][0]) for i in range(len(batches))]
    assert sum(sizes) == 1025 and min(sizes) >= 8 and max(sizes) <= 512
    np.testing.assert_array_equal(np.concatenate([batches[i][1] for i in range(len(batches))]), x)


ON_JAX = """
import sys
import numpy as np
from tfdefense import data
from training.train import train
import keras, training

settings = {"loss": "reverse_cross_entropy", "dustbin": [{"set": "letters8", "limit": 64}]}
settings |= {"epochs": 1, "train_samples": 128, "cache": sys.argv[1]}
path = train("digits", verbose=0, **settings)
model = training.run("digits", **settings)
np.save(sys.argv[1] + "/found.npy", model.predict(data.load("digits", "test").x, verbose=0))
print(keras.backend.backend(), path)
"""


@pytest.mark.long
def test_recipe_runs_on_jax_and_its_model_is_read_here(tmp_path):
    pytest.importorskip("jax", reason="JAX is not installed: `pip install tfdefense[jax]`")
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", ON_JAX, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    backend, path = done.stdout.split()
    from tfdefense import data

    model = keras.models.load_model(Path(path) / "model.keras", compile=False)
    found = model.predict(data.load("digits", "test").x, verbose=0)
    assert backend == "jax"
    np.testing.assert_allclose(found, np.load(tmp_path / "found.npy"), atol=1e-4)
