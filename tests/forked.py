"""Processes for tests, of which many need one of their own and none needs to load TensorFlow for itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

LOADED = """
import json, os, signal, sys, time, traceback
import keras, tensorflow
import training.train, training.loop, training.strategy

for line in sys.stdin:
    job = json.loads(line)
    if "wait" in job:
        until = time.monotonic() + job["patience"]
        while not (found := os.waitpid(job["wait"], os.WNOHANG))[0]:
            if time.monotonic() > until:
                os.kill(job["wait"], signal.SIGKILL)
            time.sleep(0.01)
        print(os.waitstatus_to_exitcode(found[1]), flush=True)
        continue
    child = os.fork()
    if child == 0:
        os.environ.update(job["environment"])
        log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1), os.dup2(log, 2)
        code = 0
        try:
            exec(job["code"], {"arguments": job["arguments"]})
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)
    print(child, flush=True)
"""


class Children:
    """Processes forked from one that has loaded TensorFlow and not yet used it: loading is most of what each would do."""

    def __init__(self):
        # On CPUs, also where there is a GPU: what the tests compare is known for these.
        environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"}
        command = [sys.executable, "-c", LOADED]
        self.server = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def _ask(self, **job):
        self.server.stdin.write(json.dumps(job) + "\n")
        self.server.stdin.flush()
        return int(self.server.stdout.readline())

    def start(self, code, *arguments, log, **environment):
        """The number of a new process that runs the code, in which `arguments` are given, and writes into the file `log`."""
        return self._ask(code=code, arguments=[str(argument) for argument in arguments], log=str(log), environment=environment)

    def ended(self, child, patience=600.0):
        """How a process ended: its exit code, or minus the signal. One that hangs is killed."""
        return self._ask(wait=child, patience=patience)

    def close(self):
        self.server.stdin.close()
        self.server.wait()
