"""Defenses on models as users have them, with data as users have them."""

import keras
import numpy as np
import pytest

import tfdefense as td
from tfdefense.layers import RBFSVM, Threshold

RNG = np.random.default_rng(0)
X = RNG.random((120, 8, 8, 1)).astype("float32")
Y = np.arange(120) % 3


def network(*first, activation="softmax", name="predictions"):
    layers = [keras.layers.Flatten(), keras.layers.Dense(8, "relu", name="hidden"), keras.layers.Dense(3, activation, name=name)]
    return keras.Sequential([keras.Input((8, 8, 1)), *first, *layers], name="network")


def svms(defended):
    return next(layer for layer in defended.layers if isinstance(layer, RBFSVM))


def threshold(defended):
    return next(float(layer.value) for layer in defended.layers if isinstance(layer, Threshold))


@pytest.mark.parametrize("inside", [False, True], ids=["flat", "submodel"])
def test_svms_are_fitted_on_samples_as_they_are_and_not_on_augmented_ones(inside):
    model = network(keras.layers.RandomFlip("horizontal", seed=1))
    if inside:
        model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Rescaling(1.0), model])
    defended = td.NeuralRejection("hidden").attach(model)
    td.adapt(defended, X, Y, max_rejected=None)
    layer = svms(defended)
    seen = keras.Model(defended.inputs[0], layer.input)(X, training=False).numpy()
    stored = layer.support_vectors.numpy() + layer.centre.numpy()
    assert max(np.abs(seen - row).sum(1).min() for row in stored) < 1e-4


def test_whole_numbers_are_taken_as_the_model_takes_them():
    pixels = (X * 255).astype("uint8")
    model = network()
    found = []
    for data in (pixels, pixels.astype("float32")):
        defended = td.DeepNeuralRejection(["hidden"]).attach(model, bounds=(0, 255))
        td.adapt(defended, data, Y, calibration=data, max_rejected=0.1)
        found.append(defended(data.astype("float32"))["suspicion"].numpy())
    np.testing.assert_array_equal(*found)


WATCHING = {
    "density": lambda: td.DensityDefense(layer="predictions"),
    "safetynet": lambda: td.SafetyNet(["predictions"]),
    "rejection": lambda: td.NeuralRejection("predictions"),
    "dustbin": lambda: td.AnyOf(td.DustbinDefense(), td.DeepNeuralRejection(["hidden", "predictions"])),
}


@pytest.mark.parametrize("inside", [False, True], ids=["flat", "submodel"])
@pytest.mark.parametrize("kind", WATCHING)
def test_output_layer_is_watched_before_its_softmax_by_every_defense(kind, inside, tmp_path):
    model = network()
    logits = keras.Model(model.inputs[0], td.graph.expose(model).logits)(X).numpy()
    whole = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Rescaling(1.0), model]) if inside else model
    defended = WATCHING[kind]().attach(whole)
    layer = [layer for layer in defended.layers if isinstance(layer, (td.layers.KernelDensity, td.layers.QuantizedReLU, RBFSVM))]
    taken = keras.tree.flatten(layer[1 if kind == "dustbin" else 0].input)[0]
    np.testing.assert_allclose(keras.Model(defended.inputs[0], taken)(X), logits, atol=1e-5)
    defended.save(tmp_path / "d.keras")
    np.testing.assert_allclose(td.load(tmp_path / "d.keras")(X)["scores"], defended(X)["scores"], atol=1e-5)


def test_tapped_layer_may_be_called_output():
    inner = network(name="output")
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Rescaling(1.0), inner])
    exposed = td.graph.expose(model, ["output", "hidden"])
    values = keras.Model(exposed.input, [exposed.logits, exposed.taps["output"], exposed.taps["hidden"]])(X)
    np.testing.assert_allclose(keras.ops.softmax(values[0]), model(X), atol=1e-5)
    np.testing.assert_array_equal(values[1], values[0])
    assert values[2].shape == (120, 8)


def test_names_of_a_loaded_network_are_no_obstacle(tmp_path):
    inputs = keras.Input((8, 8, 1))
    flat = keras.layers.Flatten(name="flat")(inputs)
    joined = keras.layers.Concatenate(name="concatenate")([flat, keras.layers.Dense(4, name="hidden")(flat)])
    keras.Model(inputs, keras.layers.Dense(3)(joined)).save(tmp_path / "net.keras")
    keras.utils.clear_session()  # as in a new process, Keras counts names from the start
    defended = td.DeepNeuralRejection(["flat", "hidden"]).attach(keras.models.load_model(tmp_path / "net.keras"))
    td.adapt(defended, X, Y, calibration=X, max_rejected=0.1)
    defended.save(tmp_path / "defended.keras")
    np.testing.assert_array_equal(td.load(tmp_path / "defended.keras")(X)["label"], defended(X)["label"])


def test_labels_in_a_column_are_labels():
    found = []
    for labels in (Y, Y[:, None]):
        defended = td.NeuralRejection("hidden").attach(network())
        defended.layers[2].set_weights([np.full(w.shape, 0.1) for w in defended.layers[2].get_weights()])
        td.adapt(defended, X, labels, max_rejected=None)
        found.append(defended(X)["scores"].numpy())
    np.testing.assert_array_equal(*found)
    with pytest.raises(ValueError, match="`x` and `y` must have equal lengths. Received x: 120, y: 119"):
        td.adapt(defended, X, Y[1:])
    with pytest.raises(ValueError, match=r"one class a sample: .*Received shape \(120, 3\). For one-hot labels pass `y.argmax"):
        td.adapt(defended, X, np.eye(3)[Y])


def test_one_image_is_told_to_get_a_batch_axis():
    defended = td.NeuralRejection("hidden").attach(network())
    td.adapt(defended, X, Y, calibration=X, max_rejected=0.1)
    one = X[0]
    for call in (
        lambda: td.adapt(defended, one, Y[:1]),
        lambda: td.calibrate(defended, one),
        lambda: td.evaluate(defended, one, Y[:1]),
        lambda: td.view.decide(defended, one),
        lambda: td.attacks.FGSM(0.1)(defended, one, Y[:1]),
    ):
        with pytest.raises(ValueError, match=r"Received \(8, 8, 1\). Add the batch axis: `x\[None\]`"):
            call()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"calibration": 255 * X}, r"Expected samples in \(0, 1\)"),
        ({"calibration": X, "max_rejected": 5}, "must be a share in"),
        ({"calibration": X[:, :4]}, "Expected samples of shape"),
    ],
)
def test_what_is_wrong_with_held_out_samples_is_told_before_anything_is_fitted(options, words):
    defended = td.NeuralRejection("hidden").attach(network())
    td.adapt(defended, X, Y, calibration=X, max_rejected=0.1)
    before = [weight.copy() for weight in svms(defended).get_weights()]
    with pytest.raises(ValueError, match=words):
        td.adapt(defended, X[:60], Y[:60], **options)
    for now, then in zip(svms(defended).get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_threshold_of_ones_own_is_moved_only_by_who_asks_for_it(recwarn):
    defended = td.NeuralRejection("hidden", threshold=0.25).attach(network())
    td.adapt(defended, X, Y)
    # NumPy has complaints of Keras, which it tells no user.
    assert threshold(defended) == 0.25 and UserWarning not in {told.category for told in recwarn}
    td.adapt(defended, X, Y, calibration=X, max_rejected=0.1)
    assert threshold(defended) != 0.25


def test_compression_leaves_what_is_small_already_and_takes_svms_of_each_class():
    defended = td.NeuralRejection("hidden").attach(network())
    td.adapt(defended, X[:30], Y[:30], max_rejected=None)
    before = [weight.copy() for weight in svms(defended).get_weights()]
    td.compress(defended, 1000, X)
    for now, then in zip(svms(defended).get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    matched = td.SafetyNet(["hidden"], by_class=True).attach(network())
    td.adapt(matched, X, Y, adversarial=1 - X, max_rejected=None)
    values = keras.Model(matched.inputs[0], svms(matched).output)
    whole = values(X).numpy()
    td.compress(matched, 20, X)
    assert svms(matched).vectors == 20
    assert np.corrcoef(values(X), whole)[0, 1] > 0.8


def test_samples_that_no_attack_has_changed_are_not_learned_as_attacked():
    """An attack leaves alone what the model has wrong already; samples in float64 come back from it rounded."""
    model = network()
    pixels = np.random.default_rng(1).integers(0, 256, X.shape) / 255
    attacked = np.clip(pixels + 0.1, 0, 1).astype("float32")
    attacked[:90] = pixels[:90]
    found = []
    for x_adv in (attacked, attacked[90:]):
        defended = td.SafetyNet(["hidden"]).attach(model)
        td.adapt(defended, pixels, Y, adversarial=x_adv, max_rejected=None)
        found.append(keras.Model(defended.inputs[0], svms(defended).output)(pixels.astype("float32")).numpy())
    np.testing.assert_array_equal(*found)
    with pytest.raises(ValueError, match="Received the clean ones. Attack them"):
        td.adapt(td.SafetyNet(["hidden"]).attach(model), X, Y, adversarial=X)


def test_model_around_a_defended_one_says_what_it_is():
    inner = td.NeuralRejection("hidden").attach(network())
    inputs = keras.Input((8, 8, 1))
    outer = keras.Model(inputs, inner(keras.layers.Rescaling(1.0)(inputs)))
    outer.compile()
    for call in (
        lambda: td.adapt(outer, X, Y),
        lambda: td.calibrate(outer, X),
        lambda: outer.fit(X, Y, epochs=0, verbose=0, callbacks=[td.callbacks.CalibrateRejection(X)]),
    ):
        with pytest.raises(ValueError, match="inside the submodel .defended.. Work on that"):
            call()


class Lazy:
    """As an array on disk, such as h5py's: called a data set, and an array all the same."""

    def __array__(self, dtype=None, copy=None):
        return X if dtype is None else X.astype(dtype)

    def __len__(self):
        return len(X)


def test_arrays_on_disk_are_arrays():
    model, lazy = network(), type("Dataset", (Lazy,), {})()
    assert td.evaluate(model, lazy, Y).accuracy == td.evaluate(model, X, Y).accuracy
    np.testing.assert_array_equal(td.view.decide(model, lazy).label, td.view.decide(model, X).label)
