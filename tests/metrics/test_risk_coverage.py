"""The risk-coverage curve against values by hand, and against a plain loop."""

import numpy as np
import pytest

from tfdefense.metrics import Outcomes, aurc, risk_coverage, share_interval


def test_known_answers():
    perfect = risk_coverage([0.0, 1.0, 2.0, np.inf], [False, False, False, True])
    assert perfect.coverage.tolist() == [0.25, 0.5, 0.75, 1] and perfect.risk.tolist() == [0, 0, 0, 0.25]
    assert perfect.aurc == 0.0625 and perfect.excess_aurc == 0
    worst = risk_coverage([3.0, 2.0, 1.0, 0.0], [False, False, False, True])
    assert worst.risk.tolist() == [1, 1 / 2, 1 / 3, 1 / 4]
    assert worst.excess_aurc == pytest.approx(np.mean([1, 1 / 2, 1 / 3, 0]))


def test_ties_are_the_mean_over_their_orders():
    rng = np.random.default_rng(0)
    score, wrong = rng.integers(0, 4, 12).astype(float), rng.random(12) < 0.4
    numbers = np.arange(1, 13)
    shuffled = []
    for _ in range(4000):
        order = np.lexsort((rng.random(12), score))
        shuffled.append((np.cumsum(wrong[order]) / numbers).mean())
    assert aurc(score, wrong) == pytest.approx(np.mean(shuffled), abs=0.004)


def test_of_outcomes_the_class_before_rejection_counts():
    outcomes = Outcomes.of([0, -1, 1], [0, 1, 0], [-2.0, 1.0, -1.0], guess=[0, 0, 1])
    assert risk_coverage(outcomes).risk.tolist() == [0, 0.5, 2 / 3]
    assert (outcomes.risk, outcomes.coverage) == (0.5, 2 / 3)
    assert "wrong of accepted" in outcomes.summary()
    assert np.isnan(Outcomes.of([-1], [0]).risk)


def test_ends_of_a_tie_are_all_that_a_threshold_reaches():
    curve = risk_coverage([1.0, 2.0, 2.0, 2.0], [False, False, False, True])
    assert curve.coverage_at(0.2) == 0.25 and curve.coverage_at(0.25) == 1 and curve.risk_at(0.3) == pytest.approx(1 / 6)
    assert risk_coverage([1.0, 1.0], [True, True]).coverage_at(0.5) == 0


def test_errors():
    for arguments, text in ((([1.0],), "pass `wrong`"), (([1.0], [1]), "booleans"), (([1.0], [True, False]), "2")):
        with pytest.raises(ValueError, match=text):
            risk_coverage(*arguments)
    with pytest.raises(ValueError, match="Pass a share"):
        risk_coverage([1.0], [True]).risk_at(5)
    with pytest.raises(ValueError, match="Expected a share"):
        share_interval(95, 100)


def test_intervals_are_wilsons():
    assert share_interval(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4), "by hand"
    assert share_interval(0.0, 50)[0] == pytest.approx(0) and share_interval(0.0, 50)[1] == pytest.approx(0.0713, abs=1e-3)
