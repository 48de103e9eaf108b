"""Old names go on working for one version, and say what is new."""

import importlib
import pkgutil
import sys
import warnings

import keras
import numpy as np
import pytest

import tfdefense as td
from tfdefense import cli
from tfdefense._renamed import renamed_keywords, renamed_options


@renamed_keywords(old="new", former="latter")
def function(first, new=None, *, latter=None):
    """What it does."""
    return first, new, latter


def test_old_keyword_works_and_names_the_new_one():
    with pytest.warns(DeprecationWarning, match="`old` is now called `new`") as told:
        assert function(1, old=2) == (1, 2, None)
    assert told[0].filename == __file__, "it is told to whoever calls"
    with pytest.warns(DeprecationWarning, match="`former` is now called `latter`"):
        assert function(1, 2, former=3) == (1, 2, 3)
    assert function.__doc__ == "What it does."


def test_new_keyword_is_passed_on_without_a_word():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert function(1, new=2, latter=3) == (1, 2, 3)


def test_both_names_at_once_are_refused():
    with pytest.raises(TypeError, match="`old` is the old name of `new`"):
        function(1, new=2, old=3)


def test_the_surrogate_of_earlier_versions_is_bpda_and_its_flag_exact_forward():
    A = td.attacks
    with pytest.warns(DeprecationWarning, match="`td.attacks.Through` is now `td.attacks.BPDA`.*`exact_forward`") as told:
        assert A.Through(A.PGD(0.1)) == A.BPDA(A.PGD(0.1), exact_forward=False)
    assert told[0].filename == __file__
    with pytest.warns(DeprecationWarning, match="BPDA"):
        assert A.Through(A.PGD(0.1), [(2.0, 1.0)], straight_through=True) == A.BPDA(A.PGD(0.1), [(2.0, 1.0)])
    with pytest.warns(DeprecationWarning, match="`straight_through` is now called `exact_forward`"):
        assert td.layers.Differentiable(td.layers.QuantizedReLU(), straight_through=True).exact_forward
    with pytest.warns(DeprecationWarning, match="`straight_through`"), pytest.raises(ValueError, match="no layer that offers"):
        td.differentiable(keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]), straight_through=True)


def test_batches_of_attacks_and_reports_were_kept_and_are_cached(classifier, held_out, tmp_path):
    x, y = held_out.x[:4], held_out.y[:4]
    with pytest.warns(DeprecationWarning, match="`kept` is now called `cache`"):
        found = td.attacks.Transfer(td.attacks.FGSM(0.1), classifier)(classifier, x, y, kept=tmp_path)
    assert len(list(tmp_path.glob("*/000000.npz"))) == 1
    np.testing.assert_array_equal(td.attacks.FGSM(0.1)(classifier, x, y, regardless=True, cache=tmp_path).x_adv, found.x_adv)
    assert len(list(tmp_path.glob("*/*.npz"))) == 1
    for old, new in {"kept": "cache", "foreign": "ood", "held": "holds_from"}.items():
        with pytest.warns(DeprecationWarning, match=f"`{old}` is now called `{new}`"), pytest.raises(ValueError, match="classes"):
            td.report(classifier, (x, y), classes=["one"], **{old: tmp_path})


def test_changes_that_count_as_clean_were_harmless_and_are_benign(classifier):
    defended = td.AdversaryDetector("conv").attach(classifier)
    with pytest.warns(DeprecationWarning, match="`harmless` is now called `benign`"):
        assert (
            td.DetectorTraining(defended, harmless=[("sign", 0.1)]).benign
            == td.DetectorTraining(defended, benign=[("sign", 0.1)]).benign
        )


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("td", "adversarial", "trainers.adversarial"),
        ("td", "decisions", "view"),
        ("td", "defended", "contract"),
        ("td", "defended_model", "contract"),
        ("td", "detection", "trainers.detector"),
        ("td", "surrogate", "attacks.surrogate"),
        ("td", "smoothed", "differentiable"),
        ("td", "twins", "adversarial_pairs"),
        ("td", "OutDistribution", "DustbinDefense"),
        ("td.attacks", "Found", "Candidates"),
        ("td.attacks", "Of", "Transferred"),
        ("td.attacks", "Strongest", "WorstCase"),
        ("td.defenses", "OutDistribution", "DustbinDefense"),
        ("td.layers", "AdversaryMachine", "DetectorSVM"),
        ("td.layers", "MatchedMachines", "ClasswiseDetectorSVM"),
        ("td.layers", "Smoothed", "Differentiable"),
        ("td.metrics", "harmless", "benign_perturbation"),
        ("td.trainers", "twins", "adversarial_pairs"),
    ],
)
def test_old_names_work_and_name_the_new_ones(module, old, new):
    there = pkgutil.resolve_name(module.replace("td", "tfdefense"))
    with pytest.warns(DeprecationWarning, match=f"`{module}.{old}` is now `{module}.{new}`") as told:
        found = getattr(there, old)
    assert found is pkgutil.resolve_name(f"{there.__name__}.{new}") and told[0].filename == __file__
    assert old not in dir(there) and old not in there.__all__


@pytest.mark.parametrize("module", ["tfdefense", "tfdefense.attacks", "tfdefense.metrics"])
def test_an_unknown_name_suggests_the_nearest(module):
    there = pkgutil.resolve_name(module)
    name = there.__all__[0]
    with pytest.raises(AttributeError, match=f"'{module}' has no attribute '{name}x'. Did you mean `{name}`"):
        getattr(there, f"{name}x")


@pytest.mark.parametrize(("old", "new"), [("references", "support_vectors"), ("machines", "svms")])
def test_old_attributes_work_and_name_the_new_ones(old, new, tmp_path):
    layer = td.layers.RBFSVM(3)
    layer.build((None, 2))
    with pytest.warns(DeprecationWarning, match=f"`{old}` is now called `{new}`") as told:
        assert getattr(layer, old) is getattr(layer, new)
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*is now called")
        keras.Sequential([keras.Input((2,)), layer]).save(tmp_path / "m.keras")
    with pytest.raises(AttributeError, match="'RBFSVM' object has no attribute 'machine'"):
        layer.machine  # noqa: B018


def test_the_metric_of_a_threshold_is_its_score():
    with pytest.warns(DeprecationWarning, match="`metric` is now called `score`"):
        defense = td.ThresholdDefense(metric="non-me")
    with pytest.warns(DeprecationWarning, match="`metric` is now called `score`"):
        assert defense.metric == defense.score == "non-me"


def test_old_option_is_passed_on_under_the_new_name():
    told = []
    old = ["--old", "x", "--old=y", "--older", "old"]
    assert renamed_options(old, told.append, old="new") == ["--new", "x", "--new=y", "--older", "old"]
    assert len(told) == 2 and "--old is now called --new" in told[0]


@pytest.mark.parametrize(
    ("options", "notes"),
    [
        (["--keep", "here"], ["--keep is now called --cache"]),
        (["--unaware"], ["--unaware is now called --oblivious"]),
        (["--through", "smooth"], ["--through is now called --surrogate"]),
        (["--through", "straight"], ["--through is now called --surrogate", "straight is now called --surrogate bpda"]),
    ],
)
def test_old_option_works_and_names_the_new_one(options, notes, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tfdefense", "attack", "none.keras", "--data", "digits", *options])
    with pytest.raises(SystemExit):
        cli.main()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(notes) + 1 and all(note in line for note, line in zip(notes, lines, strict=False))
    assert "none.keras" in lines[-1] and "No such option" not in lines[-1]


@pytest.mark.parametrize(
    "code, old, new",
    [
        ("from tfdefense.decisions import View, decide", "decisions", "view"),
        ("import tfdefense.surrogate", "surrogate", "attacks.surrogate"),
        ("from tfdefense.detection import DetectorTraining, twins", "detection", "trainers.detector"),
    ],
)
def test_modules_of_old_names_can_be_imported(code, old, new):
    for name in [name for name in sys.modules if name == f"tfdefense.{old}"]:
        del sys.modules[name]
    namespace = {}
    with pytest.warns(DeprecationWarning) as said:
        exec(code, namespace)
    assert f"The module `tfdefense.{old}` is now `tfdefense.{new}`" in str(said[0].message)
    current = importlib.import_module(f"tfdefense.{new}")
    assert all(namespace[name] is getattr(current, name) for name in {"View", "decide", "DetectorTraining"} & namespace.keys())
    with pytest.raises(ModuleNotFoundError, match="tfdefense.decission"):
        importlib.import_module("tfdefense.decission")
