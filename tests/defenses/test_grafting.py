import keras
import numpy as np
import pytest

import tfdefense as td


def copy_of(classifier, ending):
    copy = keras.models.clone_model(classifier)
    copy.set_weights(classifier.get_weights())
    if ending == "softmax layer":
        return keras.Sequential([copy.inputs[0], *copy.layers[1:], keras.layers.Softmax()])
    if ending == "softmax in the Dense layer":
        copy.layers[-1].activation = keras.activations.softmax
        rebuilt = keras.models.clone_model(copy)
        rebuilt.set_weights(classifier.get_weights())
        return rebuilt
    return copy


@pytest.mark.parametrize("ending", ["logits", "softmax layer", "softmax in the Dense layer"])
def test_decisions_are_the_old_ones_until_the_dustbin_is_trained(classifier, held_out, ending):
    model = copy_of(classifier, ending)
    grafted = td.graft_dustbin(model)
    scores = grafted(held_out.x).numpy()
    np.testing.assert_allclose(scores[:, :-1], classifier(held_out.x), atol=1e-4)
    noise = np.random.default_rng(0).uniform(size=(200, 8, 8, 1)).astype("float32")
    defended = td.DustbinDefense().attach(grafted)
    for x in (held_out.x, noise):
        np.testing.assert_array_equal(defended(x)["label"], classifier(x).numpy().argmax(-1))


def test_training_the_graft_leaves_the_old_model_alone_and_keeps_what_it_knew(classifier, digits, held_out):
    before = [weight.copy() for weight in classifier.get_weights()]
    grafted = td.graft_dustbin(classifier)
    letters = td.data.load("letters8", limit=700)
    grafted.compile(keras.optimizers.Adam(1e-3), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    keras.utils.set_random_seed(0)
    mixed = td.data.mix(digits.x, digits.y, letters.x, batch_size=64)
    grafted.fit(mixed, epochs=8, shuffle=False, verbose=0)
    for old, now in zip(before, classifier.get_weights(), strict=True):
        np.testing.assert_array_equal(now, old)
    defended = td.DustbinDefense().attach(grafted)
    clean = td.evaluate(defended, held_out.x, held_out.y)
    foreign = td.data.load("letters8", "test").x
    assert clean.accuracy > 0.94
    assert (defended.predict(foreign, verbose=0)["label"] == -1).mean() > 0.9


def test_graft_is_saved_and_loaded(classifier, held_out, tmp_path):
    grafted = td.graft_dustbin(classifier)
    grafted.save(tmp_path / "grafted.keras")
    again = keras.models.load_model(tmp_path / "grafted.keras")
    np.testing.assert_allclose(again(held_out.x[:9]), grafted(held_out.x[:9]), atol=1e-5)
    td.DustbinDefense().attach(grafted).save(tmp_path / "defended.keras")
    assert (td.load(tmp_path / "defended.keras")(held_out.x)["label"].numpy() >= 0).all()


def test_model_without_a_last_dense_layer_is_refused():
    inputs = keras.Input((4, 4, 3))
    pooled = keras.layers.GlobalAveragePooling2D(name="average")(inputs)
    with pytest.raises(ValueError, match="Expected a classifier whose scores come from a Dense layer.*'average'"):
        td.graft_dustbin(keras.Model(inputs, pooled))


def test_head_begins_with_what_the_body_knows(classifier, digits):
    """A penalty that lets nothing but the biases move leaves the dustbin at the log-sum-exp of the old logits."""
    x, y = digits.x[:60], digits.y[:60] % 3
    grafted = td.graft_head(classifier, x, y, ood=1 - x[:20], strength=1e-12)
    found, old = grafted.predict(x, verbose=0), classifier.predict(x, verbose=0)
    alike = np.stack([np.eye(10)[old[y == one].argmax(1)].mean(0) for one in range(3)], axis=1)
    start = np.concatenate([old @ alike, np.logaddexp.reduce(old, axis=1)[:, None]], axis=1)
    np.testing.assert_allclose(found - start, np.tile(found[:1] - start[:1], (60, 1)), atol=2e-3)


def test_head_of_own_classes_puts_other_things_into_the_dustbin(classifier, digits, held_out):
    """Also those that the old classifier knows and that the head was never shown."""
    letters = td.data.load("letters8", "train", limit=120).x
    before = [np.array(weight) for weight in classifier.get_weights()]
    own, new = digits.take(digits.y < 3), held_out.y < 3
    grafted = td.graft_head(classifier, own.x, own.y, letters)
    label = grafted.predict(held_out.x, verbose=0).argmax(1)
    assert (label == held_out.y)[new].mean() > 0.9 and (label == 3)[~new].mean() > 0.8
    assert (grafted.predict(td.data.load("letters8", "test", limit=150).x, verbose=0).argmax(1) == 3).mean() > 0.7
    for weight, now in zip(before, classifier.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, now)
    defended = td.DustbinDefense().attach(grafted)
    assert td.calibrate(defended, held_out.x[new], max_rejected=0.1) <= 0.1
    assert defended.output["scores"].shape[-1] == 3


def test_head_says_what_is_wrong_with_the_classes(classifier, digits):
    with pytest.raises(ValueError, match="from 0. Received none of 0"):
        td.graft_head(classifier, digits.x[:9], np.full(9, 1))
    with pytest.raises(ValueError, match="Received one"):
        td.graft_head(classifier, digits.x[:9], np.zeros(9, int))
    with pytest.raises(ValueError, match="`strength`"):
        td.graft_head(classifier, digits.x[:9], np.arange(9) % 2, strength=0)


def test_a_nested_classifier_is_grafted_as_it_is(classifier, digits, held_out):
    image = keras.Input((8, 8, 1))
    middle = keras.Model(image, keras.layers.Softmax()(classifier(image)), name="middle")
    nested = keras.Model(image, middle(keras.layers.Rescaling(1.0)(image)))
    x, y, letters = digits.x[:90], digits.y[:90], 1 - digits.x[:30]
    found, plain = (td.graft_head(model, x, y, letters)(held_out.x) for model in (nested, classifier))
    np.testing.assert_allclose(found, plain, atol=1e-3)
    found, plain = (td.graft_dustbin(model)(held_out.x) for model in (nested, classifier))
    np.testing.assert_allclose(found, plain, atol=1e-4)
