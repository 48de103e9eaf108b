"""Suites: what is in each, what the worst case is on models where it is known, and what the protocols' own lists were."""

import numpy as np
import pytest

from tfdefense import attacks as A
from tfdefense.attacks import suites
from tfdefense.attacks.suites import Situation

# A published number names its suite. Whoever changes one of these lists makes a new version beside it.
PLAIN = ("cross-entropy", "margin")
FIRST = (*PLAIN, "log-sum-exp", "minimum norm", "maximum confidence")
SURROGATE = ("PGD, differentiable surrogate", "selective PGD, BPDA")
TARGETED = ("targeted ratio of logits", "log-sum-exp from a substitute network")
SEARCHES = (*FIRST, "APGD", "ratio of logits", "PGD", "selective PGD", *SURROGATE, *TARGETED)
OBLIVIOUS = ("FGSM, oblivious", "PGD, oblivious", "DeepFool, oblivious", "Carlini-Wagner, oblivious")
AUTHORS = (
    "RBF-SVM: maximum confidence",
    "density: Carlini-Wagner with a penalty",
    "detector branch: dynamic adversary",
    "discrete codes: Carlini-Wagner, differentiable surrogate",
)
OTHERS = ("PGD from the sample, differentiable surrogate", "DeepFool", "Carlini-Wagner", *AUTHORS)
ASKING = ("Square, black box", "HopSkipJump, black box")
BEGIN = ("one step", "PGD from the sample")
STANDARD = (*OBLIVIOUS, *BEGIN, *SEARCHES, *OTHERS, "PGD on a substitute network, black box", *ASKING)
PINNED = {
    "quick-1": (*OBLIVIOUS[:2], *BEGIN, *FIRST, SURROGATE[0]),
    "standard-1": STANDARD,
    "thorough-1": (*STANDARD, "orthogonal PGD"),
    "rce-2": ("PGD", "selective PGD", "log-sum-exp"),
    "dustbin-2": (
        *(f"{name}{where}" for name in ("PGD", "log-sum-exp", "selective PGD") for where in (" from the sample", "")),
        "Carlini-Wagner",
    ),
    "detector-2": (
        *("selective PGD", "PGD", "log-sum-exp", "maximum confidence", "orthogonal PGD"),
        *(f"dynamic adversary, sigma {sigma}" for sigma in ("0.3", "0.4", "0.43", "0.46", "0.49", "0.5")),
    ),
    "safetynet-2": ("PGD from the sample", "PGD", "selective PGD", "log-sum-exp", *ASKING, "Carlini-Wagner"),
    "sceneproof-2": ("margin", "selective PGD", "log-sum-exp", "PGD"),
}
REJECTING = {"rejects": True, "smooth": True}
BALL = {"norm": "l2", "steps": 7}
MAXIMUM = {"objective": A.MaximumConfidence(), "early_stop": True}


@pytest.mark.parametrize("name", suites.names())
def test_a_suite_is_what_its_version_says(name):
    assert tuple(attacker.title for attacker in suites.get(name).attackers) == PINNED[name]


def test_all_suites_are_pinned_and_an_unknown_one_is_told():
    assert set(suites.names()) == set(PINNED)
    with pytest.raises(ValueError, match="No suite named 'standard-2'. Did you mean `standard-1`"):
        suites.get("standard-2")


def test_names_are_unique_wherever_attacks_are_run_together():
    for name in suites.names():
        for rejects in (False, True):
            for norm in ("linf", "l2"):
                situation = Situation(norm, 0.1, rejects=rejects, base=True, substitute="another")
                fitting = [one.title for one in suites.get(name).attackers if one.fits(situation)]
                assert len(fitting) == len(set(fitting)), (name, norm, rejects)


def test_the_worst_case_is_a_cascade_of_searches_without_what_others_find():
    suite = suites.get("standard-1")
    situation = Situation("linf", 0.1, rejects=True, base=True, starts=("base", "sample"), watched=frozenset({"RBFSVM"}))
    found = suite.worst_case(situation)
    authors, black_box = "RBF-SVM: maximum confidence", "Square, black box"
    rejecting = [name for name in SEARCHES if name not in (*PLAIN, *SURROGATE, TARGETED[1])]
    assert list(found.named) == [*rejecting, authors, black_box] and found.until_success and found.within == 0.1
    assert found.named["log-sum-exp"] == A.PGD(0.1, steps=50, objective=A.LogSumExp(), starts=("base", "sample"), early_stop=True)
    assert found.named["targeted ratio of logits"].targets == 9
    coded = suite.attacks(Situation("linf", 0.1, rejects=True, smooth=True, coded=True, starts="sample"))
    assert all(isinstance(coded[name], A.BPDA) for name in rejecting)
    assert [name for name in rejecting + [SURROGATE[0]] if not coded[name].exact_forward] == [SURROGATE[0]]


def test_detector_is_under_five_searches_and_six_sigmas():
    suite = suites.get("detector-2")
    ball = {"epsilon": 0.2, "steps": 7}
    pgd = [A.PGD(**ball, objective=o, starts="all", early_stop=True) for o in (A.Evade(), A.LogSumExp(), A.MaximumConfidence())]
    forms = [A.OrthogonalPGD(**ball, form=form, starts="all") for form in ("selective", "orthogonal")]
    dynamic = [
        A.DynamicAdversary(**ball, sigma=one, early_stop=True, schedule="fixed") for one in (0.3, 0.4, 0.43, 0.46, 0.49, 0.5)
    ]
    found = suite.attacks(Situation("linf", 0.2, 7, rejects=True, **suite.options))
    assert list(found.values()) == [forms[0], *pgd, forms[1], *dynamic]


def test_codes_are_searched_on_their_surrogate_and_by_questions():
    suite = suites.get("safetynet-2")
    options = {"steps": 7, "queries": 300} | suite.options
    found = suite.attacks(Situation("linf", 0.1, **options, **REJECTING))
    pgd = {"steps": 7, "starts": "all", "restarts": 3}
    late = ((5.0, 2.0), (20.0, 1.0))
    assert list(found.values()) == [
        A.BPDA(A.PGD(0.1, steps=7, starts="sample", early_stop=True), exact_forward=False),
        A.BPDA(A.PGD(0.1, **pgd, early_stop=True), exact_forward=False),
        A.BPDA(A.OrthogonalPGD(0.1, **pgd), late),
        A.BPDA(A.PGD(0.1, **pgd, early_stop=True, objective=A.LogSumExp()), late),
        A.Square(0.1, queries=300),
        A.HopSkipJump("linf", queries=300),
    ]
    nearest = suite.attacks(Situation("l2", 1.0, **options))["Carlini-Wagner"]
    assert nearest == A.CarliniWagner(steps=14, binary_search_steps=9)


@pytest.mark.parametrize(("name", "count"), [("rce-2", 3), ("sceneproof-2", 3), ("dustbin-2", 6)])
def test_papers_run_each_of_their_searches_on_what_rejects(name, count):
    suite = suites.get(name)
    situation = Situation("linf", 0.1, 7, rejects=True, **({"starts": ("base", "random")} | suite.options))
    found = suite.attacks(situation)
    assert len(found) == count
    assert found["PGD"] == A.PGD(0.1, steps=7, objective=A.Evade(), starts=situation.starts, early_stop=True)
    assert found["selective PGD"] == A.OrthogonalPGD(0.1, steps=7, starts=situation.starts)


def test_the_situation_follows_from_the_model(classifier, defended, held_out):
    samples = held_out.x[:20], held_out.y[:20]
    plain, guarded = (Situation.of(model, samples, "linf", 0.1, steps=3) for model in (classifier, defended))
    assert (plain.rejects, plain.base) == (False, False) and (guarded.rejects, guarded.base) == (True, True)
    assert guarded.starts[0] == "base" and guarded.starts[2:] == ("sample", "random") and "base" not in plain.starts
    np.testing.assert_array_equal(guarded.starts[1].pool[1], samples[1])
    assert "Threshold" in guarded.watched and not guarded.coded
    one_class = Situation.of(defended, (samples[0], np.zeros(20, int)), "linf", 0.1)
    assert one_class.starts == ("base", "sample", "random")
    named = Situation.of(defended, samples, "linf", 0.1, source=classifier)
    assert isinstance(named.starts[0], A.Transferred) and named.oblivious(A.FGSM(0.1)).source is classifier


def test_worst_case_is_known_on_a_line(line):
    """In linf a sample of a linear model falls exactly where its lead is less than the size times the l1 norm of the weights."""
    model, weights, x, y = line
    from tests.attacks.conftest import smallest

    nearest = smallest(weights, x, y, 1)
    epsilon = float(np.median(nearest))
    suite = suites.get("standard-1")
    result = suite.worst_case(suite.situation(model, (x, y), "linf", epsilon, steps=20))(model, x, y)
    np.testing.assert_array_equal(result.success, nearest < epsilon)
    np.testing.assert_array_equal(result.found_by != "", result.success)
    assert set(result.found_by) <= {"", *PLAIN, "minimum norm"} and 0 < result.success.sum() < len(x)


class Moves(A.Attack):
    """Adds a fixed step: what it breaks on a line is known."""

    norm = "linf"

    def __init__(self, step):
        self.step = step

    def perturb(self, batch, start):
        return A.Candidates(batch.x + self.step, np.ones(len(start), int), np.zeros(len(start), bool))


@pytest.fixture(scope="module")
def ruler():
    """Class 1 above one half; rejects above 0.9."""
    import tensorflow as tf

    def model(x):
        lead = x[:, 0] - 0.5
        suspicion = x[:, 0] - 0.9
        scores = tf.stack([-lead, lead], -1)
        label = tf.where(suspicion > 0, -1, tf.argmax(scores, -1, output_type=tf.int32))
        return {"scores": scores, "suspicion": suspicion, "label": label}

    return model


def test_each_sample_knows_which_attack_broke_it_and_a_rejection_is_none(ruler):
    x = np.array([[0.4], [0.2], [0.6], [0.05], [0.3]], "float32")
    y = np.zeros(5, int)
    both = {"short": Moves(0.15), "long": Moves(0.65), "back": Moves(-0.01)}
    result = A.WorstCase(both)(ruler, x, y)
    # 0.4 moves to 0.55 or is rejected at 1.05; 0.2 falls to the long step; 0.6 was wrong; 0.05 falls to the long one at 0.7.
    assert result.found_by.tolist() == ["short", "long", "clean", "long", ""]
    assert result.success.tolist() == [True, True, True, True, False] and result.label[4] != 1
    sparing = A.WorstCase(both, until_success=True)(ruler, x, y)
    assert sparing.steps.tolist() < result.steps.tolist() and sparing.found_by.tolist() == result.found_by.tolist()
    near = A.WorstCase(both, within=0.2)(ruler, x, y)
    assert near.found_by.tolist() == ["short", "", "clean", "", ""], "what lies beyond the size is no success"


def test_worst_case_goes_on_from_an_earlier_result(ruler):
    x, y = np.array([[0.4], [0.2], [0.05]], "float32"), np.zeros(3, int)
    first = Moves(0.15)(ruler, x, y)
    found = A.WorstCase({"long": Moves(0.65)}, until_success=True)(ruler, x, y, after=first)
    assert found.found_by.tolist() == ["before", "long", "long"] and found.steps.tolist() == [1, 2, 2]
    np.testing.assert_array_equal(found.x_adv[0], first.x_adv[0])


def test_a_suite_trains_a_substitute_of_what_it_is_given(defended, digits, held_out):
    x, y = held_out.x[:8], held_out.y[:8]
    suite, about = suites.get("standard-1"), {"norm": "linf", "epsilon": 0.05}
    data = digits.x[:500], digits.y[:500]
    trained, distilled = (suite.situation(defended, (x, y), **about, substitute=one).substitute for one in (data, "distilled"))
    assert (trained.name, distilled.name) == ("substitute", "distilled")
    assert (trained(held_out.x).numpy().argmax(-1) == held_out.y).mean() > 0.9
    known = trained.get_weights()
    again = suite.situation(defended, (x, y), **about, substitute=data).substitute.get_weights()
    assert all(np.array_equal(one, other) for one, other in zip(known, again, strict=True)), "the seed decides"
    with pytest.raises(ValueError, match="`substitute` must be a model, two arrays .* or 'distilled'. Received: 'mine'"):
        suite.situation(defended, (x, y), **about, substitute="mine")
