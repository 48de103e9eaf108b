"""Adapting, calibrating and attacking within `fit`."""

import csv

import keras
import numpy as np
import pytest
from keras import ops

import tfdefense as td
from tfdefense.contract import unready
from tfdefense.defenses import Defense
from tfdefense.layers import AdaptableLayer, Threshold


def network(seed=0):
    keras.utils.set_random_seed(seed)
    layers = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(32, activation="relu", name="features")]
    return keras.Sequential([*layers, keras.layers.Dense(10)])


def compiled(model, scores="scores"):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss={scores: loss} if scores else loss)
    model.optimizer.build(model.trainable_variables)  # or Keras traces the first step twice
    return model


@pytest.fixture
def fresh():
    """A defended model as it is before any training."""
    return compiled(td.ThresholdDefense().attach(network()))


def threshold_of(model):
    return next(float(layer.value) for layer in model.layers if isinstance(layer, Threshold))


@keras.saving.register_keras_serializable(package="tests")
class Centre(AdaptableLayer):
    """Distance from the mean of what it was adapted to."""

    def build(self, shape):
        super().build(shape)
        self.centre = self.add_weight(name="centre", shape=shape[1:], trainable=False)

    def adapt(self, features, labels):
        self.centre.assign(features.mean(0))

    def call(self, features):
        return ops.where(self._adapted > 0, ops.sqrt(ops.sum((features - self.centre) ** 2, -1)), float("inf"))

    def compute_output_shape(self, shape):
        return shape[:1]


class FarFromCentre(Defense):
    layers = ("features",)

    def connect(self, logits, taps):
        return logits, Centre()(taps["features"])


def test_the_callbacks_finish_a_defense_in_one_fit(digits, held_out):
    defended = compiled(FarFromCentre().attach(network()))
    assert "not adapted" in unready(defended)
    history = defended.fit(
        digits.x,
        digits.y,
        epochs=5,
        verbose=0,
        callbacks=[
            td.callbacks.AdaptDefense(digits.x, digits.y),
            td.callbacks.CalibrateRejection(held_out.x[:200], max_rejected=0.05),
        ],
    ).history
    outcomes = td.evaluate(defended, held_out.x[:200], held_out.y[:200])
    assert outcomes.rejection == history["rejection"][-1] and 0.04 < outcomes.rejection <= 0.05
    assert outcomes.accuracy > 0.85
    # Adapted to the final features, not to those of an earlier epoch.
    features = keras.Model(defended.inputs[0], defended.get_layer("features").output)(digits.x).numpy()
    np.testing.assert_allclose(defended.get_layer("centre").centre, features.mean(0), rtol=1e-4, atol=1e-5)


def test_defense_that_learns_from_attacks_gets_those_of_the_final_model(digits, held_out):
    defended = compiled(td.SafetyNet(["features"]).attach(network()))
    x, y = digits.x[:300], digits.y[:300]
    attack = td.attacks.FGSM(0.2)
    steps = [td.callbacks.AdaptDefense(x, y, attack=attack), td.callbacks.CalibrateRejection(held_out.x, max_rejected=0.05)]
    defended.fit(x, y, epochs=2, verbose=0, callbacks=steps)
    suspicion = defended(held_out.x)["suspicion"].numpy()
    assert unready(defended) is None and (suspicion > 0).mean() <= 0.05
    x_adv = attack(td.base_model(defended), x, y).x_adv
    td.adapt(defended, x, y, adversarial=x_adv, calibration=held_out.x, max_rejected=0.05)
    np.testing.assert_allclose(defended(held_out.x)["suspicion"], suspicion, atol=1e-4)


def test_calibration_needs_no_epoch(fresh, held_out, digits):
    history = fresh.fit(
        digits.x, digits.y, epochs=0, verbose=0, callbacks=[td.callbacks.CalibrateRejection(held_out.x, max_rejected=0.1)]
    ).history
    assert 0.09 < history["rejection"][-1] <= 0.1
    assert td.evaluate(fresh, held_out.x, held_out.y).rejection == history["rejection"][-1]


def test_calibration_of_every_epoch_is_logged(fresh, held_out, digits, tmp_path):
    seen = []
    callbacks = [
        td.callbacks.CalibrateRejection(held_out.x, max_rejected=0.2, every_epoch=True),
        keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(threshold_of(fresh))),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
    ]
    history = fresh.fit(digits.x, digits.y, epochs=3, verbose=0, callbacks=callbacks).history
    assert len(history["rejection"]) == len(history["loss"]) == 3
    assert len(set(seen)) == 3 and np.isfinite(seen).all()
    with open(tmp_path / "log.csv") as file:
        assert [float(row["rejection"]) for row in csv.DictReader(file)] == pytest.approx(history["rejection"])


def test_calibration_at_the_end_alone_leaves_epochs_alone(fresh, held_out, digits):
    seen = []
    look = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(threshold_of(fresh)))
    callbacks = [td.callbacks.CalibrateRejection(held_out.x), look]
    history = fresh.fit(digits.x[:200], digits.y[:200], epochs=2, verbose=0, callbacks=callbacks).history
    assert seen == [-np.inf, -np.inf] and len(history["rejection"]) == 1


def test_calibration_fits_the_weights_that_early_stopping_brings_back(fresh, held_out, digits):
    callbacks = [
        keras.callbacks.EarlyStopping("loss", mode="max", patience=2, restore_best_weights=True),
        td.callbacks.CalibrateRejection(held_out.x, max_rejected=0.1, every_epoch=True),
    ]
    history = fresh.fit(digits.x, digits.y, epochs=6, verbose=0, callbacks=callbacks).history
    assert len(history["rejection"]) == len(history["loss"]) == 3
    assert td.evaluate(fresh, held_out.x, held_out.y).rejection == history["rejection"][-1] <= 0.1


def test_robust_accuracy_of_a_plain_model_is_the_attacks_own(digits, held_out):
    model, attack = compiled(network(), scores=None), td.attacks.FGSM(0.05)
    x, y = held_out.x[:100], held_out.y[:100]
    seen = []
    callbacks = [
        td.callbacks.RobustAccuracy(attack, x, y),
        keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs["robust_accuracy"])),
    ]
    history = model.fit(digits.x, digits.y, epochs=3, verbose=0, callbacks=callbacks).history
    assert history["robust_accuracy"] == seen and len(set(seen)) > 1 and "robust_rejection" not in history
    assert seen[-1] == (~attack(model, x, y).success).mean()


def test_robust_accuracy_every_second_epoch_and_without_any(digits, held_out):
    model = compiled(network(), scores=None)
    robust = td.callbacks.RobustAccuracy(td.attacks.FGSM(0.05), held_out.x[:50], held_out.y[:50], every=2)
    history = model.fit(digits.x[:100], digits.y[:100], epochs=4, verbose=0, callbacks=[robust]).history
    assert len(history["robust_accuracy"]) == 2 and len(history["loss"]) == 4
    history = model.fit(digits.x, digits.y, epochs=0, verbose=0, callbacks=[robust]).history
    assert history["robust_accuracy"] == [(~td.attacks.FGSM(0.05)(model, held_out.x[:50], held_out.y[:50]).success).mean()]


def test_robust_accuracy_waits_for_the_thresholds(fresh, digits, held_out):
    x, y, attack = held_out.x[:100], held_out.y[:100], td.attacks.FGSM(0.1)
    callbacks = [td.callbacks.CalibrateRejection(held_out.x[100:]), td.callbacks.RobustAccuracy(attack, x, y)]
    history = fresh.fit(digits.x, digits.y, epochs=2, verbose=0, callbacks=callbacks).history
    result = attack(fresh, x, y)
    assert history["robust_accuracy"] == [(~result.success).mean()]
    assert history["robust_rejection"] == [(result.label == -1).mean()] and history["robust_rejection"][0] > 0


def test_robust_accuracy_is_that_of_the_final_thresholds(fresh, digits, held_out):
    x, y, attack = held_out.x[:100], held_out.y[:100], td.attacks.FGSM(0.1)
    td.calibrate(fresh, held_out.x, max_rejected=0.5)
    callbacks = [td.callbacks.CalibrateRejection(held_out.x, max_rejected=0.01), td.callbacks.RobustAccuracy(attack, x, y)]
    history = fresh.fit(digits.x, digits.y, epochs=2, verbose=0, callbacks=callbacks).history
    assert len(history["robust_accuracy"]) == 2
    assert history["robust_accuracy"][-1] == (~attack(fresh, x, y).success).mean()


def test_bounds_reach_the_attack(digits, held_out):
    inputs = keras.Input((8, 8, 1))
    model = compiled(keras.Model(inputs, network()(inputs / 255.0)), scores=None)
    robust = td.callbacks.RobustAccuracy(td.attacks.FGSM(10), held_out.x[:50] * 255, held_out.y[:50], bounds=(0, 255))
    assert model.fit(digits.x * 255, digits.y, epochs=2, verbose=0, callbacks=[robust]).history["robust_accuracy"][-1] < 0.9


def never(*args):
    raise AssertionError("training began")


@pytest.mark.parametrize("make", [lambda x, y: td.callbacks.CalibrateRejection(x), lambda x, y: td.callbacks.AdaptDefense(x, y)])
def test_a_plain_model_is_refused_before_training(make, digits):
    watch = keras.callbacks.LambdaCallback(on_train_batch_begin=never)
    with pytest.raises(ValueError, match="needs a defended model.*ThresholdDefense"):
        compiled(network(), scores=None).fit(digits.x, digits.y, verbose=0, callbacks=[make(digits.x, digits.y), watch])


@pytest.mark.parametrize("make", [lambda x, y: td.callbacks.CalibrateRejection(x), lambda x, y: td.callbacks.AdaptDefense(x, y)])
def test_a_wrong_shape_is_refused_before_training(make, fresh, digits):
    watch = keras.callbacks.LambdaCallback(on_train_batch_begin=never)
    with pytest.raises(ValueError, match=r"Expected samples of shape \(None, 8, 8, 1\). Received \(1400, 8, 8\)"):
        fresh.fit(digits.x, digits.y, verbose=0, callbacks=[make(digits.x[..., 0], digits.y), watch])


def test_a_suspicion_without_threshold_is_refused_before_training(digits):
    inputs = keras.Input((8, 8, 1))
    scores = network()(inputs)
    model = compiled(td.defend(inputs, scores, -ops.max(scores, -1)))
    with pytest.raises(ValueError, match="no `td.layers.Threshold` to calibrate"):
        model.fit(digits.x, digits.y, verbose=0, callbacks=[td.callbacks.CalibrateRejection(digits.x)])


def test_nothing_is_trained_by_scores_of_svms_that_are_not_there_yet(digits):
    base = network()
    before = base.get_weights()
    defended = compiled(td.NeuralRejection("features").attach(base))
    adapting = td.callbacks.AdaptDefense(digits.x[:200], digits.y[:200])
    with pytest.raises(ValueError, match="fitted after training, so there is nothing to train by yet"):
        defended.fit(digits.x, digits.y, epochs=1, verbose=0, callbacks=[adapting])
    for now, then in zip(base.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    # Without an epoch the callback only adapts.
    defended.fit(digits.x, digits.y, epochs=0, verbose=0, callbacks=[adapting])
    assert np.isfinite(defended(digits.x[:5])["scores"]).all()


@pytest.mark.parametrize(
    ("defense", "attack", "words"),
    [
        (lambda: td.SafetyNet(["features"]), None, "learns from adversarial samples too. Pass what makes them: `attack="),
        (lambda: td.ThresholdDefense(), td.attacks.FGSM(0.1), "Leave `attack` out"),
    ],
)
def test_attack_is_asked_for_or_refused_before_training(defense, attack, words, digits):
    watch = keras.callbacks.LambdaCallback(on_train_batch_begin=never)
    adapting = td.callbacks.AdaptDefense(digits.x, digits.y, attack=attack)
    with pytest.raises(ValueError, match=words):
        compiled(defense().attach(network())).fit(digits.x, digits.y, verbose=0, callbacks=[adapting, watch])


@pytest.mark.parametrize("make", [lambda x, y: td.callbacks.CalibrateRejection(x), lambda x, y: td.callbacks.AdaptDefense(x, y)])
def test_samples_outside_the_bounds_are_refused_before_training(make, fresh, digits):
    watch = keras.callbacks.LambdaCallback(on_train_batch_begin=never)
    with pytest.raises(ValueError, match=r"(Calibrate|Adapt).*: Expected samples in \(0, 1\)"):
        fresh.fit(digits.x, digits.y, verbose=0, callbacks=[make(255 * digits.x, digits.y), watch])


def test_calibrating_before_adapting_names_the_callback(digits):
    defended = compiled(FarFromCentre().attach(network()))
    with pytest.raises(ValueError, match="not adapted yet.*AdaptDefense.*before CalibrateRejection"):
        defended.fit(digits.x, digits.y, epochs=0, verbose=0, callbacks=[td.callbacks.CalibrateRejection(digits.x)])


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda x, y: td.callbacks.CalibrateRejection(x, max_rejected=5), "`max_rejected` must be a share"),
        (lambda x, y: td.callbacks.CalibrateRejection(x[:0]), "at least one sample"),
        (lambda x, y: td.callbacks.AdaptDefense(x, y[:-1]), "as many labels as samples"),
        (lambda x, y: td.callbacks.RobustAccuracy("fgsm", x, y), "Expected an attack, such as"),
        (lambda x, y: td.callbacks.RobustAccuracy(td.attacks.FGSM(0.1), x, y[:-1]), "as many labels as samples"),
        (lambda x, y: td.callbacks.RobustAccuracy(td.attacks.FGSM(0.1), x, y, every=0), "`every` must be a whole number"),
    ],
)
def test_bad_arguments_are_named(make, message, digits):
    with pytest.raises(ValueError, match=message):
        make(digits.x, digits.y)
