"""A command that is run once, up to its write; copies of the process then go on with the write, and meet their fate there.

A fresh process with TensorFlow takes 10 seconds to come to its write, a copy none. Only what writes files in Python can be
copied like this: TensorFlow's own threads do not live on in the copy.
"""

import contextlib
import os
import signal
import time

from typer.testing import CliRunner

from tfdefense import _files, cli


class Children:
    """Runs a command. At its first write it is copied while `wanted()`, and `meet(child)` waits for the end of each copy.

    Args:
        wanted: Whether one more copy shall try to write.
        meet: Gets the process number of a copy that is about to write.
        failed: Called in a copy whose write failed, with the result of the command.
    """

    def __init__(self, wanted, meet, failed=lambda result: None):
        self.wanted, self.meet, self.failed = wanted, meet, failed
        self.is_copy, self.began = False, False

    def run(self, argv, monkeypatch):
        """The command's result, in the first process alone."""
        with monkeypatch.context() as patch:
            patch.setattr(_files, "_errors_of", self._branching(_files._errors_of))
            result = CliRunner().invoke(cli.app, [str(argument) for argument in argv])
        if self.is_copy:
            try:
                self.failed(result)
            finally:
                os._exit(1)
        if not self.began or result.exit_code:
            raise RuntimeError(f"The command wrote nothing: {result.output}") from result.exception
        return result

    def _branching(self, whole):
        @contextlib.contextmanager
        def branching(path):
            if not self.began:
                self.began = True
                self._copy()
            with whole(path):
                yield
            if self.is_copy:
                os._exit(0)

        return branching

    def _copy(self):
        while self.wanted():
            ready, go = os.pipe()
            child = os.fork()
            if child == 0:
                self.is_copy = True
                os.write(go, b"x")
                return
            os.read(ready, 1)
            os.close(ready)
            os.close(go)
            self.meet(child)


def ended(child, patience=120.0):
    """How a process ended: its exit code, or minus the signal; one that hangs is an error."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise TimeoutError("The copy of this process hangs: it can't write what it should.")
