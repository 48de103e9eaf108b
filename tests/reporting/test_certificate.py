"""What a report proves of a smoothed model, under the curve of its attacks."""

import keras
import pytest

import tfdefense as td
from tfdefense.certificates.smoothing import is_smoothed
from tfdefense.reporting import page
from tfdefense.reporting.plan import Plan
from tfdefense.reporting.protocol import Protocol, run

PLAN = Plan(l2=(0.1, 0.5), compared={"l2": 0.1}, samples=6, clean=20, votes=300)


def only_clean(model, images, certificate):
    protocol = Protocol(model, images, PLAN)
    kept = {"clean", *(["certificate"] if certificate else [])}
    return protocol, run(protocol, without={job.part for job in protocol.jobs()} - kept)


def test_certified_curve_is_that_of_certify(classifier, held_out):
    model = td.Smoothed(0.15, samples=8, alpha=0.1).attach(classifier)
    protocol, found = only_clean(model, held_out.take(slice(0, 20)), True)
    curve, alone = found["curves"]["l2"]["certified"], td.certify(model, protocol.x, protocol.y, samples=300)
    assert curve == {"sizes": [0.1, 0.5], "robust_accuracy": [alone.accuracy(0.1), alone.accuracy(0.5)], "start": alone.accuracy()}
    assert curve["start"] > 0.5 > curve["robust_accuracy"][1] == 0
    adaptive = {"sizes": [0.1, 0.5], "robust_accuracy": [1, 0.5], "rejected": [0, 0]}
    content = found | {"about": {"rejects": True, "plan": {"compared": {"l2": 0.1}}}}
    drawn = page._curves("l2", {"adaptive": adaptive, "certified": curve}, content)
    assert f"certified: proved right of the majority over all noise: {curve['start']:.1%} at 0" in drawn


def test_nothing_is_proved_of_other_models(defended, held_out):
    protocol, found = only_clean(defended, held_out.take(slice(0, 20)), True)
    assert "certificate" not in {job.part for job in protocol.jobs()} and "l2" not in found["curves"]
    image = keras.Input((8, 8, 1))
    scores = keras.layers.Dense(3)(keras.layers.Flatten()(image))
    by_hand = keras.Model(image, {"scores": scores, "suspicion": scores[:, 0], "label": scores[:, 1]})
    assert not is_smoothed(by_hand) and not is_smoothed(lambda x: x)
    with pytest.raises(ValueError, match="`votes` must be a whole number of at least 1. Received: 0"):
        Plan(l2=(0.1, 0.5), compared={"l2": 0.1}, votes=0)
