import json
import zipfile

import keras
import numpy as np
import pytest
from sklearn.svm import SVC

import tfdefense as td
from tfdefense.layers import ClasswiseDetectorSVM


@pytest.fixture(scope="module")
def codes():
    """What is active tells the kind, the other way round in class 1; class 2 was never attacked, 3 never seen clean."""
    rng = np.random.default_rng(0)
    flags, group = rng.integers(0, 2, 200), rng.integers(0, 2, 200)
    group[:20], flags[:20] = 2, 0
    group[20:30], flags[20:30] = 3, 1
    active = np.where((flags == group)[:, None] == (np.arange(12) >= 6), 0.7, 0.3)
    return rng.binomial(3, active).astype("float32"), np.eye(4, dtype="float32")[group], flags


def adapted(codes, **options):
    x, scores, flags = codes
    layer = ClasswiseDetectorSVM(4, **options)
    layer.adapt([x, scores], flags)
    return layer


def test_each_sample_asks_the_svm_of_its_class(codes):
    x, scores, flags = codes
    found = keras.ops.convert_to_numpy(adapted(codes, gamma=0.05)([x, scores]))
    for group in (0, 1):
        own = scores.argmax(1) == group
        expected = SVC(gamma=0.05).fit(x[own], flags[own]).decision_function(x[own])
        np.testing.assert_allclose(found[own], expected, atol=1e-4)
    assert (found[:20] == -1).all() and (found[20:30] == 1).all()


def test_what_differs_by_class_is_learnt_by_class(codes):
    x, scores, flags = codes
    single = td.layers.DetectorSVM()
    single.adapt(x[30:150], flags[30:150])
    matched = ClasswiseDetectorSVM(4)
    matched.adapt([x[30:150], scores[30:150]], flags[30:150])
    right = [((values > 0) == flags[150:]).mean() for values in (single(x[150:]).numpy(), matched([x[150:], scores[150:]]).numpy())]
    assert right[1] > 0.8 and right[1] > right[0] + 0.1


def test_weights_come_back_from_files_of_earlier_versions(codes, tmp_path):
    x, scores, flags = codes
    inputs = [keras.Input((12,)), keras.Input((4,))]

    def joined(**options):
        kinds = td.layers.DetectorSVM(**options), ClasswiseDetectorSVM(4, **options), td.layers.DetectorSVM(**options)
        return keras.Model(inputs, [kind(inputs if kind is kinds[1] else inputs[0]) for kind in kinds])

    model = joined()
    for layer, C in zip(model.layers[-3:], (1.0, 2.0, 3.0), strict=True):
        layer.adapt([x, scores] if isinstance(layer, ClasswiseDetectorSVM) else x, flags, C=C)
    try:
        td.layers.DetectorSVM.__name__, ClasswiseDetectorSVM.__name__ = "AdversaryMachine", "MatchedMachines"
        model.save(tmp_path / "m.keras")
        model.save_weights(tmp_path / "m.weights.h5")
    finally:
        td.layers.DetectorSVM.__name__, ClasswiseDetectorSVM.__name__ = "DetectorSVM", "ClasswiseDetectorSVM"
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        names = [layer["class_name"] for layer in json.loads(archive.read("config.json"))["config"]["layers"]]
    assert names.count("AdversaryMachine") == 2 and names.count("MatchedMachines") == 1
    others = joined()
    others.load_weights(tmp_path / "m.weights.h5")
    for loaded in (keras.models.load_model(tmp_path / "m.keras"), others):
        for now, then in zip(loaded([x, scores]), model([x, scores]), strict=True):
            np.testing.assert_allclose(now, then, atol=1e-6)


def test_comes_back_from_a_file_smooths_and_compresses(codes, tmp_path):
    x, scores, _ = codes
    layer = adapted(codes)
    inputs = [keras.Input((12,)), keras.Input((4,))]
    model = keras.Model(inputs, layer(inputs))
    before = layer([x, scores]).numpy()
    model.save(tmp_path / "m.keras")
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "m.keras")([x, scores]), before, atol=1e-5)
    np.testing.assert_allclose(layer.smooth([x, scores], 5.0, 1.0), before, atol=1e-5)
    assert np.abs(layer.smooth([x, scores], 5.0, 3.0) - before).max() > 0.1
    layer.compress(40, [x, scores])
    assert layer.vectors == 40 and ((layer([x, scores]).numpy() > 0) == (before > 0)).mean() > 0.85


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ClasswiseDetectorSVM(1), "`groups` must be a whole number of at least 2"),
        (lambda: ClasswiseDetectorSVM(3, cross_validated=True), "Leave `cross_validated` out"),
        (lambda: ClasswiseDetectorSVM(3).adapt([np.zeros((4, 2)), np.zeros((4, 2))], np.array([0, 1, 0, 1])), r"shape \(4, 3\)"),
    ],
)
def test_mistakes_are_told(call, words):
    with pytest.raises(ValueError, match=words):
        call()
