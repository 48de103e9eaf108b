import pytest

import tfdefense as td
from evaluation.benchmarks.certified import ood, protocol, tables
from evaluation.runner import command, results
from evaluation.runner.context import Context
from evaluation.runner.rows import Results


def test_rows_count_what_is_proved_and_what_an_attack_breaks_of_it(tmp_path):
    context, setup = Context("certified", "digits", False, None, None, tmp_path, tmp_path), protocol.SETUPS["digits"]
    found = {
        "clean": {kind: {"smoothed": [0.75, 0.25], "no defense": [1.0, 0.0]} for kind in ("", "sign", "gaussian")},
        "certified": {"right": [True, True, True, False], "radius": [0.6, 0.3, 0.2, 0.9], "abstains": 0},
        # Of the two that are attacked one is broken at the larger size: it is certified at the smaller one alone.
        "smoothed": {"0.25": [False, False], "0.5": [True, False]},
        "no defense": {"0.25": [True, False], "0.5": [True, True]},
    }
    protocol.add_rows(context, "digits_noise", setup, found)
    rows = Results({"rows": [row.plain() for row in context.rows]})
    proved = {size: rows(metric="certified accuracy", epsilon=size) for size in (0.0, 0.25, 0.5, 0.75)}
    assert proved == {0.0: 0.75, 0.25: 0.5, 0.5: 0.25, 0.75: 0.0}
    assert [rows(metric="robust accuracy", system="smoothed", epsilon=size) for size in (0.25, 0.5)] == [1.0, 0.5]
    assert [(row.value, row.n) for row in rows.all(metric="count")] == [(0, 2), (1, 1)]
    *_, line = tables.curve(rows).splitlines()
    assert line.startswith("| digits_noise | 0.5 | 0.250 [") and line.endswith("| 1 of 1 |")
    assert tables.radii(rows).splitlines()[-1] == "| digits_noise | 0.75 | 0.5 | 0.25 | 0 |"
    assert tables.clean(rows).splitlines()[-1].endswith("| 0.75 | 1 | 17 |")


@pytest.mark.slow
def test_a_network_is_certified_and_attacked(classifier, tmp_path, monkeypatch):
    classifier.save(tmp_path / "plain.keras")
    monkeypatch.setattr(results, "UNTRACKED", tmp_path)
    monkeypatch.setattr(Context, "network", lambda self, name, **options: tmp_path / "plain.keras")
    # The attacks of a suite have their own tests; compiling all of them is what would take long here.
    standard = td.attacks.suites.standard
    suite = td.attacks.suites.Suite("quick-1", (standard._PLAIN[1], standard._LOG_SUM_EXP))
    monkeypatch.setattr(td.attacks, "suite", lambda name: suite)
    about = {"dataset": "digits", "quick": True, "samples": 4, "data_dir": None, "output": None}
    found = Results.load(command.execute("certified", protocol, **about))
    assert found(metric="accuracy", system="no defense", perturbation="") >= 0.75
    proved, attacked = (found.one(metric=f"{kind} accuracy", system="smoothed", epsilon=0.25) for kind in ("certified", "robust"))
    assert attacked.n == 4 and 0 <= proved.value <= 1
    with pytest.raises(ValueError, match="`--only` must be one of digits_noise"):
        command.execute("certified", protocol, **about, only="mnist_noise")


@pytest.mark.slow
def test_the_guarantee_lies_below_what_an_attack_leaves(classifier, tmp_path, monkeypatch):
    classifier.save(tmp_path / "plain.keras")
    monkeypatch.setattr(results, "UNTRACKED", tmp_path)
    monkeypatch.setattr(Context, "network", lambda self, name, **options: tmp_path / "plain.keras")
    about = {"dataset": "digits", "quick": True, "samples": 30, "data_dir": None, "output": None}
    found = Results.load(command.execute("certified_ood", ood, **about))
    guaranteed, attacked, clean = (
        found(metric="AUROC", system=ood.JOINT, bound=bound) for bound in ("guaranteed", "attacked", "clean")
    )
    assert guaranteed <= attacked + 1e-6 and attacked <= clean + 1e-6
    alone = [found(metric="AUROC", system=ood.CONFIDENCE, bound=bound) for bound in ("attacked", "clean")]
    assert alone[0] < alone[1]
    assert found(metric="accuracy", system="no defense") > 0.9
    assert tables.ood(found).count("\n") == 3 and tables.ood_clean(found).count("\n") == 3
