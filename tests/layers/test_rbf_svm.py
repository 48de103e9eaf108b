import keras
import numpy as np
import pytest
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import SVC

import tfdefense as td
from tfdefense.layers import RBFSVM, svm_fits


def blobs(samples=40, features=6, classes=3, spread=0.5, seed=0, offset=0.0):
    rng = np.random.default_rng(seed)
    y = np.arange(samples * classes) % classes
    x = rng.standard_normal((classes, features))[y] + spread * rng.standard_normal((len(y), features))
    return (x + offset).astype("float32"), y


def adapted(seed=0, **options):
    x, y = blobs(seed=seed)
    layer = RBFSVM(3, **options)
    layer.adapt(x, y)
    return layer, x, y


def scores_of(layer, x):
    return keras.ops.convert_to_numpy(layer(x))


@pytest.mark.parametrize("C", [0.3, 1.0, 10.0])
@pytest.mark.parametrize("gamma", ["scale", 0.07])
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_scores_are_those_of_scikit_learn(C, gamma, offset):
    x, y = blobs(offset=offset)
    layer = RBFSVM(3)
    layer.adapt(x, y, C=C, gamma=gamma)
    points = blobs(seed=1, offset=offset)[0]
    expected = OneVsRestClassifier(SVC(C=C, gamma=gamma)).fit(x, y).decision_function(points)
    np.testing.assert_allclose(scores_of(layer, points), expected, atol=1e-5)


def test_scores_of_digits_are_those_of_scikit_learn(digits):
    x, y = digits.x[:400].reshape(400, -1), digits.y[:400]
    layer = RBFSVM(10)
    layer.adapt(digits.x[:400], y)
    expected = OneVsRestClassifier(SVC()).fit(x, y).decision_function(digits.x[400:600].reshape(200, -1))
    np.testing.assert_allclose(scores_of(layer, digits.x[400:600]), expected, atol=1e-5)
    assert layer.vectors < 400, "only support vectors are kept"


def test_closed_form_of_two_samples():
    layer = RBFSVM(2, C=100.0, gamma=1.0)
    layer.adapt(np.array([[0.0], [2.0]]), np.array([0, 1]))
    # Two samples lie on the margins: s(0) = 1, s(2) = -1, with coefficients +-1 / (1 - exp(-4)).
    far = np.exp(-4.0)
    x = np.array([[0.0], [0.5], [1.0], [2.0], [50.0]], "float32")
    expected = (np.exp(-(x[:, 0] ** 2)) - np.exp(-((x[:, 0] - 2) ** 2))) / (1 - far)
    np.testing.assert_allclose(scores_of(layer, x), np.stack([expected, -expected], 1), atol=1e-5)


def test_multiple_of_scale_is_that_multiple():
    x, _ = blobs()
    one, two = (svm_fits.gamma_of(gamma, x) for gamma in ("scale", "2*scale"))
    assert one == pytest.approx(1 / (x.shape[1] * x.var()), rel=1e-6)
    assert two == pytest.approx(2 * one)
    assert svm_fits.gamma_of("scale", np.ones((4, 3), "float32")) == 1.0, "as in scikit-learn, no variance means 1"


def test_distances_in_blocks_are_those_in_one(monkeypatch):
    x, _ = blobs()
    whole = np.square(x[:, None].astype("float64") - x[None]).sum(-1)
    monkeypatch.setattr(svm_fits, "_BLOCK", 7)
    np.testing.assert_allclose(svm_fits.squared_distances(x), whole, atol=1e-9)


def test_scores_fall_off_away_from_the_data():
    layer, x, _ = adapted()
    far = scores_of(layer, x + 100)
    np.testing.assert_allclose(far, np.tile(keras.ops.convert_to_numpy(layer.intercepts), (len(x), 1)), atol=1e-6)
    assert far.max() < scores_of(layer, x).max(-1).min()


def test_unfitted_layer_gives_nan():
    assert np.isnan(scores_of(RBFSVM(3), np.zeros((2, 4), "float32"))).all()


def test_gradient_is_that_of_finite_differences():
    import tensorflow as tf

    layer, x, _ = adapted(gamma=0.3)
    point = tf.constant(x[:1] + 0.1)
    with tf.GradientTape() as tape:
        tape.watch(point)
        score = layer(point)[0, 1]
    gradient = tape.gradient(score, point).numpy()[0]
    step = 1e-2
    for axis in range(x.shape[1]):
        move = step * np.eye(x.shape[1], dtype="float32")[axis]
        slope = (scores_of(layer, point.numpy() + move) - scores_of(layer, point.numpy() - move))[0, 1] / (2 * step)
        assert gradient[axis] == pytest.approx(slope, abs=2e-3)
    assert np.abs(gradient).max() > 0.05


def test_cross_validated_scores_are_of_svms_that_did_not_see_the_sample():
    from sklearn.model_selection import StratifiedKFold

    x, y = blobs(spread=1.5)
    layer = RBFSVM(3, gamma=0.2, cross_validated=True, folds=4)
    unseen = layer.adapt(x, y)
    expected = np.empty((len(x), 3))
    for kept, left in StratifiedKFold(4, shuffle=True, random_state=0).split(x, y):
        expected[left] = OneVsRestClassifier(SVC(gamma=0.2)).fit(x[kept], y[kept]).decision_function(x[left])
    np.testing.assert_allclose(unseen, expected, atol=1e-4)
    seen = scores_of(layer, x)
    right = np.arange(len(y)), y
    assert unseen[right].mean() < seen[right].mean() - 0.1, "scores of samples fitted on are too good"


def test_search_finds_the_best_of_the_grid(capsys):
    x, y = blobs(spread=1.5)
    layer = RBFSVM(3, search={"C": [1e-3, 1.0], "gamma": [100.0, "scale"]})
    layer.adapt(x, y)
    assert (layer.C, layer.gamma) == (1.0, "scale")
    assert "4/4" in capsys.readouterr().out
    other = RBFSVM(3, C=1.0)
    other.adapt(x, y)
    np.testing.assert_allclose(scores_of(layer, x), scores_of(other, x), atol=1e-6)


def in_a_model(layer, features=6):
    inputs = keras.Input((features,))
    return keras.Model(inputs, layer(inputs))


def test_keras_file_keeps_the_number_of_vectors(tmp_path):
    layer, x, y = adapted()
    model = in_a_model(layer)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(model(x), loaded(x))
    assert loaded.layers[-1].vectors == layer.vectors and loaded.layers[-1].adapted


def test_weights_file_loads_into_a_layer_that_was_never_adapted(tmp_path):
    layer, x, _ = adapted()
    model, fresh = in_a_model(layer), in_a_model(RBFSVM(3))
    model.save_weights(tmp_path / "m.weights.h5")
    fresh.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(model(x), fresh(x))


def test_clone_and_saved_model_give_the_same_scores(tmp_path):
    import tensorflow as tf

    layer, x, _ = adapted()
    model = in_a_model(layer)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(model(x), clone(x))
    model.export(tmp_path / "m", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "m")
    np.testing.assert_allclose(loaded.serve(x), model(x), atol=1e-6)


def test_adapting_again_replaces_everything():
    layer, x, y = adapted()
    other_x, other_y = blobs(samples=15, seed=5)
    layer.adapt(other_x, other_y)
    fresh = RBFSVM(3)
    fresh.adapt(other_x, other_y)
    np.testing.assert_array_equal(scores_of(layer, x), scores_of(fresh, x))
    assert len(layer.weights) == 6, "old variables are gone"


def test_not_trainable_unless_asked():
    frozen, x, y = adapted()
    tuned, _, _ = adapted(trainable=True)
    assert frozen.trainable_variables == [] and in_a_model(frozen).trainable_variables == []
    assert len(tuned.trainable_variables) == 4
    assert len(in_a_model(tuned).trainable_variables) == 4


def test_training_tunes_references_coefficients_and_width():
    layer, x, y = adapted(trainable=True, C=0.01)
    model = in_a_model(layer)
    before = [keras.ops.convert_to_numpy(v) for v in layer.trainable_variables]
    model.compile(keras.optimizers.Adam(0.02), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    first = model.evaluate(x, y, verbose=0)
    model.fit(x, y, epochs=10, verbose=0)
    assert model.evaluate(x, y, verbose=0) < 0.7 * first
    for old, new in zip(before, layer.trainable_variables, strict=True):
        assert np.abs(keras.ops.convert_to_numpy(new) - old).max() > 1e-3


def test_compressed_layer_keeps_its_scores():
    x, y = blobs(samples=150, spread=1.0)
    layer = RBFSVM(3)
    layer.adapt(x, y)
    whole, before = layer.vectors, scores_of(layer, x)
    layer.compress(60, x)
    assert layer.vectors == 60 < whole
    assert np.sqrt(np.square(scores_of(layer, x) - before).mean()) < 0.1 * before.std()
    assert (scores_of(layer, x).argmax(1) == before.argmax(1)).mean() > 0.97
    far = scores_of(layer, x[:3] + 100)
    np.testing.assert_allclose(far, np.tile(keras.ops.convert_to_numpy(layer.intercepts), (3, 1)), atol=1e-5)


def test_compressing_to_more_than_there_are_changes_nothing():
    layer, x, _ = adapted()
    before, count = scores_of(layer, x), layer.vectors
    layer.compress(10_000)
    assert layer.vectors == count
    np.testing.assert_array_equal(scores_of(layer, x), before)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"C": 0.0}, "`C` must be a number above 0.*Received: 0.0"),
        ({"C": -1}, "`C` must be"),
        ({"C": "much"}, "`C` must be"),
        ({"gamma": 0}, "`gamma` must be a number above 0"),
        ({"gamma": -2.0}, "`gamma` must be"),
        ({"gamma": "auto"}, "`gamma` must be .*Received: 'auto'"),
        ({"gamma": "-1*scale"}, "`gamma` must be"),
        ({"folds": 1}, "`folds` must be a whole number of at least 2"),
        ({"classes": 1}, "`classes` must be a whole number of at least 2"),
        ({"search": {"c": [1]}}, "`search` must be True or a dict"),
        ({"search": {"C": []}}, "`search` must be True or a dict"),
        ({"search": {"C": [0]}}, "`C` must be"),
        ({"search": {"gamma": [-1]}}, "`gamma` must be"),
    ],
)
def test_wrong_options_are_told(options, message):
    with pytest.raises(ValueError, match=message):
        RBFSVM(**({"classes": 3} | options))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda x, y: (x, y[:-1]), "one class a sample"),
        (lambda x, y: (x, y + 0.5), "`labels` must hold whole class numbers"),
        (lambda x, y: (x, y + 1), r"`labels` must lie in 0 to 2. Received values in \[1, 3\]"),
        (lambda x, y: (np.where(x > 1, np.nan, x), y), "finite features"),
        (lambda x, y: (x[y != 1], y[y != 1]), "all 3 classes. Received none of class 1"),
        (lambda x, y: (x[:4], y[:4]), "at least as many samples as folds, 5. Received 4"),
        (lambda x, y: (x[(y != 2) | (np.arange(len(y)) < 9)], y[(y != 2) | (np.arange(len(y)) < 9)]), "Class 2 has 3 samples"),
    ],
)
def test_wrong_samples_are_told(change, message):
    x, y = change(*blobs())
    with pytest.raises(ValueError, match=message):
        RBFSVM(3, cross_validated=True).adapt(x, y)


@pytest.mark.parametrize("values", [{"C": 0}, {"gamma": -1}])
def test_wrong_values_in_adapt_are_told(values):
    with pytest.raises(ValueError, match=f"`{next(iter(values))}` must be"):
        RBFSVM(3).adapt(*blobs(), **values)


def test_too_many_features_or_samples_are_told_with_the_size():
    with pytest.raises(ValueError, match="Received 100,000 a sample: 10,000 samples take 4.0 GB.*0.8 GB for the kernel.*pooling"):
        RBFSVM(3).build((None, 100_000))
    with pytest.raises(ValueError, match="at most 50 samples: the kernel of 120 samples takes .*Pass fewer, such as `x\\[:50\\]`"):
        RBFSVM(3, max_memory=8 * 50**2)._check(*blobs())
    with pytest.raises(ValueError, match="known size"):
        RBFSVM(3).build((None, None, 4))


def test_compressing_before_adapting_is_told():
    layer = RBFSVM(3)
    layer.build((None, 4))
    with pytest.raises(ValueError, match="not adapted yet"):
        layer.compress(3)
    with pytest.raises(ValueError, match="`vectors` must be"):
        adapted()[0].compress(0)


def test_public_name():
    assert td.layers.RBFSVM is RBFSVM
