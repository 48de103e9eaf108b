"""The suite on two models that withstand many small steps: what the searches before it left, and what it leaves."""

import numpy as np
import pytest

import tfdefense as td
from tests.attacks.hard import make

A = td.attacks
SIZES = {"dustbin": ("l2", 1.0), "detector": ("linf", 0.2)}


@pytest.fixture(scope="module")
def samples(held_out):
    """A hundred digits that calibrated nothing."""
    return held_out.x[200:300], held_out.y[200:300]


def left(found):
    return float(np.mean(~found.success))


def small_steps(norm, epsilon, objective):
    return A.PGD(epsilon, norm, steps=50, schedule="fixed", objective=objective, starts="all", early_stop=True)


def shares(name, samples):
    """What withstands each search of small steps, all of them, and the suite."""
    norm, epsilon = SIZES[name]
    model = td.load(make.FOLDER / f"{name}.keras")
    searches = {type(each).__name__: small_steps(norm, epsilon, each) for each in (A.LogSumExp(), A.MaximumConfidence(), A.Evade())}
    searches["selective"] = A.OrthogonalPGD(epsilon, norm, 50, schedule="fixed", form="selective", starts="all")
    found = {name: search(model, *samples) for name, search in searches.items()}
    shares = {name: left(each) for name, each in found.items()}
    shares["all"] = float(np.mean(~np.any([each.success for each in found.values()], axis=0)))
    shares["suite"] = left(A.suite("standard-1").attack(epsilon, norm)(model, *samples))
    return shares


# Measured: .28 and .06 on the dustbin; on the detector .20 of all, .47 and .53 of the two that cards counted on, and .11.
@pytest.mark.slow
@pytest.mark.parametrize("model, most", [("dustbin", 0.08), ("detector", 0.13)])
def test_the_suite_finds_what_small_steps_do_not(samples, model, most):
    found = shares(model, samples)
    assert found["suite"] <= most
    assert found["all"] - found["suite"] > (0.2 if model == "dustbin" else 0.05)
    assert min(found["Evade"], found["selective"]) - found["suite"] > 0.2
