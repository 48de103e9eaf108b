"""Parts of a run, and who works on them: this process, several on this machine, or a Ray cluster."""

import concurrent.futures
import contextlib
import itertools
import multiprocessing
import os
import subprocess
import threading
from concurrent.futures.process import BrokenProcessPool

# How TensorFlow is told its share of the cores.
THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
RETRIES = 3


def run_parts(parts, executor=None, done=lambda name, result: None):
    """Results of the parts by name.

    Args:
        parts: Dict from a name to a function and its arguments, as one tuple. For any executor but None they are pickled.
        executor: None works on them here, one after the other; else what has `submit`, as those of `concurrent.futures`.
        done: Called with each name and result as soon as it is there.
    """
    results = {}
    if executor is None:
        for name, (function, *arguments) in parts.items():
            results[name] = function(*arguments)
            done(name, results[name])
        return results
    for attempt in itertools.count(1):
        futures = {}
        try:
            for name, part in parts.items():
                if name not in results:
                    futures[executor.submit(*part)] = name
            for future in concurrent.futures.as_completed(futures):
                name = futures[future]
                results[name] = future.result()
                done(name, results[name])
            return {name: results[name] for name in parts}
        except BrokenProcessPool:
            # A process was killed, by the system when memory runs out or by hand: what is finished is kept.
            if attempt == RETRIES:
                raise
        except BaseException:
            for future in futures:
                future.cancel()
            raise


class Local:
    """Processes on this machine that share its cores and GPUs. One that is killed is replaced, and its part begun anew."""

    def __init__(self, workers):
        self.workers, self._pool = workers, None
        # A fresh interpreter each: TensorFlow does not survive a fork.
        self._context = multiprocessing.get_context("spawn")
        # Its other end is in this process alone: a process ends with it, in the middle of a part too.
        self._alive, self._end = self._context.Pipe(duplex=False)

    def submit(self, function, *arguments):
        if self._pool is not None:
            with contextlib.suppress(BrokenProcessPool):
                return self._pool.submit(function, *arguments)
        share = max(1, (os.cpu_count() or 1) // self.workers)
        about = (self._alive, self._context.Value("i", 0), gpus(), share)
        self._pool = concurrent.futures.ProcessPoolExecutor(self.workers, self._context, _begin, about)
        return self._pool.submit(function, *arguments)

    def close(self):
        self._end.close()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._alive.close()


def _begin(alive, begun, devices, share):
    """The first thing in a process: its share of the cores, and its GPU, before TensorFlow is imported."""
    from evaluation.runner.networks import environment

    threading.Thread(target=_end_with, args=(alive,), daemon=True).start()
    with begun.get_lock():
        number, begun.value = begun.value, begun.value + 1
    os.environ.update(environment() | dict.fromkeys(THREADS, str(share)) | one_of(devices, number))


def _end_with(alive):
    alive.poll(None)
    os._exit(1)


class Ray:
    """Nodes of a Ray cluster. Where a node is lost, Ray begins its parts anew on another one."""

    def __init__(self, address):
        try:
            import ray
        except ImportError:
            raise ValueError("`--ray` needs Ray. Install it: pip install 'tfdefense[cluster]'.") from None
        from evaluation.runner.networks import ROOT, environment

        self.ray = ray
        # The code of the clone is read where it lies: each node needs the same clone, or a shared file system.
        place = {name: value for name, value in environment().items() if name not in os.environ or name == "PYTHONPATH"}
        ray.init(address=address, runtime_env={"env_vars": place}, ignore_reinit_error=True, log_to_driver=False)
        self.workers = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self.root = ROOT

    def submit(self, function, *arguments):
        task = self.ray.remote(max_retries=RETRIES, num_cpus=1)(_call)
        return task.remote(function, arguments).future()

    def close(self):
        self.ray.shutdown()


def _call(function, arguments):
    return function(*arguments)


@contextlib.contextmanager
def executor_for(workers=1, ray=None):
    """What works on the parts of a run, or None for this process alone; it ends with the block."""
    if ray is not None:
        executor = Ray(ray)
    elif workers > 1:
        executor = Local(workers)
    else:
        yield None
        return
    try:
        yield executor
    finally:
        executor.close()


def gpus():
    """Names of the GPUs that this process may use, by NVIDIA's tool: TensorFlow would take all of their memory to count them."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name.strip() not in ("", "-1")]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [str(number) for number, line in enumerate(line for line in listed.splitlines() if line.startswith("GPU"))]


def one_of(devices, index):
    """What binds a process to its GPU; where there are fewer than processes, they share, and none may take all memory."""
    return {"CUDA_VISIBLE_DEVICES": devices[index % len(devices)], "TF_FORCE_GPU_ALLOW_GROWTH": "true"} if devices else {}
