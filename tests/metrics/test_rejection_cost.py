"""Forced rejections, the stratified error and the plausibility of a claim."""

import keras
import numpy as np
import pytest

import tfdefense as td


@pytest.fixture(scope="module")
def linear():
    """Two classes apart along the first of two features; the nearer to the middle than 1, the more suspicious."""
    inputs = keras.Input((2,))
    scores = keras.ops.concatenate([inputs[:, :1], -inputs[:, :1]], axis=-1)
    suspicion = 1 - keras.ops.abs(inputs[:, 0])
    return td.defend(inputs, scores, suspicion, bounds=(-10, 10))


X = np.array([[3.0, 1.0], [-1.5, 0.0], [0.2, 4.0], [9.0, 0.0]], "float32")
Y = np.array([0, 1, 0, 0])


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_nearest_rejection_is_found(linear, norm):
    result = td.attacks.ForcedRejection(td.attacks.MinimumNorm(norm, steps=40))(linear, X, Y)
    assert result.success.all() and (result.label == -1).all()
    np.testing.assert_allclose(result.distance, [2.0, 0.5, 0.0, 8.0], atol=0.03)
    assert (linear(result.x_adv)["label"].numpy() == -1).all()


def test_a_function_is_searched_as_well_and_a_ball_is_kept(linear):
    attack = td.attacks.ForcedRejection(td.attacks.PGD(1.0, "l2", steps=10))
    for model in (linear, lambda x: linear(x)):
        result = attack(model, X, Y, bounds=(-10, 10))
        assert result.success.tolist() == [False, True, True, False] and attack.norm == "l2"
        assert (result.distance <= 1 + 1e-5).all()
    with pytest.raises(ValueError, match="rejects nothing can't be made to reject"):
        attack(td.base_model(linear), X, Y, bounds=(-10, 10))
    with pytest.raises(ValueError, match="Expected an attack that searches"):
        td.attacks.ForcedRejection(attack)


def test_codes_are_forced_along_their_surrogate():
    inputs = keras.Input((2,))
    codes = td.layers.QuantizedReLU(thresholds=[0.0, 0.5])(1.0 - inputs)
    scores = keras.ops.concatenate([inputs[:, :1], 0 * inputs[:, :1] - 9], axis=-1)
    model = td.defend(inputs, scores, codes[:, 0] - 0.9, bounds=(-10, 10))
    attack = td.attacks.ForcedRejection(td.attacks.BPDA(td.attacks.PGD(3.0, "l2", steps=10), schedule=[(2.0, 1.0)]))
    assert attack(model, X[:1], Y[:1]).success.all()


def test_what_is_put_on_a_model_has_names_that_a_saved_one_does_not(linear):
    """Keras names operations by how many a process has made: a model from a file has such names already, and names are unique."""
    from tfdefense.attacks.forced import _two_classes

    before = {operation.name for operation in linear.operations}
    added = {operation.name for operation in _two_classes(linear).operations} - before
    assert added == {"acceptance_column", "acceptance_opposite", "acceptance_scores"}


def test_curves_from_distances(linear):
    forced = td.attacks.ForcedRejection(td.attacks.MinimumNorm("l2", steps=40))(linear, X, Y)
    right = td.evaluate(linear, X, Y).right
    assert right.tolist() == [True, True, False, True]
    rates = td.metrics.forced_rejection(forced, right, [0.0, 1.0, 2.5, 9.0])
    np.testing.assert_allclose(rates, [0, 1 / 3, 2 / 3, 1])
    # Accepted and wrong lies beyond the middle: 4, 2.5 and 1.2 away, and 10 away at the last.
    evaded = np.array([4.0, 2.5, 1.2, 10.0])
    errors = td.metrics.stratified_error(evaded, forced, 2.5, [0.0, 0.1, 0.3, 0.9, 1.0])
    np.testing.assert_allclose(errors, [0.5, 0.5, 0.5, 0.75, 0.75])
    assert td.metrics.stratified_error(np.full(3, np.inf), np.full(3, np.inf), 1.0, [1.0]).tolist() == [0.0]


def test_a_claim_is_compared_with_the_record_at_half_its_size():
    claim = td.metrics.plausibility("cifar10", "linf", 16 / 255, 0.9)
    assert not claim.plausible and claim.size == pytest.approx(8 / 255) and claim.source
    assert td.metrics.plausibility("cifar10", "linf", 16 / 255, 0.5).plausible
    # A record at 8/255 says nothing of 4/255, and bounds what is known at 16/255.
    unknown = td.metrics.plausibility("cifar10", "linf", 8 / 255, 0.9)
    assert unknown.plausible and unknown.record is None and "no record is known" in unknown.line
    assert td.metrics.plausibility("cifar10", "linf", 32 / 255, 0.9).record == claim.record
    assert td.metrics.plausibility("cifar10", "linf", 16, 0.9, span=255.0).record == claim.record


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: m.forced_rejection([0.1], [False], [1.0]), "right when clean"),
        (lambda m: m.forced_rejection([0.1], [True, True], [1.0]), "equal lengths"),
        (lambda m: m.stratified_error([0.1], [-1.0], 1.0, [0.5]), "`forced` must be"),
        (lambda m: m.stratified_error([np.nan], [1.0], 1.0, [0.5]), "`evaded` must be"),
        (lambda m: m.stratified_error([0.1], [0.1], 1.0, [1.5]), "`alphas` must be shares"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call(td.metrics)
