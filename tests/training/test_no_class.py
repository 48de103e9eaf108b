import dataclasses
import functools
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tfdefense import data
from training import recipe as recipes
from training.batches import ShuffledBatches, varied
from training.recipe import Recipe
from training.tasks import no_class as parts
from training.train import train

ROOT = Path(__file__).parents[2]
LETTERS = {"set": "letters8", "limit": 300}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def trained(cache):
    """Both parts, on networks of few epochs: the naive one and the one that learns from its features."""
    return train("digits_interpolated", cache=cache, verbose=0, epochs=6)


def rejected(model, x):
    return np.mean(model.predict(x, verbose=0).argmax(1) == 10)


def test_network_with_a_dustbin_knows_letters_of_fonts_it_never_saw(trained):
    model = keras.models.load_model(trained / "model.keras", compile=False)
    assert model.output_shape == (None, 11)
    assert rejected(model, data.load("letters8", "test").x) > 0.9
    assert rejected(model, data.load("digits", "test").x) < 0.3
    config = json.loads((trained / "config.json").read_text())
    assert config["dustbin_samples"] == 600 and config["test_accuracy"] > 0.7


def test_named_network_is_trained_as_long_and_on_the_same_samples(trained, cache):
    (naive,) = [path for path in cache.glob("digits-*/config.json")]
    config = json.loads(naive.read_text())
    assert (config["epochs"], config["train_samples"], config["dustbin"]) == (6, 1200, [])


def test_samples_are_the_blends_that_the_named_network_gives(trained, cache, tmp_path):
    digits = data.load("digits").take(slice(1200))
    recipe = recipes.find("digits_interpolated").changed(epochs=6)
    x, y = parts.extended(recipe, digits.x, digits.y, 10, tmp_path, trained=functools.partial(train, cache=cache))
    (naive,) = cache.glob("digits-*/model.keras")
    blends = data.interpolate(digits.x, digits.y, keras.models.load_model(naive, compile=False), per_class=30).x
    np.testing.assert_array_equal(x[:1200], digits.x)
    np.testing.assert_array_equal(x[1200:1500], data.load("letters8", limit=300).x)
    np.testing.assert_array_equal(x[1500:], blends)
    assert y[:1200].tolist() == digits.y.tolist() and set(y[1200:]) == {10}
    assert not {letter.tobytes() for letter in x[1200:1500]} & {letter.tobytes() for letter in data.load("letters8", "test").x}


def test_dustbin_is_no_class_where_the_samples_taken_lack_the_last_ones(tmp_path):
    """As of a folder of pictures, which are in the order of their classes."""
    digits = data.load("digits")
    order = np.argsort(digits.y, kind="stable")
    np.savez(tmp_path / "sorted.npz", x_train=digits.x[order], y_train=digits.y[order], x_test=digits.x[:50], y_test=digits.y[:50])
    path = train(
        "digits_out",
        cache=tmp_path,
        verbose=0,
        dataset=str(tmp_path / "sorted.npz"),
        epochs=2,
        train_samples=700,
        dustbin=[LETTERS],
    )
    model = keras.models.load_model(path / "model.keras", compile=False)
    assert model.output_shape == (None, 11) and digits.y[order][:700].max() < 9
    assert rejected(model, data.load("letters8", "test").x) > 0.5


def test_network_behind_the_dustbin_learns_from_the_same_set():
    changed = recipes.find("mnist_cuda_interpolated").changed(dataset="fashion_mnist")
    assert recipes.source(changed.dustbin[1]).recipe == recipes.find("mnist_cuda").changed(dataset="fashion_mnist")


def test_interrupted_run_goes_on_with_the_same_samples(tmp_path, monkeypatch):
    digits = data.load("digits", limit=50)
    recipe = recipes.find("digits").changed(dustbin=[{"set": "letters8", "limit": 20}])
    first, _ = parts.extended(recipe, digits.x, digits.y, 10, tmp_path, trained=train)
    monkeypatch.setattr(parts, "_samples", lambda *_: pytest.fail("made again"))
    again, _ = parts.extended(recipe, digits.x, digits.y, 10, tmp_path, trained=train)
    np.testing.assert_array_equal(again, first)


def test_key_follows_the_dustbin_and_the_network_behind_it(monkeypatch):
    naive, out, both = (recipes.find(name) for name in ("digits", "digits_out", "digits_interpolated"))
    assert "dustbin" not in json.dumps(recipes._counted(naive)), "the networks in users' caches keep their place"
    assert len({naive.key(), out.key(), both.key(), both.changed(benign={"sign": 0.1}).key()}) == 4
    assert both.changed(epochs=20, train_samples=1200).key() == both.key()
    with pytest.warns(DeprecationWarning, match="`harmless` is now called `benign`"):
        perturbed = both.changed(harmless={"sign": 0.1})
    assert recipes._counted(perturbed)["harmless"] == perturbed.benign == {"sign": 0.1}, "the key has the name of earlier versions"
    before = both.key()
    find = recipes.find
    other = dataclasses.replace(naive, seed=7)
    monkeypatch.setattr(recipes, "find", lambda name: other if name == "digits" else find(name))
    assert both.key() != before and out.key() == recipes.find("digits_out").key()


def test_benign_perturbations_are_of_half_the_images_by_up_to_the_size_given():
    rng = np.random.default_rng(0)
    x = rng.uniform(0.3, 0.7, (400, 8, 8, 1)).astype("float32")
    before = x.copy()
    changed = varied(x, {"sign": 0.1}, np.random.default_rng(1))
    size = np.abs(changed - x).max(axis=(1, 2, 3))
    assert 0.4 < (size > 0).mean() < 0.6 and 0 < size.max() <= 0.1 + 1e-6
    np.testing.assert_array_equal(x, before)
    kinds = varied(x, {"dim": 0.4, "shift": 2, "gaussian": 0.1}, np.random.default_rng(1))
    dimmed = (kinds < x).all(axis=(1, 2, 3))
    assert 0.1 < dimmed.mean() < 0.25 and (kinds != x).any(axis=(1, 2, 3)).mean() < 0.62


def test_benign_perturbations_depend_on_seed_and_epoch_and_keep_the_class():
    x, y = np.full((200, 8, 8, 1), 0.5, "float32"), np.arange(200)
    batches = ShuffledBatches(x, y, 50, seed=0, benign={"sign": 0.1})
    plain = ShuffledBatches(x, y, 50, seed=0)
    (first, labels), (same, _) = batches[1], batches[1]
    np.testing.assert_array_equal(first, same)
    np.testing.assert_array_equal(labels, plain[1][1])
    batches.start(1)
    assert not np.array_equal(batches[1][0], first)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"set": "letters8", "alpha": 0.5}, r"A part of `dustbin` must be \{'set': .*Received \{'set': 'letters8', 'alpha'"),
        ("letters8", "A part of `dustbin` must be .*Received 'letters8'"),
        ({"interpolated": "digitz"}, "Received 'digitz'. Did you mean `digits`"),
        ({"set": "letters", "limit": 5}, r"images like those of 'digits', of shape \(8, 8, 1\).*\(28, 28, 1\)"),
        ({"set": "leters8"}, "No images named 'leters8'. Did you mean `letters8`"),
    ],
)
def test_wrong_part_is_named(part, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        train("digits", cache=tmp_path, dustbin=[part])


@pytest.mark.parametrize("option", [["--dustbin", "letters8"], ["--benign", "[3]"], ["--harmless", "[3]"]])
def test_command_names_what_is_no_json(option):
    done = subprocess.run([sys.executable, "-m", "training", "digits", *option], cwd=ROOT, capture_output=True, text=True)
    name = option[0].replace("harmless", "benign")
    assert done.returncode == 2 and f"`{name}` must be JSON such as" in done.stderr and option[1] in done.stderr
    assert ("--harmless is now called --benign" in done.stderr) == (option[0] == "--harmless")


def test_augmented_networks_differ_from_the_naive_one_in_the_dustbin_alone():
    for dataset, name in (("mnist", "cuda"), ("cifar10", "vgg")):
        naive, out, both = (dataclasses.asdict(recipes.find(f"{dataset}_{name}{kind}")) for kind in ("", "_out", "_interpolated"))
        for other in (out, both):
            assert {key for key in naive if naive[key] != other[key]} == {"dustbin"}
        assert isinstance(Recipe(**both), Recipe) and len(both["dustbin"]) == 2


def test_noise_is_of_every_image_drawn_anew_in_each_epoch_and_not_clipped():
    x, y = np.full((64, 8, 8, 1), 0.9, "float32"), np.arange(64)
    batches = ShuffledBatches(x, y, 32, seed=0, noise=0.5)
    (first, labels), (same, _) = batches[1], batches[1]
    np.testing.assert_array_equal(first, same)
    np.testing.assert_array_equal(labels, ShuffledBatches(x, y, 32, seed=0)[1][1])
    assert abs((first - 0.9).std() - 0.5) < 0.03 and first.max() > 1 and first.dtype == np.float32
    batches.start(1)
    assert not np.isclose(batches[1][0], first).any(axis=(1, 2, 3)).all()
    keys = {recipes.find("digits").key(), recipes.find("digits_noise").key(), recipes.find("digits").changed(noise=0.5).key()}
    assert len(keys) == 3
