"""Scores from around a sample: closed forms on linear classifiers, and gradients that an attacker may follow."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdefense as td
from tfdefense import _cuts
from tfdefense._cuts import plain_gradients
from tfdefense.layers import Consistency, FirstOrderRadius

DUAL = {"l2": lambda w: np.linalg.norm(w, axis=0), "linf": lambda w: np.abs(w).sum(0), "l1": lambda w: np.abs(w).max(0)}


def linear(classes, seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6,))
    return keras.Model(inputs, keras.layers.Dense(classes, bias_initializer="random_normal")(inputs))


def curved():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6,))
    return keras.Model(
        inputs,
        keras.layers.Dense(3)(
            keras.layers.Dense(8, activation="tanh", kernel_initializer=keras.initializers.RandomNormal(0, 0.8))(inputs)
        ),
    )


def scored(layer, model):
    """The score as a function of the sample."""
    return keras.Model(model.inputs[0], layer([model.inputs[0], model.outputs[0]]))


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).uniform(0.2, 0.8, (20, 6)).astype("float32")


def leads(model, x):
    """Of each sample the leads over the other classes, and the directions in which they grow."""
    kernel, bias = (np.asarray(weight, "float64") for weight in model.layers[-1].weights)
    scores = x @ kernel + bias
    for row, best in zip(scores, scores.argmax(1), strict=True):
        others = [label for label in range(len(row)) if label != best]
        yield row[best] - row[others], (kernel[:, [best]] - kernel[:, others])


@pytest.mark.parametrize("norm", DUAL)
def test_radius_of_a_linear_classifier_is_the_distance_to_its_boundary(norm, x):
    model = linear(4)
    expected = [min(lead / DUAL[norm](slopes)) for lead, slopes in leads(model, x)]
    np.testing.assert_allclose(scored(FirstOrderRadius(norm), model)(x), -np.array(expected), rtol=1e-5)
    likeliest = [lead.min() / DUAL[norm](slopes)[lead.argmin()] for lead, slopes in leads(model, x)]
    np.testing.assert_allclose(scored(FirstOrderRadius(norm, top=1), model)(x), -np.array(likeliest), rtol=1e-5)
    assert not np.allclose(expected, likeliest), "the nearest class is not always the likeliest"


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_margin_at_the_point_found_is_the_lowest_within_the_radius(norm, x):
    model = linear(2)
    for radius in (0.05, 0.4):
        expected = [lead[0] - radius * DUAL[norm](slopes)[0] for lead, slopes in leads(model, x)]
        found = scored(Consistency(radius, steps=4, norm=norm), model)(x)
        np.testing.assert_allclose(found, -np.array(expected), rtol=1e-4, atol=1e-5)


def test_search_stays_within_the_bounds(x):
    model = linear(2)
    expected = []
    for row, (lead, slopes) in zip(x, leads(model, x), strict=True):
        room = np.where(slopes[:, 0] > 0, row, 1 - row)
        expected.append(lead[0] - (np.abs(slopes[:, 0]) * np.minimum(room, 0.5)).sum())
    found = scored(Consistency(0.5, steps=8, norm="linf", bounds=(0, 1)), model)(x)
    np.testing.assert_allclose(found, -np.array(expected), rtol=1e-4, atol=1e-5)


def slope(function, x):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return tape.gradient(value, x).numpy()


@pytest.mark.parametrize("layer", [lambda: Consistency(0.3, steps=3), lambda: FirstOrderRadius("l2")])
def test_attackers_follow_the_search_itself_or_hold_what_it_found(layer, x):
    """The gradient through search and ratio is that of finite differences, also compiled; BPDA is another one."""
    layer, x = layer(), x[:6]
    function = tf.function(scored(layer, curved()), autograph=False)
    through, size = slope(function, x), 4e-3
    numeric = np.stack([(function(x + step) - function(x - step)) / (2 * size) for step in size * np.eye(6, dtype="float32")], 1)
    np.testing.assert_allclose(through, numeric, rtol=0.05, atol=1e-2)
    model = curved()
    smooth = td.layers.Differentiable(layer, slope=50.0)
    held = slope(lambda x: smooth([x, model(x)]), x)
    # Another gradient, that points the same way.
    assert np.abs(held - through).max() > 0.01 * np.abs(through).max()
    cosine = (held * through).sum(1) / np.linalg.norm(held, axis=1) / np.linalg.norm(through, axis=1)
    assert (cosine > 0.7).all()


def test_held_fixed_a_linear_margin_has_its_own_slope(x):
    model = linear(2)
    layer = Consistency(0.3, steps=2)
    scored(layer, model)
    expected = np.stack([-slopes[:, 0] for _, slopes in leads(model, x)])
    np.testing.assert_allclose(slope(lambda x: layer.smooth([x, model(x)], 9.0, 1.0), x), expected, rtol=1e-4)
    np.testing.assert_allclose(slope(lambda x: layer([x, model(x)]), x), expected, rtol=1e-4, atol=1e-5)


def test_a_sample_without_numbers_leaves_the_others_alone(x):
    broken = x.copy()
    broken[2, 1] = np.nan
    for layer in (Consistency(0.3, steps=2), FirstOrderRadius()):
        function = scored(layer, curved())
        clean, found = function(x).numpy(), function(broken).numpy()
        assert np.isnan(found[2]) and not np.isnan(clean).any()
        np.testing.assert_array_equal(np.delete(found, 2), np.delete(clean, 2))


def test_it_runs_the_classifier_for_inference_on_the_weights_of_now(x):
    inputs = keras.Input((6,))
    hidden = keras.layers.Dropout(0.9)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(hidden))
    layer = Consistency(0.2, steps=2)
    function = scored(layer, model)
    before = function(x).numpy()
    drawn = layer([x, model(x)], training=True)
    np.testing.assert_allclose(before, drawn, rtol=1e-4, atol=1e-5, err_msg="the search drew what dropout leaves out")
    model.layers[-1].bias.assign([0.0, 5.0])
    assert not np.allclose(before, function(x))


def every_layer():
    """A network of the operations whose gradients are written out for ONNX and LiteRT."""
    L = keras.layers
    inputs = keras.Input((7, 7, 2))
    x = first = L.BatchNormalization()(L.Conv2D(3, 3, padding="same", strides=2, activation="relu")(inputs))
    for activation in ("relu6", "elu", "softplus", "sigmoid", "leaky_relu"):
        x = L.Activation(activation)(L.Conv2D(3, 2, padding="same", dilation_rate=1)(x))
    x = L.Multiply()([L.Add()([x, first]), L.Subtract()([first, x])])
    x = L.MaxPooling2D(2, 1, padding="same")(L.MaxPooling2D(3, 1)(L.ZeroPadding2D(1)(x)))
    x = L.AveragePooling2D(2, 1)(L.AveragePooling2D(3, 2, padding="same")(x))
    x = L.Dense(4, activation="tanh")(keras.ops.sqrt(1 + L.GlobalAveragePooling2D()(x) ** 2))
    return keras.Model(inputs, L.Dense(3)(L.LayerNormalization()(x)))


def test_plain_gradients_are_those_of_tensorflow():
    keras.utils.set_random_seed(0)
    model = every_layer()
    x = tf.constant(np.random.default_rng(0).uniform(-1, 1, (5, 7, 7, 2)).astype("float32"))
    expected = _cuts.with_slopes(model, x, lambda scores: [scores, scores**2])

    @tf.function(input_signature=[tf.TensorSpec([None, 7, 7, 2])], autograph=False)
    def plain(x):
        with plain_gradients.plain_gradients():
            return _cuts.with_slopes(model, x, lambda scores: [tf.stop_gradient(scores), tf.stop_gradient(scores) ** 2])

    kinds = {operation.type for operation in plain.get_concrete_function().graph.get_operations()}
    assert not {"ReluGrad", "MaxPoolGrad", "AvgPoolGrad", "BroadcastGradientArgs", "EluGrad"} & kinds
    for found, wanted in zip(tf.nest.flatten(plain(x)), tf.nest.flatten(expected), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5 * float(tf.reduce_max(tf.abs(wanted))) + 1e-7)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Consistency(radius=0), "`radius` must be"),
        (lambda: Consistency(1.0, steps=0), "`steps` must be"),
        (lambda: Consistency(1.0, norm="l1"), "`norm` must be one of 'linf', 'l2'. Received: 'l1'"),
        (lambda: FirstOrderRadius("l0"), "`norm` must be one of 'linf', 'l2', 'l1'"),
        (lambda: FirstOrderRadius(top=0), "`top` must be"),
        (lambda: Consistency(1.0)([np.zeros((2, 6), "float32"), np.zeros((2, 3), "float32")]), "Call it in a functional model"),
        (lambda: scored(Consistency(1.0), _without_gradient())(np.ones((2, 6))), "a layer of the classifier stops it"),
    ],
)
def test_bad_input(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def _without_gradient():
    inputs = keras.Input((6,))
    return keras.Model(inputs, keras.layers.Dense(2)(td.layers.QuantizedReLU(thresholds=[0.5])(inputs)))
