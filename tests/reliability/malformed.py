"""Malformed artifacts of every kind that the library reads, made from whole ones: by a cut, a flipped bit or a wrong value."""

import hashlib
import json
import shutil

from tests.reliability.malformed_data import of_folder, of_notmnist, of_npz, of_scene, of_tfds
from tests.reliability.malformed_models import ZOO, of_cached, of_card, of_keras, of_saved_model
from tests.reliability.malforming import RNG, X, Y, as_file, npz


def bases(folder):
    """Whole artifacts: a TFDS folder and a SavedModel; both need TensorFlow."""
    import tensorflow as tf

    place = folder / "tfds" / "mnist" / "3.0.1"
    place.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(place / "mnist-test.tfrecord-00000-of-00001")) as writer:
        for label in range(5):
            image = tf.io.encode_png(RNG.integers(0, 256, (28, 28, 1), dtype="uint8")).numpy()
            values = {"image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image]))}
            values["label"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[label]))
            writer.write(tf.train.Example(features=tf.train.Features(feature=values)).SerializeToString())
    kinds = "tensorflow_datasets.core.features."
    image = {
        "image": {"dtype": "uint8", "shape": {"dimensions": ["28", "28", "1"]}},
        "pythonClassName": kinds + "image_feature.Image",
    }
    label = {"classLabel": {"numClasses": "10"}, "pythonClassName": kinds + "class_label_feature.ClassLabel"}
    features = {
        "featuresDict": {"features": {"image": image, "label": label}},
        "pythonClassName": kinds + "features_dict.FeaturesDict",
    }
    split = {"name": "test", "shardLengths": ["5"], "numBytes": "2000"}
    split["filepathTemplate"] = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    info = {"name": "mnist", "version": "3.0.1", "fileFormat": "tfrecord", "splits": [split]}
    (place / "features.json").write_text(json.dumps(features))
    (place / "dataset_info.json").write_text(json.dumps(info))

    module = tf.Module()
    module.weights = [tf.Variable(tf.random.stateless_normal((8, 3), (0, 0)))]
    module.serve = tf.function(lambda x: x @ module.weights[0], input_signature=[tf.TensorSpec((None, 8))])
    tf.saved_model.save(module, folder / "saved", signatures={"serving_default": module.serve})


def whole(base):
    """Folders with one whole artifact of each kind, and what writes it."""
    return {
        "npz": as_file("mine.npz", {"": npz(x=X, y=Y)})[""],
        "keras": as_file("model.keras", {"": ZOO.read_bytes()})[""],
        "command's keras": as_file("model.keras", {"": ZOO.read_bytes()})[""],
        "tfds": lambda folder: shutil.copytree(base / "tfds" / "mnist", folder / "mnist"),
        "SavedModel": lambda folder: shutil.copytree(base / "saved", folder / "saved"),
    }


def artifacts(base):
    """(kind, what is wrong, what writes it), always the same ones in the same order."""
    keras = of_keras()
    kinds = {"npz": of_npz(), "keras": keras, "command's keras": keras, "folder": of_folder(), "scene": of_scene()}
    kinds |= {
        "tfds": of_tfds(base / "tfds" / "mnist" / "3.0.1"),
        "notmnist": of_notmnist(),
        "card": of_card(),
        "cached": of_cached(),
    }
    kinds["SavedModel"] = of_saved_model(base / "saved")
    return [(kind, wrong, write) for kind, some in kinds.items() for wrong, write in some.items()]


def order(artifact):
    """Mixes them, so that any beginning has some of most kinds."""
    return hashlib.sha256(f"{artifact[0]} {artifact[1]}".encode()).digest()
