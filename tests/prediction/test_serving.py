"""The signatures of a SavedModel beside the plain one: thresholds of the caller's, pictures as files."""

import io
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import tfdefense as td

pytestmark = pytest.mark.slow

NAN = float("nan")


@pytest.fixture(scope="module")
def joined(classifier):
    defense = td.AnyOf(td.ThresholdDefense("confidence", threshold=-0.9), td.ThresholdDefense("energy", threshold=-7.0))
    return defense.attach(classifier, class_names=[f"digit {number}" for number in range(10)])


@pytest.fixture(scope="module")
def saved(joined, tmp_path_factory):
    return td.export.export(joined, tmp_path_factory.mktemp("saved") / "1", resize=True)


@pytest.fixture(scope="module")
def signatures(saved):
    loaded = tf.saved_model.load(str(saved))
    # The signatures do not hold the model that they belong to.
    return {"model": loaded, **loaded.signatures}


def asked(signatures, x, threshold):
    found = signatures["serve_threshold"](image=tf.constant(x), threshold=tf.constant(threshold, "float32"))
    return {name: value.numpy() for name, value in found.items()}


def test_thresholds_move_without_a_new_artifact(signatures, joined, classifier, held_out):
    x = held_out.x[:100]
    own = {name: value.numpy() for name, value in joined(x).items()}
    for row in ([[NAN, NAN]], [[NAN, NAN]] * 100):
        np.testing.assert_array_equal(asked(signatures, x, row)["label"], own["label"])
    strict = td.AnyOf(td.ThresholdDefense("confidence", threshold=-0.9), td.ThresholdDefense("energy", threshold=-9.0))
    expected = strict.attach(classifier)(x)
    for row in ([[NAN, -9.0]], [[-0.9, -9.0]] * 100):
        found = asked(signatures, x, row)
        np.testing.assert_array_equal(found["label"], expected["label"])
        np.testing.assert_allclose(found["suspicion"], expected["suspicion"], atol=1e-5)
    assert (own["label"] != expected["label"].numpy()).any()
    # Each sample may have its own, as requests of several clients that a server joins into one batch.
    mixed = asked(signatures, x, [[NAN, NAN]] * 50 + [[1.0, 100.0]] * 50)["label"]
    np.testing.assert_array_equal(mixed[:50], own["label"][:50])
    assert (mixed[50:] >= 0).all()


def test_no_threshold_opens_the_way_for_broken_input(signatures, held_out):
    x = held_out.x[:4].copy()
    x[0], x[1] = NAN, 7.0
    found = asked(signatures, x, [[1e30, 1e30]])
    np.testing.assert_array_equal(found["reason"], [2, 2, 0, 0])
    assert (found["label"][:2] == -1).all() and (found["detector"] == -1).all()
    # A threshold that is no number is the calibrated one: it must not pass either.
    assert (asked(signatures, x, [[NAN, NAN]])["label"][:2] == -1).all()


def test_a_row_too_few_is_an_error_and_no_sample_none(signatures, held_out):
    with pytest.raises(tf.errors.InvalidArgumentError, match="one threshold a sample"):
        asked(signatures, held_out.x[:4], [[NAN, NAN]] * 3)
    for rows in (np.zeros((0, 2)), np.zeros((1, 2))):
        assert asked(signatures, held_out.x[:0], rows)["label"].shape == (0,)
    assert asked(signatures, held_out.x[:1], [[NAN, NAN]])["label"].shape == (1,)


def test_one_detector_has_one_number_a_sample(defended, held_out, tmp_path):
    serve = tf.saved_model.load(str(td.export.export(defended, tmp_path / "saved")))
    found = asked(serve.signatures, held_out.x[:3], [NAN, 1e6, -1e6])
    own = defended(held_out.x[:3])["label"].numpy()
    assert found["label"].tolist() == [own[0], found["scores"][1].argmax(), -1]
    assert "serve_image" not in serve.signatures


def test_the_signature_has_a_default_and_the_folder_says_what_is_what(saved, joined):
    from tensorflow.core.protobuf import saved_model_pb2

    content = saved_model_pb2.SavedModel.FromString((saved / "saved_model.pb").read_bytes())
    default = tf.make_ndarray(content.meta_graphs[0].signature_def["serve_threshold"].defaults["threshold"])
    assert default.shape == (1, 2) and np.isnan(default).all()
    about = json.loads((saved / "assets.extra" / "tfdefense.json").read_text())
    assert about["classes"][3] == "digit 3" and about["bounds"] == [0, 1] and about["thresholds"] == [[-0.9], [-7.0]]
    assert about["detectors"] == list(td.prediction.detectors(joined)) and about["reasons"][2] == "invalid input"


def encoded(image, format, **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, format, **options)
    return file.getvalue()


def test_files_are_decoded_as_pillow_decodes_them(signatures, joined, held_out):
    pixels = (held_out.x[:30, ..., 0] * 255).round().astype("uint8")
    files = [encoded(image, "PNG") for image in pixels]
    found, expected = signatures["serve_image"](image_bytes=tf.constant(files)), joined(pixels[..., None] / np.float32(255))
    np.testing.assert_array_equal(found["label"], expected["label"])
    large = [np.kron(image, np.ones((4, 4), "uint8")) for image in pixels]
    files = [encoded(image, "JPEG", quality=95) for image in large]
    by_pillow = [np.asarray(Image.open(io.BytesIO(file)).resize((8, 8), Image.Resampling.BILINEAR)) for file in files]
    expected = joined(np.stack(by_pillow)[..., None] / np.float32(255))
    found = signatures["serve_image"](image_bytes=tf.constant(files))
    # Each rounds in its own way: a level or two of 255.
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=0.15)
    assert signatures["serve_image"](image_bytes=tf.constant([], "string"))["label"].shape == (0,)
    with pytest.raises(tf.errors.InvalidArgumentError):
        signatures["serve_image"](image_bytes=tf.constant([b"no picture"]))


def test_the_tool_of_tensorflow_runs_every_signature(saved, joined, held_out, tmp_path):
    from tensorflow.python.tools import saved_model_cli

    x = held_out.x[:6]
    pixels = (x * 255).round().astype("uint8")
    files = np.array([encoded(image, "PNG") for image in pixels[..., 0]])
    row = np.full((6, 2), NAN, "float32")
    requests = {
        "serving_default": {"image": x},
        "serve_uint8": {"image": pixels},
        "serve_threshold": {"image": x, "threshold": row},
        "serve_image": {"image_bytes": files},
    }
    expected = joined(x)["label"]
    for name, inputs in requests.items():
        saved_model_cli.run_saved_model_with_feed_dict(str(saved), "serve", name, inputs, str(tmp_path), True)
        np.testing.assert_array_equal(np.load(tmp_path / "label.npy"), expected)


def test_what_can_not_be_decoded_is_said(classifier, defended, tmp_path):
    any_size = keras.Sequential([keras.Input((None, None, 1)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)])
    unbounded = td.ThresholdDefense(threshold=0.0).attach(classifier, bounds=None)
    wrong = [
        (classifier, "m", {"decode": True}, "Only a defended model of pictures"),
        (unbounded, "m", {"decode": True}, "Only a defended model of pictures"),
        (td.ThresholdDefense(threshold=0.0).attach(any_size), "m", {"resize": True}, "none to resize to"),
        (defended, "m.onnx", {"decode": True}, "has no option `decode`"),
    ]
    for model, name, options, expected in wrong:
        with pytest.raises(ValueError, match=expected):
            td.export.export(model, tmp_path / name, **options)
    assert not list(tmp_path.iterdir())
