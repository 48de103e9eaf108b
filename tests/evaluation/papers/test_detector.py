import dataclasses
import functools
import importlib
import json
import pickle
import types
from pathlib import Path

import keras
import numpy as np
import pytest

import tfdefense as td
from evaluation.papers.detector import dynamic, fit, protocol, regularized, settings, tables, topology
from evaluation.runner import results
from evaluation.runner.context import Context
from evaluation.runner.rows import Results, beside_paper, make, paper_numbers

PLAN = dataclasses.replace(
    settings.PLANS["digits"],
    depths=("image", "conv", "conv_1"),
    usual=1,
    deepfool=2,
    linf=(0.1, 0.2),
    l2=(1.0,),
    strongest=(0.2,),
)
BUDGET = {"depth": None, "width": 4, "fitted": 500, "epochs": 2, "batches": 11, "learning_rate": 3e-3, "steps": 4}


@pytest.fixture(scope="module")
def path(classifier, tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "model.keras"
    bare = keras.models.clone_model(classifier)
    bare.set_weights(classifier.get_weights())
    bare.save(path)
    return path


def context(folder, **changes):
    values = {"protocol": "detector", "dataset": "digits", "quick": True, "samples": None, "data_dir": None, "output": folder}
    return Context(**(values | {"cache": folder / "parts", "commit": "abc"} | changes))


@pytest.fixture(scope="module")
def setting(path, digits, held_out, tmp_path_factory):
    attacked, rest = held_out.divide(100)
    here = context(tmp_path_factory.mktemp("detector"))
    return fit.Setting(here, PLAN, path, BUDGET, digits.take(slice(600)), attacked, rest)


def test_paper_numbers_are_where_they_belong():
    known = paper_numbers(Path(protocol.__file__).parent)

    def of(dataset, table, **fields):
        row = beside_paper(make(f"metzen2017.{table}", "detection accuracy", 0.9, **fields), dataset, known)
        return row.paper, row.paper_bound

    nothing, all_adversaries = (None, ""), settings.adversaries(settings.PLANS["imagenette_small"])
    for one in all_adversaries.values():
        chance = one.kind == "iterative l2" and one.size == 400 / 255
        assert of("imagenette_small", "fig6", **one.fitted, **one.tested) == ((0.5, "~") if chance else (0.85, ">="))
        assert of("cifar10", "fig2", **one.fitted, **one.tested) == nothing
    lengths = [one for one in all_adversaries.values() if one.kind == "iterative l2"]
    found = [of("imagenette_small", "fig7", **one.fitted, **other.tested) for one in lengths for other in lengths]
    assert found == [nothing] * 6 + [(0.78, ""), nothing, nothing]
    sigmas = {("cifar10", "dynamic", 0.3): (0.7, ">="), ("cifar10", "static", 0.4): (0.5, "~"), ("mnist", "dynamic", 0.3): nothing}
    sigmas |= {("cifar10", "static", 0.9): nothing, ("cifar10", "dynamic", 0.45): nothing}
    assert {key: of(key[0], "fig5", detector=key[1], sigma=key[2]) for key in sigmas} == sigmas
    least = [of("cifar10", "fig5", detector="dynamic", statistic="minimum", epsilon=size / 255) for size in (1, 2)]
    assert least == [(0.7, ">="), nothing]
    assert of("cifar10", "fig2", fitted_on="each", statistic="minimum", accuracy_under=0.1) == (0.9, ">=")


@pytest.mark.parametrize("dataset", protocol.DATASETS)
def test_adversaries_are_those_of_the_paper(dataset):
    plan = settings.PLANS[dataset]
    found = settings.adversaries(plan)
    assert len(found) == 2 * len(plan.linf) + len(plan.l2) + 2
    for adversary in found.values():
        if adversary.kind.startswith("iterative"):
            # Of 255, in linf the paper has 1 on every set of its own, and 20 in l2 on CIFAR-10.
            papers = {"cifar10": {"linf": 1, "l2": 20}, "imagenette_small": {"linf": 1, "l2": 400}}.get(dataset)
            sizes = {"linf": plan.linf, "l2": plan.l2}
            norm, length = adversary.attack.norm, adversary.attack.step_size
            assert length == (papers[norm] / 255 if papers else sizes[norm][0]) and adversary.attack.steps == 10
    if plan.dynamic:
        assert f"iterative linf {settings.size_text(plan.dynamic)}" in found, "the static detector of figure 5"


@pytest.mark.parametrize("dataset", protocol.DATASETS)
def test_every_layer_that_is_watched_is_there(dataset):
    from training.recipe import find

    plan = settings.PLANS[dataset]
    recipe = find(plan.recipe)
    file, function = recipe.model.split(":")
    model = getattr(importlib.import_module(f"models.{file}"), function)(**recipe.model_options)
    budget = BUDGET | {"depth": plan.depth}
    layers = fit.Setting(types.SimpleNamespace(cache=Path("parts")), plan, None, budget, None, None, None).layers
    for layer in layers:
        defended = td.AdversaryDetector(layer, form=plan.form, width=2).attach(model)
        assert td.view.decide(defended, np.full((1, *model.inputs[0].shape[1:]), 0.5, "float32")).suspicion.shape == (1,)
    assert max(plan.usual, plan.deepfool) < len(layers)


def test_sigmas_are_tenths_and_hundredths_around_the_middle():
    assert len(dynamic.SIGMAS) == 20 and {0.0, 0.4, 0.41, 0.49, 0.5, 0.6, 1.0} < set(dynamic.SIGMAS)


def test_smallest_size_under_30_percent_is_chosen_else_the_largest(setting):
    accuracy = dict.fromkeys(setting.adversaries, 0.5) | {"fast 0.1": 0.2, "fast 0.2": 0.1}
    chosen = protocol.chosen_sizes(setting, accuracy)
    assert list(chosen) == list(settings.KINDS)
    assert chosen["fast"] == "fast 0.1" and chosen["iterative linf"] == "iterative linf 0.2"


def test_only_what_the_classifier_has_right_is_attacked(setting, classifier, held_out):
    x, y = held_out.divide(100)[0].x, held_out.divide(100)[0].y
    right = classifier(x).numpy().argmax(-1) == y
    np.testing.assert_array_equal(setting.test[0], x[right])
    result = td.attacks.FGSM(0.2)(classifier, x, y)
    assert setting.accuracy("fast 0.2") == pytest.approx(1 - result.success.mean())


def test_deepfool_is_clipped_where_the_paper_does_so(setting, monkeypatch):
    x, free = setting.test[0], setting.attacked_samples("DeepFool l2")
    monkeypatch.setattr(setting, "plan", dataclasses.replace(PLAN, clipped=0.05))
    assert np.abs(free - x).max() > 0.06
    np.testing.assert_allclose(setting.attacked_samples("DeepFool l2") - x, np.clip(free - x, -0.05, 0.05), atol=1e-6)
    assert np.abs(setting.attacked_samples("fast 0.2") - x).max() > 0.19


def test_fitted_branches_are_kept_by_content(setting, held_out, monkeypatch):
    fits = []
    original = setting._fit
    monkeypatch.setattr(setting, "_fit", lambda *rest: fits.append(rest[4]) or original(*rest))
    first = setting.detector(("fast 0.2",), "conv")
    again = setting.detector(("fast 0.2",), "conv")
    assert fits == ["conv"]
    np.testing.assert_array_equal(first(held_out.x)["suspicion"], again(held_out.x)["suspicion"])
    calibrated = setting.detector(("fast 0.2",), "conv", threshold=None)
    assert (calibrated(setting.held_out.x)["label"].numpy() == -1).mean() == pytest.approx(0.05, abs=0.01)
    setting.detector(("fast 0.2",), "conv_1")
    assert len(fits) == 2
    monkeypatch.setattr(setting, "budget", BUDGET | {"steps": 99, "batches": 99})
    setting.detector(("fast 0.2",), "conv")
    assert len(fits) == 2, "neither the attacks' steps nor the length of dynamic training change a static branch"
    clean = setting.attacked.x
    found = protocol.on_every_adversary(setting, ("fast 0.2",), "conv", ["fast 0.2"])
    caught = (first(setting.attacked_samples("fast 0.2"))["suspicion"].numpy() > 0).mean()
    kept = (first(clean)["suspicion"].numpy() <= 0).mean()
    assert found["fast 0.2"] == pytest.approx((caught + kept) / 2)
    assert found["false positives"] == pytest.approx(1 - kept)
    with np.load(setting.branch(("fast 0.2",), "conv")) as one, np.load(setting.branch(("fast 0.2",), "conv", batches=20)) as long:
        # One that is compared with those fitted on the fly sees all that they see.
        steps, whole = (-(-2 * len(setting.samples[part][0]) // 128) for part in ("train", "whole"))
        assert whole > steps
        # Whole epochs, 20 batches or more.
        assert np.isfinite(one["seconds"]) and one["seconds"] > 0
        assert (one["steps"], long["steps"]) == (2 * steps, -(-20 * 64 // len(setting.samples["whole"][0])) * whole)
        assert len(fits) == 3


def test_other_samples_make_other_branches(setting, digits, monkeypatch):
    before = setting.branch(("fast 0.2",), "conv_1")
    x, y, share = setting.samples["train"]
    monkeypatch.setitem(setting.samples, "train", (x[::-1], y[::-1], share))
    monkeypatch.setattr(setting, "_fit", lambda *_: {"steps": 0, "seconds": 0.0})
    assert setting.branch(("fast 0.2",), "conv_1") != before


def test_mixture_gives_each_sample_one_of_its_adversaries(setting, monkeypatch):
    seen = []
    monkeypatch.setattr(td.DetectorTraining, "fit", lambda self, x, y, **_: seen.extend([x, y]))
    monkeypatch.setattr(fit, "ROOM", 0)
    setting.branch(("fast 0.2", "iterative linf 0.1"), "conv", batches=1)
    x = setting.samples["whole"][0]
    np.testing.assert_array_equal(seen[0][: len(x)], x)
    for number, name in enumerate(("fast 0.2", "iterative linf 0.1")):
        np.testing.assert_array_equal(seen[0][len(x) + number :: 2], setting.attacked_samples(name, "whole")[number::2])
    np.testing.assert_array_equal(seen[1], np.repeat([0, 1], len(x)))
    seen.clear()
    half = np.arange(len(x)) % 2
    monkeypatch.setattr(setting, "mixed", lambda *_: np.where(half[:, None, None, None], 1 - x, x))
    setting.branch(("fast 0.2", "iterative linf 0.2"), "conv", batches=1)
    np.testing.assert_array_equal(seen[1], np.concatenate([np.zeros(len(x)), half]))


def test_stages_of_training_go_on_from_one_another(setting, monkeypatch):
    plan = dataclasses.replace(PLAN, annealed=(0.3, 0.25), fighting=3)
    monkeypatch.setattr(setting, "plan", plan)
    stages = dynamic.fitting(setting, "dynamic")
    sizes = [[(attack.epsilon, attack.steps, float(attack.lengths[0])) for attack in attacks] for attacks in stages["fitted_on"]]
    np.testing.assert_allclose(sizes, [[(0.3, 3, 0.075)], [(0.25, 3, 0.0625)], [(0.2, 3, 0.05)]])
    assert stages["batches"] == 4, "a third of the 11 batches, rounded up"
    assert dynamic.fitting(setting, "dynamic", 0.25) == stages | {"fitted_on": stages["fitted_on"][:2]}
    begun = []

    def fit_stage(defended, x, y, attacks, *rest):
        branch = fit._branch(defended)
        begun.append((attacks[0].epsilon, float(branch.weights[0].numpy().ravel()[0])))
        branch.weights[0].assign(np.full(branch.weights[0].shape, attacks[0].epsilon))
        return {"steps": 5, "seconds": 1.5}

    monkeypatch.setattr(setting, "_fit", fit_stage)
    assert fit.took(setting.branch(**stages)) == {"steps": 15, "seconds": 4.5}
    assert [size for size, _ in begun] == [0.3, 0.25, 0.2]
    assert [weight for _, weight in begun[1:]] == pytest.approx([0.3, 0.25])
    setting.branch(**dynamic.fitting(setting, "dynamic", 0.25))
    assert len(begun) == 3, "a stage is kept as well"
    static = dynamic.fitting(setting, "static")
    assert static["fitted_on"] == ("iterative linf 0.2",) and static["batches"] == 12


@pytest.mark.parametrize("same_code", [True, False])
def test_stopped_training_goes_on_within_its_stage(setting, same_code, monkeypatch):
    larger = 0.3 if same_code else 0.31
    monkeypatch.setattr(setting, "plan", dataclasses.replace(PLAN, annealed=(larger,), fighting=1))
    stages, epochs_seen, backups = dynamic.fitting(setting, "dynamic"), [], f"branch-{'?' * 16}.code.json"

    def tell(epoch, logs, epochs):
        epochs_seen.append(epoch)
        if len(epochs_seen) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(setting, "_tell", tell)
    with pytest.raises(KeyboardInterrupt):
        setting.branch(**stages)
    if not same_code:
        (code,) = setting.cache.glob(backups)
        code.write_text(json.dumps(json.loads(code.read_text()) | {"tfdefense/view.py": "another"}))
    took = fit.took(setting.branch(**stages))
    assert took["steps"] == 4 * -(-len(setting.samples["whole"][0]) // 128)
    assert np.isnan(took["seconds"]) == same_code, "nobody knows how long one took that was stopped"
    assert epochs_seen == [0, 1, 0, 1] if same_code else [0, 1, 0, 0, 1], "two epochs for each of two sizes"
    assert not list(setting.cache.glob(backups)), "nothing of the backup is left"


def test_a_branch_is_fitted_on_as_many_samples_as_are_asked_for(setting, monkeypatch):
    seen = []
    monkeypatch.setattr(setting, "_fit", lambda made, x, y, *rest: seen.append((x, y)) or {"steps": 1, "seconds": 0.0})
    setting.branch(("fast 0.2",), "conv", number=70)
    x = setting.samples["train"][0][:70]
    np.testing.assert_array_equal(seen[0][0], np.concatenate([x, setting.attacked_samples("fast 0.2", "train")[:70]]))
    assert seen[0][1].tolist() == [0] * 70 + [1] * 70
    assert setting.branch(("fast 0.2",), "conv", number=70) != setting.branch(("fast 0.2",), "conv")


def test_maps_that_are_kept_make_the_same_branch(setting, held_out, monkeypatch):
    made = {}
    for room in (fit.ROOM, 0):
        monkeypatch.setattr(fit, "ROOM", room)
        defended = td.AdversaryDetector("conv_1", width=4, seed=0, threshold=0.0).attach(setting.base)
        x = setting.samples["train"][0]
        both, y = np.concatenate([x, setting.attacked_samples("fast 0.2", "train")]), np.repeat([0, 1], len(x))
        setting._fit(defended, both, y, (), "conv_1", (), 2, setting.cache / f"room {room}")
        made[room] = defended(held_out.x)["suspicion"].numpy()
    np.testing.assert_allclose(*made.values(), atol=1e-2)


def test_sigma_counts_over_successful_samples_alone(setting, monkeypatch):
    found = dynamic.under_sigma(setting, "static", 0.0)
    defended = dynamic.dynamic_detector(setting, "static", 0.0)
    x, y = setting.test
    changed = td.attacks.DynamicAdversary(0.2, sigma=0.0, schedule="fixed")(defended, x, y).x_adv
    out = td.view.decide(defended, changed)
    fooled = out.scores.argmax(-1) != y
    assert found["successful"] == fooled.sum() > 30
    clean = td.view.decide(defended, setting.attacked.x).suspicion
    assert found["detectability"] == pytest.approx(((out.suspicion[fooled] > 0).mean() + (clean <= 0).mean()) / 2)
    assert found["accuracy"] == pytest.approx((~fooled).mean() * setting.samples["test"][2])
    monkeypatch.setattr(dynamic, "ENOUGH", int(fooled.sum()) + 1)
    assert dynamic.under_sigma(setting, "static", 0.0) == found | {"detectability": None}


def test_each_detector_is_fitted_as_it_is_called(setting):
    found = {name: dynamic.fitting(setting, name) for name in dynamic.DETECTORS}
    assert [one["benign"] for one in found.values()] == ["benign" in name for name in found]
    for name, one in found.items():
        if name.startswith("static"):
            assert one["fitted_on"] == ("iterative linf 0.2",) and one["batches"] == BUDGET["batches"]
        else:
            (attacks,) = one["fitted_on"]
            assert [type(attack) for attack in attacks] == [td.attacks.DynamicAdversary] + [td.attacks.PGD] * ("mixture" in name)
            assert all(attack.epsilon == 0.2 and attack.steps == 10 for attack in attacks)
    objective, start = (getattr(found[dynamic.MIXTURE]["fitted_on"][0][1], field) for field in ("objective", "starts"))
    assert isinstance(objective, td.attacks.Evade) and start == ("random",)


def test_worst_case_is_more_than_each_of_its_parts(setting, monkeypatch):
    monkeypatch.setattr(setting, "plan", dataclasses.replace(PLAN, strongest=(0.05, 0.2, 0.2)))
    sigmas = (0.0, 0.4, 1.0)
    found = {title: np.array(rows) for title, rows in dynamic.under_strongest(setting, "static", 40, sigmas).items()}
    defended, half = (dynamic.dynamic_detector(setting, "static", threshold) for threshold in (None, 0.0))
    x, y = (part[:40] for part in setting.test)
    assert list(found) == list(dynamic.ATTACKS) and all(rows.shape == (3, 40) for rows in found.values())
    for number, size in enumerate((0.05, 0.2)):
        pgd = td.attacks.PGD(size, steps=4, objective=td.attacks.Evade(), starts="all", early_stop=True)(defended, x, y)
        np.testing.assert_array_equal(found["evade"][number], pgd.success)
        whole = settings.strongest(size, 4)(defended, x, y)
        np.testing.assert_array_equal(found["strongest"][number], whole.success | found["paper"][number])
        for judge, title in ((defended, "paper"), (half, "half")):
            each = [td.attacks.DynamicAdversary(size, sigma=one, schedule="fixed")(judge, x, y).success for one in sigmas]
            np.testing.assert_array_equal(found[title][number], np.any(each, axis=0))
    assert 0 < found["strongest"][0].sum() < found["strongest"][1].sum(), "the sizes must be worth comparing"
    np.testing.assert_array_equal(found["strongest"][1], found["strongest"][2])


def test_what_succeeds_at_one_size_is_spared_at_each_larger_one(setting, monkeypatch):
    spared = []

    class Search(td.attacks.PGD):
        def __call__(self, model, x, y, target=None, *, only=None, **options):
            spared.append((~only).sum())
            return super().__call__(model, x, y, target, only=only, **options)

    monkeypatch.setattr(setting, "plan", dataclasses.replace(PLAN, strongest=(0.3, 0.31)))
    pgd = lambda size, steps: types.SimpleNamespace(named={"PGD": Search(size, steps=steps, objective=td.attacks.Evade())})  # noqa: E731
    strongest = dynamic.strongest
    monkeypatch.setattr(dynamic, "strongest", lambda *rest, **without: strongest(*rest, **without) if without else pgd(*rest))
    found = dynamic.under_strongest(setting, "static", 20, (0.0,))
    assert spared == [0, sum(found["evade"][0])] and spared[1] > 0
    monkeypatch.setattr(setting, "plan", dataclasses.replace(PLAN, strongest=(1.0, 1.0)))
    assert np.all(dynamic.under_strongest(setting, "static", 20, (0.0,))["strongest"]), "nothing is left to look for"


def test_a_setting_is_sent_to_other_processes_without_its_samples(path, tmp_path):
    made = context(tmp_path)
    own = fit.prepared(made, path, BUDGET)
    sent = pickle.dumps((dynamic.under_sigma, own, own.accuracy))
    assert len(sent) < 10_000 < own.train.x.nbytes
    assert pickle.loads(sent)[1] is own, "a process that has one goes on with it"
    fit._prepared.clear()
    _, other, accuracy = pickle.loads(sent)
    assert other is not own and accuracy.__self__ is other, "one for all parts"
    for one, two in ((own.train, other.train), (own.attacked, other.attacked), (own.held_out, other.held_out)):
        np.testing.assert_array_equal(one.x, two.x)
    assert other.accuracy("fast 0.2") == own.accuracy("fast 0.2")
    larger = fit.prepared(context(tmp_path, samples=50), path, BUDGET)
    assert larger is not other and len(larger.attacked) == 50


def _kinds(found):
    """What each row has set, but for what its number is worth and for sizes, which DeepFool has none of."""
    other = {"value", "interval", "paper", "paper_bound", "note", "flags", "n", "epsilon", "fitted at"}
    return {(row.table, row.metric, row.row, frozenset({*row.plain(), *row.settings} - other)) for row in found.rows}


@pytest.mark.long
def test_whole_protocol_gives_every_row(path, tmp_path, monkeypatch, drawn):
    plan = dataclasses.replace(PLAN, depths=("image", "conv"), deepfool=1, linf=(0.2,), by_depth=100, annealed=(0.3,))
    monkeypatch.setitem(settings.PLANS, "digits", plan)
    monkeypatch.setattr(dynamic, "QUICK_SIGMAS", (0.0, 1.0))
    # The static one is tested by itself. Each branch that is fitted is compiled anew: of five kinds three are left.
    kinds = ("iterative linf", "iterative l2", "DeepFool l2")
    known = {name: one for name, one in settings.adversaries(plan).items() if one.kind in kinds}
    monkeypatch.setattr(fit, "adversaries", lambda _: known)
    monkeypatch.setattr(protocol, "chosen_sizes", functools.partial(protocol.chosen_sizes, kinds=kinds))
    monkeypatch.setattr(protocol, "KINDS", ("iterative linf",))
    monkeypatch.setattr(dynamic, "DETECTORS", ("dynamic with benign perturbations",))

    def run():
        made = context(tmp_path)
        made.network = lambda recipe, **options: path
        protocol.run(made, width=2, fitted=200, epochs=1, batches=2, steps=2, attacked=8)
        return made

    first = run()
    expected = {"samples": 60, "epochs": 1, "fitted": 200, "steps": 2, "batches": 2}
    assert {name: first.settings[name] for name in expected} == expected, "what differs must not hide a setting"
    written = results.write(first, 1.0, tmp_path)
    found, committed = Results.load(written), Results.load(results.RESULTS / "detector-mnist.json")
    # What results have since then stands on the page as not measured until they are made again.
    later = {topology.TABLE, regularized.TABLE} - {row.table for row in committed.rows}
    kinds = {kind for kind in _kinds(found) if kind[0] not in later}
    assert kinds == _kinds(committed), "the page looks its tables up in these"
    assert {row.get("convolutions") for row in found.all(table=topology.TABLE)} == {3, 4}
    assert {row.base for row in found.all(table=regularized.TABLE)} == {regularized.base(weight) for weight in regularized.WEIGHTS}
    assert all("fitted on 100 samples" in row.note for row in found.rows if row.get("attached to"))
    least = found.all(table="metzen2017.fig5", statistic="minimum")
    assert [(row.detector, row.epsilon) for row in least] == [("dynamic with benign perturbations", 0.2), ("dynamic", 0.3)]
    assert [(curve["detector"], curve["epsilon"]) for curve in found.about["curves"]] == [("dynamic", 0.3)]
    few = found.all(sigma=1.0, metric="detection accuracy")
    assert few and all(row.value is None and row.note.startswith("too few: ") for row in few)
    for name, build in tables.TABLES["detector"].items():
        if name in ("as_in_the_paper", "weights"):  # look into results of other protocols
            continue
        assert build(found).count("\n") > 1, f"{name} has no line"
    assert {file.stem for file in (tmp_path / "detector-digits").iterdir()} == {"detectability", "dynamic", "strongest"}
    measures = ((regularized, "measured"), *((dynamic, name) for name in ("under_sigma", "under_strongest", "false_positives")))
    for module, name in ((protocol, "on_every_adversary"), *measures):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("a finished part was measured again"))
    drawn()
    assert run().rows == first.rows
