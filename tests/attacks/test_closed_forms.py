"""On a linear model the answer of each attack is known."""

import warnings

import keras
import numpy as np
import pytest

import tfdefense as td
from tests.attacks.conftest import linear, smallest

A = td.attacks


@pytest.fixture(scope="module")
def two():
    """Two classes: the gradient's direction is the same everywhere, so that the best step is known."""
    rng = np.random.default_rng(1)
    difference = rng.normal(size=16).astype("float32")
    weights = np.stack([difference / 2, -difference / 2], -1)
    x = rng.uniform(0.4, 0.6, (20, 4, 4, 1)).astype("float32")
    # A bias keeps every sample in class 0 by a lead that no step here makes up for.
    model = linear(weights, np.array([40.0, 0.0]))
    return model, difference.reshape(4, 4, 1), x, np.zeros(20, int)


@pytest.mark.parametrize("attack", [A.FGSM(0.1), A.BIM(0.1), A.PGD(0.1, steps=7), A.PGD(0.1, objective=A.Margin())], ids=str)
def test_linf_steps_follow_the_signs(two, attack):
    model, difference, x, y = two
    np.testing.assert_allclose(attack(model, x, y).x_adv, x - 0.1 * np.sign(difference), atol=1e-6)


@pytest.mark.parametrize("shape", [(4, 4, 1), (16,)])
def test_random_squares_end_where_the_signs_lead(two, shape):
    _, difference, x, y = two
    model = linear(np.stack([difference.ravel() / 2, -difference.ravel() / 2], -1), np.array([40.0, 0.0]), shape)
    result = A.Square(0.1, queries=600)(model, x.reshape(-1, *shape), y)
    np.testing.assert_allclose(result.x_adv, (x - 0.1 * np.sign(difference)).reshape(-1, *shape), atol=1e-6)
    assert (result.steps == 600).all() and not result.success.any()


def test_random_hills_spend_the_ball_and_gain(two):
    """Not the best step there is, that of the gradient, but all of the length, and far more than chance would gain."""
    model, difference, x, y = two
    change = A.Square(0.5, norm="l2", queries=300)(model, x, y).x_adv - x
    np.testing.assert_allclose(np.linalg.norm(change.reshape(20, -1), axis=1), 0.5, rtol=1e-5)
    gain = -(change * difference).sum((1, 2, 3)) / (0.5 * np.linalg.norm(difference))
    assert gain.mean() > 0.55 and gain.min() > 0.3


@pytest.mark.parametrize("attack", [A.FGSM(0.5, norm="l2"), A.PGD(0.5, norm="l2", steps=7)], ids=str)
def test_l2_steps_follow_the_gradient(two, attack):
    model, difference, x, y = two
    wanted = x - 0.5 * difference / np.linalg.norm(difference)
    np.testing.assert_allclose(attack(model, x, y).x_adv, wanted, atol=1e-5)


def test_bare_steps_are_as_long_as_the_gradient(two):
    model, difference, x, y = two
    short = A.GradientDescent(3.0, step_size=0.01, steps=3, objective=A.Margin())(model, x, y)
    np.testing.assert_allclose(short.x_adv, x - 0.03 * difference, atol=1e-6)
    # Each is projected: what is longer than the ball ends at its edge.
    long = A.GradientDescent(0.5, step_size=10.0, steps=3, objective=A.Margin())(model, x, y)
    np.testing.assert_allclose(long.x_adv, x - 0.5 * difference / np.linalg.norm(difference), atol=1e-5)
    carried = A.GradientDescent(3.0, step_size=0.01, steps=2, momentum=0.5, objective=A.Margin())(model, x, y)
    np.testing.assert_allclose(carried.x_adv, x - 0.025 * difference, atol=1e-6)


def test_the_paper_gives_back_the_last_point_and_the_best_is_another():
    """The wrong class leads between 0.45 and 0.566: the second step goes too far."""

    def model(x):
        lead = x - 0.45 - 4 * keras.ops.relu(x - 0.55)
        return keras.ops.concatenate([keras.ops.zeros_like(x), lead], -1)

    x, y = np.full((1, 1), 0.4, "float32"), np.zeros(1, int)
    options = {"step_size": 0.1, "steps": 2, "objective": A.Margin()}
    best, last = (A.GradientDescent(1.0, keep=keep, **options)(model, x, y) for keep in ("best", "last"))
    np.testing.assert_allclose([best.x_adv.item(), last.x_adv.item()], [0.5, 0.6], atol=1e-6)
    assert best.success.all() and not last.success.any()


def test_bare_steps_end_where_the_objective_stands_still():
    """One step ends in the flat part; the next look finds that nothing has changed and stays."""

    def model(x):
        lead = keras.ops.minimum(x, 0.5) - 0.9
        return keras.ops.concatenate([keras.ops.zeros_like(x), lead], -1)

    x, y = np.full((1, 1), 0.45, "float32"), np.zeros(1, int)
    attack = A.GradientDescent(1.0, step_size=0.1, steps=50, tolerance=1e-6, keep="last", objective=A.Margin())
    with pytest.warns(UserWarning, match="all zeros"):
        found = attack(model, x, y)
    assert found.steps.item() == 3 and np.isclose(found.x_adv.item(), 0.55)


def test_steps_end_at_the_bounds(two):
    model, difference, x, y = two
    np.testing.assert_allclose(A.PGD(3.0, steps=4)(model, x, y).x_adv, np.where(difference > 0, 0.0, 1.0) * np.ones_like(x))


def test_targeted_step_goes_the_other_way(two):
    model, difference, x, _ = two
    result = A.FGSM(0.1)(model, x, np.ones(20, int), target=np.zeros(20, int))
    # Taken already: the target is what the model says.
    np.testing.assert_array_equal(result.x_adv, x)
    weights = np.stack([-difference.ravel() / 2, difference.ravel() / 2], -1)
    away = linear(weights, np.array([0.0, 40.0]))
    result = A.FGSM(0.1)(away, x, np.ones(20, int), target=np.zeros(20, int))
    np.testing.assert_allclose(result.x_adv, x - 0.1 * np.sign(difference), atol=1e-6)


def test_l1_budget_is_spent_on_the_steepest_pixel(two):
    model, difference, x, y = two
    change = A.PGD(0.3, norm="l1", steps=10)(model, x, y).x_adv - x
    steepest = np.abs(difference).argmax()
    np.testing.assert_allclose(change.reshape(20, -1)[:, steepest], -0.3 * np.sign(difference.ravel()[steepest]), atol=1e-5)
    np.testing.assert_allclose(np.abs(change).sum((1, 2, 3)), 0.3, rtol=1e-5)


@pytest.mark.parametrize(("norm", "dual"), [("l2", 2), ("linf", 1)])
def test_deepfool_ends_just_beyond_the_nearest_boundary(line, norm, dual):
    model, weights, x, y = line
    result = A.DeepFool(norm, overshoot=0.02)(model, x, y)
    exact = smallest(weights, x, y, dual)
    assert result.success.all() and (result.steps <= 3).all()
    far = exact > 0.01
    assert far.sum() > 20
    np.testing.assert_allclose(result.distance[far], 1.02 * exact[far], rtol=5e-3)


@pytest.mark.parametrize(("norm", "share"), [("l2", 0.5**0.5), ("linf", 0.5)])
@pytest.mark.parametrize("top", [1, 2, 3])
def test_deepfool_leaves_the_likeliest_classes(norm, share, top):
    """Each class is a pixel. The nearest point outside the likeliest is where the next pixel meets that of the true class."""
    pixels = np.array([0.9, 0.45, 0.4, 0.35, 0.1, 0.05], "float32")
    order = np.stack([np.random.default_rng(row).permutation(6) for row in range(8)])
    x, y = np.zeros((8, 16), "float32"), order[:, 0]
    np.put_along_axis(x, order, pixels[None], 1)
    model = linear(np.eye(16, 6, dtype="float32"), shape=(16,))
    result = A.DeepFool(norm, overshoot=0.02, top=top)(model, x, y)
    assert result.success.all() and (result.label == order[:, top]).all()
    np.testing.assert_allclose(result.distance, 1.02 * share * (pixels[0] - pixels[top]), rtol=5e-3)


def test_deepfool_on_a_sample_that_is_wrong_already_leaves_what_the_model_says_too():
    x = np.array([[0.5, 0.9, 0.4, 0.3] + 12 * [0.0]], "float32")
    model = linear(np.eye(16, 4, dtype="float32"), shape=(16,))
    assert A.DeepFool()(model, x, np.array([0])).distance[0] == 0
    result = A.DeepFool(top=2)(model, x, np.array([0]))
    assert result.success[0] and result.label[0] == 2
    np.testing.assert_allclose(result.distance, 1.02 * 0.5 * 0.5**0.5, rtol=5e-3)
    # The true class is the third: three are to be left, and one is outside.
    result = A.DeepFool(top=2)(model, x, np.array([2]))
    assert result.success[0] and result.label[0] == 3
    with pytest.raises(ValueError, match="`top` must leave a class outside, so be at most 3. Received: 4"):
        A.DeepFool(top=4)(model, x, np.array([0]))
    with pytest.raises(ValueError, match="and a sample whose true class is the last of them"):
        A.DeepFool(top=3)(model, x, np.array([3]))
    with pytest.raises(ValueError, match="`top`"):
        A.DeepFool(top=0)


def test_carlini_wagner_finds_the_smallest_distance_to_1_percent(line):
    model, weights, x, y = line
    result = A.CarliniWagner(steps=300, binary_search_steps=8, early_stop=False)(model, x, y)
    exact = smallest(weights, x, y, 2)
    assert result.success.all()
    assert (result.distance >= exact - 1e-6).all()
    assert np.mean(result.distance / exact) < 1.01 and np.median(result.distance / exact) < 1.005


@pytest.mark.parametrize(("norm", "dual"), [("l2", 2), ("linf", 1)])
def test_labels_alone_lead_to_the_nearest_point_of_a_plane(norm, dual):
    rng = np.random.default_rng(2)
    weights = rng.normal(size=(16, 2)).astype("float32")
    weights -= weights.mean(0)
    model, x = linear(weights), rng.uniform(0.4, 0.6, (40, 4, 4, 1)).astype("float32")
    y = model(x).numpy().argmax(-1)
    exact = smallest(weights, x, y, dual)
    result = A.HopSkipJump(norm, queries=3000)(model, x, y)
    assert result.success.all() and (result.steps <= 3000).all() and set(y) == {0, 1}
    assert (result.distance >= exact - 1e-6).all()
    assert np.median(result.distance / exact) < 1.03 and np.mean(result.distance / exact) < 1.05


def test_labels_alone_go_around_what_is_rejected():
    """The nearest point of the other class is rejected: the way there ends at the corner of both boundaries."""
    import tensorflow as tf

    def model(x):
        first, second = x[:, 0, 0, 0], x[:, 0, 1, 0]
        suspicion = second - 0.25
        label = tf.where(suspicion > 0, -1, tf.cast(first > 0.5, tf.int32))
        return {"scores": tf.stack([0.5 - first, first - 0.5], -1), "suspicion": suspicion, "label": label}

    x = np.full((2, 4, 4, 1), 0.5, "float32")
    x[:, 0, :2, 0] = [[0.2, 0.55], [0.9, 0.1]]
    result = A.HopSkipJump(queries=3000)(model, x, np.array([0, 1]))
    assert result.success.all()
    np.testing.assert_allclose(result.x_adv[0, 0, :2, 0], [0.5, 0.25], atol=0.06)
    np.testing.assert_allclose(result.x_adv[1, 0, :2, 0], [0.5, 0.1], atol=0.01)
    assert (result.distance < [1.15 * 0.3 * np.sqrt(2), 1.02 * 0.4]).all()


def test_carlini_wagner_asks_for_confidence_whatever_the_start(line):
    model, _, x, y = line
    result = A.CarliniWagner(steps=5, binary_search_steps=1, kappa=1e4, starts=("interpolated",))(model, x, y)
    assert not result.success.any()
    np.testing.assert_array_equal(result.x_adv, x)


def test_carlini_wagner_kappa_is_a_lead_of_the_wrong_class(line):
    model, _, x, y = line
    result = A.CarliniWagner(steps=200, binary_search_steps=6, kappa=0.5)(model, x, y)
    scores = model(result.x_adv).numpy()
    lead = scores.max(-1) - scores[np.arange(len(y)), y]
    assert result.success.mean() > 0.9
    assert (lead[result.success] >= 0.5 - 1e-4).all() and np.median(lead[result.success]) < 0.51


def test_jsma_takes_the_pair_with_the_largest_product():
    # Gains of class 1: 4, 3, 1, 0, ...; the rest loses: 1, 1, 9, 0, ... Pairs: (0,1) 7*2=14, (0,2) 5*10=50, (1,2) 4*10=40.
    gain, loss = np.zeros(16, "float32"), np.zeros(16, "float32")
    gain[:3], loss[:3] = (4, 3, 1), (1, 1, 9)
    # Wrong both ways: the product of two harms is large and must not count.
    gain[4:6], loss[4:6] = -5, -5
    model = linear(np.stack([-loss, gain], -1), np.array([100.0, 0.0]))
    x = np.zeros((1, 4, 4, 1), "float32")
    first = A.JSMA(theta=1.0, gamma=2 / 16)(model, x, np.zeros(1, int), np.ones(1, int))
    np.testing.assert_array_equal(np.flatnonzero(first.x_adv), [0, 2])
    half = A.JSMA(theta=0.5, gamma=2 / 16)(model, x, np.zeros(1, int), np.ones(1, int))
    np.testing.assert_array_equal(np.flatnonzero(half.x_adv), [0, 2])
    assert half.x_adv.max() == 1.0
    # With room for four pixels, only one useful pixel is left beside those at the bounds: there is no second pair.
    more = A.JSMA(theta=1.0, gamma=4 / 16)(model, x, np.zeros(1, int), np.ones(1, int))
    assert set(np.flatnonzero(more.x_adv)) >= {0, 1, 2}


def test_jsma_of_single_pixels_takes_the_one_with_the_largest_product():
    # Products: 4*1, 3*1, 1*9 and so on; pixel 3 lifts both classes and pixel 4 harms both: neither is of use.
    gain, loss = np.zeros(16, "float32"), np.zeros(16, "float32")
    gain[:5], loss[:5] = (4, 3, 1, 50, -9), (1, 1, 9, -50, -9)
    model, x = linear(np.stack([-loss, gain], -1), np.array([1000.0, 0.0])), np.zeros((1, 4, 4, 1), "float32")
    for allowed, taken in ((1, [2]), (2, [0, 2]), (3, [0, 1, 2]), (5, [0, 1, 2])):
        result = A.JSMA(gamma=allowed / 16, pixels=1)(model, x, np.zeros(1, int), np.ones(1, int))
        np.testing.assert_array_equal(np.flatnonzero(result.x_adv), taken)
    half = A.JSMA(theta=0.5, gamma=1 / 16, pixels=1)(model, x, np.zeros(1, int), np.ones(1, int))
    assert half.x_adv.reshape(-1)[2] == 1.0, "twice the same pixel"
    dark = A.JSMA(theta=-1.0, gamma=1 / 16, pixels=1)(model, x + 1, np.zeros(1, int), np.ones(1, int))
    np.testing.assert_array_equal(np.flatnonzero(dark.x_adv == 0), [4])


def test_jsma_darkens_with_a_negative_theta():
    gain = np.zeros(16, "float32")
    gain[:2] = (-3, -2)
    model = linear(np.stack([-gain, gain], -1), np.array([-1.0, 0.0]))
    x = np.ones((1, 4, 4, 1), "float32")
    y = model(x).numpy().argmax(-1)
    result = A.JSMA(theta=-1.0, gamma=2 / 16)(model, x, y, 1 - y)
    assert y[0] == 0 and result.success.all()
    np.testing.assert_array_equal(np.flatnonzero(result.x_adv == 0), [0, 1])


def test_softmax_and_logits_give_the_same_attack(line):
    import keras

    model, _, x, y = line
    soft = keras.Sequential([model, keras.layers.Softmax()])
    hidden = lambda samples: keras.ops.softmax(model(samples))  # noqa: E731
    for other in (soft, hidden):
        np.testing.assert_allclose(A.PGD(0.02)(other, x, y).x_adv, A.PGD(0.02)(model, x, y).x_adv, atol=1e-5)


def two_pixels(x):
    """The first pixel decides the class (1 above 0.5), the second the rejection (above 0.5)."""
    import tensorflow as tf

    first, second = x[:, 0, 0, 0], x[:, 0, 1, 0]
    scores, suspicion = tf.stack([0.5 - first, first - 0.5], -1), second - 0.5
    label = tf.where(suspicion > 0, -1, tf.argmax(scores, -1, output_type=tf.int32))
    return {"scores": scores, "suspicion": suspicion, "label": label}


@pytest.mark.parametrize("form", ["selective", "orthogonal"])
def test_steps_go_to_the_class_first_and_then_to_the_rejection(form):
    attack = A.OrthogonalPGD(0.5, steps=1, step_size=0.125, form=form, starts=("sample",))
    right, wrong = np.full((1, 1, 2, 1), 0.25, "float32"), np.array([[[[0.75], [0.75]]]], "float32")
    np.testing.assert_array_equal(attack(two_pixels, right, np.zeros(1, int)).x_adv.ravel(), [0.375, 0.25])
    np.testing.assert_array_equal(attack(two_pixels, wrong, np.zeros(1, int)).x_adv.ravel(), [0.75, 0.625])
    whole = A.OrthogonalPGD(0.5, steps=20, form=form, starts=("sample",))(
        two_pixels, np.array([[[[0.3], [0.7]]]], "float32"), np.zeros(1, int)
    )
    assert whole.success.all() and whole.steps[0] < 20


def test_dynamic_adversary_weighs_the_signs_of_both():
    right = np.full((1, 1, 2, 1), 0.25, "float32")
    for sigma in (0.0, 0.25, 0.5, 1.0):
        attack = A.DynamicAdversary(0.2, sigma=sigma, steps=2, step_size=0.04, schedule="fixed")
        change = (attack(two_pixels, right, np.zeros(1, int)).x_adv - right).ravel()
        np.testing.assert_allclose(change, [2 * 0.04 * (1 - sigma), -2 * 0.04 * sigma], atol=1e-6)


def one_pixel(x):
    """Both look at one pixel: up is the other class, down is less suspicion."""
    import tensorflow as tf

    pixel = x[:, 0, 0, 0]
    scores, suspicion = tf.stack([2 - pixel, pixel - 2], -1), pixel - 0.5
    label = tf.where(suspicion > 0, -1, tf.argmax(scores, -1, output_type=tf.int32))
    return {"scores": scores, "suspicion": suspicion, "label": label}


@pytest.mark.parametrize(("sigma", "way"), [(0.0, 1), (0.4, 1), (0.49, 1), (0.51, -1), (0.7, -1), (1.0, -1)])
def test_dynamic_adversary_settles_a_disputed_pixel_by_sigma(sigma, way):
    x = np.full((1, 1, 1, 1), 0.5, "float32")
    step = A.DynamicAdversary(0.2, sigma=sigma, steps=1, step_size=0.05)(one_pixel, x, np.zeros(1, int)).x_adv - x
    np.testing.assert_allclose(step, 0.05 * (1 - 2 * sigma), atol=1e-6)
    whole = A.DynamicAdversary(0.2, sigma=sigma, steps=400, schedule="fixed")(one_pixel, x, np.zeros(1, int)).x_adv - x
    np.testing.assert_allclose(whole, 0.2 * way, atol=1e-6)


def narrow(x):
    """The other class lies between 0.58 and 0.66; what is beyond is rejected."""
    import tensorflow as tf

    pixel = x[:, 0, 0, 0]
    scores, suspicion = tf.stack([0.58 - pixel, pixel - 0.58], -1), pixel - 0.66
    label = tf.where(suspicion > 0, -1, tf.argmax(scores, -1, output_type=tf.int32))
    return {"scores": scores, "suspicion": suspicion, "label": label}


@pytest.mark.parametrize(("early_stop", "steps", "end"), [(False, 10, 0.7), (True, 3, 0.6)])
def test_dynamic_adversary_keeps_the_last_point_or_the_first_that_evades(early_stop, steps, end):
    x = np.full((1, 1, 1, 1), 0.5, "float32")
    result = A.DynamicAdversary(0.2, sigma=0.0, early_stop=early_stop, schedule="fixed")(narrow, x, np.zeros(1, int))
    assert (result.success[0], result.steps[0]) == (early_stop, steps)
    np.testing.assert_allclose(result.x_adv, end, atol=1e-6)


def test_no_query_asks_for_what_is_there_already():
    """On a black image one sign of two is taken back by the bounds."""
    black = np.zeros((400, 4, 4, 1), "float32")
    # Any change succeeds. Of the first stripes, which are drawn but once, one in 16 changes nothing.
    model = linear(np.stack([np.zeros(16), np.ones(16)], -1), np.array([0.05, 0.0]), (4, 4, 1))
    steps = A.Square(0.1, queries=20)(model, black, np.zeros(400, int)).steps
    assert set(steps) == {1, 2}


def masked(steep):
    """Of one pixel: what misleads the scores raises the suspicion, each unless it is flat."""
    inputs = keras.Input((1,))
    scores = keras.layers.Dense(2, name="scores_of")(inputs)
    suspicion = keras.layers.Dense(1, name="suspicion_of")(inputs)
    model = td.contract.defend(inputs, scores, keras.layers.Reshape(())(suspicion))
    model.get_layer("scores_of").set_weights([np.array([[0.0, steep[0]]]), np.array([0.0, -0.4])])
    model.get_layer("suspicion_of").set_weights([np.array([[float(steep[1])]]), np.array([-5.0])])
    return model


@pytest.mark.parametrize(
    ("steep", "sigma", "expected"),
    [
        ((1, 1), 0.5, False),  # the two oppose each other: it does not move, but nothing is masked
        ((0, 0), 0.5, True),
        ((0, 1), 0.0, True),
        ((0, 1), 0.5, False),
        ((1, 0), 1.0, True),
        ((1, 0), 0.5, False),
    ],
)
def test_zeros_are_those_of_the_gradients_that_count(steep, sigma, expected):
    model, attack = masked(steep), A.DynamicAdversary(0.1, sigma=sigma, steps=2)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        result = attack(model, np.full((3, 1), 0.2, "float32"), np.zeros(3, int))
    assert result.zero_gradient.tolist() == [expected] * 3 and not result.success.any()
