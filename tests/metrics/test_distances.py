import types

import numpy as np
import pytest

from tfdefense.metrics import distortion

X = np.zeros((4, 2, 2))
X_ADV = X + np.array([0.1, 0.2, 0.4, 0.8])[:, None, None] * np.array([[1, -1], [1, 0]])
SUCCESS = np.array([True, True, True, False])


@pytest.mark.parametrize("norm, unit", [("linf", 1), ("l2", np.sqrt(3)), ("l1", 3)])
def test_distances_in_each_norm(norm, unit):
    result = distortion(X, X_ADV, success=SUCCESS, norm=norm)
    np.testing.assert_allclose(result.distance, unit * np.array([0.1, 0.2, 0.4, 0.8]))
    assert result.mean == pytest.approx(unit * 0.7 / 3) and result.median == pytest.approx(unit * 0.2)
    assert result.quantile(1) == pytest.approx(unit * 0.4)
    np.testing.assert_allclose(result.quantile([0, 0.25]), unit * np.array([0.1, 0.15]))


def test_rms_is_in_units_of_255_whatever_the_bounds():
    expected = 255 * np.array([0.1, 0.2, 0.4, 0.8]) * np.sqrt(3 / 4)
    np.testing.assert_allclose(distortion(X, X_ADV, success=SUCCESS).rms, expected)
    wide = distortion(255 * X, 255 * X_ADV, success=SUCCESS, bounds=(0, 255))
    centred = distortion(X - 0.5, X_ADV - 0.5, success=SUCCESS, bounds=(-0.5, 0.5))
    np.testing.assert_allclose(wide.rms, expected)
    np.testing.assert_allclose(centred.rms, expected)
    assert wide.mean_rms == pytest.approx(expected[:3].mean())


def test_integer_pixels_do_not_wrap_around():
    x = np.full((1, 4), 3, "uint8")
    assert distortion(x, x - 2, success=[True], norm="linf", bounds=(0, 255)).mean == 2


def test_failures_count_where_they_should():
    result = distortion(X, X_ADV, success=np.array([False, True, False, True]), norm="linf")
    assert result.success_rate == 0.5 and result.median == pytest.approx(0.5)
    assert result.median_of_all == np.inf
    assert distortion(X, X_ADV, success=SUCCESS, norm="linf").median_of_all == pytest.approx(0.3)
    assert [result.success_within(d) for d in (0.1, 0.3, 0.9)] == [0, 0.25, 0.5]


def test_no_success_gives_nan_and_not_zero():
    result = distortion(X, X_ADV, success=np.zeros(4, bool))
    assert result.success_rate == 0 and len(result) == 4
    assert all(np.isnan(value) for value in (result.mean, result.median, result.mean_rms, result.quantile(0.9)))
    assert np.isnan(result.quantile([0.1, 0.9])).tolist() == [True, True]


def test_result_of_an_attack_brings_its_success_and_norm():
    result = types.SimpleNamespace(x_adv=X_ADV, success=SUCCESS, norm="l1")
    assert distortion(X, result).norm == "l1" and distortion(X, result).mean == pytest.approx(0.7)
    assert distortion(X, result, norm="linf", success=~SUCCESS).mean == pytest.approx(0.8)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"success": None}, "success"),
        ({"norm": "l3"}, "one of linf, l2, l1"),
        ({"success": [True]}, "n booleans"),
        ({"success": [1, 1, 1, 0]}, "n booleans"),
        ({"adversarial": X_ADV[:3]}, "one shape"),
        ({"adversarial": np.full_like(X, np.nan)}, "finite"),
        ({"x": X[:0], "adversarial": X[:0], "success": np.zeros(0, bool)}, "one shape"),
        ({"bounds": (1, 0)}, "low < high"),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = {"x": X, "adversarial": X_ADV, "success": SUCCESS} | change
    with pytest.raises(ValueError, match=message):
        distortion(**arguments)


def test_quantile_of_percentages_is_an_error():
    with pytest.raises(ValueError, match="shares"):
        distortion(X, X_ADV, success=SUCCESS).quantile(90)
