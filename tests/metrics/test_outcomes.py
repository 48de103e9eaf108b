import subprocess
import sys
import types

import numpy as np
import pytest

from tfdefense.metrics import Outcomes, evaluate, successful_pairs


@pytest.fixture(scope="module")
def defended():
    """Scores are the first three inputs, suspicion the fourth."""
    import keras

    inputs = keras.Input((4,))
    scores, suspicion = inputs[:, :3], inputs[:, 3]
    label = keras.ops.where(suspicion > 0, -1, keras.ops.cast(keras.ops.argmax(scores, axis=1), "int32"))
    return keras.Model(inputs, {"scores": scores, "suspicion": suspicion, "label": label})


@pytest.fixture(scope="module")
def plain():
    import keras

    return keras.Sequential([keras.Input((3,)), keras.layers.Identity()])


X = np.array([[5, 0, 0, -1], [5, 0, 0, 2], [0, 5, 0, -3], [0, 0, 5, -1], [0, 5, 0, 1]], dtype="float32")
Y = [0, 0, 2, 2, 2]


def test_each_sample_is_one_of_three_things():
    outcomes = Outcomes.of(label=[0, -1, 1, 2], y=[0, 0, 2, 2])
    assert outcomes.right.tolist() == [True, False, False, True]
    assert outcomes.rejected.tolist() == [False, True, False, False]
    assert outcomes.wrong.tolist() == [False, False, True, False]
    assert outcomes.counts == {"right": 2, "rejected": 1, "wrong": 1}
    assert (outcomes.accuracy, outcomes.rejection, outcomes.error) == (0.5, 0.25, 0.25)
    assert outcomes.robust_accuracy == 0.75 and len(outcomes) == 4


def test_error_is_what_is_left():
    rng = np.random.default_rng(0)
    outcomes = Outcomes.of(rng.integers(-1, 5, 301), rng.integers(0, 5, 301))
    assert outcomes.error == pytest.approx(1 - (outcomes.accuracy + outcomes.rejection), abs=1e-12)
    assert outcomes.robust_accuracy == pytest.approx(outcomes.accuracy + outcomes.rejection, abs=1e-12)


def test_contradictory_outcomes_are_refused():
    yes, no, label = np.array([True]), np.array([False]), np.array([0])
    with pytest.raises(ValueError, match="Exactly one"):
        Outcomes(yes, yes, no, label, label)
    with pytest.raises(ValueError, match="Exactly one"):
        Outcomes(no, no, no, label, label)


def test_text_shows_the_shares():
    outcomes = Outcomes.of([0, -1, 1, 0], [0, 0, 0, 0], adversarial=True)
    assert repr(outcomes) == "Outcomes(4 perturbed samples: 50.0 % right, 25.0 % rejected, 25.0 % wrong)"
    lines = outcomes.summary().splitlines()
    assert lines[0] == "4 perturbed samples" and len(lines) == 5
    assert lines[-1].split() == ["robust", "accuracy", "3", "75.0", "%"]


def test_confusion_counts_rejections_in_the_last_column():
    table = Outcomes.of(label=[0, 1, -1, 1, -1], y=[0, 0, 0, 1, 1]).confusion(classes=3)
    assert table.tolist() == [[1, 1, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0]]
    with pytest.raises(ValueError, match="at least 2"):
        Outcomes.of([1], [0]).confusion(classes=1)


def test_select_keeps_the_samples_asked_for():
    outcomes = Outcomes.of([0, -1, 1], [0, 0, 0], suspicion=[-1, 2, -3])
    chosen = outcomes.select(outcomes.suspicion < 0)
    assert chosen.label.tolist() == [0, 1] and chosen.suspicion.tolist() == [-1, -3]
    with pytest.raises(ValueError, match="at least one"):
        outcomes.select(np.zeros(3, bool))
    with pytest.raises(ValueError, match="equal lengths"):
        outcomes.select(np.zeros(2, bool))


@pytest.mark.parametrize("batch_size", [2, 256])
def test_evaluate_of_a_defended_model(defended, batch_size):
    outcomes = evaluate(defended, X, Y, batch_size=batch_size)
    assert outcomes.label.tolist() == [0, -1, 1, 2, -1]
    assert outcomes.suspicion.tolist() == [-1, 2, -3, -1, 1]
    assert outcomes.counts == {"right": 2, "rejected": 2, "wrong": 1}
    assert outcomes.guess.tolist() == [0, 0, 1, 2, 1]
    assert outcomes.accuracy_before_rejection == 0.6 and not outcomes.adversarial


def test_evaluate_of_a_plain_classifier_rejects_nothing(plain):
    outcomes = evaluate(plain, X[:, :3], Y)
    assert outcomes.suspicion is None and outcomes.rejection == 0 and outcomes.accuracy == 0.6


def test_evaluate_takes_the_result_of_an_attack(defended):
    result = types.SimpleNamespace(x_adv=X[::-1])
    assert evaluate(defended, result, Y).label.tolist() == [-1, 2, 1, -1, 0]
    assert evaluate(defended, result, Y).adversarial and not evaluate(defended, result, Y, adversarial=False).adversarial


def test_evaluate_takes_labels_as_a_column(plain):
    assert evaluate(plain, X[:, :3], np.array(Y)[:, None]).accuracy == 0.6


@pytest.mark.parametrize(
    "y, message",
    [
        ([0, 0, 2, 2], "equal lengths"),
        ([0, 0, 2, 2, 3], "lie in 0 to 2"),
        ([0, 0, 2, 2, -1], "lie in 0"),
        ([], "empty"),
        ([0, 0, 2, 2, 0.5], "whole class numbers"),
        ([0, 0, 2, 2, np.nan], "whole class numbers"),
        (np.eye(5), "one-hot"),
        (list("abcde"), "whole class numbers"),
    ],
)
def test_bad_labels_are_named(plain, y, message):
    with pytest.raises(ValueError, match=message):
        evaluate(plain, X[:, :3], y)


def test_nan_scores_of_a_plain_classifier_are_an_error(plain):
    x = X[:, :3].copy()
    x[1, 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        evaluate(plain, x, Y)


def test_nan_scores_of_a_rejected_sample_are_a_rejection(defended):
    x = X.copy()
    x[1] = [np.nan, 0, 0, np.inf]
    outcomes = evaluate(defended, x, Y)
    assert outcomes.rejected.tolist() == [False, True, False, False, True]
    assert outcomes.guess[1] == -1 and outcomes.accuracy_before_rejection == 0.4


def test_suspicion_may_be_infinite_but_not_nan():
    assert Outcomes.of([0, -1], [0, 0], suspicion=[-1, np.inf]).suspicion[1] == np.inf
    with pytest.raises(ValueError, match="suspicion.*NaN"):
        Outcomes.of([0, 0], [0, 0], suspicion=[0, np.nan])


def test_scores_of_wrong_shape_are_an_error():
    import keras

    model = keras.Sequential([keras.Input((2, 3)), keras.layers.Identity()])
    with pytest.raises(ValueError):
        evaluate(model, np.zeros((4, 2, 3), "float32"), [0, 0, 0, 0])


def test_successful_pairs_look_behind_the_rejection():
    clean = Outcomes.of([0, -1, 1, -1], [0, 0, 0, 0], guess=[0, 0, 1, 0])
    adversarial = Outcomes.of([1, -1, 1, -1], [0, 0, 0, 0], guess=[1, 2, 1, 0])
    assert successful_pairs(clean, adversarial).tolist() == [True, True, False, False]
    with pytest.raises(ValueError, match="guess"):
        successful_pairs(Outcomes.of([-1, 0, 0, 0], [0, 0, 0, 0]), adversarial)
    with pytest.raises(ValueError, match="same samples"):
        successful_pairs(Outcomes.of([0, 0, 0, 0], [0, 0, 0, 1]), adversarial)


def test_metrics_and_plots_load_without_tensorflow():
    code = (
        "import sys, tfdefense.metrics, tfdefense.plots; tfdefense.metrics.roc([0], [1]); "
        "sys.exit(any(m in sys.modules for m in ('tensorflow', 'keras', 'matplotlib.pyplot')))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
