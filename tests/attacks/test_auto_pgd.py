"""Auto-PGD where the answer is known, and its difference-of-logits ratio by hand."""

import numpy as np
import pytest
import tensorflow as tf

import tfdefense as td
from tests.attacks.conftest import linear
from tfdefense.attacks.searches.auto_pgd import _windows

A = td.attacks


@pytest.fixture(scope="module")
def two():
    """Two classes whose difference is the same everywhere, and a lead that no step makes up for."""
    rng = np.random.default_rng(1)
    difference = rng.normal(size=16).astype("float32")
    model = linear(np.stack([difference / 2, -difference / 2], -1), np.array([40.0, 0.0]))
    return model, difference, rng.uniform(0.4, 0.6, (20, 4, 4, 1)).astype("float32"), np.zeros(20, int)


def on_a_line(height, suspicion=None):
    """A model of samples of one number, misclassified where `height` of it is below 0."""

    def model(x):
        scores = tf.stack([height(x[:, 0]), tf.zeros_like(x[:, 0])], -1)
        if suspicion is None:
            return scores
        doubt = suspicion(x[:, 0])
        return {"scores": scores, "suspicion": doubt, "label": tf.where(doubt > 0, -1, tf.argmax(scores, -1, tf.int32))}

    return model


def from_points(*points):
    return np.array(points, "float32")[:, None], np.zeros(len(points), int)


@pytest.mark.parametrize("objective", [None, A.Margin()], ids=str)
@pytest.mark.parametrize("steps", [5, 40])
def test_best_point_of_a_linear_model_is_found_in_linf_and_l2(two, steps, objective):
    model, difference, x, y = two
    for norm, epsilon, way in (("linf", 0.1, np.sign(difference)), ("l2", 0.5, difference / np.linalg.norm(difference))):
        found = A.APGD(epsilon, norm=norm, steps=steps, objective=objective)(model, x, y).x_adv
        np.testing.assert_allclose(found, x - epsilon * way.reshape(4, 4, 1), atol=1e-6)


# Beyond one pixel the budget is moved over step by step.
@pytest.mark.parametrize(("epsilon", "short"), [(0.3, 1e-5), (0.8, 5e-3)])
def test_l1_budget_fills_the_steepest_pixels_up_to_their_bounds(two, epsilon, short):
    model, difference, x, y = two
    change = (A.APGD(epsilon, norm="l1", steps=40)(model, x, y).x_adv - x).reshape(20, -1)
    flat, left, best = x.reshape(20, -1), np.full(20, epsilon), np.zeros((20, 16))
    for pixel in np.argsort(-np.abs(difference)):
        room = flat[:, pixel] if difference[pixel] > 0 else 1 - flat[:, pixel]
        best[:, pixel] = -np.sign(difference[pixel]) * np.minimum(room, left)
        left -= np.abs(best[:, pixel])
    np.testing.assert_allclose(change @ difference, best @ difference, rtol=short)


def test_checkpoints_of_100_steps_are_the_papers():
    windows = _windows(100)
    at = np.flatnonzero(windows)
    np.testing.assert_array_equal(at, [22, 41, 57, 70, 80, 87, 93, 99])
    np.testing.assert_array_equal(np.array(windows)[at], np.diff(at, prepend=0))
    # With few steps several fall on one, which is still a checkpoint.
    assert _windows(1) == [0] and _windows(3) == [0, 1, 1] and _windows(9) == [0, 0, 2, 0, 2, 0, 2, 1, 1]


def test_halving_finds_a_gap_that_a_fixed_step_jumps_across():
    model = on_a_line(lambda x: tf.abs(x - 0.637) - 0.005)
    x, y = from_points(0.5, 0.45, 0.8, 0.9)
    fixed = A.PGD(0.3, steps=100, step_size=0.1, schedule="fixed", objective=A.Margin())(model, x, y)
    found = A.APGD(0.3, steps=100, objective=A.Margin())(model, x, y)
    assert found.success.all() and not fixed.success.any()
    assert (np.abs(found.x_adv - 0.637) < 0.005).all()


def test_after_a_halving_a_sample_goes_on_from_its_best_point():
    # The first step leads to a slope whose end is no success, and from which no gradient leads back.
    model = on_a_line(lambda x: tf.where(x < 0.5, tf.abs(x - 0.33), 0.6 - 0.5 * x) - 0.02)
    x, y = from_points(0.3, 0.29)
    result = A.APGD(0.5, steps=100, objective=A.Margin())(model, x, y)
    assert result.success.all() and (np.abs(result.x_adv - 0.33) < 0.02).all()


def test_a_success_is_kept_although_a_rejected_point_has_the_lower_value():
    class At06:
        def points(self, attack, batch):
            return np.full_like(batch.x, 0.6)

    # Rejected beyond 0.7, where the margin, which does not know of it, is lowest.
    model = on_a_line(lambda x: 0.5 - x, lambda x: x - 0.7)
    x, y = from_points(0.3, 0.45)
    result = A.APGD(0.5, steps=40, objective=A.Margin(), starts=(At06(),))(model, x, y)
    assert result.success.all() and (result.x_adv >= 0.6).all() and (result.x_adv <= 0.7).all()


@pytest.mark.parametrize("objective", [A.LogitRatio(), A.LogSumExp(), A.Evade(raw=True)], ids=str)
def test_first_steps_cross_a_band_of_rejection(objective):
    # Misclassified from 0.5 on and rejected from 0.4 to 0.8.
    model = on_a_line(lambda x: 4 * (0.5 - x), lambda x: 0.2 - tf.abs(x - 0.6))
    x, y = from_points(0.3, 0.35)
    small = A.PGD(0.6, steps=100, step_size=0.01, schedule="fixed", objective=objective, starts="sample")(model, x, y)
    found = A.APGD(0.6, steps=20, objective=objective, starts="sample")(model, x, y)
    assert found.success.all() and (found.x_adv > 0.8).all() and (found.label == 1).all()
    assert objective == A.LogSumExp() or not small.success.any()
    # A ball that ends inside the band holds no success.
    short = A.APGD(0.4, steps=20, objective=objective, starts="sample")(model, x, y)
    assert not short.success.any() and (short.label != 1).all()


def test_early_stop_ends_with_the_first_success(classifier, held_out):
    x, y = held_out.x[:40], held_out.y[:40]
    early, whole = (A.APGD(0.4, steps=30, early_stop=stop)(classifier, x, y) for stop in (True, False))
    np.testing.assert_array_equal(early.success, whole.success)
    taken = classifier(x).numpy().argmax(-1) == y
    assert early.success.all() and early.steps.max() < 20 and (whole.steps[taken] == 30).all()


def test_one_trace_serves_every_batch_size_radius_and_checkpoint():
    calls = []

    def height(x):
        calls.append(x)
        return 0.9 - x

    view = td.view.View(on_a_line(height))
    A.APGD(0.1, steps=30)(view, *from_points(0.3, 0.4, 0.5))
    before = len(calls)
    A.APGD(0.2, steps=9, rho=0.5)(view, *from_points(0.3, 0.4))
    assert len(calls) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [({"rho": 1.5}, "`rho` is a share of steps, at most 1. Received: 1.5"), ({"norm": "l3"}, "`norm` must be one of")],
)
def test_wrong_settings_are_one_sentence(change, words):
    with pytest.raises(ValueError, match=words):
        A.APGD(0.1, **change)


def ratio(scores, y, suspicion=None, target=None):
    scores = tf.constant(scores, tf.float32)
    suspicion = None if suspicion is None else tf.constant(suspicion, tf.float32)
    target = None if target is None else tf.constant(target, tf.int32)
    return A.LogitRatio().value(scores, suspicion, tf.constant(y, tf.int32), target, (1.0, 1.0)).numpy()


def test_logit_ratio_by_hand():
    scores = [[3.0, 1.0, 0.0, -2.0]]
    np.testing.assert_allclose(ratio(scores, [0]), [(3 - 1) / (3 - 0)], rtol=1e-6)
    np.testing.assert_allclose(ratio(scores, [1]), [(1 - 3) / (3 - 0)], rtol=1e-6)
    np.testing.assert_allclose(ratio(scores, [0], target=[1]), [(3 - 1) / (3 - (0 - 2) / 2)], rtol=1e-6)
    # The threshold is at 3.5: a class of that score, which is joined with the true one.
    np.testing.assert_allclose(ratio(scores, [0], [0.5]), [(3.5 - 1) / (3.5 - 0)], rtol=1e-6)
    np.testing.assert_allclose(ratio(scores, [1], [0.5]), [(3.5 - 3) / (3.5 - 0)], rtol=1e-6)
    np.testing.assert_allclose(ratio(scores, [1], [-1.0]), [(2 - 3) / (3 - 0)], rtol=1e-6)
    np.testing.assert_allclose(ratio(scores, [0], [0.5], [1]), [(3.5 - 1) / (3.5 - (1 + 0) / 2)], rtol=1e-6)


def test_logit_ratio_of_few_classes_takes_what_there_is():
    np.testing.assert_allclose(ratio([[3.0, 1.0]], [0]), [2.0])
    np.testing.assert_allclose(ratio([[3.0, 1.0]], [0], target=[1]), [2.0])
    np.testing.assert_allclose(ratio([[3.0, 1.0, 0.0]], [0], target=[2]), [3 / (3 - (1 + 0) / 2)], rtol=1e-6)
    np.testing.assert_allclose(ratio([[3.0, 1.0]], [0], [0.5], [1]), [2.5 / (3.5 - (3 + 1) / 2)], rtol=1e-6)
    # Classes that are ruled out are none.
    np.testing.assert_allclose(ratio([[3.0, 1.0, -np.inf]], [0]), [2.0])
    np.testing.assert_allclose(ratio([[3.0, 1.0, 0.0, -np.inf]], [0], target=[2]), [3 / (3 - (1 + 0) / 2)], rtol=1e-6)
    for target in (None, [1]):
        assert np.isfinite(ratio([[5.0, -np.inf, 2.0, 1.0]], [0], target=target))
        assert np.isfinite(ratio([[-np.inf, 3.0, 2.0, 1.0]], [0], [np.inf], target))


def test_default_objective_on_rejecting_models_joins_all_wrong_classes(defended, classifier):
    attack = A.APGD(0.1)
    assert attack.objective_on(td.view.View.of(defended)) == A.LogSumExp()
    assert attack.objective_on(td.view.View.of(classifier)) == A.CrossEntropy()
    assert A.APGD(0.1, objective=A.Evade()).objective_on(td.view.View.of(defended)) == A.Evade()


@pytest.mark.parametrize("target", [None, 1])
def test_logit_ratio_knows_no_scale(target):
    rng = np.random.default_rng(0)
    scores, suspicion, y = rng.normal(size=(50, 6)), rng.normal(size=50), np.zeros(50, int)
    aim = None if target is None else np.full(50, target)
    np.testing.assert_allclose(
        ratio(20 * scores + 3, y, 20 * suspicion, aim), ratio(scores, y, suspicion, aim), rtol=1e-3, atol=1e-5
    )


def test_logit_ratio_is_below_zero_exactly_on_success(defended, held_out):
    y = (held_out.y + (np.arange(len(held_out.y)) % 3 == 0)) % 10
    scores, suspicion, label = td.view.View.of(defended).run(held_out.x)
    success = (label.numpy() != y) & (label.numpy() != -1)
    np.testing.assert_array_equal(ratio(scores, y, suspicion) < 0, success)
    assert success.any() and not success.all()


@pytest.mark.parametrize("target", [None, [1, 1, 1, 2, 2]])
@pytest.mark.parametrize("suspicion", [None, [np.inf, 2.0, -np.inf, 0.5, np.inf]])
def test_logit_ratio_has_a_number_and_a_slope_everywhere(target, suspicion):
    scores = tf.constant(
        [
            [3.0, 1.0, 0.0, -np.inf],
            [3.0, 1.0, -np.inf, -np.inf],
            [1.0, 1.0, 1.0, 1.0],
            [5.0, 4.0, 1.0, 0.0],
            [5.0, -np.inf, 2.0, 1.0],
        ]
    )
    doubt = None if suspicion is None else tf.constant(suspicion)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        value = A.LogitRatio().value(scores, doubt, tf.zeros(5, tf.int32), target, (1.0, 1.0))
    slope = tape.gradient(value, scores).numpy()
    assert np.isfinite(value).all() and np.isfinite(slope).all() and np.abs(slope).max(-1).min() > 0
    wanted = [1, 1, 1, 2] if target is None else [1, 1, 2, 2]
    assert (slope[[0, 1, 3, 4], wanted] < 0).all(), "down is where the wrong class rises, also below true class and rejection"
