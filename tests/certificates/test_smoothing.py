"""Smoothed classifiers and their radii, against what is known exactly: a linear classifier is its own smoothed one."""

import keras
import numpy as np
import pytest
from scipy.stats import binom, binomtest, norm

import tfdefense as td
from tfdefense.certificates import lower_bound
from tfdefense.defenses.smoothing import sign_test

SIGMA, WEIGHTS, BIAS = 0.5, np.array([3.0, -4.0, 0.0], "float32"), 0.2


@pytest.fixture(scope="module")
def linear():
    inputs = keras.Input((3,), name="image")
    layer = keras.layers.Dense(2, name="scores")
    model = keras.Model(inputs, layer(inputs))
    layer.set_weights([np.stack([np.zeros(3), WEIGHTS], -1), np.array([0, BIAS])])
    return model


@pytest.fixture(scope="module")
def samples():
    """Samples, the class of the linear classifier, and their exact distance from its boundary."""
    x = np.random.default_rng(0).normal(size=(40, 3)).astype("float32") / 2
    x[-1] *= 40  # far away, where all votes agree
    lead = x @ WEIGHTS + BIAS
    return x, (lead > 0).astype(int), np.abs(lead) / np.linalg.norm(WEIGHTS)


@pytest.fixture(scope="module")
def smoothed(linear):
    return td.Smoothed(SIGMA, samples=100, alpha=0.001).attach(linear, bounds=None)


def test_radius_of_a_linear_classifier_is_its_distance_and_never_more(smoothed, samples):
    x, y, exact = samples
    found = td.certify(smoothed, x, y, samples=20_000)
    assert (found.radius <= exact).all() and (found.label[found.radius > 0] == y[found.radius > 0]).all()
    # What so many votes leave in doubt: 7 deviations of the probability, over its slope in the radius.
    middle = (exact > 0.1) & (exact < 2 * SIGMA)
    p = norm.cdf(exact[middle] / SIGMA)
    doubt = 7 * SIGMA * np.sqrt(p * (1 - p) / 20_000) / norm.pdf(exact[middle] / SIGMA)
    assert middle.sum() > 10 and (found.radius[middle] > exact[middle] - doubt).all()
    # All votes for one class prove no more than this.
    assert found.radius.max() == pytest.approx(SIGMA * norm.ppf(0.001 ** (1 / 20_000)))


def test_certified_accuracy_counts_right_classes_beyond_the_size(smoothed, samples):
    x, y, _ = samples
    found = td.certify(smoothed, x[:10], np.where(np.arange(10) < 5, y[:10], 1 - y[:10]), samples=1000)
    proved = found.radius > 0
    assert found.accuracy() == (proved & (np.arange(10) < 5)).mean()
    size = np.sort(found.radius[:5])[2]
    assert found.accuracy(size) == (found.radius[:5] > size).sum() / 10
    assert found.accuracy(size) < found.accuracy(size * 0.999)
    np.testing.assert_array_equal(found.curve([0, size, 9]), [found.accuracy(), found.accuracy(size), 0])


def test_each_radius_follows_from_seed_and_sample_alone(smoothed, samples):
    x, y, _ = samples
    whole, part = (td.certify(smoothed, x[:n], y[:n], samples=300, batch_size=size) for n, size in ((4, None), (2, 64)))
    np.testing.assert_array_equal(whole.radius[:2], part.radius)
    other = td.certify(smoothed, x[:4], y[:4], samples=300, seed=1)
    assert (other.radius != whole.radius).any()


def test_lower_bound_is_exact_and_holds_as_often_as_promised():
    for count in (0, 1, 40, 99, 100):
        interval = binomtest(count, 100).proportion_ci(0.998, "exact")  # two-sided: 0.001 at each end
        assert lower_bound(count, 100, 0.001) == pytest.approx(interval.low, abs=1e-12)
    wrong = [count for count in range(51) if lower_bound(count, 50, 0.05) > 0.8]
    assert 0.02 < binom.pmf(wrong, 50, 0.8).sum() <= 0.05


def test_votes_are_counted_as_told(smoothed, linear, samples):
    x, _, _ = samples
    noise = SIGMA * np.random.RandomState(0).standard_normal((100, 3))
    votes = (linear(np.float32(x[:, None] + noise).reshape(-1, 3)).numpy().argmax(-1)).reshape(len(x), 100).sum(1)
    out = smoothed(x)
    np.testing.assert_allclose(keras.ops.softmax(out["scores"])[:, 1], (votes + 1) / 102, rtol=1e-5)
    lead = np.abs(2 * votes - 100) / 10
    np.testing.assert_allclose(out["suspicion"], sign_test(100, 0.001) - lead, atol=1e-5)
    # Rejected just where the exact test tells nothing.
    unsure = [binomtest(int(count), 100).pvalue > 0.001 for count in votes]
    np.testing.assert_array_equal(out["label"].numpy() == -1, unsure)
    assert 0 < np.mean(unsure) < 1


@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_sign_test_holds_for_each_number_of_votes_and_is_no_stricter_than_it_must(alpha):
    limit, alike = sign_test(40, alpha), []
    for both in range(1, 41):
        for first in range((both + 1) // 2, both + 1):
            statistic, pvalue = (2 * first - both) / both**0.5, binomtest(first, both).pvalue
            assert statistic <= limit + 1e-9 or pvalue <= alpha
            alike += [statistic] if pvalue > alpha else []
    assert limit == pytest.approx(max(alike))


def test_gradient_is_that_of_probabilities_in_place_of_votes(smoothed, linear, samples):
    import tensorflow as tf

    x = tf.constant(samples[0][:5])
    noise = np.float32(SIGMA * np.random.RandomState(0).standard_normal((100, 3)))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        lead = smoothed(x)["suspicion"]
        likely = tf.reduce_sum(tf.nn.softmax(tf.reshape(linear(tf.reshape(x[:, None] + noise, (-1, 3))), (5, 100, 2))), 1)
        first = tf.gather(likely, np.argmax(smoothed(x)["scores"], -1), batch_dims=1)
    # With two classes a + b is fixed: the statistic is (2a - 100) / 10.
    np.testing.assert_allclose(tape.gradient(lead, x), -0.2 * tape.gradient(first, x), rtol=1e-3, atol=1e-5)
    found = td.attacks.PGD(3.0, norm="l2", steps=10)(smoothed, samples[0], samples[1])
    assert found.success.mean() > 0.9


@pytest.fixture(scope="module")
def image_model(classifier, held_out):
    defended = td.AnyOf(td.Smoothed(0.1, samples=8), td.ThresholdDefense()).attach(classifier)
    td.calibrate(defended, held_out.x[:200], max_rejected=0.1)
    return defended


@pytest.mark.parametrize("suffix", [".keras", ".onnx", ""])
def test_every_format_answers_alike(image_model, held_out, tmp_path, suffix):
    if suffix == ".onnx":
        runtime = pytest.importorskip("onnxruntime", reason="pip install tfdefense[export]")
    x = held_out.x[200:240].copy()
    x[3] = np.nan
    wanted = {name: value.numpy() for name, value in image_model(x).items()}
    path = td.export.export(image_model, tmp_path / f"model{suffix}")
    if suffix == ".keras":
        found = td.load(path)(x)
        assert path.stat().st_size < 3e5, "the noise is drawn anew"
    elif suffix == ".onnx":
        session = runtime.InferenceSession(path)
        found = dict(zip([output.name for output in session.get_outputs()], session.run(None, {"image": x}), strict=True))
    else:
        import tensorflow as tf

        found = tf.saved_model.load(path).signatures["serving_default"](tf.constant(x))
    np.testing.assert_array_equal(found["label"], wanted["label"])
    np.testing.assert_allclose(found["suspicion"], wanted["suspicion"], atol=1e-4)
    assert wanted["label"][3] == -1 and len(set(wanted["label"])) > 8


def test_answers_do_not_depend_on_the_batch_and_the_base_stays(image_model, classifier, held_out):
    x = held_out.x[200:210]
    whole, one = image_model(x)["scores"].numpy(), [image_model(x[i : i + 1])["scores"].numpy()[0] for i in range(10)]
    np.testing.assert_allclose(whole, one, atol=1e-6)
    np.testing.assert_allclose(td.base_model(image_model)(x), classifier(x), atol=1e-5)
    assert classifier.get_layer("conv").output.shape == (None, 8, 8, 16)
    assert td.compare(classifier, ["confidence", td.Smoothed(0.1, samples=4)], (held_out.x, held_out.y), attack=None).rows


def test_memory_is_that_of_all_copies(image_model, classifier):
    from tfdefense.view import ROOM, samples_at_once

    small, large = (samples_at_once(model, np.zeros((1, 8, 8, 1)), most=10**9) for model in (image_model, classifier))
    assert large > 6 * small and large * 8 * 8 * 4 * 16 < ROOM


def test_certificate_of_joined_defenses_is_that_of_the_first(image_model, classifier, held_out):
    found = td.certify(image_model, held_out.x[200:203], held_out.y[200:203], samples=300)
    assert found.accuracy() > 0.6 and found.sigma == 0.1
    last = td.AnyOf(td.ThresholdDefense(), td.Smoothed(0.1, samples=8)).attach(classifier)
    with pytest.raises(ValueError, match="Expected class scores of a `td.Smoothed`.*make it the first"):
        td.certify(last, held_out.x[:2], held_out.y[:2])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda d, x, y: td.Smoothed(0.0), "`sigma` must be a number above 0. Received: 0.0"),
        (lambda d, x, y: td.Smoothed(0.5, samples=1), "`samples` must be a whole number of at least 2. Received: 1"),
        (lambda d, x, y: td.Smoothed(0.5, alpha=0.1, threshold=1.0), "Expected `alpha` or `threshold`. Received both"),
        (lambda d, x, y: td.Smoothed(0.5, alpha=1.0), "`alpha` must be a number below 1"),
        (lambda d, x, y: td.Smoothed(0.5, samples=5, alpha=0.001), "5 votes can't tell two classes apart at level 0.001"),
        (lambda d, x, y: td.certify(d, x, y, alpha=0), "`alpha` must be a number above 0"),
        (lambda d, x, y: td.certify(d, x, y[:3]), "must have equal lengths"),
        (lambda d, x, y: td.certify(td.ThresholdDefense().attach(td.base_model(d), bounds=None), x, y), "attach one: `td.Smoothed"),
    ],
)
def test_what_is_wrong_is_told(smoothed, samples, call, words):
    with pytest.raises(ValueError, match=words):
        call(smoothed, *samples[:2])
