import json
import types

import numpy as np
import pytest

from tfdefense.metrics import Outcomes, SecurityCurve, security_curve, worst_case_curve


@pytest.fixture(scope="module")
def defended():
    """Two classes on a line: class 1 above 0, rejected within 0.5 of the border."""
    import keras

    inputs = keras.Input((1,))
    scores = keras.ops.concatenate([-inputs, inputs], axis=1)
    suspicion = 0.5 - keras.ops.abs(inputs[:, 0])
    label = keras.ops.where(suspicion > 0, -1, keras.ops.cast(inputs[:, 0] > 0, "int32"))
    return keras.Model(inputs, {"scores": scores, "suspicion": suspicion, "label": label})


X = np.array([[1.0], [2.0], [-3.0], [0.25]], "float32")
Y = np.array([1, 1, 0, 1])


def push(size, seed):
    """Moves each sample over the border by `size`."""
    return lambda model, x, y: types.SimpleNamespace(x_adv=x - size * (2 * y[:, None] - 1))


def test_curve_of_a_known_model(defended):
    curve = security_curve(defended, push, X, Y, [0, 1, 2, 4])
    # Size 1 gives 0, 1, -2, -0.75; size 2 gives -1, 0, -1, -1.75; size 4 gives -3, -2, 1, -3.75.
    assert curve.accuracies.tolist() == [[0.75, 0.75, 0.5, 0]]
    assert curve.rejections.tolist() == [[0.25, 0.25, 0.25, 0]]
    assert curve.errors.tolist() == [[0, 0.25, 0.5, 1]]
    assert curve.fell_to_zero() and curve.deviation.tolist() == [0, 0, 0, 0]
    assert not curve.outcomes[0][0].adversarial and curve.outcomes[0][1].adversarial


def weak(size, seed):
    """An attack that finds nothing at its largest size."""
    return push(0 if size == 4 else size, seed)


def test_broken_samples_stay_broken(defended):
    kept = security_curve(defended, weak, X, Y, [1, 2, 4])
    assert kept.accuracy.tolist() == [0.75, 0.5, 0.5]
    assert kept.outcomes[0][2].label.tolist() == [0, 1, 0, 0]
    assert kept.outcomes[0][2].suspicion.tolist() == [-0.5, -1.5, -2.5, -1.25 + 1]
    raw = security_curve(defended, weak, X, Y, [1, 2, 4], cumulative=False)
    assert raw.accuracy.tolist() == [0.75, 0.5, 1]


def test_an_attack_that_can_be_told_is_spared_those_broken(defended):
    attacked = []

    def factory(size, seed):
        def attack(model, x, y, only=None):
            attacked.append(len(x) if only is None else np.flatnonzero(only).tolist())
            return push(size, seed)(model, x, y)

        return attack

    whole, told = security_curve(defended, push, X, Y, [0, 1, 2, 4]), security_curve(defended, factory, X, Y, [0, 1, 2, 4])
    np.testing.assert_array_equal(told.accuracies, whole.accuracies)
    assert attacked == [4, [0, 1, 2], [1, 2]]
    security_curve(defended, factory, X, Y, [1, 2], cumulative=False)
    assert attacked[3:] == [4, 4]


def test_clean_errors_stay_errors_under_attack(defended):
    curve = security_curve(defended, lambda size, seed: push(0, seed), X, 1 - Y, [0, 1])
    assert curve.accuracy.tolist() == [0, 0.25] and curve.error.tolist() == [0.75, 0.75]


def test_seeds_reach_the_attack_and_make_the_deviation(defended):
    curve = security_curve(defended, lambda size, seed: push(size * seed, seed), X, Y, [0, 2], seeds=[0, 1, 2])
    assert curve.accuracies.tolist() == [[0.75, 1], [0.75, 0.5], [0.75, 0]]
    assert curve.accuracy.tolist() == [0.75, 0.5]
    np.testing.assert_allclose(curve.deviation, [0, 0.5])
    np.testing.assert_allclose(curve.rejection_deviation, np.std([0.25, 0.25, 0], ddof=1) * np.array([0, 1]))
    np.testing.assert_allclose(curve.error_deviation, [0, 0.5])


def test_no_attack_runs_at_size_zero(defended):
    asked, told = [], []

    def factory(size, seed):
        asked.append((size, seed))
        return push(size, seed)

    security_curve(defended, factory, X, Y, [0, 1, 2], seeds=[3, 4], progress=lambda *done: told.append(done))
    assert asked == [(1, 3), (2, 3), (1, 4), (2, 4)]
    assert told == [(i, 6) for i in range(1, 7)]


@pytest.mark.parametrize("last, fell", [(0.0, True), (0.09, True), (0.1, False), (0.6, False)])
def test_fell_to_zero(last, fell):
    curve = SecurityCurve([0, 1], [[0.9, last]], [[0, 0]], [[0.1, 1 - last]])
    assert curve.fell_to_zero() is fell
    assert curve.fell_to_zero(below=0.7)


def test_a_curve_without_attack_has_shown_nothing():
    assert not SecurityCurve([0], [[0.01]], [[0]], [[0.99]]).fell_to_zero()


def test_series_of_a_results_file():
    curve = SecurityCurve([0, 1], [[1, 0.5], [1, 0.3]], [[0, 0.2], [0, 0.2]], [[0, 0.5], [0, 0.7]])
    series = curve.to_series("N5", "DNR")
    assert list(series) == ["row", "what", "x", "y", "deviation"]
    assert json.loads(json.dumps(series)) == series
    assert series["x"] == [0, 1] and series["y"] == [1, 0.4]
    assert series["deviation"] == pytest.approx([0, 0.2 / np.sqrt(2)])
    assert curve.to_series("N5", "DNR", of="rejection")["y"] == [0, 0.2]
    assert curve.to_series("N5", "DNR", of="error")["y"] == [0, 0.6]
    with pytest.raises(ValueError, match="one of accuracy, rejection, error"):
        curve.to_series("N5", "DNR", of="loss")


def test_curves_of_several_splits_join(defended):
    one, two = (security_curve(defended, push, x, Y, [0, 2]) for x in (X, 3 * X))
    joined = SecurityCurve.join([one, two])
    assert joined.accuracies.tolist() == [[0.75, 0.5], [1, 0.75]] and len(joined.outcomes) == 2
    with pytest.raises(ValueError, match="same sizes"):
        SecurityCurve.join([one, security_curve(defended, push, X, Y, [0, 1])])


def test_curve_of_outcomes_counts_rejections_above_size_zero_only():
    outcomes = Outcomes.of([0, -1, 1, 1], [0, 0, 0, 0])
    assert SecurityCurve.of([0, 1], [[outcomes, outcomes]]).accuracies.tolist() == [[0.25, 0.5]]
    with pytest.raises(ValueError, match="2 outcomes a run"):
        SecurityCurve.of([0, 1], [[outcomes]])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"sizes": [1, 1]}, "strictly increasing"),
        ({"sizes": [2, 1]}, "strictly increasing"),
        ({"sizes": [-1, 1]}, "from 0 up"),
        ({"sizes": []}, "empty"),
        ({"sizes": [0, np.inf]}, "finite"),
        ({"seeds": []}, "at least one seed"),
        ({"y": [0, 1]}, "equal lengths"),
        ({"y": [0, 1, 2, 0]}, "lie in 0 to 1"),
    ],
)
def test_bad_input_is_named(defended, change, message):
    arguments = {"model": defended, "attack_factory": push, "x": X, "y": Y, "sizes": [0, 1]} | change
    with pytest.raises(ValueError, match=message):
        security_curve(**arguments)


def test_percentages_are_refused():
    with pytest.raises(ValueError, match="Divide percentages"):
        SecurityCurve([0, 1], [[99, 50]], [[0, 0]], [[1, 50]])
    with pytest.raises(ValueError, match="shape"):
        SecurityCurve([0, 1], [[0.9]], [[0]], [[0.1]])


def test_worst_case_of_each_sample_is_known_on_a_line(defended):
    """Two attacks in turn: one moves by the size and gives up at 4, one moves by half of it."""
    from tfdefense.attacks import Attack, Candidates, WorstCase

    asked = []

    class Push(Attack):
        norm = "l2"

        def __init__(self, by):
            self.by = by

        def perturb(self, batch, start):
            asked.append((self.by, batch.x.ravel().tolist()))
            return Candidates(batch.x - self.by * (2 * batch.y[:, None] - 1), np.ones(len(start), int), np.zeros(len(start), bool))

    def attack_at(size):
        return WorstCase({"whole": Push(0.0 if size == 4 else size), "half": Push(size / 2)}, until_success=True)

    options = {"bounds": (-10, 10)}
    curve = worst_case_curve(defended, attack_at, X, Y, [1, 2, 4], **options)
    # Of 1, 2, -3 and 0.25 each falls where it gets half a unit across the border: 1.5, 2.5, 3.5 and 0.75 away.
    assert curve.broken.tolist() == [[False, False, False, True], [True, False, False, True], [True, False, False, True]]
    assert curve.robust_accuracy.tolist() == [0.75, 0.5, 0.5]
    assert curve.found_by.tolist() == [["", "", "", "whole"], ["whole", "", "", "whole"], ["whole", "", "", "whole"]]
    assert (2.0, [0.25]) not in asked and all(0.25 not in samples for by, samples in asked if by >= 2), "broken already"
    known = np.array([[True, False, False, False], [False] * 4, [False, True, False, False]])
    both = worst_case_curve(defended, attack_at, X, Y, [1, 2, 4], known=known, **options)
    assert both.broken.sum(1).tolist() == [2, 2, 3] and both.found_by[2].tolist() == ["known", "known", "", "whole"]
    for sizes, given in (([0, 1], None), ([1, 2], known)):
        with pytest.raises(ValueError, match="one row a size"):
            worst_case_curve(defended, attack_at, X, Y, sizes, known=given)
