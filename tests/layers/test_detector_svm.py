import keras
import numpy as np
import pytest
from sklearn.svm import SVC

from tfdefense.layers import DetectorSVM, svm_fits
from tfdefense.layers.svm_fits import cross_validated_scores, gamma_of, kernel_of, squared_distances


@pytest.fixture
def codes():
    """Codes of 60 clean and 40 adversarial samples: units of the second half are active for the latter."""
    rng = np.random.default_rng(0)
    flags = (np.arange(100) >= 60).astype(int)
    active = np.where(flags[:, None] == (np.arange(12) >= 6), 0.7, 0.3)
    return rng.binomial(3, active).astype("float32"), flags


def values_of(layer, x):
    return keras.ops.convert_to_numpy(layer(x))


@pytest.mark.parametrize("options", [{}, {"C": 10.0, "gamma": 0.05}])
def test_decision_value_is_that_of_scikit_learn(codes, options):
    x, flags = codes
    layer = DetectorSVM(**options)
    assert np.isnan(values_of(layer, x)).all()
    layer.adapt(x, flags)
    points = np.random.default_rng(1).integers(0, 4, (50, 12)).astype("float32")
    expected = SVC(**options).fit(x, flags).decision_function(points)
    np.testing.assert_allclose(values_of(layer, points), expected, atol=1e-5)


def test_cross_validated_values_are_those_of_unseen_samples(codes):
    x, flags = codes
    layer = DetectorSVM(cross_validated=True)
    pairs = np.concatenate([np.arange(60), np.arange(40)])
    unseen = layer.adapt(x, flags, pairs=pairs)
    kernel = kernel_of(squared_distances(x), gamma_of("scale", x))
    np.testing.assert_allclose(unseen, cross_validated_scores(kernel, flags, 2, 1.0, 5, pairs)[:, 1], atol=1e-5)
    accuracy = [((values > 0) == flags).mean() for values in (unseen, values_of(layer, x))]
    assert 0.8 < accuracy[0] < accuracy[1]


def test_search_chooses_a_width_that_fits(codes):
    x, flags = codes
    layer = DetectorSVM(search={"C": [1.0], "gamma": [1e-6, "scale", 1e6]})
    layer.adapt(x, flags, pairs=np.concatenate([np.arange(60), np.arange(40)]))
    assert layer.gamma == "scale"
    with pytest.raises(ValueError, match="Expected `pairs`, a number for each sample, received none"):
        layer.adapt(x, flags)
    with pytest.raises(ValueError, match=r"as a whole number for each of the 100 samples. Received int64 of shape \(40,\)"):
        layer.adapt(x, flags, pairs=np.arange(40))
    with pytest.raises(ValueError, match="as folds, 5. Class 1 has them in 4"):
        layer.adapt(x, flags, pairs=np.concatenate([np.arange(60), np.arange(40) % 4]))


def test_widened_kernel_is_that_of_a_wider_sigma(codes):
    x, flags = codes
    layer = DetectorSVM(gamma=0.3)
    layer.adapt(x, flags)
    narrow = values_of(layer, x[:9])
    np.testing.assert_allclose(layer.smooth(x[:9], 5.0, 1.0), narrow, atol=1e-6)
    wide = keras.ops.convert_to_numpy(layer.smooth(x[:9], 5.0, 3.0))
    layer.log_gamma.assign(np.log(0.3 / 9))
    np.testing.assert_allclose(wide, values_of(layer, x[:9]), atol=1e-5)
    assert np.abs(wide - narrow).max() > 0.1


def test_compressed_svm_decides_alike(codes):
    x, flags = codes
    layer = DetectorSVM()
    layer.adapt(x, flags)
    before = values_of(layer, x)
    layer.compress(25, x)
    assert layer.vectors == 25 and ((values_of(layer, x) > 0) == (before > 0)).mean() > 0.9


def test_comes_back_from_a_file(codes, tmp_path):
    x, flags = codes
    layer = DetectorSVM(C=2.0)
    inputs = keras.Input((12,))
    model = keras.Model(inputs, layer(inputs))
    layer.adapt(x, flags)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(loaded(x), values_of(layer, x), atol=1e-6)


@pytest.mark.parametrize("count", [150, 1500])
def test_pairs_are_left_out_together(count, monkeypatch):
    """Pairs stand close together, so that the wrong kind is the nearest neighbour of each when one of them is left out.

    A tenth has no adversarial sample, the others stand in any order, as after an attack that some samples withstood.
    """
    rng = np.random.default_rng(0)
    clean = (rng.normal(size=(count, 20)) * np.where(np.arange(20), 1, 0.2)).astype("float32")
    sources = rng.permutation(count)[: count * 9 // 10]
    adversarial = clean[sources] + 0.6 * np.eye(20, dtype="float32")[0]
    features, labels = np.concatenate([clean, adversarial]), np.repeat([0, 1], [count, len(sources)])
    pairs = np.concatenate([np.arange(count), sources])
    searched, choose = [], svm_fits.choose
    monkeypatch.setattr(svm_fits, "choose", lambda *given: searched.append(given) or choose(*given))
    DetectorSVM(search={"C": [1.0], "gamma": ["scale"]}).adapt(features, labels, pairs=pairs)
    some, kinds, numbers = *searched[0][:2], searched[0][-1]
    assert len(kinds) == pytest.approx(min(len(labels), 2000), abs=3)
    for number in numbers[kinds == 1]:
        two = some[numbers == number]
        assert len(two) == 2 and abs(two[1] - two[0]).sum() == pytest.approx(0.6, abs=1e-5), "a pair is taken whole"
    scores = DetectorSVM(cross_validated=True, gamma=0.2).adapt(features, labels, pairs=pairs)
    kernel = kernel_of(squared_distances(features), 0.2)
    together, apart = (cross_validated_scores(kernel, labels, 2, 1.0, 5, given) for given in (pairs, None))
    np.testing.assert_allclose(scores, together[:, 1], atol=1e-5)
    right = [((values[:, 1] > 0) == labels).mean() for values in (together, apart)]
    assert right[0] > right[1] + 0.1


@pytest.mark.parametrize("folds", [2, 5])
def test_no_pair_is_split_by_folds_and_each_fold_has_both_kinds(folds):
    rng = np.random.default_rng(0)
    sources = rng.integers(0, 30, 50)  # of some several, of some none
    pairs, labels = np.concatenate([np.arange(40), sources]), np.repeat([0, 1], [40, 50])
    order = rng.permutation(90)
    fold = svm_fits.folds_of(pairs[order], labels[order], 2, folds)
    assert all(len(set(fold[pairs[order] == pair])) == 1 for pair in range(40))
    assert all(set(labels[order][fold == one]) == {0, 1} for one in range(folds)) and set(fold) == set(range(folds))
    own = fold[np.argsort(pairs[order], kind="stable")][np.isin(np.sort(pairs), np.setdiff1d(np.arange(40), sources))]
    assert (np.diff(own) >= 0).all(), "stretches in the order of the set"


def test_needs_both_kinds(codes):
    x, _ = codes
    with pytest.raises(ValueError, match="Received none of class 1"):
        DetectorSVM().adapt(x, np.zeros(100, int))
    with pytest.raises(ValueError, match="Leave it out"):
        DetectorSVM(classes=3)
    with pytest.raises(ValueError, match=r"at most 50 samples, clean and adversarial ones together.*such as `x\[:25\]`"):
        DetectorSVM(max_memory=2e4).adapt(x, np.arange(100) % 2)
