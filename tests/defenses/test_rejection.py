import dataclasses

import keras
import numpy as np
import pytest

import tfdefense as td
from tfdefense.attacks.objectives import Evade, Margin, MaximumConfidence
from tfdefense.layers import RBFSVM

LAYERS = ["conv_1", "features", "scores"]


@pytest.fixture(scope="module")
def fitted(digits):
    return digits.x[:500], digits.y[:500]


@pytest.fixture(scope="module")
def dnr(classifier, fitted, held_out):
    model = td.DeepNeuralRejection(LAYERS).attach(classifier)
    return td.adapt(model, *fitted, calibration=held_out.x[:200], max_rejected=0.05)


@pytest.fixture(scope="module")
def nr(classifier, fitted, held_out):
    return td.adapt(td.NeuralRejection().attach(classifier), *fitted, calibration=held_out.x[:200], max_rejected=0.05)


def svms_of(model):
    return [layer for layer in model.layers if isinstance(layer, RBFSVM)]


def decisions(model, x):
    return {name: keras.ops.convert_to_numpy(value) for name, value in model(x).items()}


def test_example_of_the_design(classifier, fitted, held_out, tmp_path):
    defended = td.DeepNeuralRejection(layers=["conv_1", "features", "scores"]).attach(classifier)
    td.adapt(defended, *fitted, calibration=held_out.x[:200], max_rejected=0.05)
    x, y = held_out.x[200:230], held_out.y[200:230]
    assert set(defended(x)) == {"scores", "suspicion", "label"}
    adversarial = td.attacks.PGD(epsilon=1.0, norm="l2", objective=td.attacks.Evade(), steps=10)(defended, x, y)
    outcomes = td.evaluate(defended, adversarial, y)
    assert outcomes.adversarial and len(outcomes) == 30
    defended.save(tmp_path / "defended.keras")
    defended.export(tmp_path / "serving", verbose=False)
    assert (tmp_path / "serving").is_dir()


@pytest.mark.parametrize("name", ["dnr", "nr"])
def test_clean_digits_keep_their_class_and_few_are_rejected(name, request, held_out):
    model = request.getfixturevalue(name)
    new, seen = (td.evaluate(model, held_out.x[part], held_out.y[part]) for part in (slice(200, None), slice(200)))
    assert seen.rejection == pytest.approx(9 / 200), "the 10th largest score is the threshold"
    assert new.rejection < 0.12
    assert new.accuracy > 0.85
    assert new.accuracy_before_rejection > 0.93


@pytest.mark.parametrize("name", ["dnr", "nr"])
def test_noise_is_rejected(name, request):
    noise = np.random.default_rng(0).random((50, 8, 8, 1), dtype="float32")
    assert (decisions(request.getfixturevalue(name), noise)["label"] == -1).mean() > 0.5


def test_suspicion_is_a_threshold_minus_the_best_score(dnr, held_out):
    out = decisions(dnr, held_out.x)
    sums = out["suspicion"] + out["scores"].max(1)
    np.testing.assert_allclose(sums, sums[0], atol=1e-5)


def test_combiner_learns_from_cross_validated_scores(classifier, fitted):
    """By hand: the scores that each base layer gives back, side by side, make the combiner."""
    model = td.DeepNeuralRejection(["features", "scores"]).attach(classifier)
    td.adapt(model, *fitted, max_rejected=None)
    taps = keras.Model(classifier.inputs[0], [classifier.get_layer(name).output for name in ("features", "scores")])
    x, y = fitted
    unseen = []
    for features in taps.predict(x, verbose=0):
        base = RBFSVM(10, cross_validated=True)
        unseen.append(base.adapt(features, y))
    combiner = RBFSVM(10)
    combiner.adapt(np.concatenate(unseen, 1), y)
    points = np.random.default_rng(0).normal(size=(20, 20)).astype("float32")
    np.testing.assert_allclose(svms_of(model)[-1](points), combiner(points), atol=0.05)
    in_sample = RBFSVM(10)
    in_sample.adapt(np.concatenate([svm(f) for svm, f in zip(svms_of(model), taps(x), strict=False)], 1), y)
    assert abs(svms_of(model)[-1].vectors - combiner.vectors) <= 3
    assert in_sample.vectors != combiner.vectors, "the samples fitted on look different to their own SVMs"


def test_one_layer_may_be_stacked_too(classifier, fitted):
    model = td.DeepNeuralRejection(["features"]).attach(classifier)
    td.adapt(model, *fitted, max_rejected=None)
    assert len(svms_of(model)) == 2 and all(layer.adapted for layer in svms_of(model))


def test_unfitted_model_rejects_everything(classifier, held_out):
    model = td.DeepNeuralRejection(LAYERS).attach(classifier)
    assert (decisions(model, held_out.x[:20])["label"] == -1).all()
    assert np.isposinf(decisions(model, held_out.x[:20])["suspicion"]).all()


def test_base_model_stays_as_it_was(classifier, dnr, held_out):
    from tfdefense.contract import base_model

    assert classifier.output_names == ["scores"]
    np.testing.assert_allclose(base_model(dnr)(held_out.x[:5]), classifier(held_out.x[:5]), atol=1e-6)


def test_saved_loaded_cloned_and_exported_decide_alike(dnr, held_out, tmp_path):
    import tensorflow as tf

    x = held_out.x[:60]
    expected = decisions(dnr, x)
    dnr.save(tmp_path / "m.keras")
    dnr.export(tmp_path / "m", verbose=False)
    clone = keras.models.clone_model(dnr)
    clone.set_weights(dnr.get_weights())
    exported = tf.saved_model.load(tmp_path / "m")
    for other in (keras.models.load_model(tmp_path / "m.keras"), clone, exported.serve):
        found = {name: np.asarray(value) for name, value in other(x).items()}
        np.testing.assert_allclose(found["suspicion"], expected["suspicion"], atol=1e-5)
        np.testing.assert_array_equal(found["label"], expected["label"])


@pytest.mark.parametrize("ending", ["fused", "layer", "activation"])
def test_softmax_is_looked_behind(ending, fitted):
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(inputs)
    x = keras.layers.Dense(10, name="out", activation="softmax" if ending == "fused" else None)(x)
    if ending == "layer":
        x = keras.layers.Softmax(name="last")(x)
    if ending == "activation":
        x = keras.layers.Activation("softmax", name="last")(x)
    model = keras.Model(inputs, x)
    name = model.layers[-1].name
    for defense in (td.NeuralRejection(), td.NeuralRejection(name), td.DeepNeuralRejection([name])):
        defended = defense.attach(model)
        watched = keras.Model(inputs, svms_of(defended)[0].input)(fitted[0][:20]).numpy()
        assert watched.min() < 0, "probabilities have one sign, logits both"


def test_pretrained_sequential_model_can_be_defended(fitted):
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10, name="out")])
    defended = td.NeuralRejection().attach(model)
    td.adapt(defended, *fitted, max_rejected=None)
    assert decisions(defended, fitted[0][:5])["scores"].shape == (5, 10)


def test_adapting_again_reaches_what_was_compiled_before(classifier, fitted, held_out):
    """More support vectors mean new variables: neither `predict` nor an attack may go on with the old ones."""
    model = td.NeuralRejection().attach(classifier)
    td.adapt(model, fitted[0][:200], fitted[1][:200], calibration=held_out.x[:100])
    x, y = held_out.x[200:240], held_out.y[200:240]
    model.predict(x, verbose=0)
    td.evaluate(model, x, y)
    td.adapt(model, *fitted, calibration=held_out.x[:100])
    expected = decisions(model, x)
    np.testing.assert_allclose(model.predict(x, verbose=0)["scores"], expected["scores"], atol=1e-5)
    np.testing.assert_allclose(td.evaluate(model, x, y).suspicion, expected["suspicion"], atol=1e-5)


def test_compressed_model_is_smaller_and_decides_nearly_alike(classifier, fitted, held_out):
    model = td.DeepNeuralRejection(["features", "scores"]).attach(classifier)
    td.adapt(model, *fitted, calibration=held_out.x[:200])
    before = td.evaluate(model, held_out.x[200:], held_out.y[200:])
    scores = decisions(model, held_out.x)["scores"]
    model.predict(held_out.x[:10], verbose=0)
    assert td.compress(model, 60, fitted[0], calibration=held_out.x[:200]) is model
    assert [layer.vectors for layer in svms_of(model)] == [60] * 3
    assert np.sqrt(np.square(decisions(model, held_out.x)["scores"] - scores).mean()) < 0.1 * scores.std()
    after = td.evaluate(model, held_out.x[200:], held_out.y[200:])
    assert (after.label == before.label).mean() > 0.9
    assert td.evaluate(model, held_out.x[:200], held_out.y[:200]).rejection == pytest.approx(9 / 200)
    expected = decisions(model, held_out.x[:10])["scores"]
    np.testing.assert_allclose(model.predict(held_out.x[:10], verbose=0)["scores"], expected, atol=1e-5)


def test_layers_to_compress_can_be_named(dnr, fitted):
    copy = keras.models.clone_model(dnr)
    copy.set_weights(dnr.get_weights())
    names, before = [layer.name for layer in svms_of(copy)], [layer.vectors for layer in svms_of(copy)]
    td.compress(copy, 20, fitted[0], layers=names[:1])
    assert [layer.vectors for layer in svms_of(copy)] == [20, *before[1:]]
    with pytest.raises(ValueError, match=f"`layers` must be among {', '.join(names)}. Received 'dense'"):
        td.compress(copy, 20, fitted[0], layers=["dense"])


def test_few_vectors_keep_the_scores_better_when_refitted_on_samples(dnr, fitted, held_out):
    before = decisions(dnr, held_out.x)["scores"]

    def error(compress):
        copy = keras.models.clone_model(dnr)
        copy.set_weights(dnr.get_weights())
        compress(copy)
        return np.sqrt(np.square(decisions(copy, held_out.x)["scores"] - before).mean())

    on_samples = error(lambda model: td.compress(model, 12, fitted[0]))
    on_vectors = error(lambda model: [layer.compress(12) for layer in svms_of(model)])
    assert on_samples < 0.95 * on_vectors, (on_samples, on_vectors)


def test_search_chooses_for_each_layer(classifier, fitted):
    grid = {"C": [1.0], "gamma": ["1e5*scale", "scale"]}
    model = td.DeepNeuralRejection(["features", "scores"], search=grid).attach(classifier)
    td.adapt(model, fitted[0][:200], fitted[1][:200], max_rejected=None)
    assert [layer.gamma for layer in svms_of(model)] == ["scale"] * 3
    assert len({float(layer.log_gamma) for layer in svms_of(model)}) == 3, "each on the scale of its own features"


def test_end_to_end_training_moves_svms_and_network(digits, fitted, held_out):
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(16, "relu", name="hidden"), keras.layers.Dense(10)]
    )
    defended = td.DeepNeuralRejection(["hidden"], trainable=True, C=0.1).attach(network)
    td.adapt(defended, *fitted, max_rejected=None)
    hidden, support_vectors = network.get_layer("hidden").get_weights()[0], svms_of(defended)[0].support_vectors.numpy()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    defended.compile(keras.optimizers.Adam(3e-3), loss={"scores": loss})
    history = defended.fit(digits.x, digits.y, epochs=10, batch_size=100, verbose=0)
    assert history.history["loss"][-1] < 0.8 * history.history["loss"][0]
    assert np.abs(network.get_layer("hidden").get_weights()[0] - hidden).max() > 1e-3
    assert np.abs(svms_of(defended)[0].support_vectors.numpy() - support_vectors).max() > 1e-3
    td.calibrate(defended, held_out.x[:200])
    assert td.evaluate(defended, held_out.x[200:], held_out.y[200:]).accuracy_before_rejection > 0.85


# The paper's objective, written as the paper writes it: rejection is class 0 with the threshold as its score.


def of_the_paper(scores, threshold, y, target=None):
    values = []
    for row, true in zip(scores, y, strict=True):
        if target is None:
            others = np.delete(row, true)
            values.append(max(threshold, row[true]) - others.max())
        else:
            others = np.delete(row, target[len(values)])
            values.append(max(threshold, others.max()) - row[target[len(values)]])
    return np.array(values)


def random_scores(samples=400, classes=5, threshold=0.2):
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 0.5, (samples, classes)).astype("float32")
    suspicion = (threshold - scores.max(1)).astype("float32")
    y = rng.integers(0, classes, samples).astype("int32")
    return scores, suspicion, y, (y + 1 + rng.integers(0, classes - 1, samples).astype("int32")) % classes


@pytest.mark.parametrize("targeted", [False, True])
def test_objective_is_equation_1(targeted):
    scores, suspicion, y, other = random_scores()
    target = other if targeted else None
    value = MaximumConfidence().value(scores, suspicion, y, target, (1.0, 1.0)).numpy()
    np.testing.assert_allclose(value, of_the_paper(scores, 0.2, y, target), atol=1e-5)


def test_objective_differs_from_evade_where_the_true_class_is_best_and_rejected():
    scores, suspicion, y, _ = random_scores()
    paper = MaximumConfidence().value(scores, suspicion, y, None, (1.0, 1.0)).numpy()
    evade = Evade(raw=True).value(scores, suspicion, y, None, (1.0, 1.0)).numpy()
    apart = (scores.argmax(1) == y) & (suspicion > 0)
    assert 10 < apart.sum() < len(y) - 10
    np.testing.assert_allclose(paper[~apart], evade[~apart], atol=1e-5)
    assert (paper[apart] > evade[apart]).all()
    assert (np.sign(paper) == np.sign(evade)).all(), "both are below 0 exactly where a sample evades"
    margin = Margin().value(scores, suspicion, y, None, (1.0, 1.0)).numpy()
    np.testing.assert_allclose(paper[apart], (suspicion + margin)[apart], atol=1e-5)


def test_objective_without_rejection_is_the_margin():
    scores, _, y, other = random_scores()
    for target in (None, other):
        expected = Margin().value(scores, None, y, target, (1.0, 1.0))
        np.testing.assert_array_equal(MaximumConfidence().value(scores, None, y, target, (1.0, 1.0)), expected)


def test_gradient_where_they_differ_leads_to_the_other_class_alone():
    import tensorflow as tf

    # Class 0 is true, best, and under the threshold of 1.
    scores = tf.constant([[0.5, 0.3, -2.0]])

    def gradient(objective):
        with tf.GradientTape() as tape:
            tape.watch(scores)
            value = objective.value(scores, 1.0 - tf.reduce_max(scores, -1), np.array([0]), None, (1.0, 1.0))
        return tape.gradient(value, scores).numpy()[0]

    np.testing.assert_allclose(gradient(MaximumConfidence()), [0, -1, 0], atol=1e-6)
    np.testing.assert_allclose(gradient(Evade(raw=True)), [-1, 0, 0], atol=1e-6)


@pytest.mark.parametrize("norm, epsilon", [("l2", 1.2), ("linf", 0.25), ("l1", 6.0)])
@pytest.mark.parametrize("targeted", [False, True])
def test_paper_attack_stays_in_its_ball_and_gets_through(norm, epsilon, targeted, nr, held_out):
    x, y = held_out.x[200:230], held_out.y[200:230]
    attack = td.attacks.PGD(epsilon, norm=norm, steps=30, objective=MaximumConfidence(), starts="sample", tolerance=1e-6)
    result = attack(nr, x, y, "most_likely" if targeted else None)
    change = (result.x_adv.astype("float64") - x).reshape(len(x), -1)
    size = {"l2": np.linalg.norm(change, axis=1), "linf": np.abs(change).max(1), "l1": np.abs(change).sum(1)}[norm]
    assert size.max() <= epsilon * (1 + 1e-5) and 0 <= result.x_adv.min() and result.x_adv.max() <= 1
    assert result.success.mean() > 0.4


def test_paper_attack_is_stronger_than_evade_from_the_sample(dnr, held_out):
    x, y = held_out.x[200:260], held_out.y[200:260]
    rates = {
        type(objective).__name__: td.attacks.PGD(1.2, norm="l2", steps=25, objective=objective, starts="sample", schedule="fixed")(
            dnr, x, y
        ).success.mean()
        for objective in (MaximumConfidence(), Evade(raw=True))
    }
    assert rates["MaximumConfidence"] > rates["Evade"] + 0.1, rates


def test_attack_stops_where_the_objective_stands_still(nr, held_out):
    x, y = held_out.x[200:220], held_out.y[200:220]
    attack = td.attacks.PGD(
        2.0, norm="l2", steps=200, step_size=0.3, objective=MaximumConfidence(), starts="sample", tolerance=0.02
    )
    # Some go to and fro for longer than others, by what a float is rounded to.
    steps = attack(nr, x, y).steps
    assert np.median(steps) < 50 and (dataclasses.replace(attack, tolerance=None)(nr, x, y).steps == 200).all()


# Bad input.


def test_unknown_layer_names_the_nearest(classifier):
    with pytest.raises(ValueError, match="no layer 'feature'. Nearest: features"):
        td.DeepNeuralRejection(["feature", "scores"]).attach(classifier)
    with pytest.raises(ValueError, match="no layer 'score'. Nearest: scores"):
        td.NeuralRejection("score").attach(classifier)


@pytest.mark.parametrize("layers", ["features", [], ["features", "features"]])
def test_layers_must_be_a_list_of_different_names(layers):
    with pytest.raises(ValueError, match="`layers` must be|each layer once"):
        td.DeepNeuralRejection(layers)


@pytest.mark.parametrize("options", [{"C": 0}, {"gamma": -1.0}, {"folds": 1}, {"search": [1]}])
@pytest.mark.parametrize("build", [td.NeuralRejection, lambda **options: td.DeepNeuralRejection(["a"], **options)])
def test_wrong_options_are_told_at_once(build, options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}` must be"):
        build(**options)


def test_layer_with_100000_features_is_told_before_any_sample_runs():
    inputs = keras.Input((250, 400, 1))
    x = keras.layers.Identity(name="wide")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2, name="out")(keras.layers.GlobalAveragePooling2D()(x)))
    with pytest.raises(ValueError, match="Layer 'wide' can't be watched. .*100,000 a sample.*4.0 GB.*Watch a later layer"):
        td.DeepNeuralRejection(["wide", "out"]).attach(model)
    td.DeepNeuralRejection(["wide", "out"], max_memory=5e9).attach(model)


def test_too_few_samples_and_missing_classes_are_told(classifier, fitted):
    x, y = fitted
    model = td.DeepNeuralRejection(["features", "scores"]).attach(classifier)
    with pytest.raises(ValueError, match="all 10 classes. Received none of class 7"):
        td.adapt(model, x[y != 7], y[y != 7], max_rejected=None)
    few = np.flatnonzero((y != 7) | (np.cumsum(y == 7) <= 3))
    with pytest.raises(ValueError, match="each of the 5 folds. Class 7 has 3 samples"):
        td.adapt(model, x[few], y[few], max_rejected=None)
    one_each = np.array([np.flatnonzero(y == label)[0] for label in range(10)])
    with pytest.raises(ValueError, match="at least as many samples as folds, 20. Received 10"):
        td.adapt(td.DeepNeuralRejection(["scores"], folds=20).attach(classifier), x[one_each], y[one_each], max_rejected=None)


def test_calibrating_attacking_and_compressing_before_adapting_are_told(classifier, fitted, held_out):
    model = td.DeepNeuralRejection(LAYERS).attach(classifier)
    with pytest.raises(ValueError, match="is not adapted yet. Call `td.adapt"):
        td.calibrate(model, held_out.x)
    with pytest.raises(ValueError, match="is not adapted yet"):
        td.attacks.FGSM(0.1)(model, *fitted)
    with pytest.raises(ValueError, match="not adapted yet, so there is nothing to compress"):
        td.compress(model, 5, fitted[0])
    with pytest.raises(ValueError, match="no `td.layers.RBFSVM` to compress"):
        td.compress(td.ThresholdDefense().attach(classifier), 5, fitted[0])
