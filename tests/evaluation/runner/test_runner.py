import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest

from evaluation.runner import command as runner
from evaluation.runner import pages, results
from evaluation.runner.context import Context
from evaluation.runner.parts import Local

COMMON = {"dataset": "", "quick": False, "samples": None, "data_dir": None, "output": None}


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The real results stay as they are."""
    for name, path in (("RESULTS", "results"), ("PAGES", "pages"), ("UNTRACKED", "runs")):
        monkeypatch.setattr(results, name, tmp_path / path)
    monkeypatch.setattr(pages, "write", list)
    monkeypatch.setattr(results, "commit", lambda: "abc")
    return tmp_path


def protocol(run, datasets=("digits", "mnist")):
    return types.SimpleNamespace(DATASETS=datasets, run=run, __doc__="A protocol.")


def one_row(context):
    context.settings["size"] = 3
    context.row("own", "accuracy", 0.5, row="X1", paper=0.25, n=context.samples_or(100, 10), fitted_on="FGSM", note="as said")
    context.curve("own", "false-positive rate", [0, 1], "accuracy", [1.0, float("nan")], system="DNR")


def context(path, **changes):
    values = {"protocol": "p", "dataset": "digits", "quick": False, "samples": None, "data_dir": None}
    return Context(**(values | {"output": path, "cache": path / "parts"} | changes))


def test_run_writes_the_agreed_json(places):
    path = runner.execute("p", protocol(one_row), **COMMON)
    assert path == places / "results" / "p-digits.json"
    content = json.loads(path.read_text())
    assert (content["protocol"], content["dataset"], content["commit"]) == ("p", "digits", "abc")
    assert content["settings"] == {"quick": False, "size": 3}
    row = {"table": "own", "row": "X1", "metric": "accuracy", "value": 0.5, "paper": 0.25, "n": 100, "note": "as said"}
    assert content["rows"] == [row | {"settings": {"fitted on": "FGSM"}}]
    assert content["curves"] == [
        {"table": "own", "metric": "accuracy", "system": "DNR", "x name": "false-positive rate", "x": [0, 1], "y": [1.0, None]}
    ], "JSON has no NaN"
    assert {"python", "keras", "tensorflow", "tfdefense"} <= set(content["versions"])
    assert content["code"]["evaluation/runner/context.py"], "the modules that were used"


def test_quick_run_goes_elsewhere(places):
    path = runner.execute("p", protocol(one_row), **COMMON | {"quick": True})
    assert path == places / "runs" / "p-digits.json"
    assert json.loads(path.read_text())["rows"][0]["n"] == 10
    assert not (places / "results").exists() and not (places / "pages").exists()
    with pytest.raises(ValueError, match="`--output` of a quick run must not be"):
        runner.execute("p", protocol(one_row), **COMMON | {"quick": True, "output": places / "results"})


def test_samples_asked_for_win(places):
    path = runner.execute("p", protocol(one_row), **COMMON | {"samples": 7})
    assert json.loads(path.read_text())["rows"][0]["n"] == 7


def test_protocol_without_rows_writes_nothing(places):
    assert runner.execute("p", protocol(lambda context: None), **COMMON) is None
    assert not (places / "results").exists()


def test_protocol_may_have_a_folder_of_its_own(places, monkeypatch):
    monkeypatch.setattr(results, "ROOT", places)
    seen = []
    module = protocol(lambda context: seen.append(context.output))
    module.OUTPUT = "demo-output"
    runner.execute("p", module, **COMMON)
    runner.execute("p", module, **COMMON | {"output": places / "mine"})
    assert seen == [places / "demo-output", places / "mine"]


def test_unknown_data_set_names_the_known_ones(places):
    with pytest.raises(ValueError, match="`p` knows the data sets digits, mnist. Received 'cifar'"):
        runner.execute("p", protocol(one_row), **COMMON | {"dataset": "cifar"})


def test_interrupted_protocol_keeps_its_finished_parts(places):
    measured = []

    def run(context, fail):
        context.settings["size"] = 3
        for name in ("first", "second"):
            if fail and name == "second":
                raise KeyboardInterrupt
            found = context.part(name, lambda name=name: measured.append(name) or {"value": len(measured)})
            context.row("own", "count", found["value"], system=name)

    with pytest.raises(KeyboardInterrupt):
        runner.execute("p", protocol(run), **COMMON, fail=True)
    path = runner.execute("p", protocol(run), **COMMON, fail=False)
    assert measured == ["first", "second"]
    assert [row["value"] for row in json.loads(path.read_text())["rows"]] == [1, 2]
    runner.execute("p", protocol(run), **COMMON, fail=False)
    assert measured == ["first", "second"] * 2, "a finished run leaves no parts for the next"


def test_interrupted_part_goes_on_with_its_batches(places, classifier, held_out, monkeypatch):
    from tfdefense.attacks import FGSM

    attacked = []
    perturb = FGSM.perturb

    def counted(self, batch, start):
        attacked.append(len(start))
        if len(attacked) == 3:
            raise KeyboardInterrupt
        return perturb(self, batch, start)

    def measure():
        return FGSM(0.1)(classifier, held_out.x[:80], held_out.y[:80], batch_size=16).success.tolist()

    wanted = measure()
    monkeypatch.setattr(FGSM, "perturb", counted)
    here = context(places)
    with pytest.raises(KeyboardInterrupt):
        here.part("attack", measure)
    assert here.part("attack", measure) == wanted
    assert len(attacked) == 3 + 3, "two of five batches were there"
    assert not list((places / "parts").glob("*.batches"))


def test_run_tells_how_far_it_is(places, capsys):
    """By the times of the last run of that protocol, at the pace of this one."""

    def two_parts(context):
        for name, value in context.parts({"first": (int, 1), "second": (int, 2)}).items():
            context.row("own", "count", value, system=name)

    path = runner.execute("p", protocol(two_parts), **COMMON)
    content = json.loads(path.read_text())
    assert set(content["parts"]) == {"first", "second"} and "first: 0 s (part 1, 0 s so far)" in capsys.readouterr().err
    path.write_text(json.dumps(content | {"parts": {"first": 100.0, "second": 6000.0, "third": 6000.0}}))
    here = context(places / "results")
    here.part("first", lambda: 1)
    here.seconds["first"] = 50.0
    assert here.progress() == "part 1 of 3, about 100 min left"
    here.executor = Local(2)
    assert here.progress() == "part 1 of 3, about 50 min left"
    here.forget_parts()
    assert not list((places / "results" / "parts").iterdir())


def test_parts_go_to_who_works_on_them_and_come_back_from_the_cache(places):
    here = context(places, executor=Local(2))
    try:
        assert here.parts({"a": (pow, 2, 5), "b": (pow, 3, 2)}) == {"a": 32, "b": 9}
    finally:
        here.executor.close()
    again = context(places)
    assert again.parts({"a": (pow, 0, 1), "b": (pow, 0, 1)}) == {"a": 32, "b": 9}, "measured again"


def test_part_of_other_code_is_measured_again(places):
    here = context(places)
    assert here.part("a", lambda: 1) == 1
    (path,) = (places / "parts").glob("*.json")
    content = json.loads(path.read_text())
    assert content["code"]["evaluation/runner/context.py"]
    content["code"]["evaluation/runner/context.py"] = "another"
    path.write_text(json.dumps(content))
    assert here.part("a", lambda: 2) == 2


def test_crafted_samples_are_named_by_their_content(places, classifier, held_out):
    from tfdefense.attacks import FGSM

    here = context(places)
    x, y = held_out.x[:4], held_out.y[:4]
    first = here.adversarial("one", FGSM(0.1), classifier, x, y)
    (path,) = (places / "crafted").glob("*.npz")
    again = here.adversarial("one", FGSM(0.1), classifier, x, y)
    assert (again.x_adv == first.x_adv).all() and len(list((places / "crafted").glob("*.npz"))) == 1
    longer = first.lengthened(2.0)
    assert np.allclose(longer.x_adv, np.clip(x + 2 * (first.x_adv - x), 0, 1), atol=1e-6)
    here.adversarial("one", FGSM(0.2), classifier, x, y)
    here.adversarial("one", FGSM(0.1), classifier, x[:3], y[:3])
    assert len(list((places / "crafted").glob("*.npz"))) == 3


def test_parts_of_other_settings_are_not_taken(places):
    first, other = context(places, samples=5), context(places, samples=6)
    assert first.part("a", lambda: 1) == 1
    assert first.part("a", lambda: 2) == 1
    assert other.part("a", lambda: 3) == 3


def test_unknown_protocol_suggests_the_nearest(capsys):
    with pytest.raises(SystemExit) as stop:
        runner.main(["sped", "--quick"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        f"A protocol is one of {', '.join(runner.protocols())}. Received 'sped'. Did you mean `speed`?\n"
    )


def test_every_protocol_says_what_it_is_and_builds_its_command():
    found = runner.protocols()
    assert {"speed", "dnr", "dnr_trained"} <= set(found) and not {"results", "context", "networks", "speed_peers"} & set(found)
    for name, (module, line) in found.items():
        assert line, f"{module} needs a docstring: its first paragraph is the help"
        assert runner._command(name).__signature__.parameters["dataset"].default


def test_options_of_a_protocol_reach_it(places, monkeypatch):
    from evaluation.benchmarks.speed import protocol as speed

    seen = {}

    def run(context, *, limit: int = 420):
        seen.update(limit=limit, quick=context.quick)

    monkeypatch.setattr(speed, "run", run)
    with pytest.raises(SystemExit) as stop:
        runner.main(["speed", "--quick", "--dataset", "digits"])
    assert (stop.value.code, seen) == (0, {"limit": 420, "quick": True})


def test_bad_input_ends_with_one_line_and_code_2(places, capsys):
    with pytest.raises(SystemExit) as stop:
        runner.main(["speed", "--dataset", "cifar"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "`speed` knows the data sets mnist, digits. Received 'cifar'.\n"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are counted in /proc")
def test_a_run_that_is_ended_leaves_no_process_behind(tmp_path):
    command = [sys.executable, "-m", "evaluation", "nearest", "--dataset", "digits", "--quick", "--workers", "2"]
    run = subprocess.Popen([*command, "--output", tmp_path], cwd=results.ROOT, stderr=subprocess.PIPE, start_new_session=True)
    with contextlib.closing(run.stderr):
        told = []
        while not told or len(_group(run.pid)) < 2:
            told.append(run.stderr.readline().decode())
            assert told[-1], "".join(told)
        run.terminate()
        code = run.wait(60)
    left = _left(run.pid)
    # Python's own tracker of shared memory sees the end of its parent a moment later. No other may be there at all.
    for _ in range(100):
        if not left or not all("resource_tracker" in command for command in left.values()):
            break
        time.sleep(0.01)
        left = _left(run.pid)
    for process in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    assert (code, left) == (128 + signal.SIGTERM, {})


def _left(group):
    return {process: _command(process) for process in _group(group)}


def _command(process):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")
    return "ended since"


def _group(leader):
    found = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(ValueError, ProcessLookupError, FileNotFoundError):
            # One that has ended is listed until somebody asks for its exit code.
            ended = Path(f"/proc/{int(name)}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
            found += [int(name)] * (os.getpgid(int(name)) == leader and not ended)
    return found
