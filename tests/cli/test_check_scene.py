"""`tfdefense check-scene` on files as a camera writes them."""

import dataclasses
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tfdefense as td
from tests.cli.test_commands import fails, run
from tfdefense.data import camera


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A judge that goes by the mean depth alone: real above 2 m, forged below; rejected above 5 m. And some pairs."""
    import keras

    folder = tmp_path_factory.mktemp("scene")
    inputs = keras.Input((24, 32, 4))
    depth = keras.layers.GlobalAveragePooling2D()(inputs)
    scores = keras.layers.Dense(2, name="logits")
    model = keras.Model(inputs, scores(depth))
    scores.set_weights([np.array([[0, 0], [0, 0], [0, 0], [-10, 10.0]]), np.array([2, -2.0])])
    model.save(folder / "plain.keras")
    suspicion = keras.ops.mean(inputs[..., 3], (1, 2)) - 0.5
    td.defend(inputs, model(inputs), suspicion).save(folder / "judge.keras")
    Image.fromarray(np.full((48, 64, 3), 90, "uint8")).save(folder / "image.png")
    for name, metres in (("near", 1.0), ("middle", 3.0), ("far", 7.0)):
        save(folder / f"{name}.png", np.full((48, 64), 1000 * metres))
    holes = np.full((48, 64), 3000)
    holes[10:20, 10:40] = 0
    save(folder / "holes.png", holes)
    save(folder / "none.png", np.zeros((48, 64)))
    save(folder / "other.png", np.full((24, 32), 3000))
    Image.fromarray(np.full((48, 64), 120, "uint8")).save(folder / "bytes.png")
    Image.fromarray(np.zeros((48, 64, 3), "uint8")).save(folder / "colour.png")
    Image.fromarray(np.full((48, 90, 3), 90, "uint8")).save(folder / "wide.png")
    save(folder / "wide-depth.png", np.full((48, 90), 3000))
    (folder / "text.png").write_text("no picture")
    return folder


def save(path, millimetres):
    Image.fromarray(millimetres.astype("uint16")).save(path)


@pytest.mark.parametrize(("depth", "said"), [("near", "forged"), ("middle", "real"), ("far", "rejected")])
def test_word_and_scores(files, depth, said):
    text = run("check-scene", files / "image.png", files / f"{depth}.png", "--model", files / "judge.keras").stdout
    word, scores = text.splitlines()
    metres = {"near": 1.0, "middle": 3.0, "far": 7.0}[depth]
    found = [float(number) for number in re.findall(r"-?\d+\.\d+", scores)]
    np.testing.assert_allclose(found, [2 - metres, metres - 2, metres / 10 - 0.5], atol=0.03)
    assert word == said and "forged" in scores and "suspicion" in scores


def test_plain_network_has_no_suspicion(files):
    text = run("check-scene", files / "image.png", files / "far.png", "--model", files / "plain.keras").stdout
    assert text.splitlines()[0] == "real" and "suspicion" not in text


def test_holes_are_filled_and_told_but_no_depth_at_all_stays(files):
    result = run("check-scene", files / "image.png", files / "holes.png", "--model", files / "judge.keras")
    assert result.stdout.splitlines()[0] == "real"
    assert result.stderr.startswith("warning: 10% of") and result.stderr.count("\n") == 1
    result = run("check-scene", files / "image.png", files / "none.png", "--model", files / "judge.keras")
    assert result.stdout.splitlines()[0] == "forged" and not result.stderr


def test_millimetres_of_16_bits_are_read_right(tmp_path):
    values = np.arange(24 * 32).reshape(24, 32) * 85
    save(tmp_path / "depth.png", values)
    Image.fromarray(np.zeros((24, 32, 3), "uint8")).save(tmp_path / "image.png")
    picture, millimetres = camera.read_pair(tmp_path / "image.png", tmp_path / "depth.png")
    np.testing.assert_array_equal(millimetres, values)
    sample = camera.as_sample(picture, millimetres, (24, 32))
    # The data set's own formula back to metres, but in steps of 0.15 mm.
    metres = (sample[0, ..., 3].astype("float64") * 255 + 0.5) / 25.5
    within = (values > 20) & (values < 10_000)
    assert np.abs(metres - values / 1000)[within].max() < 1e-4, "all 16 bits count"
    assert (sample[0, ..., 3][values > 10_020] == 1).all() and (sample[0, ..., 3][values < 19] == 0).all()


def test_larger_files_are_made_as_small_as_the_model_wants(tmp_path):
    rows = np.repeat(np.arange(24), 20)[:, None] * np.ones((1, 640))
    save(tmp_path / "depth.png", rows * 300)
    Image.fromarray(np.repeat((rows * 10)[..., None], 3, -1).astype("uint8")).save(tmp_path / "image.png")
    picture, millimetres = camera.read_pair(tmp_path / "image.png", tmp_path / "depth.png")
    sample = camera.as_sample(picture, millimetres, (24, 32))[0]
    np.testing.assert_allclose(sample[..., 0], np.arange(24)[:, None] * 10 / 255 * np.ones((1, 32)), atol=0.02)
    np.testing.assert_allclose(sample[1:, :, 3], np.arange(1, 24)[:, None] * 0.03 * np.ones((1, 32)), atol=0.004)


MISTAKES = {
    "no picture": (["gone.png", "near.png"], "There is no file .*gone.png"),
    "no depth": (["image.png", "gone.png"], "There is no file .*gone.png"),
    "no image": (["text.png", "near.png"], "text.png can't be read as an image"),
    "size": (["image.png", "other.png"], "of the picture's size, 64x48. Received 32x24 in .*other.png. Register"),
    "8 bits": (["image.png", "bytes.png"], "Expected a 16-bit grey PNG of millimetres.*bytes.png, which is 8-bit"),
    "colour": (["image.png", "colour.png"], "which is colour"),
    "depth first": (["near.png", "image.png"], "picture of 8 bits a colour first. Received .*near.png.*depth map second"),
    "shape": (["wide.png", "wide-depth.png"], "looks at pictures of 32x24. Received 90x48.*Crop both files to 32:24"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_is_wrong_with_files_is_one_line(mistake, files):
    (image, depth), words = MISTAKES[mistake]
    line = fails("check-scene", files / image, files / depth, "--model", files / "judge.keras")
    assert re.search(words, line), line


def test_model_of_something_else_is_one_line(files, classifier, tmp_path):
    classifier.save(tmp_path / "digits.keras")
    line = fails("check-scene", files / "image.png", files / "near.png", "--model", tmp_path / "digits.keras")
    assert re.search(r"Expected a model of pictures with depth.*\(None, 8, 8, 1\)", line)


def test_model_of_more_than_two_classes_is_one_line(files, tmp_path):
    import keras

    inputs = keras.Input((24, 32, 4))
    keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(inputs))).save(tmp_path / "three.keras")
    line = fails("check-scene", files / "image.png", files / "near.png", "--model", tmp_path / "three.keras")
    assert re.search(r"Expected a model of two classes, forged and real. .*three.keras has 3", line)


def test_exported_model_says_the_same(files, tmp_path):
    td.load(files / "judge.keras").export(tmp_path / "served", verbose=False)
    models = files / "judge.keras", tmp_path / "served"
    kept, served = (run("check-scene", files / "image.png", files / "far.png", "--model", model).stdout for model in models)
    assert kept == served and kept.startswith("rejected")


def test_without_a_model_that_of_the_zoo_is_taken_and_how_it_falls_is_told(files, tmp_path, monkeypatch):
    from tfdefense import zoo

    monkeypatch.setattr(zoo, "CARDS", tmp_path)
    line = fails("check-scene", files / "image.png", files / "near.png")
    assert re.search(r"No model of pictures with depth comes with this version.*--only nyu_scene.safetynet`", line)
    card = dataclasses.asdict(zoo.card("digits_cnn.dnr", cards=Path(zoo.__file__).parent))
    content = (files / "judge.keras").read_bytes()
    rows = [card["attacked"][0] | {"epsilon": size, "robust_accuracy": share} for size, share in ((0.001, 0.75), (0.004, 0.125))]
    card |= {"name": "nyu_scene.safetynet", "file": "judge.keras", "attacked": rows, "classes": ["forged", "real"]}
    card |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "unfamiliar": {"rendered": 0.25}}
    (tmp_path / "judge.keras").write_bytes(content)
    (tmp_path / "nyu_scene.safetynet.json").write_text(json.dumps(card))
    result = run("check-scene", files / "image.png", files / "middle.png")
    assert result.stdout.splitlines()[0] == "real"
    assert "careless forgers" in result.stderr and "by up to 40 mm" in result.stderr and "rejects, 12%" in result.stderr
    shown = run("zoo", "nyu_scene.safetynet").stdout
    assert "25.0% of forgeries of the kind 'rendered' pass" in shown
    assert not run("check-scene", files / "image.png", files / "middle.png", "--model", files / "judge.keras").stderr
