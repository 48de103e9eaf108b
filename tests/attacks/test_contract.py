"""What every attack promises, as one table: shape, ball, bounds, seed, batches, and that it succeeds at all."""

import numpy as np
import pytest

import tfdefense as td

A = td.attacks

BALLS = {
    "fgsm-linf": lambda e: A.FGSM(e),
    "fgsm-l2": lambda e: A.FGSM(e, norm="l2"),
    "bim-linf": lambda e: A.BIM(e),
    "ilcm-linf": lambda e: A.ILCM(e),
    "pgd-linf": lambda e: A.PGD(e, steps=10),
    "pgd-l2": lambda e: A.PGD(e, norm="l2", steps=10),
    "pgd-l1": lambda e: A.PGD(e, norm="l1", steps=10),
    "pgd-random": lambda e: A.PGD(e, steps=5, random_start=True, restarts=2),
    "pgd-random-l2": lambda e: A.PGD(e, norm="l2", steps=5, random_start=True),
    "pgd-random-l1": lambda e: A.PGD(e, norm="l1", steps=5, random_start=True),
    "pgd-margin": lambda e: A.PGD(e, steps=10, objective=A.Margin()),
    "pgd-logsumexp": lambda e: A.PGD(e, steps=10, objective=A.LogSumExp()),
    "pgd-maximum-confidence": lambda e: A.PGD(e, steps=10, objective=A.MaximumConfidence()),
    "pgd-all-starts": lambda e: A.PGD(e, norm="l2", steps=5, starts="all"),
    "apgd-linf": lambda e: A.APGD(e, steps=10),
    "apgd-l2": lambda e: A.APGD(e, norm="l2", steps=10, objective=A.LogitRatio()),
    "apgd-l1": lambda e: A.APGD(e, norm="l1", steps=10),
    "gradient-descent": lambda e: A.GradientDescent(e, steps=10, step_size=10.0, objective=A.Margin()),
    "gradient-descent-last": lambda e: A.GradientDescent(e, norm="linf", steps=10, objective=A.Margin(), keep="last"),
    "orthogonal": lambda e: A.OrthogonalPGD(e, steps=10, form="orthogonal"),
    "selective-l2": lambda e: A.OrthogonalPGD(e, norm="l2", steps=10),
    "dynamic": lambda e: A.DynamicAdversary(e, sigma=0.3),
    "dynamic-drawn-l2": lambda e: A.DynamicAdversary(e, norm="l2"),
    "impersonation": lambda e: A.Impersonation(e, steps=20, goals=2),
    "impersonation-l2": lambda e: A.Impersonation(e, norm="l2", steps=20),
    "square": lambda e: A.Square(e, queries=100),
    "square-l2": lambda e: A.Square(e, norm="l2", queries=100),
    "strongest": lambda e: A.WorstCase([A.FGSM(e), A.BIM(e)]),
    "transfer": lambda e: A.Transfer(A.BIM(e)),
}
# Sizes at which attacks in each norm succeed on most digits of the small classifier.
SIZES = {"linf": 0.3, "l2": 2.0, "l1": 6.0}
SEARCHES = {
    "deepfool-l2": A.DeepFool(),
    "deepfool-linf": A.DeepFool("linf"),
    "jsma": A.JSMA(gamma=0.5),
    "jsma-single": A.JSMA(gamma=0.5, pixels=1),
    "carlini": A.CarliniWagner(steps=60, binary_search_steps=3),
    "minimum-norm-l2": A.MinimumNorm(steps=30),
    "minimum-norm-linf": A.MinimumNorm("linf", steps=30),
    "minimum-norm-l1": A.MinimumNorm("l1", steps=30),
    "minimum-norm-starts": A.MinimumNorm(steps=10, starts="all"),
    "hop-skip-jump-l2": A.HopSkipJump(queries=600),
    "hop-skip-jump-linf": A.HopSkipJump("linf", queries=600),
    "carlini-starts": A.CarliniWagner(steps=30, binary_search_steps=2, starts="all"),
    "strongest": A.WorstCase([A.DeepFool(), A.CarliniWagner(steps=30, binary_search_steps=2)]),
}
# T-FGS aside, these need more than one step or a target to fool most; the share that must fall is theirs.
WEAK = {"fgsm-linf": 0.4, "fgsm-l2": 0.4, "ilcm-linf": 0.2, "pgd-random-l1": 0.4, "pgd-l1": 0.4}


def attack_named(name):
    if name in BALLS:
        size = SIZES[BALLS[name](1.0).norm]
        return BALLS[name](size), size
    return SEARCHES[name], np.inf


def model_for(name, request):
    return request.getfixturevalue("defended" if name == "transfer" else "classifier")


EVERY = sorted(set(BALLS) | set(SEARCHES))


def test_every_attack_is_in_the_table():
    known = {name for name in A.__all__ if isinstance(getattr(A, name), type) and issubclass(getattr(A, name), A.Attack)}
    # `BPDA` goes over a surrogate: see `test_surrogate.py`.
    assert known - {type(attack_named(name)[0]).__name__ for name in EVERY} == {"Attack", "BPDA"}


@pytest.mark.parametrize("name", EVERY)
def test_result_keeps_shape_ball_and_bounds(name, request, held_out):
    attack, size = attack_named(name)
    x, y = held_out.x[:24], held_out.y[:24]
    result = attack(model_for(name, request), x, y)
    assert result.x_adv.shape == x.shape and result.x_adv.dtype == np.float32
    assert result.x_adv.min() >= 0 and result.x_adv.max() <= 1
    order = {"linf": np.inf, "l2": 2, "l1": 1}[result.norm]
    distance = np.linalg.norm((result.x_adv.astype("float64") - x).reshape(24, -1), order, axis=1)
    np.testing.assert_allclose(result.distance, distance, rtol=1e-6)
    assert (distance <= size * (1 + 1e-6) + 1e-6).all()
    assert (np.abs(result.x_adv - x).max() > 1e-3) and len(result.steps) == len(result.success) == 24


@pytest.mark.parametrize("name", EVERY)
def test_attack_fools_the_model_it_says_it_fools(name, request, held_out):
    attack, _ = attack_named(name)
    model = model_for(name, request)
    x, y = held_out.x[:48], held_out.y[:48]
    result = attack(model, x, y)
    label = td.view.decide(model, result.x_adv).label
    np.testing.assert_array_equal(label, result.label)
    np.testing.assert_array_equal(result.success, (label != y) & (label != -1))
    if name != "transfer":
        assert result.success.mean() > WEAK.get(name, 0.6)


@pytest.mark.parametrize("name", EVERY)
def test_same_seed_same_result_whatever_the_batch_size(name, request, held_out):
    attack, _ = attack_named(name)
    model = model_for(name, request)
    x, y = held_out.x[:20], held_out.y[:20]
    first, again = attack(model, x, y, batch_size=20), attack(model, x, y, batch_size=20)
    np.testing.assert_array_equal(first.x_adv, again.x_adv)
    parts = attack(model, x, y, batch_size=7)
    # Sums in another order differ in the last digits, which a sign or a search may amplify for a single pixel.
    assert (first.success == parts.success).mean() >= 0.9
    assert np.mean(np.abs(first.x_adv - parts.x_adv) < 1e-3) > 0.97


def test_transfers_may_be_among_the_strongest_and_inside_a_transfer(classifier, held_out):
    x, y = held_out.x[:20], held_out.y[:20]
    both = A.WorstCase([A.PGD(0.1, steps=3), A.Transfer(A.PGD(0.1, steps=3), source=classifier)])
    assert both(classifier, x, y, regardless=True).success.sum() == A.PGD(0.1, steps=3)(classifier, x, y).success.sum()
    assert A.Transfer(both, source=classifier)(classifier, x, y).distance.max() <= 0.1 + 1e-6


def test_random_start_is_beside_any_start_but_the_sample():
    assert A.PGD(0.1, random_start=True).starts == A.PGD(0.1, random_start=True, starts=["sample"]).starts == ("random",)
    assert A.PGD(0.1, random_start=True, starts="base").starts == ("base", "random")
    assert A.PGD(0.1, random_start=True, starts="all").starts == "all" and A.PGD(0.1).starts is None
    drawn = (A.starts.Random(),)
    assert A.PGD(0.1, random_start=True, restarts=3, starts=drawn).starts == drawn


def test_another_seed_gives_another_random_start(classifier, held_out):
    x, y = held_out.x[:8], held_out.y[:8]
    one, other = (A.PGD(0.1, steps=1, random_start=True, seed=seed)(classifier, x, y) for seed in (0, 1))
    assert np.abs(one.x_adv - other.x_adv).max() > 0.01


@pytest.mark.parametrize("bounds", [(-0.5, 0.5), (0.0, 255.0)])
@pytest.mark.parametrize(
    "name", ["pgd-linf", "pgd-l2", "apgd-l2", "deepfool-l2", "carlini", "minimum-norm-l2", "minimum-norm-linf", "jsma"]
)
def test_bounds_of_the_pixels_only_change_the_unit(name, bounds, classifier, held_out):
    import keras

    low, high = bounds
    inputs = keras.Input((8, 8, 1))
    shifted = keras.Model(inputs, classifier(keras.layers.Rescaling(1 / (high - low), -low / (high - low))(inputs)))
    x, y = held_out.x[:16], held_out.y[:16]
    moved = (x * (high - low) + low).astype("float32").clip(low, high)
    attack, size = attack_named(name)
    there = BALLS[name](size * (high - low)) if name in BALLS else attack
    plain, scaled = attack(classifier, x, y), there(shifted, moved, y, bounds=bounds)
    assert scaled.x_adv.min() >= low and scaled.x_adv.max() <= high
    assert (plain.success == scaled.success).mean() >= 0.85
    both = plain.success & scaled.success
    assert scaled.distance[both].mean() / (high - low) == pytest.approx(plain.distance[both].mean(), rel=0.05)


def test_uint8_pixels_are_taken(classifier, held_out):
    import keras

    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, classifier(keras.layers.Rescaling(1 / 255)(inputs)))
    pixels = (held_out.x[:8] * 255).astype("uint8")
    result = A.FGSM(51)(model, pixels, held_out.y[:8], bounds=(0, 255))
    assert result.x_adv.max() > 1 and np.abs(result.x_adv - pixels).max() == pytest.approx(51)


@pytest.mark.parametrize(
    "name", ["pgd-linf", "pgd-l2", "apgd-l2", "orthogonal", "deepfool-l2", "carlini", "minimum-norm-l2", "jsma"]
)
@pytest.mark.parametrize("kind", ["classifier", "defended"])
def test_targeted_attacks_count_only_the_target(name, kind, request, held_out):
    x, y, classifier = held_out.x[:30], held_out.y[:30], request.getfixturevalue(kind)
    attack, _ = attack_named(name)
    if name == "deepfool-l2":
        with pytest.raises(ValueError, match="no targeted form"):
            attack(classifier, x, y, target="most_likely")
        return
    target = (y + 1) % 10
    result = attack(classifier, x, y, target)
    np.testing.assert_array_equal(result.success, td.view.decide(classifier, result.x_adv).label == target)
    assert result.success.mean() > 0.2


def test_named_targets_are_the_least_and_the_second_likeliest_class(classifier, held_out):
    x, y = held_out.x[:30], held_out.y[:30]
    scores = classifier(x).numpy()
    scores[np.arange(30), y] = np.nan
    for name, wanted in (("least_likely", np.nanargmin(scores, -1)), ("most_likely", np.nanargmax(scores, -1))):
        named = A.PGD(0.3, steps=5)(classifier, x, y, target=name)
        given = A.PGD(0.3, steps=5)(classifier, x, y, target=wanted)
        np.testing.assert_array_equal(named.x_adv, given.x_adv)


def test_iterations_beat_one_step_and_restarts_do_not_hurt(classifier, held_out):
    x, y = held_out.x[:100], held_out.y[:100]
    one, ten = A.FGSM(0.15)(classifier, x, y), A.BIM(0.15)(classifier, x, y)
    more = A.PGD(0.15, steps=10, starts=("sample", "random"), restarts=3)(classifier, x, y)
    single = A.PGD(0.15, steps=10)(classifier, x, y)
    assert one.success.mean() < ten.success.mean() < 1
    assert (more.success | ~single.success).all()


def test_objective_falls_along_the_steps(classifier, held_out):
    x, y = held_out.x[:40], held_out.y[:40]
    lead = []
    for steps in (1, 3, 10):
        scores = classifier(A.PGD(0.1, steps=steps, step_size=0.02, objective=A.Margin())(classifier, x, y).x_adv).numpy()
        own = scores[np.arange(40), y].copy()
        scores[np.arange(40), y] = -np.inf
        lead.append((own - scores.max(-1)).mean())
    assert lead[0] > lead[1] > lead[2]


def test_finished_samples_leave_the_batch(classifier, held_out):
    x, y = held_out.x[:40], held_out.y[:40]
    early = A.PGD(0.5, steps=40, early_stop=True)(classifier, x, y)
    assert early.success.all() and early.steps.mean() < 20 and early.steps.max() > early.steps.min()
    every = A.PGD(0.5, steps=40)(classifier, x, y)
    taken = classifier(x).numpy().argmax(-1) == y
    assert (every.steps[taken] == 40).all()
    patient = A.CarliniWagner(steps=400, binary_search_steps=2)(classifier, x, y)
    assert patient.steps[taken].max() < 800


def test_tolerance_stops_where_nothing_moves_any_more(line):
    model, _, x, y = line
    stopped = A.PGD(0.01, steps=50, step_size=0.01, objective=A.Margin(), tolerance=1e-6)(model, x, y)
    assert (stopped.steps <= 5).all()


def test_targets_are_reached_by_labels_alone(classifier, defended, held_out):
    x, y = held_out.x[:30], held_out.y[:30]
    target = (y + 1) % 10
    for model in (classifier, defended):
        result = A.HopSkipJump(queries=500)(model, x, y, target)
        np.testing.assert_array_equal(result.success, td.view.decide(model, result.x_adv).label == target)
        assert result.success.mean() > 0.8 and result.steps.max() <= 500


def test_more_labels_lead_closer(classifier, held_out):
    x, y = held_out.x[:20], held_out.y[:20]
    found = [A.HopSkipJump(queries=queries)(classifier, x, y).distance.mean() for queries in (400, 4000)]
    known = A.CarliniWagner(steps=100, binary_search_steps=4)(classifier, x, y).distance.mean()
    assert known < found[1] < 0.9 * found[0] and found[1] < 1.2 * known


def test_misclassified_samples_are_left_alone(classifier, held_out):
    x = held_out.x[:10]
    wrong = (classifier(x).numpy().argmax(-1) + 1) % 10
    result = A.PGD(0.3)(classifier, x, wrong)
    np.testing.assert_array_equal(result.x_adv, x)
    assert result.success.all() and (result.distance == 0).all() and (result.steps == 0).all()


def test_attacks_leave_the_model_as_it_was(classifier, held_out):
    before = [weight.copy() for weight in classifier.get_weights()]
    A.PGD(0.1, steps=3)(classifier, held_out.x[:8], held_out.y[:8])
    for old, new in zip(before, classifier.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
