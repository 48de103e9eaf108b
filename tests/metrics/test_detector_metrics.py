import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve

from tfdefense.metrics import Outcomes, auc, detectability, roc


def samples(seed, kind):
    rng = np.random.default_rng(seed)
    negative, positive = rng.normal(0, 1, 83), rng.normal(1, 2, 131)
    return (np.round(negative), np.round(positive)) if kind == "ties" else (negative, positive)


def joined(negative, positive):
    return np.r_[np.zeros(len(negative)), np.ones(len(positive))], np.r_[negative, positive]


@pytest.mark.parametrize("kind", ["continuous", "ties"])
@pytest.mark.parametrize("seed", range(3))
def test_auc_equals_scikit_learn(seed, kind):
    negative, positive = samples(seed, kind)
    expected = roc_auc_score(*joined(negative, positive))
    assert auc(negative, positive) == pytest.approx(expected, abs=1e-12)
    curve = roc(negative, positive)
    assert curve.auc == pytest.approx(expected, abs=1e-12)
    assert np.sum(np.diff(curve.fpr) * (curve.tpr[1:] + curve.tpr[:-1]) / 2) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", ["continuous", "ties"])
def test_roc_equals_scikit_learn(kind):
    negative, positive = samples(0, kind)
    fpr, tpr, _ = roc_curve(*joined(negative, positive), drop_intermediate=False)
    curve = roc(negative, positive)
    np.testing.assert_allclose(curve.fpr, fpr, atol=1e-12)
    np.testing.assert_allclose(curve.tpr, tpr, atol=1e-12)


def test_roc_rates_are_those_of_the_thresholds():
    negative, positive = samples(1, "ties")
    curve = roc(negative, positive)
    assert (np.diff(curve.thresholds) < 0).all()
    for t, fpr, tpr in zip(curve.thresholds, curve.fpr, curve.tpr, strict=True):
        assert fpr == pytest.approx((negative > t).mean()) and tpr == pytest.approx((positive > t).mean())


def test_infinite_suspicion_counts_as_larger_than_any_number():
    negative, positive = [0.0, 1.0, np.inf], [0.5, np.inf, 2.0]
    finite = roc_auc_score(*joined([0.0, 1.0, 1e9], [0.5, 1e9, 2.0]))
    assert auc(negative, positive) == pytest.approx(finite)
    curve = roc(negative, positive)
    assert (curve.fpr[0], curve.tpr[0], curve.thresholds[0]) == (0, 0, np.inf)
    assert (curve.fpr[1], curve.tpr[1]) == (pytest.approx(1 / 3), pytest.approx(1 / 3))


def test_minus_infinity_is_rejected_last():
    curve = roc([-np.inf, 0.0], [-np.inf, 1.0])
    assert (curve.fpr[-1], curve.tpr[-1]) == (1, 1)
    assert curve.auc == pytest.approx(roc_auc_score(*joined([-9, 0], [-9, 1])))


@pytest.mark.parametrize("negative, positive, expected", [([0, 1], [2, 3], 1), ([2, 3], [0, 1], 0), ([1, 1], [1], 0.5)])
def test_auc_of_known_cases(negative, positive, expected):
    assert auc(negative, positive) == expected


def test_tpr_at_a_rate_of_false_alarms():
    curve = roc(negative=[0, 1, 2, 3, 4], positive=[0.5, 2.5, 3.5, 9, 10])
    assert curve.tpr_at(0) == 0.4
    assert curve.tpr_at(0.2) == 0.6
    assert curve.tpr_at(0.19) == 0.4
    assert curve.tpr_at(1) == 1
    with pytest.raises(ValueError, match="share"):
        curve.tpr_at(5)


def test_tpr_at_meets_the_shares_people_type():
    """3 of 10 must count as 0.3, whatever floats make of it."""
    for n in (5, 7, 10, 20, 100, 1000):
        curve = roc(np.arange(n), np.arange(n) + 0.0)
        for k in range(n + 1):
            assert curve.tpr_at(k / n) == k / n


def test_detectability_equals_balanced_accuracy():
    negative, positive = samples(2, "continuous")
    truth, values = joined(negative, positive)
    for threshold in (-0.3, 0.0, 1.0):
        expected = balanced_accuracy_score(truth, values > threshold)
        assert detectability(negative, positive, threshold) == pytest.approx(expected, abs=1e-12)
    assert detectability([0, 0], [0, 0]) == 0.5  # a suspicion of 0 is not a rejection


def test_outcomes_stand_for_their_suspicion():
    clean, attacked = Outcomes.of([0, 0], [0, 0], [-2, -1]), Outcomes.of([-1, 0], [0, 0], [3, -1])
    assert auc(clean, attacked) == auc([-2, -1], [3, -1]) == 0.875
    assert detectability(clean, attacked) == 0.75
    with pytest.raises(ValueError, match="plain classifier"):
        roc(Outcomes.of([0], [0]), attacked)


@pytest.mark.parametrize("metric", [roc, auc, detectability])
@pytest.mark.parametrize("bad, message", [([], "empty"), ([np.nan, 1], "NaN"), ([[1.0]], "1 dimension"), (["a"], "numbers")])
def test_bad_suspicions_are_named(metric, bad, message):
    with pytest.raises(ValueError, match=message):
        metric(bad, [1.0])
    with pytest.raises(ValueError, match=message):
        metric([1.0], bad)


def test_series_holds_plain_numbers():
    series = roc([0, 1], [1, 2]).to_series("S6", "ROC")
    expected = {"row": "S6", "what": "ROC", "x": [0, 0, 0.5, 1], "y": [0, 0.5, 1, 1], "deviation": []}
    assert series == expected
