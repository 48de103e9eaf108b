"""How the learning rate rises and falls over a run."""

import dataclasses

import keras
import numpy as np
import pytest

from tests.training.test_training import StopAfter
from training import recipe as recipes
from training.train import train


def test_learning_rate_rises_and_falls_to_zero():
    from training.loop import RisingCosine

    schedule = RisingCosine(0.1, 100, warmup_steps=10)
    assert [float(schedule(step)) for step in (4, 50, 100, 500)] == pytest.approx([0.04980, 0.05, 0, 0], abs=1e-4)
    assert [float(schedule(step)) for step in (0, 9, 10)] == pytest.approx([0.01, 0.09801, 0.09755], abs=1e-5)
    assert float(RisingCosine(**schedule.get_config())(7)) == float(schedule(7))


def test_paper_schedule_drops_where_the_paper_has_it():
    from training.loop import _falling

    for name, steps, drops in (("mnist", 468, (10_062, 15_093)), ("cifar10", 390, (40_040, 60_060, 80_080))):
        recipe = recipes.find(f"{name}_resnet_rce_sgd")
        rate = _falling(recipe, recipe.optimizer_options["learning_rate"], steps)
        found = [[float(rate(step)) for step in (drop - 1, drop)] for drop in drops]
        assert np.array(found) == pytest.approx(np.array([[0.1**i, 0.1 ** (i + 1)] for i in range(1, len(drops) + 1)]))
    with pytest.raises(ValueError, match="rise between 0 and 1.* without `decay`.*Received .0.75, 0.5."):
        _falling(dataclasses.replace(recipe, drops=(0.75, 0.5)), 0.1, 10)


@pytest.mark.slow
def test_run_with_drops_goes_on_where_it_was_stopped(tmp_path):
    """The rate follows from the steps that the state holds: a run in two parts ends with the weights of one in one part."""

    options = {"verbose": 0, "epochs": 4, "train_samples": 256, "optimizer": "SGD", "learning_rate": 0.1, "drops": (0.25, 0.75)}
    whole = train("digits", cache=tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        train("digits", cache=tmp_path / "parts", callbacks=[StopAfter(2)], **options)
    parts = train("digits", cache=tmp_path / "parts", **options)
    one, other = (keras.models.load_model(path / "model.keras", compile=False).get_weights() for path in (whole, parts))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "SGDD", "learning_rate": 0.1}, "`optimizer` must be a class of keras.optimizers.*Received 'SGDD'"),
        ({"optimizer": "SGD"}, "A schedule needs a `learning_rate`. Received none for SGD"),
    ],
)
def test_optimizers_that_cannot_train_are_refused(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        train("digits_resnet_ce", cache=tmp_path, **settings)
