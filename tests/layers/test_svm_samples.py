"""RBF-SVMs on more samples than their kernel has room for: drawn, or refused before a network has run."""

import keras
import numpy as np
import pytest
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import SVC

import tfdefense as td
from tfdefense.layers import RBFSVM, ClasswiseDetectorSVM, DetectorSVM, svm_fits


def blobs(samples=300, classes=3, spread=0.6):
    rng = np.random.default_rng(0)
    y = np.arange(samples) % classes
    return (3 * rng.standard_normal((classes, 5))[y] + spread * rng.standard_normal((samples, 5))).astype("float32"), y


def test_kernel_of_some_with_others_is_that_part_of_the_whole(monkeypatch):
    monkeypatch.setattr(svm_fits, "_BLOCK", 7)
    x, y = blobs(60)
    whole, rows, others = svm_fits.kernel_of(svm_fits.squared_distances(x), 0.3), np.arange(3, 40), np.array([50, 1, 2])
    np.testing.assert_allclose(svm_fits.kernel_between(x, 0.3, rows, others), whole[np.ix_(rows, others)], atol=1e-12)
    np.testing.assert_allclose(svm_fits.kernel_between(x, 0.3, rows, rows), whole[np.ix_(rows, rows)], atol=1e-12)
    between = lambda rows, columns: svm_fits.kernel_between(x, 0.3, rows, columns)  # noqa: E731
    scores = [svm_fits.cross_validated_scores(kernel, y, 3, 1.0, 3) for kernel in (whole, between)]
    np.testing.assert_allclose(*scores, atol=1e-6)


def test_cross_validated_scores_are_those_of_scikit_learn():
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    x, y = blobs(90)
    layer = RBFSVM(3, gamma=0.1, cross_validated=True)
    splits = StratifiedKFold(5, shuffle=True, random_state=0)
    want = cross_val_predict(OneVsRestClassifier(SVC(gamma=0.1)), x, y, cv=splits, method="decision_function")
    np.testing.assert_allclose(layer.adapt(x, y), want, atol=1e-4)


def test_of_many_samples_some_are_fitted_and_the_error_on_the_others_is_told():
    x, y = blobs()
    y[1] = 2  # a sample of class 1 that says it is of class 2
    layer = RBFSVM(3, gamma=0.1, cross_validated=True, max_samples=90)
    with pytest.warns(UserWarning, match="fitted on 90 of 300 samples.*Of the others it gets (.*)% wrong") as told:
        unseen = layer.adapt(x, y)
    rows = svm_fits.drawn(y, None, 3, 90)
    assert np.bincount(y[rows]).tolist() == [30, 30, 30] and 1 not in rows
    same = RBFSVM(3, gamma=0.1, cross_validated=True)
    cross_validated = same.adapt(x[rows], y[rows])
    np.testing.assert_allclose(layer(x), same(x), atol=1e-5)
    others = np.setdiff1d(np.arange(300), rows)
    np.testing.assert_allclose(unseen[rows], cross_validated, atol=1e-5)
    np.testing.assert_allclose(unseen[others], same(x[others]), atol=1e-5)
    wrong = (np.asarray(same(x[others])).argmax(1) != y[others]).mean()
    assert wrong > 0 and f"gets {wrong:.1%} wrong" in str(told[0].message)


@pytest.mark.parametrize("kind", [DetectorSVM, ClasswiseDetectorSVM])
def test_a_detector_draws_clean_samples_with_what_was_made_of_them(kind):
    x, y = blobs()
    features, flags = np.concatenate([x, x + 4]), np.repeat([0, 1], 300)
    scores = np.eye(3)[np.concatenate([y, y])]
    pairs = np.tile(np.arange(300), 2)
    layer = kind(3, max_samples=120) if kind is ClasswiseDetectorSVM else kind(max_samples=120)
    inputs = [features, scores] if kind is ClasswiseDetectorSVM else features
    with pytest.warns(UserWarning, match="fitted on 120 of 600 samples.*it gets 0.0% wrong"):
        layer.adapt(inputs, flags, pairs=pairs)
    rows = svm_fits.drawn(flags, pairs, 2, 120)
    assert sorted(pairs[rows[flags[rows] == 0]]) == sorted(pairs[rows[flags[rows] == 1]])
    assert ((layer(inputs).numpy() > 0) == flags).mean() > 0.99


@keras.saving.register_keras_serializable(package="test")
class Counted(keras.layers.Layer):
    """Counts the samples that pass."""

    passed = 0

    def call(self, x):
        Counted.passed += x.shape[0] or 0
        return x


def test_what_has_no_room_is_refused_before_the_network_runs():
    inputs = keras.Input((5,))
    model = keras.Model(inputs, keras.layers.Dense(3, name="scores")(Counted()(inputs)))
    x, y = blobs()
    for defense in (td.NeuralRejection(max_memory=8 * 200**2), td.SafetyNet(["scores"], max_memory=8 * 200**2)):
        defended = defense.attach(model, bounds=None)
        Counted.passed = 0
        with pytest.raises(ValueError, match="at most 200 samples.*max_samples=200"):
            td.adapt(defended, x, y, **({} if isinstance(defense, td.NeuralRejection) else {"adversarial": x + 1}))
        assert Counted.passed == 0
    defended = td.DeepNeuralRejection(["scores"], max_memory=8 * 200**2, max_samples=90).attach(model, bounds=None)
    with pytest.warns(UserWarning, match="fitted on 90 of 300 samples"):
        td.adapt(defended, x, y, calibration=x)
    assert (td.view.decide(defended, x).label == y).mean() > 0.8


def test_number_to_draw_is_kept_and_checked():
    assert RBFSVM.from_config(RBFSVM(3, max_samples=50).get_config()).max_samples == 50
    config = RBFSVM(3).get_config()
    del config["max_samples"]  # of earlier versions
    assert RBFSVM.from_config(config).max_samples is None
    with pytest.raises(ValueError, match="`max_samples` must be a whole number of at least 6"):
        RBFSVM(3, max_samples=5)
