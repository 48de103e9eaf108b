import json

import numpy as np
import pytest

import tfdefense as td
from evaluation import __main__ as runner
from evaluation.papers.rce import bandwidth as protocol
from evaluation.runner import results
from evaluation.runner.context import Context
from tfdefense.attacks import CarliniWagner


@pytest.fixture(scope="module")
def path(tmp_path_factory, digits):
    """A network with a layer called pool, as the residual ones have."""
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(16, "relu", name="pool"), keras.layers.Dense(10)]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(digits.x, digits.y, epochs=15, verbose=0)
    path = tmp_path_factory.mktemp("network") / "model.keras"
    keras.Model(model.inputs[0], model.outputs[0]).save(path)
    (path.parent / "config.json").write_text("{}")
    return path


@pytest.fixture(scope="module")
def densities(path, digits):
    return protocol.Densities(path, digits)


def test_doubt_is_that_of_a_defense_with_this_bandwidth(densities, path, digits, held_out):
    import keras

    defended = td.DensityDefense(0.7, max_points=len(digits.x)).attach(keras.models.load_model(path))
    td.adapt(defended, digits.x, digits.y, max_rejected=None)
    next(layer for layer in defended.layers if isinstance(layer, td.layers.Threshold)).value.assign(0.0)
    doubt = densities.doubt(densities.outputs(held_out.x), 0.7)
    np.testing.assert_allclose(doubt, defended.predict(held_out.x, verbose=0)["suspicion"], rtol=1e-4, atol=1e-3)


def test_likelihood_is_that_of_scikit_learn(digits):
    from sklearn.neighbors import KernelDensity

    rng = np.random.default_rng(0)
    points, probes = rng.normal(size=(80, 3)), rng.normal(size=(40, 3))
    layer = td.layers.KernelDensity(sigma=0.5, max_points=81)
    layer.adapt(np.concatenate([points, [[99.0] * 3]]), np.array([0] * 80 + [1]))
    doubt = np.asarray(layer(probes.astype("float32"), np.tile([1.0, 0.0], (40, 1))))
    expected = KernelDensity(bandwidth=0.5 / np.sqrt(2)).fit(points).score_samples(probes).mean()
    assert protocol.likelihood(doubt, 0.5, 3) == pytest.approx(expected, rel=1e-4)


def test_bandwidths_are_chosen_where_they_are_best(densities, held_out):
    found = protocol.chosen(densities, "ce", 0.2, held_out.take(slice(100)))
    outputs = densities.outputs(held_out.x[:100])
    likeliest = found["the likeliest on held-out samples"]
    best = protocol.likelihood(densities.doubt(outputs, likeliest), likeliest, 16)
    for factor in protocol.FACTORS:
        sigma = found["the paper's"] * factor**0.5
        assert protocol.likelihood(densities.doubt(outputs, sigma), sigma, 16) <= best + 1e-6


def test_whole_protocol(path, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "UNTRACKED", tmp_path / "runs")
    monkeypatch.setattr(results, "commit", lambda: "abc")
    monkeypatch.setattr(Context, "network", lambda self, name, **options: path)
    short = {"steps": 6, "binary_search_steps": 2}
    monkeypatch.setattr(protocol.measured, "search", lambda quick, **options: CarliniWagner(**short, **options))
    common = {"dataset": "digits", "quick": True, "samples": 40, "data_dir": None, "output": None}
    content = json.loads(runner.execute("rce_bandwidth", protocol, **common, depth=None, epochs=None, cw_samples=4).read_text())
    rows = {row["what"]: row for row in content["rows"]}
    # Bandwidths, AUCs of five attacks, harmless changes, sizes of the adaptive attack, white box by start and length; two ratios.
    assert len(rows) == 2 * (3 + 5 * 3 + 5 + 2 + 2 + 2) + 2
    for loss in ("CE", "RCE"):
        longer = rows[f"distortion, ten times as long over the usual length, bandwidth the paper's, {loss}"]
        assert longer["samples"] == 0 or longer["ours"] < 1.05, "a longer search ends no further away"
    held = [rows[f"not fooled, l2 {size}, all starts, CE, bandwidth {protocol.LIKELIEST}"]["ours"] for size in ("0.5", "1")]
    assert 1 > held[0] > held[1]
    assert all(0 <= row["ours"] <= 1 for row in rows.values() if row["row"] == "R5" and row["ours"] is not None)
