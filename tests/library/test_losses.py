import keras
import numpy as np
import pytest

import tfdefense as td
from tfdefense.losses import OneVsAllHinge, ReverseCrossEntropy, SmoothedCrossEntropy

SCORES = np.array([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0], [1.0, 1.0, 1.0]], "float32")
LABELS = np.array([0, 2, 1])
ONE_HOT = np.eye(3, dtype="float32")[LABELS]


def log_softmax(z):
    z = z.astype("float64")
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def by_hand(scores, labels):
    """Equation 4 on the reversed logits Z = -scores."""
    log_f = log_softmax(-scores)
    classes = scores.shape[1]
    others = np.array([np.delete(row, label).sum() for row, label in zip(log_f, labels, strict=True)])
    return -others / (classes - 1)


@pytest.mark.parametrize(
    "labels", [LABELS, LABELS[:, None], LABELS.astype("float32"), ONE_HOT], ids=["sparse", "column", "float", "onehot"]
)
def test_reverse_cross_entropy_is_equation_4(labels):
    values = ReverseCrossEntropy(reduction=None)(labels, SCORES)
    np.testing.assert_allclose(values, by_hand(SCORES, LABELS), rtol=1e-6)


def test_reverse_cross_entropy_takes_probabilities():
    probabilities = np.exp(log_softmax(SCORES)).astype("float32")
    values = ReverseCrossEntropy(from_logits=False, reduction=None)(LABELS, probabilities)
    np.testing.assert_allclose(values, by_hand(SCORES, LABELS), rtol=1e-5)


def test_two_classes_give_plain_cross_entropy():
    scores, labels = np.array([[1.0, -0.5], [0.2, 0.1]], "float32"), np.array([1, 0])
    plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
    np.testing.assert_allclose(ReverseCrossEntropy(reduction=None)(labels, scores), plain(labels, scores), rtol=1e-6)


def test_gradient_is_smaller_by_classes_minus_one():
    import tensorflow as tf

    scores, labels = tf.zeros((1, 10)), np.array([3])

    def size(loss):
        with tf.GradientTape() as tape:
            tape.watch(scores)
            value = loss(labels, scores)
        return float(tf.norm(tape.gradient(value, scores)))

    plain = size(keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert plain / size(ReverseCrossEntropy()) == pytest.approx(9, rel=1e-4)


def test_smoothing_is_cross_entropy_with_the_vector_of_equation_3():
    weight, classes = 0.5, 3
    smooth = np.full((3, classes), weight / (classes - 1) / (weight + 1))
    smooth[np.arange(3), LABELS] = 1 / (weight + 1)
    expected = -(1 + weight) * (smooth * log_softmax(SCORES)).sum(-1)
    np.testing.assert_allclose(SmoothedCrossEntropy(weight, reduction=None)(LABELS, SCORES), expected, rtol=1e-6)
    plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
    np.testing.assert_allclose(SmoothedCrossEntropy(0, reduction=None)(LABELS, SCORES), plain(LABELS, SCORES), rtol=1e-6)


@pytest.mark.parametrize(
    "loss", [ReverseCrossEntropy(from_logits=False), SmoothedCrossEntropy(weight=0.3), OneVsAllHinge(margin=0.5)]
)
def test_loss_survives_its_config(loss):
    copy = keras.losses.deserialize(keras.losses.serialize(loss))
    probabilities = np.exp(log_softmax(SCORES)).astype("float32")
    assert float(copy(LABELS, probabilities)) == float(loss(LABELS, probabilities))


def test_half_precision_scores_give_float32_losses():
    values = ReverseCrossEntropy(reduction=None)(LABELS, keras.ops.cast(SCORES, "float16"))
    np.testing.assert_allclose(values, by_hand(SCORES, LABELS), rtol=1e-3)


def test_classes_that_do_not_exist_give_nan_for_that_sample_alone():
    for wrong in (-1, 3, 0.5):
        values = np.asarray(ReverseCrossEntropy(reduction=None)(np.array([0, wrong, 1]), SCORES))
        assert np.isnan(values).tolist() == [False, True, False]


@pytest.mark.parametrize(
    "labels, scores, message",
    [
        (LABELS, SCORES[:, :1], "at least 2 classes.*Received shape .3, 1.*Dense.2"),
        (np.eye(4)[LABELS], SCORES, "one-hot rows, shape .batch, 3.*Received shape .3, 4"),
        (LABELS, SCORES[:, None], "shape .batch, classes"),
    ],
)
def test_wrong_shapes_are_named(labels, scores, message):
    with pytest.raises(ValueError, match=message):
        ReverseCrossEntropy()(labels, scores)


def test_negative_weight_is_named():
    with pytest.raises(ValueError, match="`weight` must be a finite number of at least 0. Received: -1"):
        SmoothedCrossEntropy(-1)


@pytest.mark.parametrize("one_hot", [False, True])
def test_training_improves_accuracy_by_arg_max(digits, held_out, one_hot):
    """A reverse loss may train to 4 % by arg max and 96 % by arg min and nothing else would tell."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1))
    x = keras.layers.Dense(64, activation="relu")(keras.layers.Flatten()(image))
    model = keras.Model(image, td.layers.ReverseLogits()(keras.layers.Dense(10)(x)))
    model.compile(keras.optimizers.Adam(1e-2), loss=td.losses.ReverseCrossEntropy(from_logits=True), metrics=["accuracy"])
    y = keras.utils.to_categorical(digits.y, 10) if one_hot else digits.y
    history = model.fit(digits.x, y, epochs=10, batch_size=64, verbose=0).history
    accuracy = np.mean(model(held_out.x).numpy().argmax(-1) == held_out.y)
    assert accuracy > 0.9
    assert history["accuracy"][-1] == pytest.approx(0.97, abs=0.03), "Keras's own metric sees ordinary logits"


@keras.saving.register_keras_serializable(package="tests")
class SoftmaxWrittenOut(keras.layers.Layer):
    """Nobody can tell that this is a softmax."""

    def call(self, scores):
        shares = keras.ops.exp(scores - keras.ops.max(scores, -1, keepdims=True))
        return shares / keras.ops.sum(shares, -1, keepdims=True)


ENDINGS = {
    "logits": keras.layers.Identity,
    "activation": lambda: keras.layers.Activation("softmax"),
    "half precision": lambda: keras.layers.Activation("softmax", dtype="float16"),
    "written out": SoftmaxWrittenOut,
}


@pytest.mark.parametrize("kind", [ReverseCrossEntropy, SmoothedCrossEntropy])
def test_what_is_sure_of_a_wrong_class_learns_through_its_softmax(digits, kind):
    """It begins with 1e-8 at every true class: clipped at 1e-7, as in most losses, that has no gradient at all."""
    x, y = digits.x[digits.y > 0], digits.y[digits.y > 0]

    def accuracy(ending):
        keras.utils.set_random_seed(0)
        image = keras.Input((8, 8, 1))
        last = keras.layers.Dense(10)
        scores = last(keras.layers.Dense(64, activation="relu")(keras.layers.Flatten()(image)))
        model = keras.Model(image, ENDINGS[ending]()(scores))
        last.bias.assign(18.0 * np.eye(10)[0])
        model.compile(keras.optimizers.Adam(0.02), loss=kind(from_logits=ending == "logits"))
        model.fit(x, y, epochs=16, batch_size=64, verbose=0)
        return np.mean(model(x).numpy().argmax(-1) == y)

    wanted = accuracy("logits")
    assert wanted > 0.7
    for ending in ("activation", "half precision", "written out"):
        assert accuracy(ending) == pytest.approx(wanted, abs=0.05), ending


def test_gradient_of_probabilities_is_that_of_their_logits():
    import tensorflow as tf

    logits = tf.constant([[60.0, 0.0, -20.0], [0.0, 3.0, 1.0], [0.0, 40.0, 0.0]])
    for loss in (ReverseCrossEntropy, SmoothedCrossEntropy):
        gradients = []
        for softmax in (None, tf.nn.softmax, keras.activations.softmax, SoftmaxWrittenOut()):
            with tf.GradientTape() as tape:
                tape.watch(logits)
                value = loss(from_logits=softmax is None)(np.array([1, 0, 2]), logits if softmax is None else softmax(logits))
            gradients.append(tape.gradient(value, logits))
        for found in gradients[1:]:
            np.testing.assert_allclose(found, gradients[0], atol=1e-5)


def test_reverse_logits_negates_and_is_saved(tmp_path):
    image = keras.Input((3,))
    model = keras.Model(image, td.layers.ReverseLogits()(image))
    model.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "m.keras")(SCORES), -SCORES)


def test_hinge_is_the_sum_over_the_svms():
    values = OneVsAllHinge(reduction=None)(LABELS, SCORES)
    # Sample by sample: how far the true class is below 1, and the others above -1.
    np.testing.assert_allclose(values, [0 + 0 + 1.5**2, 1 + 16 + 0, 4 + 0 + 4], rtol=1e-6)
    with pytest.raises(ValueError, match="`margin` must be a finite number above 0. Received: 0"):
        OneVsAllHinge(margin=0)


@pytest.mark.parametrize("attack", [td.attacks.FGSM(0.1), td.attacks.BIM(0.1, steps=3), td.attacks.DeepFool()])
def test_attacks_on_reversed_scores_are_those_on_ordinary_ones(attack, classifier, held_out):
    """A network with all its last weights turned round and `ReverseLogits` behind them is the same function."""
    base = keras.models.clone_model(classifier)
    base.set_weights(classifier.get_weights())
    for weight in base.get_layer("scores").weights:
        weight.assign(-weight)
    reverse = keras.Model(base.inputs[0], td.layers.ReverseLogits()(base.outputs[0]))
    x, y = held_out.x[:20], held_out.y[:20]
    expected, found = attack(classifier, x, y), attack(reverse, x, y)
    assert expected.success.any()
    np.testing.assert_allclose(found.x_adv, expected.x_adv, atol=1e-4)
