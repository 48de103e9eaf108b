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
