"""The minimum-norm search against known distances, and what one run of it tells of all sizes."""

import numpy as np
import pytest

import tfdefense as td
from tests.attacks.conftest import smallest
from tests.attacks.hard import make

A = td.attacks


@pytest.mark.parametrize(("norm", "dual"), [("l2", 2), ("linf", 1), ("l1", np.inf)])
def test_smallest_distance_is_found_to_half_a_percent(line, norm, dual):
    model, weights, x, y = line
    exact = smallest(weights, x, y, dual)
    # The likeliest wrong class is not always the nearest: both are aimed at.
    result = A.MinimumNorm(norm, targets=2)(model, x, y)
    # Farther away one pixel alone would leave the bounds in l1.
    inside = (exact > 0.01) & (exact < 0.3)
    ratio = result.distance[inside] / exact[inside]
    assert result.success.all() and inside.sum() > 15
    assert ratio.min() > 1 - 1e-3 and ratio.max() < 1.005
    assert (result.steps == (2 + 6) * 50).all()


def corner(x):
    """Class 1 where the first pixel is above 0.5; rejected where the second is above 0.25."""
    import tensorflow as tf

    first, second = x[:, 0, 0, 0], x[:, 0, 1, 0]
    suspicion = second - 0.25
    label = tf.where(suspicion > 0, -1, tf.cast(first > 0.5, tf.int32))
    return {"scores": tf.stack([0.5 - first, first - 0.5], -1), "suspicion": suspicion, "label": label}


@pytest.mark.parametrize(("norm", "order"), [("l2", 2), ("linf", np.inf), ("l1", 1)])
def test_search_goes_around_what_is_rejected_to_the_corner_of_both_boundaries(norm, order):
    x = np.full((3, 1, 2, 1), 0.5, "float32")
    x[:, 0, :, 0] = [[0.2, 0.55], [0.1, 0.1], [0.4, 0.9]]
    result = A.MinimumNorm(norm, starts=("sample",), objective=A.MaximumConfidence())(corner, x, np.zeros(3, int))
    exact = np.linalg.norm([[0.3, 0.3], [0.4, 0.0], [0.1, 0.65]], order, axis=1)
    assert result.success.all()
    assert (result.distance > exact * (1 - 1e-4)).all() and (result.distance < 1.02 * exact).all()


def test_fewer_steps_than_carlini_wagner_lead_closer(classifier, held_out):
    x, y = held_out.x[:40], held_out.y[:40]
    found, known = A.MinimumNorm(rounds=0)(classifier, x, y), A.CarliniWagner(steps=100, binary_search_steps=4)(classifier, x, y)
    assert found.success.all() and found.distance.mean() < known.distance.mean()
    assert found.steps.max() == 50 < known.steps.mean()


def test_every_start_counts_where_the_model_rejects(defended, held_out):
    x, y = held_out.x[:40], held_out.y[:40]
    every, one = (A.MinimumNorm(starts=starts, rounds=0)(defended, x, y) for starts in (None, ("sample",)))
    distance, alone = (np.where(result.success, result.distance, np.inf) for result in (every, one))
    assert every.success.all() and (distance <= alone + 1e-5).all() and (distance < alone - 1e-5).any()


def test_a_start_on_the_other_side_finds_what_the_slope_at_the_sample_leads_away_from():
    """The lead falls to the left, where the bounds end it above 0; to the right it first rises, and is 0 at 0.8."""
    import tensorflow as tf

    def hill(x):
        lead = tf.minimum(0.1 + x[:, 0], 3 * (0.8 - x[:, 0]))
        suspicion = x[:, 0] - 0.95
        label = tf.where(suspicion > 0, -1, tf.cast(lead < 0, tf.int32))
        return {"scores": tf.stack([lead, tf.zeros_like(lead)], -1), "suspicion": suspicion, "label": label}

    x, y = np.array([[0.3], [0.9]], "float32"), np.array([0, 1])
    alone = A.MinimumNorm(starts="sample")(hill, x, y)
    every = A.MinimumNorm(starts=("sample", "interpolated"))(hill, x, y)
    assert not alone.success[0] and every.success[0]
    assert every.distance[0] == pytest.approx(0.5, abs=5e-3)


def test_refining_moves_successes_nearer_and_nothing_else(line):
    model, weights, x, y = line
    rough, fine = (A.MinimumNorm(steps=5, refine=refine, rounds=0, objective=A.LogSumExp())(model, x, y) for refine in (0, 6))
    np.testing.assert_array_equal(rough.success, fine.success)
    assert (fine.distance <= rough.distance).all() and fine.distance.mean() < 0.99 * rough.distance.mean()
    assert (fine.distance >= smallest(weights, x, y, 2) - 1e-6)[fine.success].all()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_each_row_may_have_a_ball_of_its_own(norm):
    ball, rng = A.norms.NORMS[norm], np.random.default_rng(0)
    delta, epsilon = rng.normal(size=(6, 16)).astype("float32"), np.array([0.1, 0.5, 1, 2, 5, 50], "float32")
    together = ball.project(delta, epsilon[:, None]).numpy()
    alone = [ball.project(delta[i : i + 1], epsilon[i]).numpy()[0] for i in range(6)]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(ball.length(delta), ball.distance(delta), rtol=1e-6)
    np.testing.assert_allclose(ball.distance(together), np.minimum(epsilon, ball.distance(delta)), rtol=1e-5)


def test_one_run_gives_the_whole_curve(line):
    model, weights, x, y = line
    exact, sizes = smallest(weights, x, y, 2), [0.021, 0.055, 0.09, 0.19]
    curve = td.metrics.WorstCaseCurve.of(A.MinimumNorm("l2")(model, x, y), sizes)
    assert not (np.abs(exact[:, None] / sizes - 1) < 0.006).any(), "no sample so near to a size that it may lie on either side"
    np.testing.assert_allclose(curve.robust_accuracy, [(exact > size).mean() for size in sizes])
    assert 0 < curve.robust_accuracy[-1] < curve.robust_accuracy[0] < 1
    assert (curve.found_by[curve.broken] == "attack").all() and (curve.found_by[~curve.broken] == "").all()
    # What is known is spared at every size.
    spared = td.metrics.worst_case_curve(model, lambda size: A.FGSM(size, norm="l2"), x, y, sizes, known=curve.broken)
    assert (spared.broken >= curve.broken).all() and set(spared.found_by[curve.broken]) == {"known"}


def test_curve_of_a_worst_case_names_attacks_and_clean_errors(classifier, held_out):
    x, y = held_out.x[:20], held_out.y[:20].copy()
    y[0] = (classifier(x[:1]).numpy().argmax() + 1) % 10
    result = A.WorstCase({"nearest": A.MinimumNorm(steps=20), "deepfool": A.DeepFool()})(classifier, x, y)
    curve = td.metrics.WorstCaseCurve.of(result, [1e-3, 10.0])
    assert curve.found_by[0, 0] == "clean" and set(curve.found_by[1, 1:]) <= {"nearest", "deepfool"}
    assert "nearest" in curve.found_by[1]


def test_rounds_go_on_in_smaller_balls(held_out):
    model, x, y = td.load(make.DUSTBIN), held_out.x[200:240], held_out.y[200:240]
    first, more = (A.MinimumNorm(steps=20, rounds=rounds)(model, x, y) for rounds in (0, 5))
    assert (more.distance <= first.distance)[first.success].all() and more.success.sum() >= first.success.sum()
    both = first.success & more.success
    # They find what the first search is far from: most samples' nearest is near by then.
    ratio = more.distance[both] / first.distance[both]
    assert (ratio < 0.95).sum() >= 2
    moved = first.success & (first.distance > 0)
    np.testing.assert_array_equal(more.steps - first.steps, np.where(moved, 100, 0))


def test_rounds_go_along_a_surrogate_too(classifier, digits, held_out):
    coded = td.SafetyNet(["features"]).attach(classifier)
    x_adv = A.FGSM(0.2)(classifier, digits.x[:200], digits.y[:200]).x_adv
    td.adapt(coded, digits.x[:200], digits.y[:200], adversarial=x_adv, calibration=held_out.x, max_rejected=0.05)
    x, y = held_out.x[:20], held_out.y[:20]
    first, more = (A.BPDA(A.MinimumNorm("linf", steps=10, rounds=rounds))(coded, x, y) for rounds in (0, 3))
    moved = first.success & (first.distance > 0)
    np.testing.assert_array_equal(more.steps - first.steps, np.where(moved, 30, 0))
    assert moved.any() and (more.distance <= first.distance)[first.success].all()
    label = np.asarray(coded(more.x_adv)["label"])
    assert ((label != y) & (label != -1))[more.success].all(), "the real model decides"
