"""CCAT and rectified rejection: their losses against what is known exactly, and what training by them brings."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit, log_softmax, softmax

import tfdefense as td
from tests.conftest import small_cnn
from tfdefense import attacks as A
from tfdefense.trainers.rejecting import rectified_loss

CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def linear():
    inputs = keras.Input((3,))
    layer = keras.layers.Dense(2, use_bias=False)
    model = keras.Model(inputs, layer(inputs))
    layer.set_weights([np.array([[0, 1.0], [0, -2.0], [0, 0.5]])])
    return model


def test_share_of_the_class_falls_with_the_length_of_the_perturbation():
    trainer = td.ConfidenceCalibratedTraining(linear(), A.PGD(0.4, norm="l2"), power=3.0)
    delta = np.array([[0, 0, 0], [0.2, 0, 0], [0.12, 0.16, 0], [0, 0.4, 0], [0, 9, 0]], "float32")
    np.testing.assert_allclose(trainer.kept(tf.constant(delta)), [1, 0.125, 0.125, 0, 0], atol=1e-6)
    assert trainer.kept(tf.constant(delta[:1])).numpy()[0] == 1, "what was not moved keeps its label"


@pytest.mark.parametrize("weighted", [False, True])
def test_ccat_loss_is_cross_entropy_against_its_labels(weighted):
    trainer = td.ConfidenceCalibratedTraining(linear(), A.FGSM(0.1))
    trainer.compile("sgd", CROSS_ENTROPY)
    rng = np.random.default_rng(0)
    scores, y, kept = rng.normal(size=(5, 2)).astype("float32"), np.array([0, 1, 1, 0, 1]), np.float32([1, 0.7, 0.5, 0, 0.2])
    weight = np.float32([1, 2, 0.5, 1, 3]) if weighted else None
    labels = kept[:, None] * np.eye(2)[y] + (1 - kept[:, None]) / 2
    each = -(labels * log_softmax(scores, -1)).sum(-1) * (1 if weight is None else weight)
    found = trainer.compute_loss(None, (y, tf.constant(kept)), tf.constant(scores), weight)
    assert float(found) == pytest.approx(each.mean(), rel=1e-5)
    # What is validated is the loss as it was compiled.
    assert float(trainer.compute_loss(None, y, tf.constant(scores), training=False)) == pytest.approx(
        float(CROSS_ENTROPY(y, scores)), rel=1e-6
    )


def test_rectified_loss_is_least_where_the_product_is_the_true_confidence():
    scores, y = np.float32([[2.0, 0.5, 0.0]] * 3), np.array([0, 1, 2])
    shares = softmax(scores, -1)
    odds = np.linspace(-12, 12, 2001, dtype="float32")
    for row, label in enumerate(y):
        loss = rectified_loss(np.full(2001, label), np.repeat(scores[row : row + 1], 2001, 0), tf.constant(odds)).numpy()
        t, ca = shares[row, label], shares[row].max() * expit(odds.astype("float64"))
        np.testing.assert_allclose(loss, -(t * np.log(ca) + (1 - t) * np.log(1 - ca)), rtol=1e-4)
        assert ca[loss.argmin()] == pytest.approx(t, abs=0.01)
    variable = tf.Variable(scores)
    with tf.GradientTape() as tape:
        loss = rectified_loss(y, variable, tf.zeros(3))
    assert tape.gradient(loss, variable) is None, "the classifier's own scores are not trained by it"


def test_rectified_confidence_goes_on_where_float32_is_stuck():
    odds, scores = np.float32([60, 60, -60, 0]), np.float32([[40, 0], [0, 0], [40, 0], [40, 0]])
    found = td.layers.RectifiedConfidence()(odds, scores)
    np.testing.assert_allclose(found, [-40, np.log(0.5), -np.exp(-60), np.log(0.5)], rtol=1e-5, atol=1e-12)


@pytest.fixture(scope="module")
def ccat(digits):
    keras.utils.set_random_seed(0)
    model = small_cnn(10, "ccat")
    attack = A.PGD(0.3, steps=3, random_start=True, schedule="fixed", objective=A.WrongConfidence())
    trainer = td.ConfidenceCalibratedTraining(model, attack)
    trainer.compile(keras.optimizers.Adam(3e-3), CROSS_ENTROPY, metrics=["accuracy"])
    options = {"batch_size": 64, "verbose": 0, "validation_data": (digits.x[:200], digits.y[:200])}
    history = trainer.fit(digits.x, digits.y, epochs=6, **options).history
    assert history["val_accuracy"][-1] > 0.9 and set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    return model


def test_ccat_is_unsure_of_what_makes_the_plain_network_wrong_and_sure(ccat, classifier, held_out):
    x, y = held_out.x[200:260], held_out.y[200:260]
    attack = A.PGD(0.3, steps=3, schedule="fixed", objective=A.WrongConfidence())
    confidence = {}
    for name, model in (("plain", classifier), ("ccat", ccat)):
        moved = attack(model, x, y, regardless=True).x_adv
        confidence[name] = [softmax(model(samples).numpy(), -1).max(-1).mean() for samples in (x, moved)]
    assert confidence["plain"][1] > 0.8 and confidence["ccat"][0] > 0.5
    assert confidence["ccat"][1] < min(confidence["ccat"][0] - 0.1, confidence["plain"][1] - 0.3)


@pytest.fixture(scope="module")
def rectified(digits):
    keras.utils.set_random_seed(0)
    defended = td.RectifiedRejection(width=16, seed=0).attach(small_cnn(10, "rectified"))
    trainer = td.RectifiedTraining(defended, A.PGD(0.15, steps=2, random_start=True, schedule="fixed"))
    trainer.compile(keras.optimizers.Adam(3e-3), CROSS_ENTROPY, metrics=["accuracy"])
    options = {"batch_size": 64, "verbose": 0, "validation_data": (digits.x[:200], digits.y[:200])}
    history = trainer.fit(digits.x, digits.y, epochs=5, **options).history
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"} and history["val_accuracy"][-1] > 0.9
    return trainer, defended


def test_rectified_confidence_is_nearer_to_the_true_one_than_confidence(rectified, held_out):
    _, defended = rectified
    x, y, base = held_out.x[200:], held_out.y[200:], td.base_model(defended)
    moved = A.PGD(0.15, steps=5)(base, x, y, regardless=True).x_adv
    head = next(layer for layer in defended.layers if isinstance(layer, td.layers.Rectifier))
    odds = keras.Function(defended.inputs, head.output)([moved])
    trained, constant = (float(tf.reduce_mean(rectified_loss(y, base(moved), each))) for each in (odds, tf.fill(odds.shape, 20.0)))
    assert trained < constant - 0.02


def test_rectified_model_is_saved_and_joined_as_any_other(rectified, held_out, tmp_path):
    trainer, defended = rectified
    td.calibrate(defended, held_out.x[:200], max_rejected=0.1)
    trainer.save(tmp_path / "model.keras")
    again = td.load(tmp_path / "model.keras")
    np.testing.assert_allclose(again(held_out.x[:9])["suspicion"], defended(held_out.x[:9])["suspicion"], atol=1e-5)
    both = td.AnyOf(td.RectifiedRejection(width=4), td.ThresholdDefense("energy")).attach(td.base_model(defended))
    assert td.calibrate(both, held_out.x, max_rejected=0.1) <= 0.1
    assert trainer.evaluate(held_out.x, held_out.y, verbose=0, return_dict=True)["accuracy"] > 0.85
    with pytest.raises(ValueError, match="needs training: its weight"):
        td.compare(td.base_model(defended), [td.RectifiedRejection()], (held_out.x, held_out.y), attack=None)


def test_wrong_confidence_is_that_of_the_likeliest_wrong_class():
    scores, y = np.float32([[2.0, 1.0, 0.0], [0.0, 5.0, 1.0]]), tf.constant([0, 1])
    shares, value = log_softmax(scores, -1), A.WrongConfidence().value
    np.testing.assert_allclose(value(tf.constant(scores), None, y, None, None), [-shares[0, 1], -shares[1, 2]], rtol=1e-6)
    np.testing.assert_allclose(value(tf.constant(scores), None, y, tf.constant([2, 0]), None), [-shares[0, 2], -shares[1, 0]])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda m: td.ConfidenceCalibratedTraining(m, [A.FGSM(0.1), A.FGSM(0.2)]), "of one norm and epsilon.*FGSM linf 0.2"),
        (lambda m: td.ConfidenceCalibratedTraining(m, A.DeepFool()), "of one norm and epsilon"),
        (lambda m: td.ConfidenceCalibratedTraining(m, A.FGSM(0.1), power=0), "`power` must be a number above 0"),
        (
            lambda m: td.ConfidenceCalibratedTraining(keras.Sequential([m, keras.layers.Softmax()]), A.FGSM(0.1)),
            "that gives logits",
        ),
        (lambda m: td.RectifiedTraining(td.ThresholdDefense().attach(m), A.FGSM(0.1)), "one `td.RectifiedRejection`.*has 0"),
        (lambda m: td.RectifiedTraining(m, A.FGSM(0.1)), "one `td.RectifiedRejection`"),
        (lambda m: td.RectifiedRejection(width=0), "`width` must be a whole number of at least 1"),
    ],
)
def test_what_is_wrong_is_told(make, words):
    with pytest.raises(ValueError, match=words):
        make(linear())
