"""Each check on models where its answer is known: their scores are written down, so one can say what an attack must find."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

import tfdefense as td
from tfdefense.attacks import AttackResult, Margin, suites
from tfdefense.attacks.suites import Attacker, Situation, Suite, standard
from tfdefense.data import Images
from tfdefense.reporting import checks, harder, protocol
from tfdefense.reporting.plan import Plan
from tfdefense.view import View

PLAN = Plan(
    linf=(0.3, 0.9),
    l2=(),
    compared={"linf": 0.3},
    samples=24,
    clean=200,
    steps=8,
    queries=40,
    refine=(5, 1),
    substitute=(0, 0),
)
WITHOUT = ("transfer", "oblivious curve", "undefended curve", "page")


def found_on(model, x, y, plan=PLAN, **options):
    images = Images(x.astype("float32"), y.astype("int32"), (), "points", "test", (0.0, 1.0))
    plan = dataclasses.replace(plan, samples=min(plan.samples, len(x)), clean=len(x))
    return protocol.run(protocol.Protocol(model, images, plan, **options), without=WITHOUT)


def failed(findings):
    """The names of the checks in red, without norm and size."""
    return {check["kind"] for check in findings["checks"] if not check["passed"]}


def two_classes(lead):
    """Scores of a plain model from the lead of class 0 at each point."""
    return lambda x: tf.stack([lead(x), tf.zeros(tf.shape(x)[0])], -1)


def points(first, pixels=4, seed=0):
    """Points whose first number is given; the others are of no matter to these models."""
    x = np.random.default_rng(seed).uniform(0.3, 0.7, (len(first), pixels))
    x[:, 0] = first
    return x


@pytest.fixture
def few(monkeypatch):
    """A protocol that has no more than these attackers: what they miss is known, and no other one finds it."""

    def choose(*more):
        names = {standard.FIRST, standard.ONE_STEP, "margin", *more}
        known = Suite("standard-1", tuple(attacker for attacker in standard.STANDARD if attacker.name in names))
        monkeypatch.setattr(suites, "_SUITES", (known,))
        return known

    choose()
    return choose


@pytest.fixture(scope="module")
def honest():
    first = np.linspace(0.32, 0.68, 30)
    return found_on(two_classes(lambda x: 0.5 - x[:, 0]), points(first), (first > 0.5).astype(int))


def test_nothing_is_red_where_gradients_tell_the_truth(honest):
    assert failed(honest) == set()
    assert len(honest["checks"]) == 11
    entry = next(entry for entry in honest["attacks"] if entry["name"] == standard.FIRST)
    assert entry["wrong"] == 1.0 and entry["zero_gradient"] == 0.0


def test_the_curve_is_known_on_a_line(few):
    first = np.linspace(0.32, 0.68, 30)
    plan = dataclasses.replace(PLAN, linf=(0.05, 0.1, 0.9), compared={"linf": 0.1}, samples=30)
    found = found_on(two_classes(lambda x: 0.5 - x[:, 0]), points(first), (first > 0.5).astype(int), plan)
    robust = [float((np.abs(first - 0.5) > size).mean()) for size in plan.linf]
    assert found["curves"]["linf"]["adaptive"]["robust_accuracy"] == pytest.approx(robust, abs=1e-6)


def test_who_fools_nobody_is_not_named_as_what_a_model_is_weak_against(few):
    first = np.where(np.arange(24) % 2, 0.8, 0.2)
    y = (first > 0.5).astype(int)
    y[:3] = 1 - y[:3]
    plan = dataclasses.replace(PLAN, linf=(0.01, 0.9), compared={"linf": 0.01})
    found = found_on(two_classes(lambda x: 0.5 - x[:, 0]), points(first), y, plan)
    assert {entry["wrong"] for entry in found["attacks"]} == {3 / 24}
    assert {entry["success_rate"] for entry in found["attacks"]} == {0.0}
    assert found["verdict"]["line"] == "Holds to linf = 0.01."


def test_of_those_that_fool_all_the_one_that_goes_least_far_is_named(honest):
    told = {entry["distance"] for entry in honest["attacks"] if entry["success_rate"] == 1.0}
    named = [entry for entry in honest["attacks"] if f"weakest against {entry['name']} (" in honest["verdict"]["line"]]
    assert len(told) > 1 and named[0]["distance"] == min(told)


def test_longer_searches_are_tried_where_there_is_something_left_to_find(few):
    """The second size is nearer to one half, but one in 24 is left there: finding it could not fail the check."""
    first = np.where(np.arange(24) % 2, 0.7, 0.3)
    first[0] = 0.05
    plan = dataclasses.replace(PLAN, linf=(0.1, 0.4, 0.9), compared={"linf": 0.1})
    found = found_on(two_classes(lambda x: 0.5 - x[:, 0]), points(first), (first > 0.5).astype(int), plan)
    assert found["curves"]["linf"]["adaptive"]["robust_accuracy"] == pytest.approx([1.0, 1 / 24, 0.0])
    assert found["harder"][0]["size"] == 0.1 and found["harder"][0]["tried"] == 12
    found = found_on(two_classes(lambda x: 0.5 - x[:, 0]), points(first[1:]), (first[1:] > 0.5).astype(int), PLAN)
    assert found["curves"]["linf"]["adaptive"]["robust_accuracy"] == [0.0, 0.0] and found["harder"][0]["tried"] == 0


def saturated(x):
    """A step with no gradient but at the step itself."""
    return tf.clip_by_value(1000 * (0.5 - x[:, 0]), -1.0, 1.0)


def test_masked_gradients_are_found(few):
    few("HopSkipJump")
    # From the other class, too, no straight way leads to the boundary inside the ball: labels alone find the way.
    x = points(np.where(np.arange(24) % 2, 0.72, 0.28), pixels=16)
    x[:, 1:] = np.where(np.arange(24)[:, None] % 2, 0.95, 0.05)
    plan = dataclasses.replace(PLAN, linf=(), l2=(0.3, 4.0), compared={"l2": 0.3}, queries=400)
    found = found_on(two_classes(saturated), x, np.arange(24) % 2, plan)
    assert {"gradients are there", "steps gain", "white box before black box"} <= failed(found)
    # What a search without gradients has found counts in the curve.
    assert found["curves"]["l2"]["adaptive"]["robust_accuracy"][0] < 0.5


@pytest.mark.long
def test_discrete_codes_are_searched_through_their_stand_in(classifier, digits, held_out):
    """Nothing is said of searches that are blind there by nature, and those that count are the ones that see."""
    coded = td.SafetyNet(["features"]).attach(classifier)
    x, y = digits.x[:300], digits.y[:300]
    td.adapt(coded, x, y, adversarial=td.attacks.BIM(0.2)(classifier, x, y).x_adv, calibration=held_out.x[:200])
    short = dataclasses.replace(PLAN, samples=12, steps=4, queries=20)
    found = found_on(coded, held_out.x[200:300], held_out.y[200:300], short)
    assert not found["left_out"], "a search that sees nothing was tried"
    aware = {entry["name"]: entry for entry in found["attacks"] if entry["knowledge"] == "adaptive"}
    situation = protocol.Protocol(coded, held_out.take(slice(200, 212)), dataclasses.replace(short, clean=12)).situation(
        "linf", 0.3
    )
    seeing = {attacker.name for attacker in standard.SEARCHES if attacker.fits(situation)} | {standard.FIRST, standard.ONE_STEP}
    assert {name for name, entry in aware.items() if entry["sighted"]} == seeing
    assert not any(name.startswith("gradients are there") for name in found["verdict"]["failed"])
    finder = np.array([], int)
    trials = [
        one for attacks in harder.trials(suites.get("standard-1"), View.of(coded), situation, finder).values() for one in attacks
    ]
    assert trials and all(isinstance(trial, td.attacks.BPDA) for trial in trials)


@pytest.mark.parametrize("by_class", [False, True])
def test_codes_are_attacked_as_their_authors_did_whichever_svms_match_them(classifier, held_out, by_class):
    coded = td.SafetyNet(["features"], by_class=by_class).attach(classifier)
    situation = protocol.Protocol(coded, held_out.take(slice(40)), dataclasses.replace(PLAN, clean=40)).situation("l2", 1.0)
    own = [attacker.name for attacker in standard.STANDARD if attacker.authors and attacker.fits(situation)]
    assert own == ["discrete codes: Carlini-Wagner, differentiable surrogate"]


CRAFTED_ELSEWHERE = ("PGD, oblivious", "PGD on a substitute network, black box")


def test_who_crafts_on_another_model_goes_on_to_the_end():
    """Just across the boundary of that model a sample is in doubt, and still right on this one."""
    known = Situation("linf", 0.1, rejects=True, base=True, substitute="another")
    crafted = [one.make(known).attack for one in standard.STANDARD if one.title in CRAFTED_ELSEWHERE]
    assert [attack.early_stop for attack in crafted] == [False, False]


def test_the_way_to_another_class_leads_to_all_labelled_samples(few):
    """To the nearest of them, although few are attacked."""
    first = np.array([0.32, 0.68, *np.linspace(0.4, 0.6, 48)])
    x, y = points(first).astype("float32"), (first > 0.5).astype("int32")
    model = two_classes(lambda x: 0.5 - x[:, 0])
    images = Images(x, y, (), "points", "test", (0.0, 1.0))
    starts = protocol.Protocol(model, images, dataclasses.replace(PLAN, samples=2)).situation("linf", 0.3).starts
    pool = next(start.pool for start in starts if isinstance(start, protocol.Interpolated))
    assert len(pool[0]) == 50 and np.array_equal(pool[1], y)


def test_no_gradient_at_all_is_red_and_no_crash(few):
    first = np.where(np.arange(20) % 2, 0.7, 0.3)
    found = found_on(two_classes(lambda x: tf.round(2 * (0.5 - x[:, 0]))), points(first), np.arange(20) % 2)
    assert {"gradients are there", "steps gain"} <= failed(found)
    assert {entry["name"] for entry in found["left_out"]} >= {standard.FIRST, "margin"}
    assert "no gradient" in found["left_out"][0]["reason"]


def test_a_model_that_nothing_brings_down_is_no_result(few):
    def rejects_all(x):
        return {
            "scores": two_classes(lambda x: 0.5 - x[:, 0])(x),
            "suspicion": 1 + 0 * x[:, 0],
            "label": tf.fill([tf.shape(x)[0]], -1),
        }

    first = np.where(np.arange(20) % 2, 0.6, 0.4)
    found = found_on(rejects_all, points(first), np.arange(20) % 2)
    assert {"falls at a large size", "rejects clean samples as calibrated"} <= failed(found)
    assert "checks on the attack failed" in found["verdict"]["notes"][0]


def only(make, *others):
    """A suite with one search."""
    return Suite("only", (Attacker("search", "adaptive", make, search=True), *others))


def margin_from_sample(s):
    return s.plain(objective=Margin())


def test_too_few_steps_are_found(few):
    # Wrong in a narrow band of the mean alone: two steps go across the whole ball and over it, eight come to lie in it.
    lead = two_classes(lambda x: tf.abs(tf.reduce_mean(x, -1) - 0.1) - 0.02)
    plan = dataclasses.replace(PLAN, steps=2)
    found = found_on(lead, np.zeros((24, 8)), np.zeros(24, int), plan)
    assert harder.STEPS in failed(found)


def rare(x):
    """A narrow band that no gradient leads to: a random point lies there or not."""
    # Scores of 1 and 0 would be taken for probabilities.
    return tf.where((x[:, 0] > 0.68) & (x[:, 0] < 0.76), -2.0, 2.0) + 0 * x[:, 0]


RARE = dataclasses.replace(PLAN, linf=(0.3, 0.31))


def test_too_few_starts_are_found(few):
    found = found_on(two_classes(rare), points(np.full(24, 0.5)), np.zeros(24, int), RARE)
    assert harder.RESTARTS in failed(found)


def test_a_thorough_report_goes_on_until_nothing_more_is_found(few):
    once, on = (found_on(two_classes(rare), points(np.full(24, 0.5)), np.zeros(24, int), RARE, thorough=t) for t in (False, True))
    before, after = (found["curves"]["linf"]["adaptive"]["robust_accuracy"][0] for found in (once, on))
    assert before > 0.2 and after == 0.0
    assert once["harder"][0]["rounds"] == 1 and on["harder"][0]["rounds"] > 2
    assert harder.RESTARTS not in failed(on)


def bumpy(x):
    """The lead falls, rises and falls again: small steps stay in the first hollow, a long one jumps over the hill."""
    at = x[:, 0]
    hill = tf.where(at < 0.05, 0.1 - at, at)
    return tf.where(at < 0.15, hill, 0.15 - 2 * (at - 0.15))


def test_small_steps_that_get_stuck_are_found():
    def small(s):
        return s.plain(objective=Margin(), schedule="fixed")

    plan, lead = dataclasses.replace(PLAN, steps=10), two_classes(bumpy)
    found = found_on(lead, points(np.zeros(24)), np.zeros(24, int), plan, suite=only(small))
    assert {harder.STEP_SIZE, harder.STEPS} <= failed(found)
    # What was found counts.
    assert found["curves"]["linf"]["adaptive"]["robust_accuracy"][0] == pytest.approx(0.5)
    one_step = next(attacker for attacker in standard.STANDARD if attacker.name == standard.ONE_STEP)
    found = found_on(lead, points(np.zeros(24)), np.zeros(24, int), plan, suite=only(small, one_step))
    assert "many steps before one" in failed(found)


def leaped_over(x):
    """A hollow half a radius away: a first step of one radius leads over it, to where the lead falls all the way to the edge."""
    at = x[:, 0]
    beyond = tf.where(at < 0.5, 0.1 - 0.1 * (at - 0.22), 0.5 - at)
    return tf.where(at < 0.22, tf.abs(at - 0.15) - 0.002, beyond)


def test_a_first_step_that_is_too_long_is_found():
    found = found_on(two_classes(leaped_over), points(np.zeros(24)), np.zeros(24, int), suite=only(margin_from_sample))
    assert harder.STEP_SIZE in failed(found) and harder.STEPS not in failed(found)


@dataclasses.dataclass(frozen=True)
class Saturated(Margin):
    """Flat in float32 where the lead is large, whatever it aims at."""

    def value(self, scores, suspicion, y, target, scale):
        return tf.tanh(100 * super().value(scores, suspicion, y, target, scale))


def test_an_objective_that_sees_nothing_is_found():
    first = np.where(np.arange(24) % 2, 0.46, 0.22)
    suite = only(lambda s: s.plain(objective=Saturated()))
    found = found_on(two_classes(lambda x: 0.5 - x[:, 0]), points(first), np.zeros(24, int), suite=suite)
    assert harder.OBJECTIVE in failed(found) and harder.STEPS not in failed(found)


def behind(x):
    """A spot to which nothing leads from a sample, and where an image of another class comes to lie in the ball."""
    at, beside = x[:, 0], x[:, 1]
    spot = (at > 0.25) & (beside > 0.58) & (beside < 0.62)
    return tf.where(spot | (at > 0.6), -1.0, 1.0) * (2.0 + at)


def test_a_start_that_is_missing_is_found():
    """The suite knows the two nearest images of the other class; the way begins at the third."""
    x = np.full((24, 2), (0.0, 0.5))
    x[-3:] = (0.9, 0.5), (0.9, 0.45), (0.9, 0.6)
    suite = only(lambda s: s.pgd(objective=Margin(), starts=("sample", *s.accepted)))
    found = found_on(two_classes(behind), x, (x[:, 0] > 0.5).astype(int), suite=suite)
    assert harder.START in failed(found) and harder.STEPS not in failed(found)


def test_a_gain_of_over_two_points_is_red(honest):
    for gain, red in ((0.019, False), (0.021, True), (None, True)):
        row = honest["harder"][0] | {"gains": {harder.STEPS: gain}}
        found = checks.all_checks(honest | {"harder": [row]}, PLAN, 0.05, False, True)
        assert (harder.STEPS in failed({"checks": found})) == red


def test_a_threshold_moved_off_is_found(classifier, held_out):
    model = td.ThresholdDefense().attach(classifier)
    td.calibrate(model, held_out.x[:200], max_rejected=0.05)
    plan = dataclasses.replace(PLAN, samples=10, clean=397)

    def calibration():
        run = protocol.Protocol(model, held_out, plan)
        run._without_attack()
        return checks.calibration(run.findings["clean"], 0.05, True)

    assert calibration()["passed"]
    td.calibrate(model, held_out.x, max_rejected=0.15)
    assert not calibration()["passed"]
    layer = next(layer for layer in model.layers if isinstance(layer, td.layers.Threshold))
    layer.value.assign(5.0)
    check = calibration()
    assert not check["passed"] and (check["name"], check["measured"]) == ("rejects clean samples as calibrated", 0.0)


def test_a_threshold_that_was_given_promises_no_least_rate():
    clean = {"rejected": 0.0, "samples": 1000}
    assert checks.calibration(clean, 0.05, calibrated=False)["passed"]
    assert not checks.calibration(clean, 0.05, calibrated=True)["passed"]


def test_an_attack_that_leaves_its_ball_is_found(few):
    class Leaves(td.attacks.PGD):
        def __call__(self, model, x, y, *args, **options):
            result = super().__call__(model, x, y, *args, **options)
            return AttackResult(
                np.clip(x + 0.5, 0, 1),
                *(getattr(result, f) for f in ("success", "distance", "steps", "label")),
                result.zero_gradient,
                "linf",
            )

    lies = Attacker("lies", "adaptive", lambda s: Leaves(s.epsilon, steps=2))
    known = few().attackers
    with_lies = Suite("lies", (*known, lies))
    first = np.where(np.arange(20) % 2, 0.6, 0.4)
    found = found_on(two_classes(lambda x: 0.5 - x[:, 0]), points(first), np.arange(20) % 2, suite=with_lies)
    assert failed(found) == {"examples are what they claim"}
    # Nor is it hidden by being one of several.
    several = Attacker("lies", "adaptive", lambda s: td.attacks.WorstCase([Leaves(s.epsilon, steps=2)]))
    model, with_lies = two_classes(lambda x: 0.5 - x[:, 0]), Suite("lies", (*known, several))
    assert failed(found_on(model, points(first), np.arange(20) % 2, suite=with_lies)) == failed(found)


def test_where_nothing_could_be_tried_nothing_has_passed():
    """A model that has no sample right gives an attack nothing to do."""
    found = found_on(two_classes(lambda x: 0.5 - x[:, 0]), points(np.full(8, 0.6)), np.arange(8) * 0)
    assert found["clean"]["right"] == 0
    (steps,) = [check for check in found["checks"] if check["kind"] == "steps gain"]
    assert steps["measured"] is None and not steps["passed"]


def test_a_norm_in_which_it_holds_nothing_is_in_the_verdict():
    def curve(robust):
        return {"adaptive": {"sizes": [0.1, 0.2], "robust_accuracy": robust}}

    findings = {"curves": {"linf": curve([0.9, 0.8]), "l2": curve([0.1, 0.0])}, "clean": {"wrong": 0.0, "rejected": 0.05}}
    findings |= {"attacks": [], "checks": [], "benign": []}
    plan = dataclasses.replace(PLAN, linf=(0.1, 0.2), l2=(0.1, 0.2), compared={"linf": 0.1, "l2": 0.1})
    assert checks.verdict(findings, plan)["line"] == "Holds to linf = 0.2, to none of the sizes tried in l2."


def test_half_lies_on_the_line_between_two_sizes():
    assert checks.perturbation_at([1, 2], [0.75, 0.25], 1.0) == pytest.approx(1.5)
    assert checks.perturbation_at([1, 2], [0.9, 0.8], 1.0) is None
    assert checks.perturbation_at([1, 2], [0.2, 0.1], 0.4) == 0.0


def test_progress_counts_samples_that_came_down():
    path = np.array([[1.0, 1.0, np.inf], [0.5, 1.0, np.inf]])
    assert checks.progress(path) == pytest.approx(1 / 3) and checks.progress(path[:, :0]) is None
