"""Selection with guaranteed risk: the promise holds where the true risk is known, and the plug-in rule breaks it."""

import numpy as np
import pytest

from tfdefense.conformal import NoThreshold, TooFew, risk_promise, risk_thresholds
from tfdefense.conformal.risks import SHARES

DRAWS, CONFIDENCE = 300, 0.95
# Error probability given a score in (0, 1), and the risk below a threshold, its integral over the threshold.
RISING = (lambda u: 0.15 * u**2, lambda t: 0.05 * t**2)
# The least suspicious samples are the worst: the risk falls, then rises.
DIPPING = (lambda u: np.where(u < 0.05, 0.4, 0.1 * u**2), lambda t: (0.02 + 0.1 / 3 * (t**3 - 0.05**3)) / t)
FLAT = (lambda u: np.full(len(u), 0.021), lambda t: 0.021 + 0 * t)


def plug_in(score, wrong, risk):
    """The largest threshold at which the error rate of these samples is the promised one."""
    order = np.argsort(score)
    reached = np.flatnonzero(np.cumsum(wrong[order]) / np.arange(1, len(order) + 1) <= risk)
    return score[order][reached.max()] if len(reached) else 0.0


def broken(law, rule, samples, risk, seed=0):
    """How often the true risk is above the promised one, and how often a threshold was found."""
    (error, truth), rng = law, np.random.default_rng(seed)
    above = found = 0
    for _ in range(DRAWS):
        score = rng.random(samples)
        wrong = rng.random(samples) < error(score)
        try:
            threshold = rule(score, wrong, risk)
        except NoThreshold:
            continue
        found += 1
        above += bool(threshold > 0 and truth(np.float64(threshold)) > risk)
    return above / DRAWS, found / DRAWS


def guaranteed(score, wrong, risk):
    return risk_thresholds(score[None], wrong, risk=risk, confidence=CONFIDENCE)[0]


@pytest.mark.parametrize("law, samples", [(RISING, 1200), (RISING, 3000), (DIPPING, 3000), (FLAT, 1200)])
def test_the_risk_is_kept_with_confidence(law, samples):
    above, _ = broken(law, guaranteed, samples, 0.02)
    assert above <= 1 - CONFIDENCE, "in at least 95 % of the draws"


def test_the_plug_in_breaks_what_the_guarantee_keeps():
    """What the measure above must see."""
    assert broken(RISING, plug_in, 1200, 0.02)[0] > 0.3
    assert broken(FLAT, plug_in, 1200, 0.02)[0] > 0.5
    # Nor does testing the thresholds without counting them: one of many passes by luck.
    assert broken(FLAT, lambda *data: risk_without_counting(*data), 400, 0.02)[0] > 0.08


def risk_without_counting(score, wrong, risk):
    from tfdefense.conformal.risks import _in_doubt

    order = np.argsort(score)
    numbers = np.arange(1, len(order) + 1)
    passed = np.flatnonzero(_in_doubt(np.cumsum(wrong[order]), numbers, risk) <= 1 - CONFIDENCE)
    return score[order][passed.max()] if len(passed) else 0.0


def test_a_guarantee_that_never_answers_would_be_none():
    """With many samples it finds a threshold nearly as good as the best one, which accepts 63 %."""
    _, found = broken(RISING, guaranteed, 4000, 0.02)
    rng = np.random.default_rng(1)
    score = rng.random(50_000)
    threshold = guaranteed(score, rng.random(50_000) < RISING[0](score), 0.02)
    assert found > 0.9 and 0.55 < threshold < 0.02**0.5 / 0.05**0.5


def test_known_answers():
    """All samples below 800 are right, all others wrong."""
    score = np.arange(1000.0)
    assert risk_thresholds(score[None], score >= 800, risk=0.01).tolist() == [800]
    # None is wrong: the count that accepts most rejects the last sample alone.
    assert risk_thresholds(score[None], np.zeros(1000, bool), risk=0.01).tolist() == [999]
    # Ties go together: 200 samples lie at each of five scores.
    assert risk_thresholds(score[None] // 200, score >= 800, risk=0.01).tolist() == [4]


@pytest.mark.parametrize("decide", [None, lambda rejects: rejects.all(axis=0), lambda r: r[0] | (r[1] & r[2])])
def test_joined_detectors_keep_the_risk(decide):
    rng, above, draws, found = np.random.default_rng(0), 0, 60, 0
    join = decide or (lambda rejects: rejects.any(axis=0))

    def draw(samples):
        doubt = rng.random(samples)
        scores = doubt + 0.2 * rng.normal(size=(3, samples))
        return scores, rng.random(samples) < 0.2 * doubt**2

    fresh, wrong_fresh = draw(100_000)
    for _ in range(draws):
        scores, wrong = draw(4000)
        try:
            thresholds = risk_thresholds(scores, wrong, decide, risk=0.035)
        except NoThreshold:
            continue
        found += 1
        above += wrong_fresh[~join(fresh >= thresholds[:, None])].mean() > 0.035
    assert found > draws / 2 and above <= 0.05 * draws


def test_samples_that_are_rejected_anyway_count_for_nothing():
    score = np.arange(1000.0)
    score[::10] = np.nan
    score[5::10] = np.inf
    lost = ~np.isfinite(score)
    assert risk_thresholds(score[None], lost | (score >= 800), risk=0.01).tolist() == [801]
    minus = np.where(lost, -np.inf, score)
    assert risk_thresholds(minus[None], lost | (score >= 800), risk=0.01).tolist() == [801]


def test_too_few_samples_say_how_many_suffice():
    with pytest.raises(TooFew, match="Expected at least") as caught:
        risk_thresholds(np.arange(300.0)[None], np.zeros(300, bool), risk=0.01)
    needed = caught.value.needed
    # All right, and as many as the test takes: ln(0.05 / 24) / ln(0.99).
    assert needed == int(np.ceil(np.log(0.05 / len(SHARES)) / np.log(0.99))) + 1 == 616
    risk_thresholds(np.arange(float(needed))[None], np.zeros(needed, bool), risk=0.01)


def test_no_threshold_says_what_could_be_promised():
    rng = np.random.default_rng(0)
    score, wrong = rng.random(2000), rng.random(2000) < 0.1
    with pytest.raises(NoThreshold, match="with 95 % confidence at most 2 % of the accepted samples are wrong") as caught:
        risk_thresholds(score[None], wrong, risk=0.02)
    assert 0.1 < caught.value.least < 0.13
    # What it says holds: the counts do not depend on the risk, so all bounds hold at once.
    risk_thresholds(score[None], wrong, risk=caught.value.least + 1e-6)


@pytest.mark.parametrize("risk, confidence", [(0, 0.95), (1, 0.95), (0.01, 1.0), (0.01, 0)])
def test_a_promise_must_be_one(risk, confidence):
    with pytest.raises(ValueError, match="such as 0"):
        risk_thresholds(np.arange(9.0)[None], np.zeros(9, bool), risk=risk, confidence=confidence)
    assert risk_promise(0.01, 0.9) == "with 90 % confidence at most 1 % of the accepted samples are wrong"
