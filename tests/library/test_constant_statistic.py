"""A detector that says the same of every sample is refused when it is calibrated."""

import keras
import numpy as np
import pytest

import tfdefense as td
from tfdefense.calibration import check_varies


def test_density_far_too_wide_is_refused_and_its_threshold_is_left(classifier, digits, held_out):
    model = td.DensityDefense(sigma=1e6).attach(classifier)
    td.adapt(model, digits.x, digits.y, max_rejected=None)
    name = next(layer.name for layer in model.layers if isinstance(layer, td.layers.KernelDensity))
    with pytest.raises(
        ValueError, match=f"detector score of layer '{name}' is .* for all 200 calibration samples.*another `sigma`"
    ):
        td.calibrate(model, held_out.x[:200])
    assert td.contract.unready(model), "nothing was set"


def test_the_detector_of_several_is_named_that_is_constant(classifier, digits, held_out):
    model = td.AnyOf(td.ThresholdDefense(), td.DensityDefense(sigma=1e6)).attach(classifier)
    with pytest.raises(ValueError, match="detector score of layer 'kernel_density"):
        td.adapt(model, digits.x, digits.y, calibration=held_out.x)


@pytest.mark.parametrize("metric", ["confidence", "non-me"])
def test_a_network_that_never_learnt_is_refused(metric):
    image = keras.Input((4,))
    network = keras.Model(image, keras.layers.Dense(3, kernel_initializer="zeros")(image))
    with pytest.raises(ValueError, match="for all 20 calibration samples.*Check that the network is trained"):
        td.calibrate(td.ThresholdDefense(metric).attach(network), np.random.default_rng(0).random((20, 4)))


def test_infinite_statistics_beside_others_are_no_fault(classifier, digits, held_out):
    known = digits.y != 3
    model = td.DensityDefense().attach(classifier)
    td.adapt(model, digits.x[known], digits.y[known], max_rejected=None)
    assert td.calibrate(model, held_out.x, max_rejected=0.2) <= 0.2


@pytest.mark.parametrize(("spread", "apart"), [(5e-6, False), (2e-5, True)])
@pytest.mark.parametrize("size", [0.0, 1000.0])
def test_what_passes_for_different_a_threshold_tells_apart(spread, apart, size):
    scores = np.array([size] * 19 + [size + spread * max(1.0, size)])
    layer = td.layers.Threshold(dtype="float64")
    layer.calibrate(scores, max_rejected=0.1)
    assert (np.asarray(layer(scores)) > 0).any() == apart
    if apart:
        check_varies("density", scores)
    else:
        with pytest.raises(ValueError, match="for all 20 calibration samples"):
            check_varies("density", scores)


def test_infinity_where_given_thresholds_reject_all_is_one_sentence(classifier, digits, held_out):
    model = td.AnyOf(td.ThresholdDefense(threshold=-1e6), td.DensityDefense()).attach(classifier)
    known = np.isin(digits.y, (3, 8))
    td.adapt(model, digits.x[known], digits.y[known], max_rejected=None)
    unknown = ~np.isin(classifier(held_out.x).numpy().argmax(-1), (3, 8))
    with pytest.raises(ValueError, match="100.0% of these samples have a detector score that is not finite"):
        td.calibrate(model, held_out.x[unknown])


def test_one_sample_is_not_called_constant(classifier, held_out):
    assert td.calibrate(td.ThresholdDefense().attach(classifier), held_out.x[:1], max_rejected=0.0) == 0
