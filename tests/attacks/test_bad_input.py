"""Bad input gives one sentence: what was expected, what came, what to type."""

import warnings

import numpy as np
import pytest
import tensorflow as tf

import tfdefense as td

A = td.attacks


@pytest.fixture
def batch(held_out):
    return held_out.x[:4], held_out.y[:4]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, y: (x[..., 0], y), r"Expected samples of shape \(None, 8, 8, 1\). Received \(4, 8, 8\)"),
        (lambda x, y: (x[0], y[:1]), r"Add the batch axis: `x\[None\]`"),
        (lambda x, y: (x[:0], y[:0]), "at least one sample"),
        (lambda x, y: (x * 255, y), r"must lie in \(0, 1\). Received values in \[0, 255\].*bounds=\(0, 255\)"),
        (lambda x, y: (x - 0.5, y), r"bounds=\(-0.5, 0.5\)"),
        (lambda x, y: (np.where(np.arange(4).reshape(4, 1, 1, 1) == 2, np.nan, x), y), "1 of 4 hold NaN.*number 2"),
        (lambda x, y: (x * 3000, y), r"must lie in \(0, 1\).*3000\]. Rescale\."),
        (lambda x, y: (x.astype(str), y), "Expected numbers. Received an array of dtype"),
        (lambda x, y: (x, y[:3]), r"`y` must have one class a sample: shape \(4,\). Received shape \(3,\)"),
        (lambda x, y: (x, np.eye(10)[y]), r"one-hot labels pass `y.argmax\(-1\)`"),
        (lambda x, y: (x, y + 10), "`y` must lie in 0 to 9"),
        (lambda x, y: (x, y - 10), "`y` must lie in 0 to 9"),
        (lambda x, y: (x, y + 0.5), "`y` must hold whole class numbers. Received dtype float64"),
    ],
)
def test_samples_and_labels(classifier, batch, change, words):
    x, y = change(*batch)
    with pytest.raises(ValueError, match=words):
        A.FGSM(0.1)(classifier, x, y)


def test_float_labels_that_are_whole_are_taken(classifier, batch):
    x, y = batch
    assert A.FGSM(0.1)(classifier, x, y.astype("float32")).x_adv.shape == x.shape


def test_column_of_labels_and_a_hair_outside_are_taken(classifier, batch):
    x, y = batch
    result = A.FGSM(0.1)(classifier, np.where(x == 1, np.float32(1.0000005), x), y[:, None])
    np.testing.assert_array_equal(result.x_adv, A.FGSM(0.1)(classifier, x, y).x_adv)


@pytest.mark.parametrize("objective", ["margin", A.Margin])
def test_objective_must_be_an_object(classifier, batch, objective):
    with pytest.raises(ValueError, match=r"an object such as `td.attacks.Margin\(\)`"):
        A.PGD(0.1, objective=objective)(classifier, *batch)


def test_function_outside_tensorflow_and_integer_input_say_so(classifier, batch):
    import keras

    with pytest.raises(ValueError, match="must be written in TensorFlow"):
        A.PGD(0.1)(lambda x: np.asarray(x).reshape(len(x), -1)[:, :10], *batch)
    inputs = keras.Input((8, 8, 1), dtype="uint8")
    whole = keras.Model(inputs, classifier(keras.layers.Rescaling(1 / 255)(inputs)))
    with pytest.raises(ValueError, match="input has dtype uint8, through which no gradient flows"):
        A.PGD(1.0)(whole, (batch[0] * 255).astype("uint8"), batch[1], bounds=(0, 255))


def test_a_batch_of_one(classifier, defended, batch):
    x, y = batch[0][:1], batch[1][:1]
    for model in (classifier, defended):
        for attack in (A.PGD(0.3, starts="all", steps=3), A.DeepFool(), A.CarliniWagner(steps=5, binary_search_steps=2)):
            assert len(attack(model, x, y)) == 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: A.PGD(-0.1), "`epsilon` must be a number of at least 0. Received: -0.1"),
        (lambda: A.PGD("0.1"), "`epsilon` must be a number"),
        (lambda: A.PGD(float("nan")), "`epsilon` must be a number"),
        (lambda: A.PGD(0.1, steps=0), "`steps` must be a whole number of at least 1"),
        (lambda: A.PGD(0.1, steps=1.5), "`steps` must be a whole number"),
        (lambda: A.PGD(0.1, norm="l3"), "`norm` must be one of 'linf', 'l2', 'l1'. Received: 'l3'"),
        (lambda: A.PGD(0.1, restarts=3), "Pass `random_start=True`"),
        (lambda: A.PGD(0.1, step_size=0.0), "`step_size` must be a number above 0"),
        (lambda: A.GradientDescent(1.0, step_size=None), "`step_size` must be a number: what the gradient is multiplied by"),
        (lambda: A.GradientDescent(1.0, keep="first"), "`keep` must be 'best' or 'last'. Received: 'first'"),
        (lambda: A.DeepFool("l1"), "`norm` must be one of 'l2', 'linf'"),
        (lambda: A.JSMA(gamma=1.5), "at most 1"),
        (lambda: A.Square(0.1, share=1.5), "at most 1"),
        (lambda: A.Square(0.1, queries=0), "`queries` must be a whole number"),
        (lambda: A.Square(0.1, norm="l1"), "`norm` must be one of 'linf', 'l2'"),
        (lambda: A.HopSkipJump("l1"), "`norm` must be one of 'l2', 'linf'"),
        (lambda: A.HopSkipJump(queries=200), "`queries` must be a whole number of at least 250"),
        (lambda: A.HopSkipJump(points=1), "`points` must be a whole number of at least 2"),
        (lambda: A.JSMA(pixels=3), "`pixels` must be 2, for pairs, or 1, for single pixels. Received: 3"),
        (lambda: A.JSMA(theta=0), "`theta` must be a number above 0"),
        (lambda: A.CarliniWagner(kappa=-1), "`kappa` must be"),
        (lambda: A.MinimumNorm("l0"), "`norm` must be one of 'linf', 'l2', 'l1'"),
        (lambda: A.MinimumNorm(gamma=1.0), "`gamma` must be a share below 1"),
        (lambda: A.MinimumNorm(step_size=0), "`step_size` must be a number above 0"),
        (lambda: A.OrthogonalPGD(0.1, form="skew"), "'orthogonal' or 'selective'"),
        (lambda: A.DynamicAdversary(-1.0), "`epsilon` must be a number of at least 0"),
        (lambda: A.DynamicAdversary(0.1, sigma=1.5), "`sigma` must be at most 1, the detector alone. Received: 1.5"),
        (lambda: A.DynamicAdversary(0.1, sigma=-0.5), "`sigma` must be a number of at least 0"),
        (lambda: A.DynamicAdversary(0.1, steps=0), "`steps` must be a whole number"),
        (lambda: A.WorstCase([]), "at least one attack"),
        (lambda: A.WorstCase([A.PGD(0.1), A.PGD(0.1, norm="l2")]), "in one norm"),
    ],
)
def test_settings(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_epsilon_of_zero_changes_nothing(classifier, batch):
    result = A.PGD(0.0, starts=("sample", "random"))(classifier, *batch)
    np.testing.assert_array_equal(result.x_adv, batch[0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": np.zeros(3, int)}, r"`target` must have one class a sample: shape \(4,\)"),
        ({"target": np.full(4, 10)}, "`target` must lie in 0 to 9"),
        ({"target": "worst"}, "'least_likely' or 'most_likely'"),
        ({"bounds": (1, 0)}, "low < high"),
        ({"bounds": (0, np.inf)}, "two finite numbers"),
        ({"bounds": 1}, "two finite numbers"),
        ({"batch_size": 0}, "`batch_size` must be a whole number of at least 1"),
    ],
)
def test_call_options(classifier, batch, options, words):
    with pytest.raises(ValueError, match=words):
        A.PGD(0.1)(classifier, *batch, **options)


def test_target_equal_to_the_class(classifier, batch):
    x, y = batch
    with pytest.raises(ValueError, match="Expected targets other than the true classes. Sample 0"):
        A.PGD(0.1)(classifier, x, y, y)


def test_bounds_that_contradict_the_defended_model(defended, batch):
    with pytest.raises(ValueError, match=r"rejects what is outside its bounds \(0.0, 1.0\)"):
        A.PGD(0.1)(defended, *batch, bounds=(0, 255))


def test_carlini_wagner_refuses_objectives_below_0_before_success(classifier, batch):
    for objective in (A.LogSumExp(), A.CrossEntropy()):
        with pytest.raises(ValueError, match="needs an objective that is below 0 on success and nowhere else. Use `Margin"):
            A.CarliniWagner(steps=2, objective=objective)(classifier, *batch)


def test_too_many_pairs_of_pixels_are_a_sentence():
    x = np.zeros((1, 64, 64, 3), "float32")
    with pytest.raises(ValueError, match="at most 10,000 values. Received 12,288"):
        A.JSMA()(lambda x: tf.reshape(x, (-1, 64 * 64 * 3))[:, :2] + tf.constant([1.0, 0.0]), x, [0])


def test_starts_that_are_not_there(classifier, batch):
    x, y = batch
    with pytest.raises(ValueError, match="`starts` must be among"):
        A.PGD(0.1, starts=("elsewhere",))(classifier, x, y)
    with pytest.raises(ValueError, match="`starts` must be among"):
        A.PGD(0.1, starts=(3,))(classifier, x, y)
    with pytest.raises(ValueError, match="Received none"):
        A.PGD(0.1, starts=())(classifier, x, y)
    with pytest.raises(ValueError, match="samples of another class"):
        A.PGD(0.1, starts=("interpolated",))(classifier, x[:1], y[:1])
    with pytest.raises(ValueError, match="Expected a defended model. Received 'digits_cnn'"):
        A.PGD(0.1, starts=("base",))(classifier, x, y)
    with pytest.raises(ValueError, match="Say which model to take instead"):
        A.Transfer(A.PGD(0.1))(lambda x: classifier(x), x, y)


def test_uncalibrated_defense(classifier, batch):
    with pytest.raises(ValueError, match=r"no threshold yet.*td.calibrate\(defended"):
        A.PGD(0.1)(td.ThresholdDefense().attach(classifier), *batch)


def test_something_that_is_no_model(batch):
    with pytest.raises(ValueError, match="Expected a Keras model, a loaded SavedModel or a function. Received int"):
        A.PGD(0.1)(3, *batch)
    with pytest.raises(ValueError, match="Expected class scores of shape"):
        A.PGD(0.1)(lambda x: x, *batch)


def test_model_without_gradient_names_the_layer(batch):
    import keras
    import tensorflow as tf

    class Step(keras.layers.Layer):
        def call(self, x):
            return tf.cast(x > 0.5, tf.float32)

    # Random weights may have all four wrong, and what is wrong already is not attacked.
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), Step(name="step"), keras.layers.Dense(10)])
    batch = batch[0], model(batch[0]).numpy().argmax(-1)
    for attack in (A.PGD(0.1), A.OrthogonalPGD(0.1), A.DeepFool(), A.JSMA(), A.CarliniWagner()):
        with pytest.raises(ValueError, match=r"Layer 'step' \(Step\) is the first that stops it") as caught:
            attack(model, *batch)
        assert "user code" not in str(caught.value)


def test_all_zero_gradients_are_told_and_counted(batch):
    import keras

    x, y = batch
    inputs = keras.Input((8, 8, 1))
    flat = keras.layers.Flatten()(inputs)
    # Dead units: the scores do not move with the input, whatever its weights.
    dead = keras.layers.Dense(5, activation="relu", bias_initializer=keras.initializers.Constant(-1e3))(flat)
    model = keras.Model(inputs, keras.layers.Dense(10, bias_initializer="random_normal")(dead))
    y = model(x).numpy().argmax(-1)
    for attack in (A.PGD(0.1), A.OrthogonalPGD(0.1), A.DeepFool(), A.JSMA(), A.CarliniWagner(steps=3)):
        with pytest.warns(UserWarning, match="gradient was all zeros for 100.0% of the samples"):
            result = attack(model, x, y)
        assert result.zero_gradient.all() and not result.success.any()


def dark_root(weights):
    """Scores from the roots of the pixels: the root of a black one has no finite slope, and times 0 it is no number at all."""
    return lambda x: tf.sqrt(tf.reshape(x, (-1, 2))) @ tf.constant(weights, tf.float32)


def test_gradients_that_are_no_numbers_stop_their_own_pixels_alone():
    # The first pixel is black and counts for nothing; the second decides.
    model, x, y = dark_root([[0, 0], [1, -1]]), np.array([[[[0.0], [0.25]]]], "float32"), [0]
    result = A.PGD(0.1, steps=4)(lambda x: model(x) - tf.constant([0.9, 0.0]), x, y)
    assert result.success.all() and np.isfinite(result.x_adv).all() and not result.zero_gradient.any()
    np.testing.assert_allclose(result.x_adv.ravel(), [0, 0.15], atol=1e-6)


def test_gradients_of_no_number_at_all_count_as_none():
    model = dark_root([[0, 0], [0, 0]])
    with pytest.warns(UserWarning, match="the gradient was all zeros for 100.0% of the samples"):
        result = A.PGD(0.1, steps=4)(lambda x: model(x) + tf.constant([1.0, 0.0]), np.zeros((1, 1, 2, 1), "float32"), [0])
    assert result.zero_gradient.all() and not result.success.any() and np.isfinite(result.x_adv).all()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_all_zero_gradients_move_nothing_to_nowhere(norm):
    """A product of zero and what is not a number would be taken for a class, and for a success."""
    import tensorflow as tf

    def flat(x):
        lead = tf.clip_by_value(1000 * (0.5 - x[:, 0]), -1.0, 1.0)
        return {"scores": tf.stack([lead, -lead], -1), "suspicion": 0 * lead, "label": tf.where(lead < 0, 1, 0)}

    x, y = np.full((4, 3), 0.2, "float32"), np.zeros(4, int)
    ball = {"epsilon": 0.1, "norm": norm, "steps": 3, "starts": "sample"}
    for attack in (A.PGD(**ball), A.OrthogonalPGD(**ball), A.OrthogonalPGD(**ball, form="orthogonal")):
        with pytest.warns(UserWarning, match="gradient was all zeros"):
            result = attack(flat, x, y)
        assert np.isfinite(result.x_adv).all() and not result.success.any() and result.zero_gradient.all()


def test_no_warning_without_zero_gradients(classifier, held_out):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert not A.PGD(0.1)(classifier, held_out.x[:20], held_out.y[:20]).zero_gradient.any()
