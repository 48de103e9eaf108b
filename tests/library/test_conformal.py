"""The promise of a threshold, on fresh samples: over seeded draws, on average and with confidence, for one detector and several."""

import pickle

import numpy as np
import pytest

from evaluation.benchmarks.calibration import share
from tfdefense.conformal import NoRoom, TooFew, fewest, promise, rank, thresholds

DRAWS, FRESH = 300, 4000
JOINED = {
    "one": (1, lambda rejects: rejects.any(axis=0)),
    "any": (3, lambda rejects: rejects.any(axis=0)),
    "all": (3, lambda rejects: rejects.all(axis=0)),
    "any of all": (3, lambda rejects: rejects[0] | (rejects[1] & rejects[2])),
    "all of any": (3, lambda rejects: rejects[0] & (rejects[1] | rejects[2])),
}


def draw(rng, detectors, samples):
    """Scores of detectors that agree in part, each on a scale of its own."""
    common = rng.normal(size=samples)
    return np.stack([np.exp(index * (common + rng.normal(size=samples))) + common for index in range(detectors)])


def rates(kind, samples, rule, ties=False):
    """False-positive rates on fresh samples, one for each draw of those to calibrate on."""
    (detectors, decide), rng = JOINED[kind], np.random.default_rng(0)
    found = []
    for _ in range(DRAWS):
        scores, fresh = draw(rng, detectors, samples), draw(rng, detectors, FRESH)
        if ties:
            scores, fresh = np.round(scores), np.round(fresh)
        found.append(decide(fresh > rule(scores, decide)[:, None]).mean())
    return np.array(found)


def by_mean(scores, decide):
    return thresholds(scores, decide, 0.05)


def with_confidence(scores, decide):
    return thresholds(scores, decide, 0.05, 0.95)


def error_of_the_mean(samples):
    """Three standard deviations of the mean of `rates`: of Beta(r, n + 1 - r), and of the fresh samples that measure it."""
    r = max(1, rank(samples, 0.05))
    spread = r * (samples + 1 - r) / (samples + 1) ** 2 / (samples + 2)
    return 3 * ((spread + 0.05 * 0.95 / FRESH) / DRAWS) ** 0.5


@pytest.mark.parametrize("kind, samples", [(kind, n) for kind in ("one", "any", "all") for n in (59, 100, 399)])
def test_mean_rate_is_the_promised_one(kind, samples):
    found = rates(kind, samples, by_mean)
    expected = rank(samples, 0.05) / (samples + 1)
    # Exactly the rank's for one detector and all; of any, what lies at a threshold and below another is not rejected.
    assert expected <= 0.05 and found.mean() == pytest.approx(expected, abs=error_of_the_mean(samples))


@pytest.mark.parametrize("kind", ["any of all", "all of any"])
def test_mean_rate_is_kept_by_detectors_nested_both_ways(kind):
    assert 0.035 < rates(kind, 399, by_mean).mean() <= 0.05 + error_of_the_mean(200)


def test_the_plain_share_breaks_the_promise():
    """What the measure above must see: 5 % of the calibration samples are more of fresh ones."""
    for samples in (20, 60, 100):
        assert rates("one", samples, share).mean() > 0.05 + error_of_the_mean(samples)


@pytest.mark.parametrize("kind, samples", [("one", 59), ("one", 300), ("any", 300), ("all", 300), ("any of all", 800)])
def test_confidence_is_kept(kind, samples):
    above = (rates(kind, samples, with_confidence) > 0.05).mean()
    assert above <= 0.05 + 3 * (0.05 * 0.95 / DRAWS) ** 0.5
    if samples == 300:
        assert (rates(kind, samples, by_mean) > 0.05).mean() > 0.3, "which the mean alone does not give"


@pytest.mark.parametrize("kind", ["one", "any", "all"])
def test_ties_only_lower_the_rate(kind):
    assert rates(kind, 100, by_mean, ties=True).mean() <= 0.05 + error_of_the_mean(100)


def test_rank_is_that_of_split_conformal_prediction_and_of_the_binomial_tail():
    for samples, most, expected in ((19, 0.05, 1), (18, 0.05, 0), (99, 0.07, 7), (99, 0.29, 29), (1000, 0.05, 50), (3, 0.25, 1)):
        assert rank(samples, most) == expected
    # (1 - 0.05)^59 = 0.0485 and (1 - 0.05)^58 = 0.0510; 93 and 124 are the tables' for two and three blocks.
    assert [rank(n, 0.05, 0.95) for n in (58, 59, 92, 93, 123, 124)] == [0, 1, 1, 2, 2, 3]
    assert rank(2, 0.5, 0.75) == 1, "as (1 - 0.5)^2 is 1 - 0.75"
    for most, sure in ((0.05, None), (0.05, 0.95), (0.01, 0.99), (0.3, None), (0.07, 0.5)):
        for ranks in (1, 2, 5):
            least = fewest(most, sure, ranks)
            assert rank(least, most, sure) >= ranks > rank(least - 1, most, sure)


def test_what_is_said():
    assert promise(0.05) == "on average at most 5 % of fresh clean samples are rejected"
    assert promise(0.01, 0.95) == "with 95 % confidence at most 1 % of fresh clean samples are rejected"


def test_zero_rejects_none_of_these_samples():
    for detectors, decide in JOINED.values():
        scores = draw(np.random.default_rng(1), detectors, 50)
        found = thresholds(scores, decide, 0)
        assert not decide(scores > found[:, None]).any() and (found >= scores.min(axis=1)).all()


def test_detectors_get_about_the_same_rate():
    for kind, between in (("any", (20, 28)), ("all", (95, 125))):
        detectors, decide = JOINED[kind]
        scores = draw(np.random.default_rng(2), detectors, 500)
        above = (scores > thresholds(scores, decide, 0.1)[:, None]).sum(axis=1)
        assert between[0] <= above.min() and above.max() <= between[1]


@pytest.mark.parametrize("kind", JOINED)
def test_samples_rejected_anyway_take_their_place(kind):
    detectors, decide = JOINED[kind]
    scores = draw(np.random.default_rng(3), detectors, 600)
    scores[0, :10] = np.nan
    found = thresholds(scores, decide, 0.05)
    # NaN fails every comparison; the model rejects it.
    rejected = decide(scores > found[:, None]) | np.isnan(scores).any(axis=0)
    assert np.isfinite(found).all() and 10 < rejected.sum() <= 0.06 * 600
    scores[0, :40] = np.nan
    with pytest.raises(NoRoom, match="6.7% of these samples have a detector score that is not finite"):
        thresholds(scores, decide, 0.05)


def test_what_one_detector_of_any_scores_infinite_fits_into_the_promise():
    scores = draw(np.random.default_rng(5), 2, 100)
    scores[1, :3] = np.inf
    found = thresholds(scores, None, 0.05)
    assert np.isfinite(found).all() and 3 <= (scores > found[:, None]).any(axis=0).sum() <= 5
    scores[0, 3] = np.inf
    with pytest.raises(NoRoom, match="4.0% of these samples have a detector score that is not finite"):
        thresholds(scores, None, 0.05)


def test_what_is_infinite_for_one_of_all_is_left_to_the_others():
    scores = draw(np.random.default_rng(5), 2, 100)
    scores[1, :10] = np.inf
    found = thresholds(scores, JOINED["all"][1], 0.05)
    assert np.isfinite(found).all() and (scores > found[:, None]).all(axis=0).sum() <= 5
    scores[1] = np.inf
    with pytest.raises(NoRoom, match="scores all of these samples"):
        thresholds(scores, JOINED["all"][1], 0.05)


@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("kind", ["any", "all", "any of all"])
def test_what_is_no_score_is_rejected_at_any_threshold(kind, value):
    detectors, decide = JOINED[kind]
    scores = draw(np.random.default_rng(6), detectors, 600)
    clean = thresholds(scores, decide, 0.05)
    scores[1, :20] = value
    found = thresholds(scores, decide, 0.05)
    assert (found >= clean).all() and (found > clean).any()
    scores[1, :60] = value
    with pytest.raises(NoRoom, match="10.0% of these samples"):
        thresholds(scores, decide, 0.05)


@pytest.mark.parametrize("infinite", [0.0, 0.6], ids=["fixed", "infinite"])
def test_mean_rate_is_kept_where_a_detector_is_not_always_needed(infinite):
    """A fixed detector rejects half of all, or one of the detectors scores many +inf: the other must do there what both do."""
    rng, found = np.random.default_rng(7), []
    for _ in range(DRAWS):
        scores, fresh = draw(rng, 3, 600), draw(rng, 3, FRESH)
        for part in (scores, fresh):
            part[1, rng.random(part.shape[1]) < infinite] = np.inf
        fixed, on_fresh = (part[0] > (np.inf if infinite else 0) for part in (scores, fresh))
        value = thresholds(scores[1:], lambda rejects, fixed=fixed: (fixed | rejects[0]) & rejects[1], 0.05)
        found.append(((on_fresh | (fresh[1] > value[0])) & (fresh[2] > value[1])).mean())
    assert 0.01 < np.mean(found) <= 0.05 + error_of_the_mean(300)


def test_too_few_for_detectors_nested_both_ways_are_told_truly():
    detectors, decide = JOINED["any of all"]
    with pytest.raises(TooFew, match="19 samples are too few .* Expected more; 158 usually suffice") as few:
        thresholds(draw(np.random.default_rng(8), detectors, 19), decide, 0.05)
    assert pickle.loads(pickle.dumps(few.value)).needed == 158, "from another process too"
    with pytest.raises(ValueError, match="1 samples are too few"):
        thresholds(draw(np.random.default_rng(8), detectors, 1), decide, 0.5)
    suffice = 0
    for seed in range(50):
        try:
            thresholds(draw(np.random.default_rng(seed), detectors, 158), decide, 0.05)
            suffice += 1
        except ValueError:
            continue
    assert suffice > 40


def test_a_detector_that_is_fixed_takes_its_part():
    rng, found = np.random.default_rng(4), []
    for _ in range(DRAWS):
        scores, fresh = draw(rng, 2, 200), draw(rng, 2, FRESH)
        fixed = scores[1] > 40
        value = thresholds(scores[:1], lambda rejects, fixed=fixed: rejects[0] | fixed, 0.05)[0]
        found.append(((fresh[0] > value) | (fresh[1] > 40)).mean())
    assert np.mean(found) == pytest.approx(rank(200, 0.05) / 201, abs=error_of_the_mean(200))
