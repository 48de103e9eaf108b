import keras
import numpy as np

import tfdefense as td
from evaluation.papers.dustbin import figures


def test_moons_of_the_augmented_network_are_islands():
    along, low, high = np.linspace(0, 1, 26), np.zeros(26), np.ones(26)
    sides = ((along, low), (along, high), (low, along), (high, along))
    border = np.concatenate([np.stack(side, -1) for side in sides]).astype("float32")
    augmented, x, y = figures.moons(True, epochs=25)
    assert td.evaluate(augmented, x, y).accuracy > 0.95
    assert (augmented(border)["label"].numpy() == -1).all()
    naive, x, y = figures.moons(False, epochs=25)
    assert td.evaluate(naive, x, y).accuracy > 0.95
    assert (keras.ops.softmax(naive(border)).numpy().max(1) > 0.9).mean() > 0.5, "sure of itself far from all samples"


def test_figures_are_of_the_samples_and_features_given(classifier, digits, tmp_path):
    figure = figures.between(digits, classifier, tmp_path / "between.png", columns=3)
    source, neighbour, blend = ([axes.images[0].get_array() for axes in figure.axes[i : i + 3]] for i in (0, 3, 6))
    np.testing.assert_allclose(blend[1], (source[1] + neighbour[1]) / 2, atol=1e-6)
    features = {name: figures.features(classifier, "features", digits.x[:20]) for name in ("clean", "FGS")}
    assert features["clean"].shape == (20, 32)
    figure = figures.space(features, tmp_path / "space.png")
    assert figure.axes[0].name == "3d" and (tmp_path / "space.png").exists() and (tmp_path / "between.png").exists()
