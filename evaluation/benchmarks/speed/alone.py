"""Runs a measurement in a process of its own, where nothing has been compiled or warmed by another."""

import importlib
import json
import os
import subprocess
import sys

from evaluation.runner.networks import ROOT, environment


def alone(function, *arguments):
    """`function(*arguments)`, of a module, by another Python; arguments and result are what JSON holds."""
    place = [function.__module__, function.__name__, json.dumps(arguments)]
    command = [sys.executable, "-m", "evaluation.benchmarks.speed.alone", *place]
    done = subprocess.run(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise ValueError(f"Expected a result of {'.'.join(place[:2])}. Its process ended with {done.returncode}; see above.")
    return json.loads(done.stdout.splitlines()[-1])


def main(module, name, arguments):
    # What libraries print is not the result.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    found = getattr(importlib.import_module(module), name)(*json.loads(arguments))
    print(json.dumps(found), file=answer, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
