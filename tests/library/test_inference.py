"""A defended model answers as in inference, whichever way it is asked, until somebody trains it."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdefense as td


@keras.saving.register_keras_serializable(package="tests")
class OwnDropout(keras.layers.Layer):
    """A user's layer that draws unless told not to."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.drop = keras.layers.Dropout(0.5)

    def call(self, x, training=True):
        return self.drop(x, training=training)

    def compute_output_shape(self, input_shape):
        return input_shape

    def build(self, input_shape):
        self.drop.build(input_shape)


@keras.saving.register_keras_serializable(package="tests")
class OwnBlock(keras.layers.Layer):
    """One that leaves it to what is inside."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.contrast = keras.layers.RandomContrast(0.9)

    def call(self, x):
        return self.contrast(x)

    def compute_output_shape(self, input_shape):
        return input_shape

    def build(self, input_shape):
        self.contrast.build(input_shape)


@pytest.fixture(scope="module")
def augmented(held_out):
    keras.utils.set_random_seed(0)
    augmentation = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.RandomRotation(0.5), keras.layers.RandomContrast(0.9)])
    layers = [keras.layers.RandomFlip(), augmentation, keras.layers.Flatten(), OwnDropout(), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((8, 8, 1), name="image"), *layers], name="augmented")
    defended = td.ThresholdDefense().attach(model)
    td.calibrate(defended, held_out.x[:100], max_rejected=0.3)
    return defended


def saved(model, folder, write):
    write(folder)
    serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
    return lambda x: serve(tf.constant(x))


WAYS = {
    "call": lambda model, folder: model,
    "compiled": lambda model, folder: tf.function(model),
    "function": lambda model, folder: keras.Function(model.inputs[0], model.output),
    "inside another": lambda model, folder: keras.Sequential([keras.Input((8, 8, 1)), model]),
    "keras file": lambda model, folder: td.load(td.export.export(model, folder / "m.keras")),
    "keras file, read by Keras": lambda model, folder: keras.models.load_model(td.export.export(model, folder / "m.keras")),
    "SavedModel": lambda model, folder: saved(model, folder / "saved", lambda path: td.export.export(model, path)),
    "SavedModel by its method": lambda model, folder: saved(model, folder / "saved", model.export),
    "SavedModel by Keras": lambda model, folder: saved(
        model, folder / "saved", lambda path: keras.Model.export(model, path, verbose=False)
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_the_answer_of_predict(way, augmented, held_out, tmp_path):
    x = held_out.x[100:160]
    expected, ask = augmented.predict(x, verbose=0), WAYS[way](augmented, tmp_path)
    for _ in range(2):
        found = ask(x)
        np.testing.assert_array_equal(found["label"], expected["label"])
        np.testing.assert_allclose(found["suspicion"], expected["suspicion"], atol=1e-5)
    assert 5 < (expected["label"] == -1).sum() < 55


def test_layers_that_draw_are_left_out_of_other_formats(augmented, held_out, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install tfdefense[export]")
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="pip install tfdefense[export]")
    x = held_out.x[100:160]
    expected = augmented.predict(x, verbose=0)["label"]
    lite = litert.Interpreter(model_path=str(td.export.export(augmented, tmp_path / "m.tflite"))).get_signature_runner()
    session = onnxruntime.InferenceSession(td.export.export(augmented, tmp_path / "m.onnx"))
    np.testing.assert_array_equal(lite(image=x)["label"], expected)
    np.testing.assert_array_equal(session.run(["label"], {"image": x})[0], expected)


def test_base_model_answers_as_in_inference(augmented, held_out):
    x = held_out.x[100:110]
    np.testing.assert_allclose(td.base_model(augmented)(x), augmented.predict(x, verbose=0)["scores"], atol=1e-5)


def test_a_layer_that_takes_no_training_argument_draws_in_training_alone(held_out):
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(OwnBlock()(inputs))))
    defended, x = td.ThresholdDefense(threshold=0.0).attach(model), held_out.x[:20]
    expected = defended.predict(x, verbose=0)["scores"]
    for model in (defended, td.base_model(defended)):
        found = model(x)
        np.testing.assert_allclose(found["scores"] if isinstance(found, dict) else found, expected, atol=1e-5)
    assert np.abs(defended(x, training=True)["scores"] - expected).max() > 0.01


def test_fit_trains_as_in_training(augmented, held_out):
    """The rate of dropout decides what `fit` sees: with all units dropped nothing is learned but the bias."""
    inputs = keras.Input((8, 8, 1))
    drop = keras.layers.Dropout(0.999)
    model = keras.Model(inputs, keras.layers.Dense(3)(drop(keras.layers.Flatten()(inputs))))
    defended = td.ThresholdDefense(threshold=0.0).attach(model)
    x = held_out.x[:100]
    assert np.abs(np.asarray(augmented(x, training=True)["scores"]) - augmented(x)["scores"]).max() > 0.1
    defended.compile("sgd", loss={"scores": keras.losses.SparseCategoricalCrossentropy(from_logits=True)})
    at_rest = defended.evaluate(x, held_out.y[:100] % 3, verbose=0)
    drawn = defended.fit(x, held_out.y[:100] % 3, batch_size=100, verbose=0).history["loss"][0]
    # Without dropout the first loss is that of `evaluate`; with it most inputs are 0, and a few a thousand times as large.
    assert abs(drawn - at_rest) > 1e-3


def test_a_model_without_random_layers_keeps_its_graph(classifier):
    defended = td.ThresholdDefense().attach(classifier)
    assert defended.get_layer("features").output is classifier.get_layer("features").output


def test_importing_tfdefense_first_is_enough_for_keras_to_load_a_defended_model():
    from tfdefense import zoo

    script = (
        "import tfdefense, sys; assert 'keras' not in sys.modules; import keras; print(keras.models.load_model(sys.argv[1]).name)"
    )
    path = zoo.weights("digits_resnet.rce")
    # JAX: the layers know no backend, and it starts faster.
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        capture_output=True,
        text=True,
        env={"KERAS_BACKEND": "jax", "PATH": "", "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout.strip() == "defended", done.stderr[-2000:]


def test_what_is_no_batch_of_samples_is_one_sentence(held_out):
    """Keras would take the rows of one image for as many images: a network that takes any size answers."""
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3, padding="same")(inputs))
    defended = td.ThresholdDefense(threshold=0.0).attach(keras.Model(inputs, keras.layers.Dense(3)(x)))
    with pytest.raises(
        ValueError,
        match=r"^Expected samples of shape \(None, 8, 8, 1\)\. Received \(8, 8, 1\)\. Add the batch axis: `x\[None\]`\.$",
    ):
        defended(held_out.x[0])
    for wrong in (held_out.x[:4, :7], np.zeros((4, 8, 8, 3), "float32"), np.float32(0), tf.zeros((2, 2, 8, 8, 1))):
        with pytest.raises(ValueError, match=r"^Expected samples of shape \(None, 8, 8, 1\)\. Received \([\d, ]*\)\.$"):
            defended(wrong)
    for right in (held_out.x[:3], held_out.x[:3, ..., 0], held_out.x[:3, ..., None]):
        assert defended(right)["label"].shape == (3,)
