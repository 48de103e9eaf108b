"""Several processes on one run: each walks the whole protocol from another end, and takes from the rest what they have finished.

A part is measured by the process that comes to it first; whoever needs it meanwhile waits. The first process alone writes the
results. Single-threaded processes that share the cores also waste less than one process with many threads: small batches, as
at the end of an attack, keep one core busy and no more. Where there are GPUs, each process has one of them.
"""

import contextlib
import os
import subprocess
import sys


@contextlib.contextmanager
def helped(arguments, workers, commit):
    """Runs the same command in `workers - 1` more processes; they end with this one. Call it before TensorFlow is imported."""
    from evaluation.networks import ROOT, THREADS, environment
    from evaluation.results import COMMIT

    if workers > 1:
        share = max(1, (os.cpu_count() or 1) // workers)
        os.environ.update(dict.fromkeys(THREADS, str(share)))
    devices = gpus() if workers > 1 else []
    command = [sys.executable, "-m", "evaluation", *arguments, "--worker"]
    places = {index: environment() | {COMMIT: commit} | _one_of(devices, index) for index in range(1, workers)}
    helpers = []
    try:
        for index, place in places.items():
            helpers.append(subprocess.Popen([*command, str(index)], cwd=ROOT, env=place))
        os.environ.update(_one_of(devices, 0))
        yield
    finally:
        for helper in helpers:
            helper.terminate()
        for helper in helpers:
            helper.wait()


def gpus():
    """Names of the GPUs that this process may use, by NVIDIA's tool: TensorFlow would take all of their memory to count them."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name.strip() not in ("", "-1")]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [str(number) for number, line in enumerate(line for line in listed.splitlines() if line.startswith("GPU"))]


def _one_of(devices, index):
    """What binds a process to its GPU; where there are fewer than processes, they share, and none may take all memory."""
    return {"CUDA_VISIBLE_DEVICES": devices[index % len(devices)], "TF_FORCE_GPU_ALLOW_GROWTH": "true"} if devices else {}


@contextlib.contextmanager
def alone(path):
    """Holds the lock of a file: of two processes at the same part the second waits."""
    try:
        import fcntl
    except ImportError:  # Windows: two processes may then measure the same part, and write the same file
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f"{path.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
