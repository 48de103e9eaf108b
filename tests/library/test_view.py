"""What a view finds out about a model by itself, and when."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdefense as td


def probabilities_of(classifier):
    """A function whose probabilities nobody can know of but from what it gives."""
    return lambda x: tf.nn.softmax(classifier(x))


def test_a_keras_model_and_a_saved_one_are_looked_at_without_samples(defended, classifier, tmp_path):
    td.export.saved_model(defended, tmp_path / "saved")
    for model in (defended, tf.saved_model.load(str(tmp_path / "saved"))):
        view = td.view.View(model)
        assert (view.classes, view.rejects, view.probabilities) == (10, True, False)
    view = td.view.View(classifier)
    assert (view.classes, view.rejects, view.probabilities) == (10, False, False)


def test_a_function_is_looked_at_with_the_first_samples_that_come(classifier, held_out):
    view = td.view.View(probabilities_of(classifier))
    with pytest.raises(ValueError, match="not known of this model. Run it on some first"):
        _ = view.classes
    scores = view.run(held_out.x[:5])[0]
    assert (view.classes, view.rejects, view.probabilities) == (10, False, True)
    np.testing.assert_allclose(scores, np.log(tf.nn.softmax(classifier(held_out.x[:5]))), atol=1e-4)


def test_samples_that_are_broken_fix_no_answer(classifier, held_out):
    view, x = td.view.View(probabilities_of(classifier)), held_out.x[:5]
    td.view.decide(view, x * np.nan)
    assert not view.probabilities
    np.testing.assert_allclose(td.view.decide(view, x).scores, np.log(tf.nn.softmax(classifier(x))), atol=1e-4)
    td.view.decide(view, x * np.nan)
    assert view.probabilities, "what is known stays"


def test_probabilities_are_known_before_the_first_gradient_is_traced(classifier, held_out):
    view, x = td.view.View(probabilities_of(classifier)), held_out.x[:5]

    @tf.function
    def slope(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_sum(view.forward(x)[0][:, 0])
        return tape.gradient(value, x)

    with tf.GradientTape() as tape:
        at = tf.constant(x)
        tape.watch(at)
        value = tf.reduce_sum(tf.nn.log_softmax(classifier(at))[:, 0])
    np.testing.assert_allclose(slope(tf.constant(x)), tape.gradient(value, at), atol=1e-4)


def test_a_model_of_any_size_is_looked_at_without_samples():
    layers = [keras.layers.Conv2D(2, 3), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)]
    view = td.view.View(keras.Sequential([keras.Input((None, None, 1)), *layers]))
    assert view.classes == 3


def test_a_model_beside_another_is_looked_at_with_its_samples(defended, classifier, held_out):
    view = td.view.View(defended)
    view.check_shape(held_out.x[:5])
    assert view.beside(probabilities_of(classifier)).probabilities
    assert view.beside().model is td.view.View.of(defended).base().model
