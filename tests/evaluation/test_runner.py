import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest

from evaluation import __main__ as runner
from evaluation.runner import results
from evaluation.runner.context import Context

COMMON = {"dataset": "", "quick": False, "samples": None, "data_dir": None, "output": None}


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The real results stay as they are."""
    for name, path in (("RESULTS", "results"), ("PAGE", "RESULTS.md"), ("UNTRACKED", "runs")):
        monkeypatch.setattr(results, name, tmp_path / path)
    monkeypatch.setattr(results, "commit", lambda: "abc")
    return tmp_path


def protocol(run, datasets=("digits", "mnist")):
    return types.SimpleNamespace(DATASETS=datasets, run=run, __doc__="A protocol.")


def one_row(context):
    context.settings["size"] = 3
    context.row("X1", "accuracy", 0.5, paper=0.25, samples=context.samples_or(100, 10), note="as said")
    context.curve("X2", "accuracy against size", [0, 1], [1.0, float("nan")], deviation=[0.0, 0.1])


def context(path, **changes):
    values = {"protocol": "p", "dataset": "digits", "quick": False, "samples": None, "data_dir": None}
    return Context(**(values | {"output": path, "kept": path / "parts"} | changes))


def test_run_writes_the_agreed_json(places):
    path = runner.execute("p", protocol(one_row), **COMMON)
    assert path == places / "results" / "p-digits.json"
    content = json.loads(path.read_text())
    assert (content["protocol"], content["dataset"], content["commit"]) == ("p", "digits", "abc")
    assert content["settings"] == {"quick": False, "size": 3}
    assert content["rows"] == [{"row": "X1", "what": "accuracy", "ours": 0.5, "paper": 0.25, "samples": 100, "note": "as said"}]
    assert content["series"][0]["y"] == [1.0, None], "JSON has no NaN"
    assert {"python", "keras", "tensorflow", "tfdefense"} <= set(content["versions"])
    assert "accuracy" in (places / "RESULTS.md").read_text(), "a full run renders the page anew"


def test_quick_run_goes_elsewhere(places):
    path = runner.execute("p", protocol(one_row), **COMMON | {"quick": True})
    assert path == places / "runs" / "p-digits.json"
    assert json.loads(path.read_text())["rows"][0]["samples"] == 10
    assert not (places / "results").exists() and not (places / "RESULTS.md").exists()
    with pytest.raises(ValueError, match="`--output` of a quick run must not be"):
        runner.execute("p", protocol(one_row), **COMMON | {"quick": True, "output": places / "results"})


def test_samples_asked_for_win(places):
    path = runner.execute("p", protocol(one_row), **COMMON | {"samples": 7})
    assert json.loads(path.read_text())["rows"][0]["samples"] == 7


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
            context.row("X", name, found["value"])

    with pytest.raises(KeyboardInterrupt):
        runner.execute("p", protocol(run), **COMMON, fail=True)
    path = runner.execute("p", protocol(run), **COMMON, fail=False)
    assert measured == ["first", "second"]
    assert [row["ours"] for row in json.loads(path.read_text())["rows"]] == [1, 2]
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
        context.row("X1", "first", context.part("first", lambda: 1))
        context.row("X1", "second", context.part("second", lambda: 2))

    path = runner.execute("p", protocol(two_parts), **COMMON)
    content = json.loads(path.read_text())
    assert set(content["parts"]) == {"first", "second"} and "first: 0 s (part 1, 0 s so far)" in capsys.readouterr().err
    path.write_text(json.dumps(content | {"parts": {"first": 100.0, "second": 6000.0, "third": 6000.0}}))
    here = context(places / "results")
    here.part("first", lambda: 1)
    here.parts["first"] = 50.0
    assert here.progress() == "part 1 of 3, about 100 min left"
    here.workers = 2
    assert here.progress() == "part 1 of 3, about 50 min left"
    here.forget_parts()
    assert not list((places / "results" / "parts").iterdir())


def test_each_process_gets_a_gpu(tmp_path, monkeypatch):
    from evaluation.runner import workers

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert [workers._one_of(workers.gpus(), index)["CUDA_VISIBLE_DEVICES"] for index in range(3)] == ["4", "7", "4"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert workers._one_of(workers.gpus(), 1) == {}, "no GPU here"
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: one (UUID: a)'\necho 'GPU 1: two (UUID: b)'\n")
    tool.chmod(0o755)
    assert workers.gpus() == ["0", "1"]


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
    assert "speed" in found and not {"results", "context", "networks", "peers"} & set(found)
    for name, line in found.items():
        assert line, f"evaluation/{name}.py needs a docstring: its first paragraph is the help"
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


def test_processes_share_the_parts_of_a_run(places):
    """They begin at the two ends, nobody measures what another has, and who comes second to a part waits for it."""
    measured = []

    def walk(number):
        mine = dataclasses.replace(context(places), worker=number, workers=2)
        for name in mine.turn("abcd"):
            mine.part(name, lambda name=name: measured.append((number, name)) or time.sleep(0.2))

    threads = [threading.Thread(target=walk, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(name for _, name in measured) == list("abcd")
    assert {(0, "a"), (1, "d")} <= set(measured), "both began at the same end"


def test_helper_writes_nothing(places):
    assert runner.execute("p", protocol(one_row), **COMMON, worker=1, workers=2) is None
    assert not (places / "results").exists()


def test_processes_of_one_run_are_told_its_commit_and_share_of_the_cores(tmp_path, monkeypatch):
    """The names of parts hold it: had somebody committed between their starts, each would measure all of them."""
    from evaluation.runner import networks, workers

    told = []

    class Process:
        def __init__(self, command, cwd, env):
            told.append((command[-2:], env[results.COMMIT]))

        terminate = wait = lambda self: None

    monkeypatch.setattr(workers, "subprocess", types.SimpleNamespace(Popen=Process))
    monkeypatch.setattr(workers, "gpus", lambda: [])
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        monkeypatch.setenv(name, "1")
    place = {}

    def run(command, cwd, env, **_):
        place.update(env)
        return types.SimpleNamespace(returncode=0, stdout="model.keras\n")

    monkeypatch.setattr(networks, "subprocess", types.SimpleNamespace(run=run, PIPE=None))
    for processes, shared, limited in ((1, False, True), (2, True, True), (2, False, False)):
        place.clear()
        made = Context("dnr", "digits", True, None, None, tmp_path, tmp_path, workers=processes)
        made.network("digits", shared=shared)
        assert {place.get(name) for name in networks.THREADS} == {"1" if limited else None}, "what the user set, or a share"
    own = results.commit()
    with workers.helped(["dnr"], 2, "abc+changes"):
        assert told == [(["--worker", "1"], "abc+changes")]
    monkeypatch.setenv(results.COMMIT, "abc+changes")
    assert own != results.commit() == "abc+changes"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are counted in /proc")
def test_a_run_that_is_ended_leaves_no_process_behind(tmp_path):
    command = [sys.executable, "-m", "evaluation", "dnr", "--dataset", "digits", "--quick", "--workers", "2"]
    run = subprocess.Popen([*command, "--output", tmp_path], cwd=results.ROOT, stderr=subprocess.PIPE, start_new_session=True)
    with contextlib.closing(run.stderr):
        told = []
        while not told or len(_group(run.pid)) < 2:
            told.append(run.stderr.readline().decode())
            assert told[-1], "".join(told)
        run.terminate()
        code = run.wait(60)
    left = _group(run.pid)
    for process in left:
        os.kill(process, signal.SIGKILL)
    assert (code, left) == (128 + signal.SIGTERM, [])


def _group(leader):
    found = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(ValueError, ProcessLookupError):
            found += [int(name)] * (os.getpgid(int(name)) == leader)
    return found
