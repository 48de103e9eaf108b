"""The examples in the docstrings run, each with a small model and samples at hand."""

import doctest
import importlib
import pkgutil

import numpy as np
import pytest

import tfdefense as td

# Tested beside their own samples.
ELSEWHERE = ("tfdefense.data.scenes",)
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(td.__path__, "tfdefense.") if not module.name.startswith(ELSEWHERE)
)


def _examples(name):
    module = importlib.import_module(name)
    return [test for test in doctest.DocTestFinder(exclude_empty=True).find(module, name) if test.examples]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module(name, classifier, defended, digits, held_out):
    import keras

    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    runner, weights = doctest.DocTestRunner(optionflags=flags), classifier.get_weights()
    for test in _examples(name):
        test.globs.update({name: getattr(td.attacks, name) for name in td.attacks.__all__})
        test.globs.update(
            np=np, keras=keras, td=td, model=classifier, defended=defended, x=held_out.x[:8], y=held_out.y[:8],
            x_held_out=held_out.x, y_held_out=held_out.y, x_train=digits.x[:300], y_train=digits.y[:300],
        )  # fmt: skip
        runner.run(test)
    # Examples of trainers train it, and other tests want it as it was.
    classifier.set_weights(weights)
    assert runner.summarize(verbose=False).failed == 0


def test_the_layers_and_attacks_have_examples():
    with_examples = {test.name.rsplit(".", 1)[-1] for name in MODULES for test in _examples(name)}
    missing = {
        "Threshold",
        "Join",
        "Reject",
        *(kind.__name__ for kind in td.layers.scores.SCORES.values()),
        "Dustbin",
        "PGD",
        "FGSM",
        "DeepFool",
    } - with_examples
    assert not missing
