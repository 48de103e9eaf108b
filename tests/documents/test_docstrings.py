"""The examples in the docstrings run, each with a small model and samples at hand."""

import doctest
import importlib
import inspect
import pkgutil
import re

import numpy as np
import pytest

import tfdefense as td
from tests.library.test_types import public

MODULES = sorted(module.name for module in pkgutil.walk_packages(td.__path__, "tfdefense."))


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


# Public functions without an example, and why.
NO_EXAMPLE = {
    "calibration.check_images": "says nothing where all is well",
    "calibration.forget_compiled": "nothing is seen of it",
    "conformal.check_promise": "says nothing where all is well",
    "contract.broken": "of a model that is none",
    "contract.check_sound": "says nothing where all is well",
    "contract.read": "as `load`",
    "contract.reject_node": "as `nodes_of`",
    "data.scenes.by_scene": "takes a whole set",
    "export.served_image": "as `served`",
    "export.served_threshold": "as `served`",
    "export.served_uint8": "as `served`",
    "prediction.read_table": "as `write`",
    "view.cached_view": "inner machinery",
    "view.samples_at_once": "follows from the memory of this version",
}

NO_ARGS = {"calibration.forget_compiled", "contract.check_sound", "contract.reject_node", "view.cached_view"}


def test_every_public_function_says_what_it_takes_and_shows_an_example():
    found = {name.removeprefix("tfdefense."): x for name, x in public(td)}
    functions = {name: x for name, x in found.items() if inspect.isfunction(x) and x.__module__.startswith("tfdefense")}
    assert len(functions) > 90
    silent = [name for name, function in functions.items() if "Example" not in (function.__doc__ or "") and name not in NO_EXAMPLE]
    assert not silent, f"without an example: {silent}"
    for name in sorted({*functions} - {*NO_ARGS}):
        given = [key for key in inspect.signature(functions[name]).parameters if key not in ("options", "settings")]
        missing = [key for key in given if not re.search(rf"\b{key}\b", functions[name].__doc__.partition("Args:")[2])]
        assert not missing, f"{name} does not say what it takes as {missing}"
