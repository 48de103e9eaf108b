"""Where searches begin: accepted images, other models' examples, an attacker's own network, and other images' features."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdefense as td
from tests.attacks.conftest import linear
from tfdefense.attacks.searches.impersonation import features_of
from tfdefense.view import View, decide

A = td.attacks


def three(x):
    """The first pixel says which of 3 classes; an image whose second pixel is above 0.5 is rejected."""
    scores = -tf.abs(x[:, 0, 0] - tf.constant([[0.1, 0.5, 0.9]]))
    suspicion = x[:, 0, 1, 0] - 0.5
    label = tf.where(suspicion > 0, -1, tf.argmax(scores, -1, output_type=tf.int32))
    return {"scores": scores, "suspicion": suspicion, "label": label}


# Of class 0; then of class 1: rejected, taken for class 0, accepted, accepted farther away; of class 2: accepted twice.
IMAGES = np.array([[0.1, 0.2], [0.4, 0.6], [0.2, 0.2], [0.6, 0.3], [0.6, 0.0], [0.8, 0.2], [0.95, 0.2]], "float32").reshape(
    -1, 1, 2, 1
)
CLASSES = np.array([0, 1, 1, 1, 1, 2, 2])


def batch_of(model, x, y, pool, target=None, only_target=True):
    view, x, y = A.arguments.check(model, x, y, None)
    target = None if target is None else np.asarray(target, "int32")
    return A.base.Batch(view, x, y, target, only_target, (1.0, 1.0), pool, np.arange(len(x)))


@pytest.mark.parametrize(
    ("rank", "target", "expected"), [(0, None, 3), (1, None, 5), (2, None, 4), (3, None, 6), (4, None, 3), (0, 2, 5), (1, 2, 6)]
)
def test_accepted_start_is_the_nearest_image_that_passes(rank, target, expected):
    batch = batch_of(three, IMAGES[:1], CLASSES[:1], (IMAGES, CLASSES), None if target is None else [target])
    np.testing.assert_array_equal(A.Accepted(rank).points(A.PGD(0.1), batch), IMAGES[[expected]])
    given = batch_of(three, IMAGES[:1], CLASSES[:1], (IMAGES[:1], CLASSES[:1]), batch.target)
    np.testing.assert_array_equal(A.Accepted(rank, (IMAGES, CLASSES)).points(A.PGD(0.1), given), IMAGES[[expected]])


@pytest.mark.parametrize(("norm", "expected"), [("linf", [0.2, 0.3]), ("l2", [0.1 + 0.1 / 1.04**0.5, 0.2 + 0.02 / 1.04**0.5])])
def test_accepted_start_is_moved_into_the_ball(norm, expected):
    pool = (np.array([[[[0.6], [0.3]]]], "float32"), np.array([1]))
    attack = A.PGD(0.1, norm=norm, steps=1, step_size=1e-9, starts=(A.Accepted(pool=pool),))
    np.testing.assert_allclose(attack(three, IMAGES[:1], CLASSES[:1]).x_adv.ravel(), expected, atol=1e-6)


def test_accepted_start_without_a_ball_is_where_the_model_first_gives_way():
    batch = batch_of(three, IMAGES[:1], CLASSES[:1], (IMAGES, CLASSES))
    point = A.Accepted().points(A.CarliniWagner(), batch).ravel()
    # Class 1 begins at 0.3, two fifths of the way from 0.1 to 0.6.
    np.testing.assert_allclose(point, [0.3, 0.24], atol=0.5 / 250)
    assert point[0] > 0.3


def test_where_none_is_accepted_any_image_of_that_class_will_do():
    x, y = IMAGES[:3], CLASSES[:3]
    np.testing.assert_array_equal(A.Accepted().points(A.PGD(0.1), batch_of(three, x[:1], y[:1], (x, y))), x[[2]])
    # A class that the attack chose by itself may have no image at all, one that the caller chose must.
    chosen = batch_of(three, x[:1], y[:1], (x, y), [2], only_target=False)
    np.testing.assert_array_equal(A.Accepted().points(A.PGD(0.1), chosen), x[[2]])
    for target in (None, [2]):
        with pytest.raises(ValueError, match="'accepted' needs samples of another class"):
            A.Accepted().points(A.PGD(0.1), batch_of(three, x[:1], y[:1], (x[:1], y[:1]), target))


def test_a_pool_is_looked_at_once_for_the_same_weights(monkeypatch):
    model = linear(np.eye(4, dtype="float32"), shape=(1, 4, 1))
    pool = 0.5 * np.eye(4, dtype="float32").reshape(4, 1, 4, 1) + np.linspace(0.1, 0.13, 4, dtype="float32")[:, None, None, None]
    looks, run = [], View.run
    monkeypatch.setattr(View, "run", lambda view, x: looks.append(len(x)) or run(view, x))
    for count in (1, 2, 1):
        batch = batch_of(model, pool[:count], np.arange(count), (pool, np.arange(4)))
        assert A.Accepted().points(A.PGD(0.1), batch)[0].argmax() == 1
    assert looks == [4]
    # Now all images are taken for class 3.
    model.layers[-1].bias.assign([0, 0, 0, 9.0])
    assert A.Accepted().points(A.PGD(0.1), batch)[0].argmax() == 3 and looks == [4, 4]


def test_start_at_the_boundary_of_another_model():
    weights = np.array([[1.0, -1.0], [0.5, -0.5]], "float32")
    other = linear(weights, np.array([-0.3, 0.3]), (1, 2, 1))
    model = linear(weights, np.array([1.0, -1.0]), (1, 2, 1))
    x, y = np.array([[0.4, 0.5], [0.35, 0.3]], "float32").reshape(2, 1, 2, 1), np.zeros(2, int)
    attack, batch = A.PGD(0.3, norm="linf", steps=5, early_stop=True), batch_of(model, x, y, (x, y))
    end, point = (A.Transferred(other, at_boundary=where).points(attack, batch) for where in (False, True))
    np.testing.assert_allclose(end, x - 0.3, atol=1e-6)
    lead = (2 * x[:, 0, 0, 0] + x[:, 0, 1, 0]) - 0.6
    assert (lead > 0).all()
    share = (x - point).reshape(2, -1) / 0.3
    # The lead falls by 0.9 to the end: from both samples it is used up on the way.
    np.testing.assert_allclose(share, (lead / 0.9)[:, None] * np.ones((1, 2)), atol=1.5 / 256)
    np.testing.assert_array_equal(other(point).numpy().argmax(-1), [1, 1])


def test_substitute_network_learns_digits(digits, held_out):
    keras.utils.set_random_seed(3)
    before = np.random.get_state()[1].copy()
    network = A.substitute_network(digits.x, digits.y, steps=120)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    assert network.name == "substitute" and (decide(network, held_out.x).label == held_out.y).mean() > 0.9
    in_pixels = A.substitute_network(255 * digits.x, digits.y, bounds=(0, 255), steps=120)
    np.testing.assert_allclose(in_pixels(255 * held_out.x[:50]), network(held_out.x[:50]), atol=0.05)


def test_substitute_network_learns_from_a_few_samples_and_a_teacher(classifier, held_out):
    network = A.substitute_network(held_out.x[:100], teacher=classifier, steps=200)
    rest = held_out.x[100:]
    assert network.name == "distilled" and (decide(network, rest).label == decide(classifier, rest).label).mean() > 0.75
    # Its own labels are not what it learned: a teacher that calls everything class 7 is believed.
    stubborn = linear(np.zeros((64, 10), "float32"), np.where(np.arange(10) == 7, 9.0, 0.0), (8, 8, 1))
    assert (decide(A.substitute_network(held_out.x[:50], teacher=stubborn, steps=30), rest).label == 7).all()


def test_substitute_network_of_vectors_and_without_labels(held_out):
    x = held_out.x.reshape(len(held_out.x), -1)
    assert A.substitute_network(x, held_out.y, classes=12, steps=2).output_shape == (None, 12)
    with pytest.raises(ValueError, match="Expected the classes `y` of the samples, or a `teacher`"):
        A.substitute_network(x)


def coded():
    """A linear code of 3 numbers for 8 pixels, and a linear classifier of it."""
    rng = np.random.default_rng(0)
    pixels = keras.Input((8,))
    code = keras.layers.Dense(3, name="code", use_bias=False)(pixels)
    model = keras.Model(pixels, keras.layers.Dense(2, name="scores", use_bias=False)(code))
    model.set_weights([rng.normal(size=(8, 3)), np.array([[1.0, -1.0], [0, 0], [0, 0]])])
    x = rng.uniform(0.3, 0.7, (30, 8)).astype("float32")
    return model, x, model(x).numpy().argmax(-1)


@pytest.mark.parametrize("layers", [None, "code"])
def test_impersonation_reaches_the_features_and_not_the_image(layers):
    model, x, y = coded()
    attack = A.Impersonation(2.0, norm="l2", steps=150, layers=layers, early_stop=False)
    result = attack(model, x, y)
    code = keras.Function(model.inputs[0], model.get_layer("code").output)
    found, every = code(result.x_adv).numpy(), code(x).numpy()
    far = np.where(y[:, None] != y[None], np.linalg.norm(every[:, None] - every[None], axis=-1), np.inf)
    nearest = far.argmin(1)
    assert result.success.all() and {0, 1} == set(y)
    np.testing.assert_allclose(found, every[nearest], atol=4e-3)
    assert np.linalg.norm(result.x_adv - x[nearest], axis=1).min() > 0.1 and far.min() > 0.05


def test_impersonation_goes_on_to_other_images_until_one_works():
    model, x, y = coded()
    once, thrice = (A.Impersonation(0.05, steps=10, goals=goals)(model, x, y) for goals in (1, 3))
    assert (thrice.success | ~once.success).all() and (~thrice.success).any()
    assert (once.steps[~once.success] == 10).all() and (thrice.steps[~thrice.success] == 30).all()


def test_impersonation_looks_at_what_the_defense_looks_at(classifier, dustbin, held_out, tmp_path):
    x = held_out.x[:5]
    inner = keras.Function(classifier.inputs[0], [classifier.get_layer(name).output for name in ("conv", "features", "scores")])
    conv, features, scores = (part.numpy().reshape(5, -1) for part in inner(x))
    cases = {
        "detector": (td.AdversaryDetector("conv", width=4).attach(classifier), [scores, conv]),
        "safetynet": (td.SafetyNet(["features", "conv"]).attach(classifier), [scores, features, conv]),
        "threshold": (td.ThresholdDefense().attach(classifier), [scores]),
        "density": (td.DensityDefense().attach(classifier), [scores, features]),
        "plain": (classifier, [features]),
        "function": (lambda samples: classifier(samples), [scores]),
    }
    for name, (model, expected) in cases.items():
        # In the order of the graph, which Keras chooses.
        found = sorted((part.numpy() for part in features_of(View.of(model))(tf.constant(x))), key=lambda part: part.shape)
        expected = sorted(expected, key=lambda part: part.shape)
        assert [part.shape for part in found] == [part.shape for part in expected], name
        for part, wanted in zip(found, expected, strict=True):
            np.testing.assert_allclose(part, wanted, atol=1e-5, err_msg=name)
    found = features_of(View.of(td.DustbinDefense().attach(dustbin)))(tf.constant(x))
    assert sorted(part.shape[1] for part in found) == [10, 11]
    named = features_of(View.of(cases["threshold"][0]), ("conv",))(tf.constant(x))
    np.testing.assert_allclose(named[0], conv, atol=1e-5)
    # The model is as it was, and can still be saved.
    cases["detector"][0].save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="Leave them out: the features are then the class scores"):
        features_of(View.of(cases["function"][0]), ("conv",))
    with pytest.raises(ValueError, match="has no layer 'cnov'"):
        A.Impersonation(0.1, layers="cnov")(classifier, held_out.x[:20], held_out.y[:20])
