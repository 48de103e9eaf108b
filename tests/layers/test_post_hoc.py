"""Post-hoc scores are what was published: against plain NumPy, in a network's graph and outside of it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdefense as td
from tests.layers import ood_formulas as published

S = td.layers.scores
# Name, options of the score, the published formula, its options.
TABLE = [
    ("max-logit", {}, published.max_logit, {}),
    ("energy", {}, published.energy, {}),
    ("energy", {"temperature": 2.0}, published.energy, {"temperature": 2.0}),
    ("gen", {}, published.gen, {}),
    ("gen", {"gamma": 0.5, "top": 3}, published.gen, {"gamma": 0.5, "M": 3}),
    ("kl-matching", {}, published.kl_matching, {}),
    ("knn", {}, published.knn, {}),
    ("knn", {"k": 3, "components": 24}, published.knn, {"k": 3}),
    ("nnguide", {"k": 20}, published.nnguide, {"k": 20}),
    ("nnguide", {"k": 20, "components": 24}, published.nnguide, {"k": 20}),
    ("mahalanobis", {}, published.mahalanobis, {}),
    ("rmds", {}, published.rmds, {}),
    ("vim", {"components": 5}, published.vim, {"dim": 5}),
    ("vim", {}, published.vim, {"dim": 12}),
    ("fdbd", {}, published.fdbd, {}),
    ("react", {}, published.react, {}),
    ("react", {"percentile": 70}, published.react, {"percentile": 70}),
    ("ash", {}, published.ash_s, {}),
    ("ash", {"form": "b", "percentile": 85}, published.ash_b, {"percentile": 85}),
    ("ash", {"form": "p", "percentile": 60}, published.ash_p, {"percentile": 60}),
    ("scale", {}, published.scale, {}),
]


@pytest.fixture(scope="module")
def network():
    """A network that was never trained, its features, and what it gives for training samples and new ones."""
    rng = np.random.default_rng(0)
    inputs = keras.Input((9,))
    z = keras.layers.Dense(24, activation="relu", name="features")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(6, name="last")(z))
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape) * 0.4)
    features = keras.Model(inputs, z)

    def given(count, spread):
        x = rng.normal(size=(count, 9)).astype("float32") * spread
        z, logits = (np.asarray(part(x), "float64") for part in (features, model))
        kernel, bias = (np.asarray(weight, "float64") for weight in model.get_layer("last").weights)
        return {"x": x, "z": z, "logits": logits, "y": rng.integers(0, 6, count), "W": kernel, "b": bias}

    return model, given(400, 1.0), given(60, 1.5)


@pytest.mark.parametrize(("name", "options", "formula", "its_options"), TABLE)
def test_score_is_the_published_one_and_has_a_finite_gradient(name, options, formula, its_options, network):
    model, train, new = network
    defended = td.ThresholdDefense(name, threshold=0.0, **options).attach(model, bounds=None)
    td.adapt(defended, train["x"], train["y"], max_rejected=None)
    x = tf.constant(new["x"])
    with tf.GradientTape() as tape:
        tape.watch(x)
        found = defended(x)["suspicion"]
    np.testing.assert_allclose(found, formula(train, new, **its_options), rtol=1e-4, atol=1e-4)
    gradient = tape.gradient(found, x).numpy()
    assert np.isfinite(gradient).all()
    # Where ReAct cuts all active units off there is none: see its surrogate.
    assert (np.abs(gradient).max(1) > 0).mean() >= (0.9 if name == "react" else 1.0)


def test_the_surrogate_of_react_has_a_gradient_where_all_units_are_cut_off(network):
    layer = S.ReAct(50)
    layer.adapt(np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([0, 1]))
    x = tf.constant([[5.0, 4.0], [1.0, 0.0]])
    for slope, error in ((2.0, 0.6), (200.0, 0.01)):
        with tf.GradientTape() as tape:
            tape.watch(x)
            found = layer.smooth(x, slope, 1.0)
        np.testing.assert_allclose(found, layer(x), atol=error)
        assert (tape.gradient(found, x).numpy()[0] > 0).all() == (slope < 100)
    model, train, new = network
    defended = td.ThresholdDefense("react", percentile=80).attach(model, bounds=None)
    td.adapt(defended, train["x"], train["y"], calibration=new["x"], max_rejected=0.1)
    surrogate = td.differentiable(defended, slope=1e4)
    np.testing.assert_allclose(surrogate(new["x"])["suspicion"], defended(new["x"])["suspicion"], atol=1e-3)


def test_gradients_are_those_of_the_score(network):
    """By differences, where the score looks a sample up among others."""
    model, train, new = network
    x, steps = new["x"][:8].astype("float64"), 1e-3 * np.eye(9)
    for name in ("knn", "nnguide", "mahalanobis", "rmds", "vim", "fdbd", "kl-matching"):
        defended = td.ThresholdDefense(name, threshold=0.0).attach(model, bounds=None)
        td.adapt(defended, train["x"], train["y"], max_rejected=None)
        t = tf.constant(x, "float32")
        with tf.GradientTape() as tape:
            tape.watch(t)
            found = defended(t)["suspicion"]
        gradient = tape.gradient(found, t).numpy()
        moved = [np.asarray([defended((x + s * step).astype("float32"))["suspicion"] for s in (1, -1)]) for step in steps]
        differences = np.stack([(up - down) / 2e-3 for up, down in moved], axis=1)
        close = np.isclose(gradient, differences, rtol=0.05, atol=0.02 * np.abs(differences).max())
        # A step may cross to another neighbour, or over the edge of a ReLU.
        assert close.mean() > 0.9, name


@pytest.mark.parametrize("name", [name for name in S.POST_HOC if name not in S.SCORES])
def test_gradients_are_finite_where_distances_are_zero(name):
    """At a training sample, at features of 0, and between two classes."""
    z = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.5], [0.5, 0.0, 1.0]], "float32")
    head = np.eye(3) + 0.1, np.zeros(3)
    logits, layer = (z @ head[0]).astype("float32"), S.POST_HOC[name](**({"k": 1} if name in ("knn", "nnguide") else {}))
    labels = np.array([0, 0, 1, 1, 2])
    given = {("features",): (z,), ("scores",): (logits,), ("features", "scores"): (z, logits)}[layer.takes]
    if hasattr(layer, "adapt"):
        extra = {"head": head} if name in ("vim", "fdbd") else {}
        layer.adapt(given if len(given) > 1 else given[0], labels, **extra)
    tensors = [tf.constant(part) for part in given]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        found = layer(*tensors)
    assert np.isfinite(found).all()
    assert all(np.isfinite(gradient).all() for gradient in tape.gradient(found, tensors))


def test_entropy_goes_on_where_it_is_zero_in_float32():
    scores = np.array([[0.0, 0.0, 0.0], [3.0, 0.0, -1.0], [6.0, 0.0, 0.0], [30.0, 0.0, 0.0], [90.0, 0.0, 1.0]])
    shares = np.exp(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))
    want = np.log(-(shares * np.log(shares)).sum(1))
    # Of the last one: the sum of q (1 - log q) over the others.
    rest = scores[3:, 1:] - scores[3:, :1]
    want[3:] = np.log((np.exp(rest) * (1 - rest)).sum(1))
    np.testing.assert_allclose(S.Entropy()(scores.astype("float32")), want, rtol=1e-5)


def test_ash_of_a_sample_with_few_active_units():
    z = np.array([[0.0, 0.0, 2.0, 0.0]], "float32")
    np.testing.assert_allclose(S.ASH(50, "b")(z), [[0, 0, 1, 0]])
    np.testing.assert_allclose(S.ASH(50, "s")(z), [[0, 0, 2 * np.e, 0]], rtol=1e-6)
    for layer in (S.ASH(50, "b"), S.ASH(50, "s"), S.ASH(50, "p"), S.Scale(50)):
        np.testing.assert_array_equal(layer(np.zeros((1, 4), "float32")), np.zeros((1, 4)))


@pytest.fixture(scope="module")
def crowd():
    """Features of 1,000 samples of 4 classes, and of 50 new ones near to and 50 far from them."""
    rng = np.random.default_rng(0)
    means, mixed = np.abs(rng.normal(size=(4, 32))) * 3, rng.normal(size=(6, 32)) * 0.3
    labels = rng.integers(0, 4, 1000)

    def draw(of):
        return np.maximum(means[of] + rng.normal(size=(len(of), 6)) @ mixed + 0.05 * rng.normal(size=(len(of), 32)), 0)

    return draw(labels), labels, np.concatenate([draw(labels[:50]), np.abs(rng.normal(size=(50, 32))) * 3]).astype("float32")


@pytest.mark.parametrize("kind", [S.NearestNeighbors, S.NeighborGuidance])
def test_compressed_reference_sets_are_smaller_and_say_nearly_the_same(kind, crowd):
    z, labels, new = crowd
    head = np.random.default_rng(1).normal(size=(32, 4)) * 0.3

    def told(**options):
        layer = kind(k=10, **options)
        pair = layer.takes != ("features",)
        layer.adapt((z, z @ head) if pair else z, labels)
        return layer.memory, np.asarray(layer(new, (new @ head).astype("float32")) if pair else layer(new))

    whole, exact = told()
    assert whole == pytest.approx(4 * 1000 * 33, rel=0.01)
    cases = [({"storage": "float16"}, 0.52, 0.99), ({"storage": "int8"}, 0.29, 0.99), ({"components": 8}, 0.30, 0.95)]
    cases += [({"max_points": 500}, 0.51, 0.95), ({"components": 8, "storage": "int8", "max_points": 500}, 0.06, 0.9)]
    for options, share, least in cases:
        memory, found = told(**options)
        assert memory <= share * whole, options
        assert np.corrcoef(found, exact)[0, 1] > least, options
        if kind is S.NearestNeighbors:
            assert found[50:].min() > np.median(found[:50]), options
    np.testing.assert_allclose(told(storage="float16")[1], exact, rtol=2e-2, atol=2e-3)


def test_a_capped_set_keeps_an_equal_share_of_each_class():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [600, 300, 20])
    layer = S.NearestNeighbors(k=5, max_points=150)
    layer.adapt(rng.normal(size=(920, 4)) * 0.01 + np.eye(4)[labels], labels)
    stored = np.asarray(layer.stored_points()) + np.asarray(layer.held["center"])
    assert np.bincount(stored.argmax(1)).tolist() == [65, 65, 20]


def test_feature_maps_are_averaged(crowd):
    z, labels, _ = crowd
    maps = np.stack([z, z[::-1]], axis=1)[:, :, None]
    for kind in (S.NearestNeighbors, S.Mahalanobis, S.RelativeMahalanobis):
        whole, flat = kind(), kind()
        whole.adapt(maps, labels)
        flat.adapt((z + z[::-1]) / 2, labels)
        a, b = whole(maps[:20].astype("float32")), flat(((z + z[::-1]) / 2)[:20].astype("float32"))
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: S.GeneralizedEntropy(0), "`gamma` must be a number above 0. Received: 0"),
        (lambda: S.GeneralizedEntropy(top=0), "`top` must be a whole number of at least 1. Received: 0"),
        (lambda: S.NearestNeighbors(k=0), "`k` must be a whole number of at least 1. Received: 0"),
        (lambda: S.NearestNeighbors(k=9, max_points=8), "`k` must be at most `max_points`, 8. Received: 9"),
        (lambda: S.NearestNeighbors(storage="int4"), "`storage` must be one of 'float32', 'float16', 'int8'. Received: 'int4'"),
        (
            lambda: S.NearestNeighbors(k=9).adapt(np.eye(4), np.arange(4)),
            "at most the 4 training samples that are stored. Received: 9",
        ),
        (lambda: S.NearestNeighbors(k=1, components=9).adapt(np.eye(4), np.arange(4)), "at most the 4 features.*Received: 9"),
        (lambda: S.NearestNeighbors(k=1).adapt(np.eye(4) * np.nan, np.arange(4)), "`features` must be finite. Received NaN"),
        (lambda: S.Mahalanobis().adapt(np.ones((4, 2)), np.array([0, 0, 1, 1])), "can't measure distances.*do not differ"),
        (lambda: S.Mahalanobis().adapt(np.ones(4), np.zeros(4, int)), r"shape \(samples, ..., width\). Received float64 of shape"),
        (lambda: S.VirtualLogit(4).adapt((np.eye(4), np.eye(4)), np.arange(4)), "must be below the 4 features.*Received: 4"),
        (lambda: S.VirtualLogit(2).adapt((np.eye(4), np.eye(4)), np.arange(4)), r"is in no model.*Pass `head=\(kernel, bias\)`"),
        (
            lambda: S.VirtualLogit(2).adapt((np.eye(4), np.eye(4)), np.arange(4), head=(np.eye(3), np.zeros(3))),
            r"from 4 features to 4 classes. Received shapes \(3, 3\) and \(3,\)",
        ),
        (lambda: S.ReAct(100), "`percentile` must be below 100. Received: 100"),
        (lambda: S.ASH(form="x"), "`form` must be one of 's', 'b', 'p'. Received: 'x'"),
    ],
)
def test_bad_input_is_one_clear_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()
