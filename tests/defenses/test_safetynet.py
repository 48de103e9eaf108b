import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdefense as td
from tfdefense.layers import DetectorSVM, QuantizedReLU, Threshold


@pytest.fixture(scope="module")
def samples(classifier, digits, held_out):
    """Clean and attacked digits to adapt on, and others to test on."""
    attack = td.attacks.BIM(0.25)
    parts = {"train": (digits.x[:400], digits.y[:400]), "test": (held_out.x[200:], held_out.y[200:])}
    attacked = {name: attack(classifier, x, y) for name, (x, y) in parts.items()}
    adversarial = attacked["test"].x_adv[attacked["test"].success]
    assert len(adversarial) > 100
    return *parts["train"], attacked["train"].x_adv, parts["test"][0], adversarial


def fitted(model, samples, held_out, layers, **options):
    defended = td.SafetyNet(layers, **options).attach(model)
    x, y, x_adv, _, _ = samples
    return td.adapt(defended, x, y, adversarial=x_adv, calibration=held_out.x[:200], max_rejected=0.05)


def rejected(model, x):
    return (keras.ops.convert_to_numpy(model(x)["label"]) == -1).mean()


@pytest.mark.parametrize("levels", [2, 4])
def test_attacked_digits_are_rejected_and_clean_ones_are_not(classifier, samples, held_out, levels):
    defended = fitted(classifier, samples, held_out, ["conv_1"], levels=levels)
    assert rejected(defended, samples[3]) < 0.1
    assert rejected(defended, samples[4]) > 0.85


def test_statistic_is_the_decision_value_on_the_codes(classifier, samples):
    """By hand: the codes of clean and of adversarial samples, and an SVM of scikit-learn."""
    from sklearn.svm import SVC

    x, y, x_adv, new, _ = samples
    defended = td.SafetyNet(["features"], levels=2, threshold=0.0, C=10.0).attach(classifier)
    td.adapt(defended, x, y, adversarial=x_adv, max_rejected=None)
    # What the classifier had wrong already was left alone, and is no sample of an attack.
    x_adv = x_adv[(x_adv != x).any((1, 2, 3))]
    tap = keras.Model(classifier.inputs[0], classifier.get_layer("features").output)
    clean, attacked, unknown = (tap(part).numpy() for part in (x, x_adv, new))
    medians = [np.median(column[column > 0]) if (column > 0).any() else np.nan for column in clean.T]
    medians = np.where(np.isnan(medians), np.nanmean(medians), medians)
    codes = [part > medians.astype("float32") for part in (clean, attacked, unknown)]
    svm = SVC(C=10.0).fit(np.concatenate(codes[:2]).astype(float), np.repeat([0, 1], [len(x), len(x_adv)]))
    expected = svm.decision_function(codes[2].astype(float))
    # A unit may lie on its threshold to the last digit.
    close = np.isclose(defended(new)["suspicion"], expected, atol=1e-3)
    assert close.mean() > 0.98
    assert td.contract.unready(defended) is None


def test_search_is_handed_to_the_svms(classifier, samples):
    x, y, x_adv, _, _ = samples
    defended = td.SafetyNet(["features"], search={"C": [1.0], "gamma": [1e-6, "scale"]}, folds=3).attach(classifier)
    td.adapt(defended, x[:150], y[:150], adversarial=x_adv[:150], max_rejected=None)
    assert next(layer for layer in defended.layers if isinstance(layer, DetectorSVM)).gamma == "scale"


def test_levels_follow_from_given_thresholds(classifier):
    found = [td.SafetyNet(["conv_1"], **options).attach(classifier) for options in ({"thresholds": [0.5]}, {"levels": 3}, {})]
    codes = [next(layer for layer in one.layers if isinstance(layer, QuantizedReLU)) for one in found]
    assert [(layer.levels, layer.thresholds) for layer in codes] == [(2, [0.5]), (3, None), (4, None)]


@pytest.mark.parametrize(("join", "found"), [("any", 0.85), ("all", 0.3)])
def test_several_detectors_are_joined(classifier, samples, held_out, join, found):
    defended = fitted(classifier, samples, held_out, ["features", "conv_1"], join=join)
    thresholds = [layer for layer in defended.layers if isinstance(layer, Threshold)]
    each = keras.Model(defended.inputs[0], [layer.output for layer in thresholds])(samples[4])
    suspicions = np.stack([part.numpy() for part in each])
    expected = suspicions.max(0) if join == "any" else suspicions.min(0)
    np.testing.assert_allclose(defended(samples[4])["suspicion"], expected, atol=1e-6)
    assert rejected(defended, held_out.x[:200]) <= 0.05 and rejected(defended, samples[4]) > found
    assert sum(isinstance(layer, QuantizedReLU) for layer in defended.layers) == 2


def test_joins_with_other_defenses(classifier, samples, held_out):
    both = td.AnyOf(td.SafetyNet(["conv_1"]), td.DeepNeuralRejection(["features", "scores"])).attach(classifier)
    x, y, x_adv, _, adversarial = samples
    td.adapt(both, x, y, adversarial=x_adv, calibration=held_out.x[:200], max_rejected=0.05)
    assert rejected(both, held_out.x[:200]) <= 0.05 and rejected(both, adversarial) > 0.5


# An SVM a class has a tenth of the samples each: of 400 too few to tell more than a hair above the bound.
@pytest.mark.parametrize(("options", "count"), [({"levels": 0}, 400), ({"by_class": True}, 1400)], ids=["activations", "by class"])
def test_other_ways_to_match_work_and_can_be_attacked(classifier, digits, samples, held_out, options, count):
    x, y = digits.x[:count], digits.y[:count]
    own = x, y, td.attacks.BIM(0.25)(classifier, x, y).x_adv, *samples[3:]
    defended = fitted(classifier, own, held_out, ["conv_1"], **options)
    assert rejected(defended, samples[3]) < 0.1 and rejected(defended, samples[4]) > 0.8
    assert any(isinstance(layer, QuantizedReLU) for layer in defended.layers) == (options.get("levels") != 0)
    search = td.attacks.BPDA(td.attacks.PGD(0.4, steps=20, starts=("sample",)), exact_forward=False)
    assert search(defended, held_out.x[:40], held_out.y[:40]).success.mean() > 0.1


@pytest.mark.parametrize("by_class", [False, True])
def test_saves_and_loads(classifier, samples, held_out, tmp_path, by_class):
    defended = fitted(classifier, samples, held_out, ["features", "conv_1"], by_class=by_class)
    defended.save(tmp_path / "d.keras")
    again = td.load(tmp_path / "d.keras")
    for name, value in defended(samples[3]).items():
        np.testing.assert_allclose(again(samples[3])[name], value, atol=1e-4)
    assert td.contract.unready(again) is None
    defended.export(tmp_path / "serving", verbose=False)
    serving = tf.saved_model.load(str(tmp_path / "serving"))
    np.testing.assert_array_equal(serving.serve(samples[3])["label"], defended(samples[3])["label"])


def test_compressed_svms_decide_mostly_alike(classifier, samples, held_out):
    defended = fitted(classifier, samples, held_out, ["conv_1"])
    before = defended(samples[3])["label"].numpy()
    td.compress(defended, 100, samples[0], calibration=held_out.x[:200])
    assert next(layer for layer in defended.layers if isinstance(layer, DetectorSVM)).vectors == 100
    assert (defended(samples[3])["label"].numpy() == before).mean() > 0.85


def test_unfinished_it_rejects_everything_and_says_what_it_lacks(classifier, samples):
    x, y, x_adv, _, _ = samples
    defended = td.SafetyNet(["features"], threshold=0.0).attach(classifier)
    assert rejected(defended, x[:9]) == 1
    assert "adversarial=x_adv" in td.contract.unready(defended)
    with pytest.raises(ValueError, match=r"learns from clean and adversarial samples.*Pass `adversarial="):
        td.adapt(defended, x, y)
    with pytest.raises(ValueError, match=r"Expected samples in \(0, 1\)"):
        td.adapt(defended, x, y, adversarial=x_adv * 255)
    with pytest.raises(ValueError, match="Leave `adversarial` out"):
        td.adapt(td.NeuralRejection().attach(classifier), x, y, adversarial=x_adv)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: td.SafetyNet("features"), "one or more names of layers"),
        (lambda: td.SafetyNet([]), "one or more names of layers"),
        (lambda: td.SafetyNet(["a", "a"]), "Expected each layer once"),
        (lambda: td.SafetyNet(["a"], levels=1), "at least 2"),
        (lambda: td.SafetyNet(["a"], C=-1), "`C` must be a number above 0"),
        (lambda: td.SafetyNet(["a"], join="some"), "'any' or 'all'"),
        (lambda: td.SafetyNet(["a"], 4, thresholds=[0.5]), "Received 1 for `levels=4`"),
    ],
)
def test_bad_options_are_told(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@keras.saving.register_keras_serializable(package="tests")
class Recorder(td.layers.AdaptableLayer):
    """Keeps what it was adapted on; of samples not fitted on it says -1 - their number."""

    def __init__(self, needs_adversarial=False, **options):
        super().__init__(**options)
        self.needs_adversarial = needs_adversarial

    def call(self, features):
        return keras.ops.sum(features, axis=-1, keepdims=True)

    def adapt(self, features, labels):
        self.seen, self.labels = features, labels
        return -1.0 - np.arange(len(features), dtype="float32")[:, None]


def test_what_did_not_move_is_no_adversarial_sample():
    """Of the samples of two attacks, one after the other, and of some of them in another order."""
    inputs, layer = keras.Input((3,)), Recorder(needs_adversarial=True)
    scores = keras.layers.Dense(2)(inputs)
    defended = td.contract.defend(inputs, scores, keras.ops.squeeze(layer(inputs), -1))
    x, y = np.random.default_rng(0).random((10, 3), "float32"), np.repeat([0, 1], 5)
    half, almost = np.where(np.arange(10)[:, None] % 2, 1 - x, x), np.clip(x + 1e-8, 0, 1)
    for given in (
        half,
        np.concatenate([half, almost]),
        np.concatenate([half, half[::-1]])[:15],
        np.concatenate([x[3:], half[1:2]]),
    ):
        td.adapt(defended, x, y, adversarial=given, max_rejected=None)
        moved = np.abs(given[:, None] - x).max(-1).min(1) > 1e-3
        np.testing.assert_array_equal(layer.seen[len(x) :], given[moved])
    with pytest.raises(ValueError, match="Received the clean ones"):
        td.adapt(defended, x, y, adversarial=x[::-1], max_rejected=None)


@keras.saving.register_keras_serializable(package="tests")
class PairRecorder(Recorder):
    takes_pairs = True

    def adapt(self, features, labels, pairs):
        self.pairs = pairs
        return super().adapt(features, labels)


@pytest.mark.parametrize("given", [False, True])
def test_adversarial_samples_are_matched_with_what_they_were_made_from_in_any_order(given):
    inputs, layer = keras.Input((3,)), PairRecorder(needs_adversarial=True)
    defended = td.contract.defend(inputs, keras.layers.Dense(2)(inputs), keras.ops.squeeze(layer(inputs), -1))
    x, y = np.random.default_rng(0).random((40, 3), "float32"), np.repeat([0, 1], 20)
    sources = np.array([7, 3, 3, 39, 12])
    x_adv = np.clip(x[sources] + np.float32(0.01) * np.array([1, -1, 1, 1, 0], "float32")[:, None], 0, 1)
    options = {"sources": sources} if given else {}
    td.adapt(defended, x, y, adversarial=x_adv, max_rejected=None, **options)
    # The last one is the clean sample as it was.
    assert layer.pairs.tolist() == [*range(40), 7, 3, 3, 39] and len(layer.seen) == 44
    for wrong, words in (
        (sources[:3], r"a row of `x` for each of the 5 adversarial samples. Received int64 of shape \(3,\)"),
        (sources + 1, "between 0 and 39, rows of `x`. Received 40"),
    ):
        with pytest.raises(ValueError, match=words):
            td.adapt(defended, x, y, adversarial=x_adv, sources=wrong, max_rejected=None)
    with pytest.raises(ValueError, match="Received them alone: pass both"):
        td.adapt(td.NeuralRejection().attach(keras.Sequential([inputs, keras.layers.Dense(2)])), x, y, sources=sources)


@pytest.mark.parametrize("first", [False, True])
def test_layers_behind_learn_from_what_was_said_of_unseen_samples(first):
    inputs = keras.Input((3,))
    layers = [Recorder(needs_adversarial=first), Recorder(needs_adversarial=True), Recorder()]
    tensor = inputs
    for layer in layers:
        tensor = layer(tensor)
    scores = keras.layers.Dense(2)(inputs)
    defended = td.contract.defend(inputs, scores, keras.ops.squeeze(tensor, -1))
    x, x_adv = np.full((4, 3), 0.5, "float32"), np.full((2, 3), 0.25, "float32")
    td.adapt(defended, x, np.array([0, 1, 0, 1]), adversarial=x_adv, max_rejected=None)
    # A layer of clean samples says of adversarial ones what it always does: their sum.
    attacked = [-5.0, -6.0] if first else [0.75, 0.75]
    assert layers[1].seen[:, 0].tolist() == [-1.0, -2.0, -3.0, -4.0, *attacked]
    assert layers[1].labels.tolist() == [0, 0, 0, 0, 1, 1]
    assert layers[2].seen[:, 0].tolist() == [-1.0, -2.0, -3.0, -4.0] and layers[2].labels.tolist() == [0, 1, 0, 1]
