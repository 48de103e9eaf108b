"""Interval bounds against an exact answer, a search and random points; and what a discriminator proves by them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdefense as td
from tfdefense.certificates import guaranteed_auroc, interval_bounds

L, RNG = keras.layers, np.random.default_rng(0)


def network(*layers, shape=(6, 6, 2)):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input(shape), *layers])
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            rng, (width,) = np.random.default_rng(3), layer.gamma.shape
            layer.set_weights(
                [rng.normal(size=width), 1 + rng.uniform(size=width), rng.normal(size=width), 0.5 + rng.uniform(size=width)]
            )
    return model


def residual():
    keras.utils.set_random_seed(2)
    image = keras.Input((6, 6, 2))
    x = L.Conv2D(2, 3, padding="same", activation="relu")(L.Rescaling(-2.0, offset=0.5)(image))
    x = L.Concatenate()([L.Add()([x, image]), L.Average()([x, image])])
    return keras.Model(image, L.Dense(3)(L.GlobalAveragePooling2D()(keras.Sequential([L.Dense(4, "tanh")])(x))))


NETWORKS = {
    "dense": lambda: network(L.Flatten(), L.Dense(8, "relu"), L.Dense(3)),
    "strided": lambda: network(L.Conv2D(4, 3, 2, "same", activation="relu"), L.Flatten(), L.Dense(3, "sigmoid")),
    "pooled": lambda: network(
        L.Conv2D(4, 3), L.BatchNormalization(), L.ReLU(), L.MaxPooling2D(), L.Conv2D(2, 1), L.GlobalMaxPooling2D()
    ),
    "mean": lambda: network(
        L.ZeroPadding2D(), L.Conv2D(4, 3, dilation_rate=2), L.LeakyReLU(), L.AveragePooling2D(2), L.Flatten(), L.Dense(2)
    ),
    "residual": residual,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_bounds_hold_against_points_and_a_search_and_meet_where_there_is_no_ball(name):
    model, x = NETWORKS[name](), RNG.uniform(size=(3, 6, 6, 2)).astype("float32")
    low, high = (end.numpy() for end in interval_bounds(model, x - 0.1, x + 0.1))
    slack = 1e-5 * (1 + np.abs(high))
    lowest, highest = np.full_like(low, np.inf), np.full_like(low, -np.inf)
    for output in range(low.shape[1]):
        for sign in (-1, 1):
            at = tf.constant(x)
            for _ in range(8):
                with tf.GradientTape() as tape:
                    tape.watch(at)
                    value = sign * model(at)[:, output]
                at = tf.clip_by_value(at + 0.05 * tf.sign(tape.gradient(value, at)), x - 0.1, x + 0.1)
            found = model(at).numpy()
            lowest, highest = np.minimum(lowest, found), np.maximum(highest, found)
    corners = x + RNG.choice([-0.1, 0.1], (200, *x.shape)).astype("float32")
    found = model(corners.reshape(-1, 6, 6, 2)).numpy().reshape(200, *low.shape)
    lowest, highest = np.minimum(lowest, found.min(0)), np.maximum(highest, found.max(0))
    assert (low <= lowest + slack).all() and (highest <= high + slack).all()
    # Not a bound that holds because it says nothing.
    assert (high - low < 40 * (highest - lowest)).all()
    low, high = interval_bounds(model, x, x)
    np.testing.assert_allclose(low, model(x), atol=1e-5)
    np.testing.assert_allclose(high, model(x), atol=1e-5)


@pytest.mark.parametrize("layer", ["dense", "convolution", "rescaling", "batch normalisation", "mean"])
def test_bounds_of_a_linear_layer_are_exact(layer):
    """Each output at the corner that its gradient points to."""
    model = network(
        {
            "dense": L.Dense(2),
            "convolution": L.Conv2D(2, 3, 2, "same"),
            "rescaling": L.Rescaling([-2.0, 3.0], offset=1.0),
            "batch normalisation": L.BatchNormalization(),
            "mean": L.AveragePooling2D(2),
        }[layer],
        L.Flatten(),
    )
    x = RNG.uniform(size=(1, 6, 6, 2)).astype("float32")
    low, high = interval_bounds(model, x - 0.1, x + 0.1)
    with tf.GradientTape() as tape:
        at = tf.constant(x)
        tape.watch(at)
        value = model(at)
    slopes = tf.abs(tf.reshape(tape.jacobian(value, at), (value.shape[1], -1)))
    reach = 0.1 * tf.reduce_sum(slopes, -1)[None]
    np.testing.assert_allclose(high, value + reach, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(low, value - reach, rtol=1e-4, atol=1e-5)


def test_layers_without_a_bound_are_told():
    with pytest.raises(ValueError, match=r"No interval bound is known of layer '.*' \(Softmax\)"):
        interval_bounds(network(L.Flatten(), L.Softmax()), np.zeros((1, 6, 6, 2)), np.ones((1, 6, 6, 2)))
    with pytest.raises(ValueError, match="of the activation 'gelu' of layer"):
        td.DiscriminatorTraining(network(L.Flatten(), L.Dense(1, "gelu")))


def discriminator():
    keras.utils.set_random_seed(0)
    layers = [L.Conv2D(8, 3, 2, activation="relu"), L.Flatten(), L.Dense(16, "relu"), L.Dense(1)]
    return keras.Sequential([keras.Input((8, 8, 1), name="image"), *layers], name="discriminator")


@pytest.fixture(scope="module")
def joint(digits, held_out, classifier):
    """Trained to tell digits from letters, within 0.02."""
    letters, inner = td.data.load("letters8", limit=700), discriminator()
    x, inside = np.concatenate([digits.x[:700], letters.x]), np.repeat([1, 0], 700)
    trainer = td.DiscriminatorTraining(inner, 0.02, ramp=40)
    trainer.compile(keras.optimizers.Adam(3e-3))
    losses = trainer.fit(x, inside, batch_size=64, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 2
    defended = td.JointDiscriminator(inner).attach(classifier)
    td.calibrate(defended, held_out.x[:200], max_rejected=0.1)
    return defended


@pytest.fixture(scope="module")
def letters():
    return td.data.load("letters8", "test", limit=60).x


def test_loss_is_that_of_the_bound_for_what_is_out(letters):
    inner = discriminator()
    trainer, x = td.DiscriminatorTraining(inner, 0.05, weight=3.0), letters[:6]
    trainer.compile("sgd")
    highest = interval_bounds(inner, np.clip(x - 0.05, 0, 1), np.clip(x + 0.05, 0, 1))[1].numpy()[:, 0]
    odds, inside = inner(x).numpy()[:, 0], np.array([1, 1, 0, 0, 0, 1])
    wanted = np.where(inside, np.logaddexp(0, -odds), 3 * np.logaddexp(0, highest)).mean()
    assert float(trainer.compute_loss(x, inside, inner(x))) == pytest.approx(wanted, rel=1e-5)


def test_joint_scores_are_the_formula_and_keep_the_class(joint, classifier, held_out):
    x = held_out.x[200:260]
    p = 1 / (1 + np.exp(-joint.get_layer("discriminator")(x).numpy()))
    wanted = p * keras.ops.softmax(classifier(x)).numpy() + (1 - p) / 10
    out = joint(x)
    np.testing.assert_allclose(np.exp(out["scores"]), wanted, rtol=1e-4)
    threshold = next(layer for layer in joint.layers if isinstance(layer, td.layers.Threshold))
    np.testing.assert_allclose(out["suspicion"] + threshold.value, np.log1p(-wanted.max(-1)), atol=1e-3)
    np.testing.assert_array_equal(wanted.argmax(-1), classifier(x).numpy().argmax(-1))


def test_certificate_holds_against_an_attack_on_the_confidence(joint, letters):
    found = td.certify_ood(joint, letters, 0.02)
    at = tf.constant(letters)
    for _ in range(20):
        with tf.GradientTape() as tape:
            tape.watch(at)
            suspicion = joint(at)["suspicion"]
        at = tf.clip_by_value(at - 0.005 * tf.sign(tape.gradient(suspicion, at)), letters - 0.02, letters + 0.02)
        at = tf.clip_by_value(at, 0, 1)
    attacked, clean = joint(at), joint(letters)
    assert (attacked["suspicion"] >= found.suspicion - 1e-4).numpy().all() and (
        attacked["suspicion"] < clean["suspicion"]
    ).numpy().any()
    assert (np.exp(attacked["scores"]).max(-1) <= found.confidence + 1e-5).all()
    assert 0.2 < found.rejected <= (attacked["label"].numpy() == -1).mean()


def test_guaranteed_auroc_lies_below_that_of_attacked_samples(joint, held_out, letters):
    clean = joint(held_out.x[200:])["suspicion"].numpy()
    plain = td.metrics.auc(clean, joint(letters)["suspicion"].numpy())
    guaranteed = [guaranteed_auroc(joint, held_out.x[200:], letters, size) for size in (0.0, 0.02, 0.3)]
    assert 0.7 < guaranteed[1] <= guaranteed[0] <= plain + 1e-6 and guaranteed[2] < guaranteed[1]


def test_it_is_saved_joined_and_exported_as_any_other(joint, classifier, held_out, letters, tmp_path):
    joint.save(tmp_path / "model.keras")
    again, found = td.load(tmp_path / "model.keras"), td.certify_ood(joint, letters, 0.01)
    np.testing.assert_allclose(td.certify_ood(again, letters, 0.01).suspicion, found.suspicion, atol=1e-5)
    inner = again.get_layer("discriminator")
    both = td.AnyOf(td.JointDiscriminator(inner), td.ThresholdDefense("energy")).attach(classifier)
    td.calibrate(both, held_out.x, max_rejected=0.1)
    assert (both(letters)["suspicion"].numpy() >= td.certify_ood(both, letters, 0.0).suspicion - 1e-4).all()
    all_of = td.AllOf(td.JointDiscriminator(inner), td.ThresholdDefense("energy")).attach(classifier)
    assert td.certify_ood(all_of, letters, 0.01).rejected is None
    runtime = pytest.importorskip("onnxruntime", reason="pip install tfdefense[export]")
    session = runtime.InferenceSession(td.export.export(joint, tmp_path / "model.onnx"))
    np.testing.assert_array_equal(session.run(["label"], {"image": letters})[0], joint(letters)["label"])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: td.JointDiscriminator(m), r"one log-odds, shape \(batch, 1\).*output shape \(None, 10\)"),
        (
            lambda m: td.JointDiscriminator(network(L.Flatten(), L.Dense(1))).attach(m),
            r"on the classifier's input \(None, 8, 8, 1\)",
        ),
        (lambda m: td.certify_ood(td.ThresholdDefense().attach(m), np.zeros((1, 8, 8, 1))), "one `td.JointDiscriminator`.*has 0"),
        (lambda m: td.DiscriminatorTraining(discriminator(), epsilon=-1), "`epsilon` must be a number of at least 0"),
    ],
)
def test_what_is_wrong_is_told(classifier, call, words):
    with pytest.raises(ValueError, match=words):
        call(classifier)
