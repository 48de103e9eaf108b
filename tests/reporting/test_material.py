from unittest.mock import MagicMock

import numpy as np
import pytest

from tfdefense import metrics
from tfdefense.reporting import material


def mapped(x):
    """The map of clean samples alone, whose features are the samples."""
    protocol = MagicMock(plan=MagicMock(mapped=len(x), norms=()), x=x, y=np.zeros(len(x), int), seed=0)
    protocol.images.take.return_value = MagicMock(x=x, bounds=(-9, 9))
    protocol._judged.return_value.label = np.zeros(len(x), int)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(material, "_features", lambda _: (lambda values: values, "the samples"))
        found = material.feature_map(protocol)
    return np.array(found["groups"][0]["points"]), found["explained"]


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (1, -1, -1), (-1, -1, -1)])
def test_axes_of_the_map_point_to_where_their_largest_feature_grows(signs):
    """Samples on three known axes, far from square to the features: whatever a solver gives, none is turned round."""
    axes = np.array([[3, 1, 0, -2], [0, 2, 5, 1], [-1, 4, -2, 0.5]])
    axes = np.linalg.qr(axes.T)[0].T
    axes *= np.array(signs)[:, None] * np.sign(axes[np.arange(3), np.abs(axes).argmax(1)])[:, None]
    along = np.concatenate([size * np.eye(3)[[i, i]] * [[1], [-1]] for i, size in enumerate((3, 2, 1))])
    points, explained = mapped(along @ axes)
    np.testing.assert_allclose(points, along * signs / 3, atol=0.02)
    assert explained == pytest.approx(1)


@pytest.mark.parametrize("x", [np.ones((1, 5)), np.ones((4, 2)), np.arange(4.0)[:, None]])
def test_few_samples_or_features_leave_axes_empty(x):
    points, explained = mapped(x)
    assert points.shape == (len(x), 3) and not points[:, min(x.shape) :].any()
    assert explained == pytest.approx(float(len(set(x[:, 0])) > 1))


def test_points_of_a_risk_coverage_curve_keep_its_right_end():
    wrong = np.zeros(200, bool)
    wrong[-20:] = True
    found = material.risk_coverage(metrics.risk_coverage(np.arange(200.0), wrong), points=20)
    np.testing.assert_allclose(found["coverage"], np.arange(1, 21) / 20)
    np.testing.assert_allclose(found["risk"], [*[0] * 18, 10 / 190, 20 / 200])
    few = material.risk_coverage(metrics.risk_coverage([1.0, 2.0, 3.0], [True, False, False]))
    assert few["coverage"] == pytest.approx([1 / 3, 2 / 3, 1]) and few["risk"] == pytest.approx([1, 1 / 2, 1 / 3])
