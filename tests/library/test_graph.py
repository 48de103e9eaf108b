"""Attaching to models as users have them, without changing these."""

import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdefense as td
from tfdefense.graph import expose

X = np.random.default_rng(0).uniform(size=(6, 8, 8, 1)).astype("float32")


def backbone(name="backbone"):
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D(name="pooled")(x), name=name)


def functional():
    inner = backbone()
    return keras.Model(inner.input, keras.layers.Dense(3, name="scores")(inner.output))


def sequential():
    flat = keras.layers.Flatten(name="flat")
    return keras.Sequential([keras.Input((8, 8, 1)), flat, keras.layers.Dense(3, name="scores")])


def softmax_in_dense():
    inner = backbone()
    return keras.Model(inner.input, keras.layers.Dense(3, activation="softmax", name="scores")(inner.output))


def softmax_layer():
    return keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3), keras.layers.Softmax()])


def activation_layer():
    layers = [keras.layers.Flatten(), keras.layers.Dense(3), keras.layers.Activation("softmax")]
    return keras.Sequential([keras.Input((8, 8, 1)), *layers])


def softmax_operation():
    inputs = keras.Input((8, 8, 1))
    return keras.Model(inputs, keras.ops.softmax(keras.layers.Dense(3)(keras.layers.Flatten()(inputs))))


def softmax_of_tensorflow():
    last = keras.layers.Dense(3, activation=tf.nn.softmax)
    return keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), last])


@keras.saving.register_keras_serializable(package="tests")
class OwnSoftmax(keras.layers.Softmax):
    """A user's own, by inheritance."""


def softmax_of_ones_own():
    return keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3), OwnSoftmax()])


def nested():
    inputs = keras.Input((8, 8, 1))
    x = backbone()(keras.layers.Rescaling(2.0, name="rescaled")(inputs))
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax", name="scores")(x))


def nested_sequential():
    inner = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(5, name="hidden")], name="inner")
    return keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Rescaling(0.5), inner, keras.layers.Dense(3)])


def softmax_inside_a_submodel():
    return keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Rescaling(0.5), softmax_in_dense()])


MODELS = [
    functional, sequential, softmax_in_dense, softmax_layer, softmax_of_ones_own, activation_layer, softmax_operation,
    softmax_of_tensorflow, nested, nested_sequential, softmax_inside_a_submodel,
]  # fmt: skip


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_logits_are_those_behind_the_softmax_and_the_model_stays(make):
    keras.utils.set_random_seed(0)
    model = make()
    before, config = model(X).numpy(), model.to_json()
    exposed = expose(model)
    logits = keras.Model(exposed.input, exposed.logits)(X).numpy()
    squashed = np.allclose(before.sum(-1), 1)
    assert squashed == (make not in (functional, sequential, nested_sequential))
    np.testing.assert_allclose(keras.ops.softmax(logits) if squashed else logits, before, atol=1e-6)
    if squashed:
        assert not np.allclose(logits.sum(-1), 1)
    np.testing.assert_array_equal(model(X).numpy(), before)
    assert model.to_json() == config


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_defended_model_shares_the_weights(make, tmp_path):
    model = make()
    defended = td.ThresholdDefense(threshold=10.0).attach(model)
    for weight in model.trainable_variables:
        weight.assign(weight + 0.1)
    want = model(X).numpy().argmax(-1)
    np.testing.assert_array_equal(defended(X)["label"], want)
    assert len(defended.trainable_variables) == len(model.trainable_variables)
    defended.save(tmp_path / "defended.keras")
    again = td.load(tmp_path / "defended.keras")
    np.testing.assert_array_equal(again(X)["label"], want)
    np.testing.assert_allclose(again(X)["suspicion"], defended(X)["suspicion"], atol=1e-5)


def test_taps_give_the_inner_layers_outputs():
    model = nested()
    inner = model.get_layer("backbone")
    exposed = expose(model, ["rescaled", "backbone/conv", "pooled", "backbone"])
    values = keras.Model(exposed.input, exposed.taps)(X)
    conv = keras.Model(inner.input, inner.get_layer("conv").output)(2 * X)
    np.testing.assert_allclose(values["rescaled"], 2 * X)
    np.testing.assert_allclose(values["backbone/conv"], conv, atol=1e-6)
    np.testing.assert_allclose(values["pooled"], inner(2 * X), atol=1e-6)
    np.testing.assert_allclose(values["backbone"], inner(2 * X), atol=1e-6)
    # The user's submodel is not opened for good.
    assert inner.get_layer("conv").output.shape == (None, 6, 6, 4)


@pytest.mark.parametrize("name", ["convv", "Conv", "backbone/conc"])
def test_unknown_layer_names_the_nearest(name):
    with pytest.raises(ValueError, match=f"has no layer '{name}'. Nearest: .*backbone/conv"):
        expose(nested(), [name])


def test_name_in_two_submodels_is_ambiguous():
    inputs = keras.Input((8, 8, 1))
    both = keras.layers.Concatenate()([backbone("left")(inputs), backbone("right")(inputs)])
    model = keras.Model(inputs, keras.layers.Dense(3)(both))
    with pytest.raises(ValueError, match="in several submodels. Say which: left/conv, right/conv"):
        expose(model, ["conv"])
    assert expose(model, ["left/conv", "right/conv"]).taps["left/conv"].shape == (None, 6, 6, 4)


def test_layer_called_twice_is_ambiguous():
    inputs = keras.Input((8, 8, 1))
    shared = keras.layers.Dense(4, name="shared")
    flat = keras.layers.Flatten()(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3)(shared(flat) + shared(2 * flat)))
    with pytest.raises(ValueError, match="'shared' is called 2 times"):
        expose(model, ["shared"])


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3)

    def call(self, x):
        return self.dense(keras.ops.reshape(x, (-1, 64)))


def of_text():
    text = keras.Input((1,), dtype="string")
    counts = keras.layers.TextVectorization(max_tokens=4, output_mode="count", vocabulary=["good", "bad"])(text)
    return keras.Model(text, keras.layers.Dense(2)(counts), name="words")


def exported():
    with tempfile.TemporaryDirectory() as folder:
        sequential().export(folder, verbose=False)
        return tf.saved_model.load(folder)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Subclassed, "subclassed model 'Subclassed'.*Wrap it"),
        (lambda: keras.Sequential([keras.layers.Dense(3)]), "no known input shape yet"),
        (lambda: keras.layers.Dense(3), "Expected a Keras model. Received an object of type Dense"),
        (lambda: keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3)]), "one score for each"),
        (
            lambda: keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)]),
            r"`Dense\(1\)` with a sigmoid, without which it may",
        ),
        (exported, "Received an object of type _UserObject. A loaded SavedModel has no layers"),
        (of_text, "Expected a classifier of numbers. Model 'words' takes text"),
        (lambda: keras.Model((i := keras.Input((4,))), [keras.layers.Dense(2)(i), keras.layers.Dense(3)(i)]), "2 outputs"),
    ],
    ids=["subclassed", "unbuilt", "layer", "no-classes", "one-score", "saved-model", "text", "two-outputs"],
)
def test_models_that_can_not_be_opened_say_why(make, words):
    with pytest.raises(ValueError, match=words):
        td.ThresholdDefense().attach(make())


@pytest.mark.parametrize("named", [False, True], ids=["list", "dict"])
def test_advice_for_two_inputs_works_as_it_is_typed(named):
    image, facts = keras.Input((8, 8, 1), name="image"), keras.Input((3,), name="facts")
    joined = keras.layers.Concatenate()([keras.layers.Flatten()(image), facts])
    hidden = keras.layers.Dense(4, activation="relu", name="hidden")(joined)
    model = keras.Model({"image": image, "facts": facts} if named else [image, facts], keras.layers.Dense(3)(hidden))
    with pytest.raises(ValueError, match="Expected a classifier with one input. Received a model with 2 inputs") as told:
        td.ThresholdDefense().attach(model)
    names = {"keras": keras, "model": model}
    exec(str(told.value).split("\n", 1)[1], names)
    more = np.random.default_rng(1).normal(size=(6, 3)).astype("float32")
    want = model({"image": X, "facts": more} if named else [X, more])
    order = [X.reshape(6, -1), more]
    together = np.concatenate(order if model.inputs[0] is image else order[::-1], 1)
    np.testing.assert_allclose(names["model"](together), want, atol=1e-6)
    defended = td.ThresholdDefense(threshold=10.0).attach(names["model"], bounds=(-9, 9))
    np.testing.assert_allclose(defended(together)["scores"], want, atol=1e-6)
    watched = td.NeuralRejection("hidden").attach(names["model"], bounds=(-9, 9))
    td.adapt(watched, together, np.arange(6) % 3, max_rejected=None)
    assert watched(together)["scores"].shape == (6, 3)


def flat(*head):
    return keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), *head])


@pytest.mark.parametrize(
    "make",
    [
        lambda: flat(keras.layers.Dense(3, activation="sigmoid")),
        lambda: flat(keras.layers.Dense(3), keras.layers.Activation("sigmoid")),
        lambda: keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Rescaling(1.0), flat(keras.layers.Dense(3, "sigmoid"))]),
    ],
    ids=["dense", "activation", "submodel"],
)
def test_several_labels_a_sample_are_no_classes(make):
    model = make()
    for call in (td.ThresholdDefense().attach, lambda model: td.evaluate(model, X, np.zeros(6, int))):
        with pytest.raises(ValueError, match="sigmoid over 3 units: a sample may have several labels, or none"):
            call(model)


def test_advice_for_several_labels_works_as_it_is_typed():
    model = flat(keras.layers.Dense(3, activation="sigmoid"))
    before = model(X).numpy()
    model.layers[-1].activation = keras.activations.linear
    defended = td.ThresholdDefense(threshold=10.0).attach(model)
    np.testing.assert_array_equal(defended(X)["label"], before.argmax(-1))
    second = keras.Model(model.inputs[0], keras.layers.Activation("sigmoid")(model.outputs[0][:, 1:2]))
    defended = td.ThresholdDefense(threshold=10.0).attach(second)
    np.testing.assert_array_equal(defended(X)["label"], before[:, 1] > 0.5)


@pytest.mark.parametrize(
    ("name", "tap"), [("ResNet50", "conv4_block1_out"), ("VGG16", "block4_pool"), ("MobileNetV2", "block_6_expand")]
)
def test_keras_applications_are_attached_to(name, tap):
    model = getattr(keras.applications, name)(weights=None, input_shape=(64, 64, 3), classes=5)
    x = np.random.default_rng(1).uniform(0, 255, (3, 64, 64, 3)).astype("float32")
    exposed = expose(model, [tap])
    assert exposed.taps[tap].shape[1] in (4, 8)
    # Given, as there is nothing to calibrate: a network that never learnt is equally unsure of everything.
    detectors = td.ThresholdDefense(threshold=10.0), td.ThresholdDefense("non-me", threshold=10.0)
    defended = td.AnyOf(*detectors).attach(model, bounds=(0, 255))
    out = defended(x)
    np.testing.assert_allclose(keras.ops.softmax(out["scores"]), model(x), atol=1e-5)
    x[1, 0, 0, 0] = np.nan
    x[2, 0, 0, 0] = 256
    np.testing.assert_array_equal(defended(x)["label"].numpy()[1:], [-1, -1])
    result = td.attacks.FGSM(1.0)(defended, x[:1], out["scores"].numpy()[:1].argmax(-1))
    assert np.abs(result.x_adv - x[:1]).max() > 0
