"""`td.predict` says of every sample what the model says, whatever holds the samples."""

import csv

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import tfdefense as td
from tfdefense.layers.reject import REASONS as OF_A_MODEL


@pytest.fixture(scope="module")
def pixels(held_out):
    return (held_out.x[:60] * 255).round().astype("uint8")


@pytest.fixture(scope="module")
def pictures(pixels, tmp_path_factory):
    """A folder of 60 digits in two sub-folders, in their order, one that is no picture and one that is too large."""
    folder = tmp_path_factory.mktemp("pictures")
    for place, image in enumerate(pixels):
        path = folder / ("a" if place < 30 else "b") / f"{place:03}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)
    (folder / "b" / "100.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((9, 8), "uint8")).save(folder / "b" / "101.png")
    return folder


@pytest.fixture(scope="module")
def expected(defended, pixels):
    return {name: value.numpy() for name, value in defended(pixels / np.float32(255)).items()}


def same(found, expected):
    np.testing.assert_array_equal(found.label, expected["label"])
    np.testing.assert_allclose(found.suspicion, expected["suspicion"], atol=1e-5)
    np.testing.assert_allclose(found.confidence, keras.ops.softmax(expected["scores"]).numpy().max(1), rtol=1e-4)


def test_arrays_and_data_sets_give_what_the_model_gives(defended, pixels, expected, tmp_path):
    x = pixels / np.float32(255)
    np.save(tmp_path / "x.npy", x)
    dataset = tf.data.Dataset.from_tensor_slices((x, np.zeros(60))).batch(25)
    for data in (x, np.load(tmp_path / "x.npy", mmap_mode="r"), dataset, dataset.map(lambda x, _: x)):
        same(td.predict(defended, data, batch_size=16), expected)
    assert td.predict(defended, x).names is None


def test_reasons_tell_what_was_wrong(defended, held_out):
    x = held_out.x[:200].copy()
    x[0, 0, 0], x[1, 0, 0] = np.nan, 7
    found = td.predict(defended, x)
    rejected = np.flatnonzero(found.label < 0)
    assert [found.why(place) for place in (0, 1)] == ["invalid input"] * 2 and (found.detector[:2] == -1).all()
    assert {found.why(place) for place in rejected[2:]} == {"suspicious"} and (found.detector[rejected[2:]] == 0).all()
    np.testing.assert_array_equal(found.reason == 0, found.label >= 0)
    assert td.prediction.REASONS[:4] == OF_A_MODEL


@pytest.mark.slow
def test_the_detector_that_rejects_is_named(classifier, held_out):
    defense = td.AnyOf(td.ThresholdDefense("confidence", threshold=-0.99), td.ThresholdDefense("energy", threshold=-7.0))
    defended = defense.attach(classifier)
    found = td.predict(defended, held_out.x)
    alone = [
        td.predict(td.ThresholdDefense(name, threshold=threshold).attach(classifier), held_out.x).suspicion
        for name, threshold in (("confidence", -0.99), ("energy", -7.0))
    ]
    rejected = found.label < 0
    np.testing.assert_array_equal(rejected, (alone[0] > 0) | (alone[1] > 0))
    np.testing.assert_array_equal(found.detector[rejected], np.argmax(alone, axis=0)[rejected])
    assert set(found.detector[rejected]) == {0, 1} and (found.detector[~rejected] == -1).all()
    place = int(np.flatnonzero(found.detector == 1)[0])
    assert found.why(place) == f"suspicious: {found.detectors[1]}" and found.detectors[1].startswith("energy")


def test_thresholds_are_moved_for_one_sample_or_all(classifier, held_out):
    x = tf.constant(held_out.x[:50])
    single = td.ThresholdDefense("energy", threshold=-9.0).attach(classifier)
    moved = td.ThresholdDefense("energy", threshold=-7.0).attach(classifier)
    decide = td.prediction.decider(single)
    asked = np.where(np.arange(50) < 25, np.nan, -7.0).astype("float32")
    label = decide(x, asked)["label"].numpy()
    np.testing.assert_array_equal(label[:25], single(x)["label"][:25])
    np.testing.assert_array_equal(label[25:], moved(x)["label"][25:])
    assert (single(x)["label"][25:].numpy() != label[25:]).any()
    both = td.AllOf(td.ThresholdDefense("energy", threshold=-9.0), td.ThresholdDefense("confidence", threshold=-2.0))
    defended = both.attach(classifier)
    asked = np.stack([np.full(50, np.nan), np.full(50, -0.9)], axis=1).astype("float32")
    expected = td.AllOf(both.defenses[0], td.ThresholdDefense("confidence", threshold=-0.9)).attach(classifier)(x)
    np.testing.assert_array_equal(td.prediction.decider(defended)(x, asked)["label"], expected["label"])


def test_folders_patterns_and_files_are_read_in_order(defended, pictures, pixels, expected, tmp_path):
    found = td.predict(defended, pictures, batch_size=7)
    assert [name.rsplit("/", 1)[1] for name in found.names[-3:]] == ["059.png", "100.png", "101.png"]
    assert sorted(found.faults) == [60, 61] and found.why(61).endswith("Expected 8 x 8 pixels. Received 8 x 9.")
    assert (found.label[60:] == -1).all() and np.isposinf(found.suspicion[60:]).all() and np.isnan(found.confidence[60:]).all()
    same(td.predict(defended, [pictures / "a", str(pictures / "b" / "0*.png")]), expected)
    assert len(td.predict(defended, pictures / "b" / "101.png", resize=True).label) == 1
    np.savez(tmp_path / "x.npz", x=pixels, y=np.zeros(60, int))
    np.save(tmp_path / "x.npy", pixels)
    with tf.io.TFRecordWriter(str(tmp_path / "x.tfrecord")) as writer:
        for path in sorted(pictures.glob("*/0*.png")):
            feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[path.read_bytes()]))
            features = tf.train.Features(feature={"image/encoded": feature})
            writer.write(tf.train.Example(features=features).SerializeToString())
    for suffix in ("npz", "npy", "tfrecord"):
        found = td.predict(defended, tmp_path / f"x.{suffix}", batch_size=32)
        same(found, expected)
        assert found.names[59] == f"{tmp_path / 'x'}.{suffix}#59"


def test_a_model_of_any_size_takes_pictures_of_several(tmp_path):
    inputs = keras.Input((None, None, 1))
    mean = keras.layers.GlobalAveragePooling2D()(inputs)
    model = keras.Model(inputs, keras.ops.concatenate([0.5 - mean, mean - 0.5], axis=1))
    defended = td.ThresholdDefense(threshold=9.0).attach(model)
    sizes, bright = [4, 4, None, 6, None, 6, 4], [0, 255, None, 255, None, 0, 255]
    for place, (size, value) in enumerate(zip(sizes, bright, strict=True)):
        if size is None:
            (tmp_path / f"{place}.png").write_bytes(b"no picture")
        else:
            Image.fromarray(np.full((size, size), value, "uint8")).save(tmp_path / f"{place}.png")
    found = td.predict(defended, tmp_path)
    assert [name[-5] for name in found.names] == list("0123456")
    assert found.label.tolist() == [0, 1, -1, 1, -1, 0, 1] and sorted(found.faults) == [2, 4]


def test_pictures_are_moved_into_the_bounds(classifier, pictures, pixels):
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, classifier((inputs + 1) / 2))
    defended = td.ThresholdDefense(threshold=-0.9).attach(model, bounds=(-1, 1))
    expected = defended(pixels[:30] / np.float32(127.5) - 1)
    np.testing.assert_array_equal(td.predict(defended, pictures / "a").label, expected["label"])
    plain = td.predict(model, pictures / "a", bounds=(-1, 1))
    assert plain.suspicion is None and (plain.reason == 0).all()
    np.testing.assert_array_equal(plain.label, model.predict(pixels[:30] / 127.5 - 1, verbose=0).argmax(1))


@pytest.mark.slow
def test_saved_models_are_asked_as_others_are(defended, pixels, expected, tmp_path):
    saved = tf.saved_model.load(str(td.export.export(defended, tmp_path / "saved")))
    x = pixels / np.float32(255)
    x[3] = np.nan
    found = td.predict(saved, x)
    assert found.why(3) == "invalid input"
    np.testing.assert_array_equal(np.delete(found.label, 3), np.delete(expected["label"], 3))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_tables_say_the_same_and_are_read_back(suffix, defended, pictures, tmp_path):
    if suffix == "parquet":
        pytest.importorskip("pyarrow", reason="pip install tfdefense[parquet]")
    path = tmp_path / f"labels.{suffix}"
    assert td.predict(defended, pictures, output=path, batch_size=7) is None
    found = td.predict(defended, pictures)
    suspicion, reason = (np.concatenate(part) for part in zip(*td.prediction.read_table(path), strict=True))
    # Another size of the batch rounds otherwise.
    np.testing.assert_allclose(suspicion, found.suspicion, atol=1e-5)
    np.testing.assert_array_equal(reason, found.reason)
    if suffix == "csv":
        rows = list(csv.DictReader(path.open()))
    else:
        rows = __import__("pyarrow.parquet").parquet.read_table(path).to_pylist()
    assert [row["file"] for row in rows] == found.names
    assert [row["class"] for row in rows] == [str(label) if label >= 0 else "" for label in found.label]
    assert rows[60]["reason"].startswith("unreadable: ") and rows[60]["confidence"] in ("", None)


def test_class_names_of_the_model_are_written(classifier, held_out):
    names = [f"digit {number}" for number in range(10)]
    defended = td.ThresholdDefense(threshold=9.0).attach(classifier, class_names=names)
    found = td.predict(defended, held_out.x[:3])
    assert [found.class_name(place) for place in range(3)] == [names[label] for label in found.label]


def test_what_is_wrong_is_one_sentence(defended, held_out, tmp_path):
    bad = tmp_path / "bad"
    bad.mkdir()
    (tmp_path / "empty").mkdir()
    np.save(bad / "cut.npy", held_out.x[:50])
    (bad / "cut.npy").write_bytes((bad / "cut.npy").read_bytes()[:1000])
    np.save(bad / "code.npy", np.array([{}], object), allow_pickle=True)
    (bad / "cut.tfrecord").write_bytes(b"no record" * 20)
    (bad / "none.tfrecord").write_bytes(b"")
    np.savez(bad / "z.npz", z=held_out.x)
    wrong = [
        (lambda: td.predict(defended, bad / "cut.npy"), "cut.npy can't be read as an array"),
        (lambda: td.predict(defended, bad / "code.npy"), "code.npy can't be read as an array"),
        (lambda: td.predict(defended, bad / "cut.tfrecord"), "cut.tfrecord can't be read as records"),
        (lambda: td.predict(defended, bad / "none.tfrecord"), "holds no records"),
        (lambda: td.predict(defended, bad / "z.npz"), "must hold the samples as x, images or x_test"),
        (lambda: td.predict(defended, tmp_path / "empty"), "No pictures in"),
        (lambda: td.predict(defended, str(tmp_path / "*.png")), "No file matches"),
        (lambda: td.predict(defended, held_out.x[:3, :7]), "Expected samples of shape"),
        (lambda: td.predict(defended, held_out.x[:0]), "at least one sample"),
        (lambda: td.predict(defended, held_out.x, output=tmp_path / "x.txt"), "ends in .csv or .parquet"),
        (lambda: td.predict(defended, tf.data.Dataset.from_tensors(held_out.x).repeat()), "data set that ends"),
    ]
    for call, expected in wrong:
        with pytest.raises((ValueError, FileNotFoundError), match=expected):
            call()
    assert not (tmp_path / "x.txt").exists()


def test_evaluate_streams_data_sets_and_folders(defended, held_out, tmp_path):
    expected = td.evaluate(defended, held_out.x[:40], held_out.y[:40])
    dataset = tf.data.Dataset.from_tensor_slices((held_out.x[:40], held_out.y[:40])).batch(16)
    np.testing.assert_array_equal(td.evaluate(defended, dataset).label, expected.label)
    for place in range(40):
        path = tmp_path / str(held_out.y[place]) / f"{place}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray((held_out.x[place, ..., 0] * 255).round().astype("uint8")).save(path)
    assert len(set(held_out.y[:40])) == 10
    assert td.evaluate(defended, tmp_path).counts == expected.counts
    (tmp_path / "3" / "x.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="x.png can't be read"):
        td.evaluate(defended, tmp_path)


@pytest.mark.slow
def test_decide_is_the_model_compiled_once(classifier, held_out):
    defended, x = td.ThresholdDefense("knn", k=3, threshold=0.5).attach(classifier), held_out.x
    td.adapt(defended, x[:100], held_out.y[:100], max_rejected=None)
    for part in (x[:1], x[:7], x[:0]):
        found, expected = defended.decide(part), defended(part)
        np.testing.assert_array_equal(found["label"], expected["label"])
        np.testing.assert_allclose(found["suspicion"], expected["suspicion"], atol=1e-4)
        assert isinstance(found["reason"], np.ndarray)
    # What it is adapted on anew, other variables among it, counts at once.
    td.adapt(defended, x[100:350], held_out.y[100:350], max_rejected=None)
    np.testing.assert_allclose(defended.decide(x[:7])["suspicion"], defended(x[:7])["suspicion"], atol=1e-4)
    with pytest.raises(ValueError, match="Add the batch axis"):
        defended.decide(x[0])
