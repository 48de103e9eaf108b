"""The theorems behind `td.Monitor`, against their definitions and by simulation."""

import numpy as np
import pytest

from tfdefense.monitoring.reference import bin_edges
from tfdefense.monitoring.sequential import EDGES, EVERY, HEIGHTS, Exchangeability, confidence_sequence, is_above, log_mixture


def test_every_bet_is_a_density():
    widths = np.diff(np.concatenate([[0], EDGES, [1]]))
    np.testing.assert_allclose(widths @ np.exp(HEIGHTS), 1, rtol=1e-12)


def test_evidence_is_that_of_its_definition():
    rng = np.random.default_rng(0)
    pool, bins, uniform = [3, 0, 5], rng.integers(0, 3, 200), rng.random(200)
    seen = np.repeat([0, 1, 2], pool).tolist()
    gains = []
    for label, u in zip(bins, uniform, strict=True):
        seen.append(label)
        above, equal = (np.array(seen) > label).sum(), (np.array(seen) == label).sum()
        gains.append(np.exp(HEIGHTS[np.searchsorted(EDGES, (above + u * equal) / len(seen))]))
    gains, expected = np.array(gains), []
    for t in range(200):
        starts = range(0, t + 1, EVERY)
        bet = sum(np.prod(gains[start : t + 1], axis=0) / ((j + 1) * (j + 2)) for j, start in enumerate(starts))
        expected.append((bet + 1 / (len(starts) + 1)).mean())
    whole = Exchangeability(pool).update(bins, uniform)[0]
    np.testing.assert_allclose(np.exp(whole), expected, rtol=1e-9)
    # In pieces, and with its state written in between.
    test = Exchangeability(pool)
    first = test.update(bins[:77], uniform[:77])[0]
    second = Exchangeability.of_state(test.state()).update(bins[77:], uniform[77:])[0]
    np.testing.assert_allclose(np.concatenate([first, second]), whole, rtol=1e-9)


def binned(pool, service):
    """Counts of the pool and bins of the service, by edges from the first half of what was held out."""
    edges = bin_edges(pool[: len(pool) // 2])
    counts = np.bincount(np.searchsorted(edges, pool[len(pool) // 2 :]), minlength=len(edges) + 1)
    return counts, np.searchsorted(edges, service)


def weeks(count, shift, seed, per_week=700, held_out=300):
    """How many of so many services, each with its own held-out samples, ring within their first week at 5 %."""
    rng, rung = np.random.default_rng(seed), 0
    for _ in range(count // 100):
        counts, bins = zip(
            *(binned(rng.standard_t(3, held_out), rng.standard_t(3, per_week) + shift) for _ in range(100)), strict=True
        )
        found = Exchangeability(np.array(counts)).update(np.array(bins), 1 - rng.random((100, per_week)))
        rung += int((found >= np.log(1 / 0.05)).any(axis=1).sum())
    return rung


@pytest.mark.slow
def test_false_alarms_stay_below_the_promised_rate_over_a_thousand_weeks():
    # A rate of 5 % gives 50, and more than 65 once in a hundred; Ville's inequality is seldom reached.
    assert 5 <= weeks(1000, 0.0, seed=0) <= 50


def test_shifts_are_found():
    assert weeks(100, 1.0, seed=1) >= 95 and weeks(100, -1.0, seed=2) >= 95


def test_a_drift_that_begins_late_is_found():
    rng = np.random.default_rng(3)
    counts, bins = binned(rng.normal(size=300), np.concatenate([rng.normal(size=5000), rng.normal(size=500) + 1]))
    found = Exchangeability(counts).update(bins, 1 - rng.random(5500))[0]
    assert found[:5000].max() < np.log(20) < found[-1]
    assert np.argmax(found > np.log(20)) < 5000 + 300


def test_an_interval_that_holds_at_all_times_is_wider_than_one_of_one_look():
    assert confidence_sequence(0, 0, 0.05) == (0, 1)
    assert confidence_sequence(0, 50, 0.05)[0] == 0 and confidence_sequence(50, 50, 0.05)[1] == 1
    low, high = confidence_sequence(50, 1000, 0.05)
    # Wilson's, of one look.
    assert low < 0.0381 and high > 0.0653 and high - low < 0.055
    np.testing.assert_allclose(log_mixture(50, 1000, [low, high]), np.log(20), rtol=1e-6)
    assert is_above(50, 1000, low * 0.999, 0.05) and not is_above(50, 1000, low * 1.001, 0.05)
    assert not is_above(0, 0, 0.05, 0.05)


@pytest.mark.parametrize("rate", [0.02, 0.3])
def test_intervals_hold_at_all_times_at_once(rate):
    successes = np.cumsum(np.random.default_rng(4).random((1000, 1000)) < rate, axis=1)
    missed = (log_mixture(successes, np.arange(1, 1001), rate) >= np.log(1 / 0.05)).any(axis=1)
    assert 0 < missed.sum() <= 50
