"""Recipes on pictures with depth: the network that guesses depth, and the one that tells forged pairs."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from tfdefense.data import scenes
from tfdefense.data.rendering import render_scene
from training import recipe as recipes
from training.recipe import Recipe
from training.tasks import pairs as tasks
from training.train import train


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    """Rendered rooms in the place of captured ones, as a file of one's own."""
    x = np.stack([render_scene(np.random.default_rng(number), (96, 128)) for number in range(22)])
    path = tmp_path_factory.mktemp("rooms") / "rooms.npz"
    np.savez(path, x_train=x[:16], y_train=np.arange(16), x_test=x[16:], y_test=np.arange(6))
    return path, x


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def trained(rooms, cache):
    settings = {"epochs": 1, "batch_size": 8, "train_samples": 12, "width": 2}
    return train("nyu_scene", cache=cache, verbose=0, dataset=str(rooms[0]), **settings)


@pytest.mark.long
def test_depth_network_is_trained_first_and_on_half_of_the_scenes(rooms, trained, cache):
    (depth,) = cache.glob("nyu_depth-*/config.json")
    config = json.loads(depth.read_text())
    assert (config["epochs"], config["train_samples"], config["task"]) == (4, 6, "depth"), "four times as long"
    left = rooms[1][6:16].astype("float32") / 255
    guessed = keras.models.load_model(depth.parent / "model.keras", compile=False).predict(left[..., :3], verbose=0)
    assert config["held_out_mean_absolute_error"] == pytest.approx(np.abs(guessed - left[..., 3:]).mean(), abs=1e-4)
    assert "held_out_accuracy" not in config
    own = json.loads((trained / "config.json").read_text())
    assert own["predictor"] == "nyu_depth" and "held_out_accuracy" in own and "test_accuracy" not in own
    model = keras.models.load_model(trained / "model.keras", compile=False)
    assert model.output_shape == (None, 2) and model.get_layer("fc7").output.shape == (None, 32)


def test_batches_hold_each_pair_beside_a_forgery_of_the_epoch(rooms):
    x = rooms[1][:12]
    guessed = np.random.default_rng(0).random((12, 96, 128, 1)).astype("float32")
    batches = tasks.ForgedBatches(x, scenes.whole(guessed), 6, 8, seed=0)
    assert len(batches) == 3
    first = [batches[index] for index in range(3)]
    assert all(part.shape == (8, 96, 128, 4) and labels.tolist() == [1, 0] * 4 for part, labels in first)
    np.testing.assert_array_equal(batches[1][0], first[1][0])
    batches.start(1)
    assert (batches[1][0] != first[1][0]).any()


def test_depth_is_guessed_only_of_scenes_that_the_network_has_not_learned(rooms, monkeypatch):
    asked = []
    monkeypatch.setattr(scenes, "twins", lambda pairs, rows, kinds, **_: asked.append((rows, kinds)))
    batches = tasks.ForgedBatches(rooms[1], None, 8, 8, seed=0)
    for epoch in range(20):
        batches.start(epoch)
        for index in range(len(batches)):
            batches[index]
    rows, kinds = (np.concatenate(parts) for parts in zip(*asked, strict=True))
    assert set(kinds) == set(scenes.FAMILIAR)
    assert rows[kinds == "predicted"].min() >= 8 and (kinds == "predicted").mean() > 0.15


def test_depth_batches_are_pictures_and_their_depth(rooms):
    batches = tasks.DepthBatches(rooms[1], None, 4, seed=0)
    picture, depth = batches[0]
    assert picture.shape == (4, 96, 128, 3) and depth.shape == (4, 96, 128, 1) and 0 < depth.max() <= 1


def test_key_follows_the_depth_network_and_older_recipes_keep_theirs(monkeypatch):
    recipe = recipes.find("nyu_scene")
    shorter = dataclasses.replace(recipes.find("nyu_depth"), optimizer_options={"learning_rate": 1e-3})
    key, find = recipe.key(), recipes.find
    monkeypatch.setattr(recipes, "find", lambda name: shorter if name == "nyu_depth" else find(name))
    assert recipe.key() != key
    assert "task" not in recipes._counted(Recipe("digits", "small:digits_cnn", 1))


def test_unknown_task_is_one_sentence(rooms):
    recipe = dataclasses.replace(recipes.find("nyu_scene"), task="forged")
    with pytest.raises(ValueError, match="`task` must be 'classes', 'depth' or 'real'. Received 'forged'"):
        tasks.prepared(recipe, rooms[1], rooms[1], train)
