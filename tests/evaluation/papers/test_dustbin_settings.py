from pathlib import Path

import numpy as np
import pytest

from evaluation.papers.dustbin import protocol
from evaluation.papers.dustbin.settings import (
    BENIGN,
    BOTH,
    MORE_OOD,
    NAIVE,
    NOISE,
    OUT,
    PAPER,
    PLANS,
    SOURCE,
    WIDE,
    changed,
    dustbin_of,
    trainings,
    trainings_of_more,
)
from evaluation.papers.intervals import balanced, wilson
from evaluation.runner.rows import beside_paper, make, paper_numbers

PLAN = PLANS["digits"]


def test_paper_numbers_are_where_they_belong():
    known = paper_numbers(Path(protocol.__file__).parent)

    def of(dataset, attack, network, metric="error rate", **more):
        row = make(protocol.TABLE, metric, 0.5, attack=attack, **network.fields() | more)
        return beside_paper(row, dataset, known).paper

    def rates(dataset, attack, network):
        return tuple(of(dataset, attack, network, metric) for metric in protocol.RATES)

    assert rates("mnist", "DeepFool", OUT) == (0.1145, 0.0472, 0.8383)
    assert rates("cifar10", "Carlini-Wagner", BOTH) == (0.39, 0.395, 0.215)
    assert rates("mnist", "FGS", NAIVE) == (0.3514, None, 0.6486)
    assert rates("digits", "FGS", NAIVE) == rates("mnist", "DeepFool, longer", NAIVE) == (None, None, None)
    assert rates("mnist", "FGS", SOURCE) == (None, None, None), "the paper does not say what misleads its source"
    assert of("cifar10", "", BOTH, "accuracy") == 0.8665 and of("mnist", "", OUT, "rejection rate", ood="notmnist") == 0.9996
    assert of("mnist", "", BENIGN, "accuracy") is None
    for dataset in ("mnist", "cifar10"):
        for network in PAPER:
            every = [rates(dataset, attack, network) for attack in ("FGS", "I-FGS", "T-FGS", "DeepFool", "Carlini-Wagner")]
            for accuracy, rejection, error in every:
                assert accuracy + (rejection or 0) + error == pytest.approx(1, abs=0.011)
            if (dataset, network) in (("mnist", BOTH), ("cifar10", BOTH), ("cifar10", OUT)):
                average = of(dataset, "average", network, deepfool="DeepFool")
                assert np.mean([error for *_, error in every]) == pytest.approx(average, abs=1e-3)


def test_every_change_is_a_setting_that_a_recipe_takes():
    from training import recipe as recipes

    for plan in PLANS.values():
        known = trainings(plan)
        networks = {*PAPER, *(network._replace(threshold=None) for network in changed(plan))}
        keys = {recipes.find(known[network][0]).changed(**known[network][1]).key() for network in networks}
        assert len(keys) == len(networks) == (11 if plan.other else 4), "two changes give the same network"
        assert recipes.find(plan.recipe).changed(**known[NAIVE][1]).train_samples == plan.seen
        assert len({str(network) for network in changed(plan)}) == len(changed(plan)), "two parts of one name"
    assert changed(PLANS["cifar10"])[-1] == BENIGN._replace(threshold=NOISE)
    assert trainings(PLAN, epochs=2)[BENIGN][1] == {"train_samples": 1200, "epochs": 2, "benign": PLAN.trained_with}


def test_more_ood_images_are_a_recipe_and_none_of_those_tested_on():
    from training import recipe as recipes

    plan = PLANS["cifar10"]
    full, quick = trainings_of_more(plan), trainings_of_more(plan, True)
    made = {network: recipes.find(recipe).changed(**settings) for network, (recipe, settings) in full.items()}
    sets = [part.get("set") for part in made[MORE_OOD].dustbin]
    assert sets == [plan.ood, *plan.more, None] and made[WIDE].dustbin == made[MORE_OOD].dustbin
    assert made[WIDE].model_options == {"width": 56} and made[MORE_OOD].model_options == made[BOTH].model_options
    for of, quickly in ((full, False), (quick, True)):
        assert all(of[network] == trainings(plan, quickly)[network] for network in (NAIVE, BOTH)), "from the same cache"
    assert recipes.find(quick[WIDE][0]).changed(**quick[WIDE][1]).model_options == {"width": 20}
    wider = trainings_of_more(plan, width=64)[WIDE]
    assert recipes.find(wider[0]).changed(**wider[1]).model_options == {"width": 64}


def test_interval_of_a_share_is_wilsons():
    # Of 10 in 100, as tables of it say.
    assert wilson(0.1, 100) == pytest.approx((0.0552, 0.1744), abs=1e-4)
    assert wilson(0.0, 10)[0] == 0 and wilson(1.0, 10)[1] == 1 and wilson(0.5, 0) is None


def test_interval_of_a_detection_accuracy_holds_it_in_95_of_100_draws():
    rng, kept, caught, clean, attacked = np.random.default_rng(0), 0.8, 0.95, 200, 60
    within = []
    for _ in range(2000):
        one, other = rng.binomial(clean, kept) / clean, rng.binomial(attacked, caught) / attacked
        low, high = balanced((one + other) / 2, 1 - one, clean, attacked)
        within.append(low <= (kept + caught) / 2 <= high)
    assert 0.93 < np.mean(within) < 0.975
    assert balanced(None, 0.1, 10, 10) is balanced(0.5, None, 10, 10) is balanced(0.5, 0.1, 10, 0) is None


def test_parts_are_those_of_the_recipes_and_quick_runs_keep_their_shares():
    from training import recipe as recipes

    for dataset in ("mnist", "cifar10"):
        plan = PLANS[dataset]
        full, quick = (
            {network: recipes.find(known[network][0]).changed(**known[network][1]) for network in PAPER}
            for known in (trainings(plan), trainings(plan, True))
        )
        parts = dustbin_of(plan, False)
        assert full[BOTH].dustbin == parts and full[OUT].dustbin == parts[:1]
        assert not quick[NAIVE].dustbin and quick[BOTH].train_samples == plan.seen / 10
        between = quick[BOTH].dustbin[1]
        assert between["per_class"] == full[BOTH].dustbin[1]["per_class"] / 10
        assert recipes.source(between).recipe == quick[NAIVE], "its features come from the naive network of the run"
        assert trainings(plan)[BOTH][1] == {}
