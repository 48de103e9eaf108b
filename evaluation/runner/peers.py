"""Other libraries, each in an interpreter of its own: a line of JSON asks, a line answers.

`Library` is the end that asks. `serve` is the other one; it runs in the library's interpreter, where nothing but the standard
library is needed to tell that something is missing.
"""

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from evaluation.runner.networks import ROOT, environment

Python = Annotated[Path | None, typer.Option(help="Interpreter in which the other libraries are installed; else this one.")]
START = 300  # seconds until it must have loaded


def interpreter(python):
    """The path of an interpreter. A virtual environment is known by the name it is called by: a resolved link would leave it."""
    return Path(os.path.abspath(python)) if python else Path(sys.executable)


class Library:
    """A process of one library; started again when it had to be stopped.

    Args:
        module: Is run with the arguments, and ends in `serve`.
        limit: Seconds that an answer may take.
        variables: Of its environment, besides the usual ones.
    """

    def __init__(self, name, python, module, arguments, limit, variables=None):
        self.name, self.limit, self.variables = name, limit, variables or {}
        self.command = [str(python), "-m", module, *map(str, arguments)]
        self.process = None
        self.about = self._start()

    def _start(self):
        try:
            self.process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=environment() | self.variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        except OSError as error:
            return {"missing": str(error)}
        self.answers, self.complaints = queue.Queue(), []
        # a pipe has no time limit of its own, and one that nobody reads stops the library that writes to it
        out, err = (self.process.stdout, self.answers), (self.process.stderr, self.complaints)
        self.threads = [threading.Thread(target=self._listen, args=out, daemon=True)]
        self.threads.append(threading.Thread(target=self._keep_last, args=err, daemon=True))
        for thread in self.threads:
            thread.start()
        return self._answer(START)

    @staticmethod
    def _listen(stream, answers):
        for line in stream:
            answers.put(json.loads(line))
        answers.put(None)

    @staticmethod
    def _keep_last(stream, complaints):
        for line in stream:
            complaints[:] = [*complaints[-4:], line.rstrip()]

    def _answer(self, limit):
        try:
            answer = self.answers.get(timeout=limit)
        except queue.Empty:
            self.stop()
            return {"error": f"no result in {limit} s"}
        if answer is None:
            self.stop()
            self.threads[1].join(timeout=2)  # its last words may arrive after its end
            return {"error": f"its process ended: {self.complaints[-1] if self.complaints else 'no message'}"}
        return answer

    @property
    def trouble(self):
        """Why it can't be used, or None."""
        return self.about.get("missing") or self.about.get("error")

    def ask(self, **request):
        if self.process is None:
            about = self._start()
            if "missing" in about or "error" in about:
                return {"error": about.get("missing") or about["error"]}
        with contextlib.suppress(OSError):  # it has ended: the answer will tell
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        return self._answer(self.limit)

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def installed(library):
    """Its version."""
    return importlib.metadata.version({"art": "adversarial-robustness-toolbox"}.get(library, library))


def for_eagerpy(numpy):
    """Gives back what NumPy 2 removed and eagerpy asks for, which ends foolbox's DeepFool and DDN."""
    if not hasattr(numpy, "find_common_type"):
        numpy.find_common_type = lambda arrays, scalars: numpy.result_type(*arrays, *scalars)


def serve(library, make):
    """Answers requests until the input ends.

    Args:
        library: Name of the module without which there is nothing to do.
        make: Gives what has `about`, the first answer, and `answer(**request)`.
    """
    # libraries print as they please: the answers keep the real output for themselves
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(answer):
        print(json.dumps(answer), file=answers, flush=True)

    # asked first, so that what is not installed is told before TensorFlow has loaded
    if importlib.util.find_spec(library) is None:
        say({"missing": f"no module named {library}"})
        return
    try:
        worker = make()
    except ImportError as error:
        say({"missing": str(error)})
        return
    say(worker.about)
    for line in sys.stdin:
        try:
            say(worker.answer(**json.loads(line)))
        except Exception as error:  # whatever a library raises is its result, not the end of the comparison
            say({"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]})
