"""What is malformed is refused in one sentence that names it: no traceback of a parser's, no abort, no wait without end."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.reliability import malformed

pytestmark = pytest.mark.torture
ROOT = Path(__file__).parents[2]
SECONDS = 30  # for one artifact; most take milliseconds


class Reader:
    """A process that reads artifacts and says what became of each; started again where one ended it."""

    def __init__(self):
        self.process = None

    def ask(self, kind, folder, seconds=SECONDS):
        process = self.process = self.process or self._started()
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        process.stdin.write(json.dumps([kind, str(folder)]) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        timer.cancel()
        if line:
            return json.loads(line)
        self.process = None
        return {"ended": process.wait()}

    def close(self):
        if self.process:
            self.process.stdin.close()
            self.process.wait()

    @staticmethod
    def _started():
        # With the address space bounded, what takes memory fails here and not for all who share the machine.
        bounded = "import resource; resource.setrlimit(resource.RLIMIT_AS, (32 << 30,) * 2); "
        return subprocess.Popen(
            [sys.executable, "-c", bounded + "from tests.reliability.reader import main; main()"],
            cwd=ROOT,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )


def fault(answer, folder, undamaged):
    """What is wrong with an answer, or None: refused in a sentence that names the file, or read as what it was before."""
    if "ended" in answer:
        return f"ended or stopped the process: {answer['ended']}"
    if "read" in answer:
        return None if answer["read"] == undamaged else "was read as something else"
    said = answer["said"]
    if not answer["foreseen"]:
        return f"{answer['error']}: {said[:200]}"
    if str(folder) not in said or "\n" in said.strip() or len(said) > 1000:
        return f"no sentence that names it: {said[:300]}"
    return None


def test_malformed_artifacts_are_refused_in_one_sentence(times, tally, tmp_path):
    malformed.bases(tmp_path)
    everything = sorted(malformed.artifacts(tmp_path), key=malformed.order)
    assert len(everything) >= 200
    reader, undamaged, faults = Reader(), {}, []
    for kind, write in malformed.whole(tmp_path).items():
        folder = tmp_path / f"whole {kind}"
        folder.mkdir()
        write(folder)
        undamaged[kind] = reader.ask(kind, folder, 120)["read"]
    tried = times(short=25, full=len(everything))
    for number, (kind, wrong, write) in enumerate(everything[:tried]):
        folder = tmp_path / str(number)
        folder.mkdir()
        write(folder)
        # A reader that was just started loads TensorFlow first.
        found = fault(reader.ask(kind, folder, SECONDS if reader.process else 120), folder, undamaged.get(kind))
        faults += [f"{kind}, {wrong}: {found}"] if found else []
    reader.close()
    tally("malformed artifacts of ten kinds: traceback, abort, hang, or read as if whole", tried, faults)
