"""How many samples go through a network at once, and that a decision does not hang on it."""

import keras
import numpy as np
import pytest

import tfdefense as td
from tfdefense._progress import batches
from tfdefense.calibration import run_batches
from tfdefense.contract import nodes_of
from tfdefense.view import MOST, ROOM, samples_at_once


def wide(size):
    """Two activations of `size` times `size` pixels and 8 channels, and one more inside a submodel."""
    inner = keras.Sequential([keras.Input((size, size, 8)), keras.layers.ReLU()])
    image = keras.Input((size, size, 1))
    x = inner(keras.layers.Conv2D(8, 3, padding="same")(image))
    return keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize("size", [16, 512, 4096])
def test_batch_follows_from_all_activations(size):
    # The input, the convolution, the submodel's input and activation, and its output; pooling and scores are 40 bytes.
    a_sample = 4 * size**2 * (1 + 8 + 8 + 8 + 8) + 40
    expected = max(1, min(MOST, ROOM // a_sample))
    model = wide(size)
    assert samples_at_once(model, np.zeros((1, size, size, 1))) == expected
    assert samples_at_once(keras.Function(model.inputs, model.outputs), np.zeros((1, size, size, 1))) == expected


def test_batch_of_a_model_of_open_size_follows_from_the_samples():
    image = keras.Input((None, None, 1))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3, padding="same")(image))
    model = keras.Model(image, keras.layers.Dense(2)(x))
    assert samples_at_once(model, np.zeros((1, 8, 8, 1))) == MOST
    assert samples_at_once(model, np.zeros((1, 1000, 1000, 1))) == ROOM // (4 * 1000**2 * 9 + 40)


def test_what_cannot_be_looked_into_takes_the_most():
    class Own(keras.Model):
        def call(self, x):
            return x

    for model in (Own(), keras.layers.Dense(2), lambda x: x):
        assert samples_at_once(model, np.zeros((1, 4))) == MOST


class Counting(keras.layers.Layer):
    """Notes the sizes of the batches that it sees."""

    def __init__(self, **options):
        super().__init__(**options)
        self.seen = set()

    def call(self, x):
        if isinstance(x.shape[0], int):
            self.seen.add(x.shape[0])
        return x


@pytest.mark.parametrize(("given", "seen"), [(None, {4, 2}), (5, {5})])
def test_batch_follows_from_the_model_unless_it_is_given(monkeypatch, given, seen):
    inputs, counting = keras.Input((4,)), Counting()
    x = counting(keras.layers.Dense(1000)(inputs))
    defended = td.NeuralRejection("scores").attach(keras.Model(inputs, keras.layers.Dense(2, name="scores")(x)))
    # Two activations of 1000 floats, and a few numbers more.
    monkeypatch.setattr("tfdefense.view.ROOM", 4 * 8500)
    x, y = np.random.default_rng(0).random((10, 4), "float32"), np.arange(10) % 2
    td.adapt(defended, x, y, max_rejected=None, batch_size=given)
    assert counting.seen == seen
    counting.seen.clear()
    td.calibrate(defended, x, max_rejected=0.2, batch_size=given)
    assert counting.seen == seen
    counting.seen.clear()
    td.compress(defended, 2, x, batch_size=given)
    assert counting.seen == seen


def test_long_work_says_how_far_it_is_and_short_work_nothing(monkeypatch, capsys):
    assert [part.start for part in batches(700, 256)] == [0, 256, 512]
    assert capsys.readouterr().err == ""
    now = iter(range(0, 10_000, 100))
    monkeypatch.setattr("tfdefense._progress.time.monotonic", lambda: next(now))
    assert len(list(batches(1000, 100))) == 10
    told = capsys.readouterr().err
    assert "1,000 samples, 100 at once" in told and "left" in told


def coded(classifier, x, y):
    noise = np.random.default_rng(1).choice([-0.2, 0.2], x.shape)
    x_adv = np.clip(x + noise, 0, 1).astype("float32")
    return td.adapt(td.SafetyNet(["conv_1"], C=100.0).attach(classifier), x, y, adversarial=x_adv, max_rejected=None)


def rejecting(classifier, x, y):
    return td.adapt(td.NeuralRejection("features", C=100.0).attach(classifier), x, y, max_rejected=None)


@pytest.mark.parametrize("defense", [coded, rejecting])
def test_neighbours_in_a_batch_change_no_decision(classifier, digits, held_out, defense):
    """Matrix products round by the size of the batch; no threshold stands where that would show."""
    defended = defense(classifier, digits.x[:200], digits.y[:200])
    # Each digit thrice, hardly changed: scores as near to each other as rounding moves them.
    noise = np.random.default_rng(0).uniform(-1e-6, 1e-6, (3, 20, 8, 8, 1))
    x = np.clip(held_out.x[:20] + noise, 0, 1).reshape(-1, 8, 8, 1).astype("float32")
    ((layer, node),) = nodes_of(defended, td.layers.Threshold)
    score = keras.Model(defended.inputs[0], node.arguments.keras_tensors[0])
    alone, sevens, together = (run_batches(score, x, size)[0] for size in (1, 7, 256))
    assert (alone != together).any()
    for allowed in range(len(x)):
        layer.calibrate(together, allowed / len(x))
        rejected = np.asarray(layer(together)) > 0
        assert rejected.sum() <= allowed
        np.testing.assert_array_equal(np.asarray(layer(alone)) > 0, rejected)
        np.testing.assert_array_equal(np.asarray(layer(sevens)) > 0, rejected)
    td.calibrate(defended, x, max_rejected=0.2)
    alone, sevens, together = (td.view.decide(defended, x, batch_size=size).label for size in (1, 7, 256))
    np.testing.assert_array_equal(alone, together)
    np.testing.assert_array_equal(sevens, together)


def test_threshold_passes_over_gaps_that_rounding_crosses():
    layer = td.layers.Threshold()
    spread = np.linspace(0.0, 1.0, 96)
    layer.calibrate(np.concatenate([spread, [2.0, 2.0001, 2.0002, 4.0]]), 0.04)
    assert float(layer.value) == pytest.approx((2.0002 + 4.0) / 2)
    layer.calibrate(np.concatenate([spread, [2.0, 2.1, 2.2, 4.0]]), 0.04)
    assert float(layer.value) == pytest.approx(2.05)


def test_threshold_rejects_where_no_gap_is_wide_enough():
    """Scores that saturate: all gaps of the last hundred are narrower than rounding may be, and yet most of them are rejected."""
    layer, top = td.layers.Threshold(), 2.0 + 1e-4 * np.arange(101)
    top[20:] += 5e-4  # the widest gap among the first half
    score = np.concatenate([np.linspace(0.0, 1.0, 1900), top])
    layer.calibrate(score, 0.05)
    assert float(layer.value) == pytest.approx((top[19] + top[20]) / 2, abs=1e-6)
    assert 0.02 < np.mean(np.asarray(layer(score)) > 0) <= 0.05


def test_many_samples_run_in_a_compiled_graph_and_give_the_same(monkeypatch):
    from tfdefense.calibration import running

    model, x = wide(8), np.random.default_rng(0).random((50, 8, 8, 1), "float32")
    passed = []

    class Seen(keras.layers.Layer):
        def call(self, x):
            passed.append(x.shape[0])
            return x

    inputs = keras.Input((8, 8, 1))
    seen = keras.Model(inputs, model(Seen()(inputs)))
    passed.clear()
    want = run_batches(seen, x, 16)[0]
    assert passed == [16, 16, 16, 2]
    monkeypatch.setattr(running, "COMPILED", 50)
    passed.clear()
    np.testing.assert_allclose(run_batches(seen, x, 16)[0], want, atol=1e-6)
    assert set(passed) == {None}
    cut = keras.Function(model.inputs, model.outputs)
    np.testing.assert_allclose(run_batches(cut, [x], 16)[0], want, atol=1e-6)
