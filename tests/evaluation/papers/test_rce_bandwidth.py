import dataclasses
import json

import numpy as np
import pytest

import tfdefense as td
from evaluation.papers.rce import bandwidth as protocol
from evaluation.papers.rce import measure, reproduce
from evaluation.papers.rce.tables import TABLES
from evaluation.runner import command, results
from evaluation.runner.context import Context
from evaluation.runner.rows import Results
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
def network(path, tmp_path_factory):
    measure.models_of.cache_clear()
    protocol.density_of.cache_clear()
    place = tmp_path_factory.mktemp("run")
    context = Context("rce_bandwidth", "digits", True, None, None, place, place, commit="abc")
    context.network = lambda recipe, **options: path
    context.settings.update({"samples": 40, "C&W samples": 4, "samples to choose on": 100})
    return reproduce.networks_of(context, {"depth": 8})[0]


def test_score_is_that_of_a_defense_with_this_bandwidth(network, path, digits, held_out):
    import keras

    defended = td.DensityDefense(0.7, max_points=len(digits.x)).attach(keras.models.load_model(path))
    td.adapt(defended, digits.x, digits.y, max_rejected=None)
    next(layer for layer in defended.layers if isinstance(layer, td.layers.Threshold)).value.assign(0.0)
    scores = protocol.score(network, network.outputs(held_out.x), 0.7)
    np.testing.assert_allclose(scores, defended.predict(held_out.x, verbose=0)["suspicion"], rtol=1e-4, atol=1e-3)


def test_likelihood_is_that_of_scikit_learn(digits):
    from sklearn.neighbors import KernelDensity

    rng = np.random.default_rng(0)
    points, probes = rng.normal(size=(80, 3)), rng.normal(size=(40, 3))
    layer = td.layers.KernelDensity(sigma=0.5, max_points=81)
    layer.adapt(np.concatenate([points, [[99.0] * 3]]), np.array([0] * 80 + [1]))
    scores = np.asarray(layer(probes.astype("float32"), np.tile([1.0, 0.0], (40, 1))))
    expected = KernelDensity(bandwidth=0.5 / np.sqrt(2)).fit(points).score_samples(probes).mean()
    assert protocol.likelihood(scores, 0.5, 3) == pytest.approx(expected, rel=1e-4)


def test_bandwidths_are_chosen_where_they_are_best(network):
    found, held_out = protocol.chosen(network), network.data.held_out
    outputs = network.outputs(held_out.x)
    best = protocol.likelihood(protocol.score(network, outputs, found["likeliest"]), found["likeliest"], 16)
    for factor in protocol.FACTORS:
        sigma = found["paper's"] * factor**0.5
        assert protocol.likelihood(protocol.score(network, outputs, sigma), sigma, 16) <= best + 1e-6


@pytest.mark.long
def test_whole_protocol(path, tmp_path, monkeypatch):
    measure.models_of.cache_clear()
    protocol.density_of.cache_clear()
    monkeypatch.setattr(results, "UNTRACKED", tmp_path / "runs")
    monkeypatch.setattr(results, "commit", lambda: "abc")
    monkeypatch.setattr(Context, "network", lambda self, name, **options: path)
    short = {"steps": 6, "binary_search_steps": 2}
    monkeypatch.setattr(measure, "search", lambda quick, **options: CarliniWagner(**short, **options))
    common = {"dataset": "digits", "quick": True, "samples": 40, "data_dir": None, "output": None}
    found = Results.load(command.execute("rce_bandwidth", protocol, **common, depth=None, epochs=None, cw_samples=4))
    shown = Results.load(results.RESULTS / "rce_bandwidth-mnist.json")
    assert TABLES["rce_bandwidth"]["weights"](found).count("not known") == 2, "there is no result of `rce` on these digits"
    for name, table in TABLES["rce_bandwidth"].items():
        assert name == "weights" or table(found).splitlines()[0] == table(shown).splitlines()[0], name
    kinds = [{(row.table, row.metric, *sorted(row.settings)) for row in one.rows} for one in (found, shown)]
    assert kinds[0] == kinds[1]
    assert len(found.all(table="pang2018.ours.bandwidth", metric="AUROC")) == 2 * 5 * 3
    for system in ("CE", "RCE"):
        longer = found.one(system=system, over="usual")
        assert longer.n == 0 or longer.value < 1.05, "a longer search ends no further away"
    robust = found.values("epsilon", metric="robust accuracy", system="CE", starts="all")
    assert 1 > robust[0.5] > robust[1.0]
    assert found(system="CE", metric="rejection rate", epsilon=0.5) <= robust[0.5]


def test_other_weights_than_those_of_rce_are_refused(network, path, tmp_path):
    context = dataclasses.replace(network.context, quick=False, output=tmp_path, settings={"depth": 8})
    context.network = lambda recipe, **options: path
    reproduce.identify(context, [dataclasses.replace(network, context=context)])
    own = context.settings["weights"]
    assert list(own) == ["CE, depth 8"]
    content = {"settings": {"weights": own | {"RCE, depth 8": "of another run"}}, "rows": []}
    (tmp_path / "rce-digits.json").write_text(json.dumps(content))
    protocol._the_same(context)
    content["settings"]["weights"]["CE, depth 8"] = "older"
    (tmp_path / "rce-digits.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="Expected CE, depth 8 with the weights older of rce-digits.json. Received .*trained anew"):
        protocol._the_same(context)
