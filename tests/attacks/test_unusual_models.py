"""Models that change between calls, rule classes out, compute in float16, or keep their settings to themselves."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdefense as td

A = td.attacks


def labels(model, x):
    return td.view.decide(model, x).label


def copy_of(classifier, before=(), behind=()):
    inputs = keras.Input((8, 8, 1))
    scores = inputs
    for layer in (*before, classifier, *behind):
        scores = layer(scores)
    return keras.Model(inputs, scores)


@pytest.fixture
def few(held_out):
    return held_out.x[:40], held_out.y[:40]


def test_a_model_that_changes_is_seen_as_it_is(classifier, few, tmp_path):
    x, y = few
    norm = keras.layers.Normalization(axis=None)
    norm.adapt(100 * x + 50)
    model = keras.Sequential([keras.Input((8, 8, 1)), norm, keras.layers.Flatten(), keras.layers.Dense(10)])
    first = labels(model, x)
    model.save_weights(tmp_path / "a.weights.h5")
    # Mean and variance are plain tensors and no variables.
    norm.adapt(x)
    assert (labels(model, x) != first).any()
    np.testing.assert_array_equal(labels(model, x), model(x).numpy().argmax(-1))
    model.load_weights(tmp_path / "a.weights.h5")
    np.testing.assert_array_equal(labels(model, x), first)
    defended = td.ThresholdDefense().attach(model)
    td.calibrate(defended, x, max_rejected=0.5)
    oblivious = A.Transfer(A.FGSM(0.2))(defended, x, first).x_adv
    norm.adapt(x)
    again = A.Transfer(A.FGSM(0.2))(defended, x, first).x_adv
    np.testing.assert_allclose(again, A.FGSM(0.2)(td.base_model(defended), x, first, regardless=True).x_adv, atol=1e-6)
    assert np.abs(again - oblivious).max() > 0.1


def test_a_function_that_changes_is_seen_as_it_is(classifier, few):
    x, y = few
    now = {"model": classifier}
    before = labels(function := lambda x: now["model"](x), x)
    now["model"] = copy_of(classifier, behind=[keras.layers.Lambda(lambda scores: -scores)])
    np.testing.assert_array_equal(before, classifier(x).numpy().argmax(-1))
    np.testing.assert_array_equal(labels(function, x), classifier(x).numpy().argmin(-1))


@pytest.mark.parametrize(
    "attack",
    [
        A.PGD(0.2, steps=10),
        A.PGD(0.2, steps=10, objective=A.LogSumExp()),
        A.DeepFool(),
        A.CarliniWagner(steps=30, binary_search_steps=2),
        A.MinimumNorm(steps=20),
        A.Square(0.3, queries=60),
        A.JSMA(gamma=0.3),
        A.ILCM(0.2),
    ],
    ids=lambda attack: type(attack).__name__,
)
def test_classes_that_are_ruled_out_are_as_if_they_were_not_there(attack, classifier, few):
    x, y = few
    rest = np.zeros(12, "float32")
    rest[10:] = 1

    def masked(low):
        pad = keras.layers.Lambda(lambda scores: tf.where(rest > 0, low, tf.pad(scores, [[0, 0], [0, 2]])))
        return copy_of(classifier, behind=[pad])

    found, plain = (attack(model, x, y) for model in (masked(-np.inf), classifier))
    assert plain.success.mean() > 0.2 and abs(found.success.mean() - plain.success.mean()) < 0.03
    assert not found.zero_gradient.any() and not np.isin(found.label, (10, 11)).any()
    if isinstance(attack, A.ILCM):
        return
    targets = A.FGSM(0.1)._targets(td.view.View.of(masked(-np.inf)), x, y, "least_likely", 64)
    assert targets.max() < 10


def half(classifier):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = keras.models.clone_model(
            classifier, clone_function=lambda layer: type(layer).from_config(layer.get_config() | {"dtype": "mixed_float16"})
        )
    finally:
        keras.config.set_dtype_policy("float32")
    model.set_weights(classifier.get_weights())
    return model


@pytest.mark.parametrize(
    "attack", [A.FGSM(0.15), A.PGD(0.5, norm="l2", steps=10), A.CarliniWagner(steps=30, binary_search_steps=2)]
)
def test_gradients_of_half_precision_do_not_vanish(attack, classifier, few):
    x, y = few
    # So sure that what cross-entropy asks for is less than float16 holds.
    sure = copy_of(classifier, behind=[keras.layers.Rescaling(4.0)])
    model = copy_of(half(classifier), behind=[keras.layers.Rescaling(4.0, dtype="mixed_float16")])
    assert any(layer.compute_dtype == "float16" for layer in model._flatten_layers())
    whole, found = (attack(one, x, y) for one in (sure, model))
    assert whole.success.mean() > 0.3 and abs(found.success.mean() - whole.success.mean()) <= 0.05
    assert not found.zero_gradient.any()
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(at := tf.constant(x))
        value = A.CrossEntropy().value(td.view.View.of(model).forward(at)[0], None, y, None, (1, 1))
    with tf.GradientTape(watch_accessed_variables=False) as exact:
        exact.watch(at)
        known = A.CrossEntropy().value(sure(at, training=False), None, y, None, (1, 1))
    gradient, truth = tape.gradient(value, at).numpy(), exact.gradient(known, at).numpy()
    # Scaled back: searches for the smallest change need its size.
    ratio = np.linalg.norm(gradient.reshape(40, -1), axis=-1) / np.linalg.norm(truth.reshape(40, -1), axis=-1)
    assert np.abs(np.median(ratio) - 1) < 0.05


class Silent(keras.layers.Layer):
    def __init__(self, function, **options):
        super().__init__(**options)
        self.function = function

    def call(self, x):
        return self.function(x)


def test_a_layer_that_does_not_tell_its_settings_is_no_hindrance(classifier, few, tmp_path):
    x, y = few
    defended = td.ThresholdDefense().attach(copy_of(classifier, before=[Silent(lambda x: x + 0.0)]))
    td.calibrate(defended, x, max_rejected=0.05)
    assert A.PGD(0.2, steps=5)(defended, x, y).success.any()
    with pytest.raises(ValueError, match="does not tell its settings. Give it a `get_config`, or leave the cache out. Object"):
        A.PGD(0.2, steps=2)(defended, x, y, cache=tmp_path)


def test_softmax_inside_a_layer_with_lora_or_quantized_is_not_taken_off_wrongly(few):
    x, y = few
    lora = keras.layers.Dense(10, activation="softmax", name="probabilities")
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), lora])
    lora.enable_lora(4)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(np.tile(x, (20, 1, 1, 1)), np.tile(y, 20), epochs=3, verbose=0)
    np.testing.assert_allclose(td.view.decide(model, x).scores, np.log(model(x).numpy()), atol=1e-4)

    class Scaled(keras.layers.Dense):
        def call(self, x, training=None):
            return keras.ops.softmax(3 * x @ self.kernel)

    own = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), Scaled(10, activation="softmax", name="probabilities")])
    for one in (model, own):
        with pytest.raises(ValueError, match="softmax inside layer 'probabilities' can't be taken off: the layer is quantized"):
            td.ThresholdDefense().attach(one)


def test_starts_see_every_class_of_samples_that_come_in_order(classifier, digits):
    from tfdefense.attacks.base import _of_every_class

    order = np.argsort(np.tile(digits.y, 3), kind="stable")
    y = np.tile(digits.y, 3)[order]
    assert len(y) > 2048 and len(set(y[:400])) == 1
    chosen = _of_every_class(y)
    counts = np.bincount(y[chosen])
    assert len(chosen) == 2048 and counts.max() - counts.min() <= 1 and (np.diff(chosen) > 0).all()
    rare = np.concatenate([np.zeros(3000, int), np.ones(5, int)])
    assert np.bincount(rare[_of_every_class(rare)]).tolist() == [2043, 5]
    x = np.tile(digits.x, (3, 1, 1, 1))[order]
    only = np.arange(len(x)) < 5
    assert A.PGD(0.3, steps=5, starts=("interpolated",))(classifier, x, y, only=only).success[:5].any()


def test_what_is_remembered_of_a_search_among_others_is_of_those_others(classifier, held_out, monkeypatch):
    from tfdefense._cache import Recent
    from tfdefense.attacks import starts

    def batch(count):
        x, y = held_out.x[:count], held_out.y[:count].astype("int32")
        view = td.view.View.of(classifier)
        return A.base.Batch(view, x, y, None, False, (1.0, 1.0), (x, y), np.arange(count))

    recent = Recent(2**28)
    monkeypatch.setattr(starts, "_FOUND", recent)
    attack, start, few = A.HopSkipJump(queries=300), A.Transferred(classifier), np.arange(4)
    among = start.points(attack, batch(200).rows(few))
    alone = start.points(attack, batch(4))
    assert np.abs(among - alone).max() > 0.1, "it begins at the nearest of the others"
    np.testing.assert_array_equal(start.points(attack, batch(200).rows(few)), among)
    # Of a search that looks at one sample at a time it does not matter.
    assert start.points(A.FGSM(0.1), batch(200).rows(few)).shape == start.points(A.FGSM(0.1), batch(4)).shape
    assert len(recent.arrays) == 3 * len(few)


def test_small_arguments_mean_what_they_say(classifier, few):
    x, y = few
    targets = (y[:, None] + 1) % 10
    assert A.Transfer(A.FGSM(0.2), source=classifier)(classifier, x, y, targets).success.shape == (40,)
    view = td.view.View.of(classifier)
    resolved = A.starts.resolve((A.Random(3), A.Random(5)), view, y, restarts=2)
    assert [start.index for start in resolved] == [3, 4, 5, 6]
    with pytest.raises(ValueError, match="JSMA may change 6 of 64 values here, a start has changed"):
        A.JSMA(starts=("sample", "random"))(classifier, x, y)


def test_ilcm_in_training_goes_for_no_true_class(classifier, few):
    x, _ = few
    upside = copy_of(classifier, behind=[keras.layers.Lambda(lambda scores: -scores)])
    view = td.view.View.of(upside)
    y = upside(x).numpy().argmin(-1)
    moved = A.ILCM(0.2).online(view)(tf.constant(x), tf.constant(y, tf.int32), tf.zeros(40, tf.int32)).numpy()
    second = np.argsort(upside(x).numpy(), -1)[:, 1]
    aimed = A.ILCM(0.2)(upside, x, y, second, regardless=True).x_adv
    before, online, offline = (A.objectives.margin(upside(one), second).numpy().mean() for one in (x, moved, aimed))
    assert online > before + 0.5 and abs(online - offline) < 0.5


def test_training_keeps_the_last_stage_of_its_own_schedule(classifier, digits):
    coded = td.SafetyNet([classifier.layers[-2].name]).attach(classifier)
    x, y = digits.x[:200], digits.y[:200]
    td.adapt(coded, x, y, adversarial=A.BIM(0.2)(classifier, x, y).x_adv, calibration=digits.x[200:400], max_rejected=0.1)
    view = td.view.View.of(coded)
    one, other = (A.BPDA(A.PGD(0.1, steps=3), schedule=schedule, exact_forward=False) for schedule in ([(20, 1)], [(2, 3)]))
    arguments = (tf.constant(x[:20]), tf.constant(y[:20], tf.int32), tf.zeros(20, tf.int32))
    steps = [attack.online(view) for attack in (one, other)]
    before = [step(*arguments).numpy() for step in steps]
    assert np.abs(before[0] - before[1]).max() > 0.01, "another stage leads elsewhere"
    dataclasses.replace(other, attack=A.PGD(0.2, steps=3))(coded, x[:20], y[:20])
    for step, was in zip(steps, before, strict=True):
        np.testing.assert_allclose(step(*arguments).numpy(), was, atol=1e-6)
