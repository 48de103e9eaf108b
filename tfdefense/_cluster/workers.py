"""Workers of a Ray cluster: processes that do one task after the other. A lost one is replaced, and its task given to another."""

from __future__ import annotations

import collections
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

# How often a task may lose its worker: one that ends a worker each time would end them all.
LOSSES = 3


class Workers:
    """One worker for each GPU of a cluster, or for each CPU where there are none, but no more than there were tasks at once.

    They start with the first tasks and stay until `close`, or the end of a `with` block: what they have loaded and compiled is
    there for the tasks that follow.

    Args:
        address: Of the cluster: "auto" on one of its nodes, "local" for this machine alone, or "ray://host:10001".
        kind: A class. Each worker makes one object of it and calls that for each task.
        arguments: Of the class.
    """

    def __init__(self, address: str, kind: Callable[..., Callable[..., Any]], *arguments: Any) -> None:
        self.ray = _connected(address)
        resources = self.ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        self.room = gpus or max(1, int(resources.get("CPU", 1)))
        # Each takes its share: TensorFlow would take all cores, and all memory of a GPU, on which the driver may be as well.
        share = {"TF_FORCE_GPU_ALLOW_GROWTH": "true"} if gpus else {"TF_NUM_INTRAOP_THREADS": "1"}
        environment = {"TF_CPP_MIN_LOG_LEVEL": "3"} | share
        if "PYTHONPATH" in os.environ:
            environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
        options = {"num_cpus": 1, "num_gpus": 1 if gpus else 0, "runtime_env": {"env_vars": environment}}
        self._worker = self.ray.remote(**options)(_Worker)
        self._arguments = kind, *(self.ray.put(argument) for argument in arguments)
        self._idle: list[Any] = []
        # What each is at: a task, or None while it starts, or ends what nobody waits for any more. One that finds no room waits for
        # it, such as a new node.
        self._busy: dict[Any, tuple[Any, Any]] = {}

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        for worker in [*self._idle, *(worker for worker, _ in self._busy.values())]:
            self.ray.kill(worker)
        self._idle, self._busy = [], {}

    def each(self, names: Iterable[Any], task: Callable[[Any], tuple], doing: Callable[[Any], str]) -> Iterator[tuple[Any, Any]]:
        """Pairs of the name of a task and its result, as they are done. An error in a task is raised here.

        Args:
            names: Of the tasks, None not among them.
            task: From a name to the arguments of the call.
            doing: From a name to what a worker does, for the error of one that is lost again and again.
        """
        waiting = collections.deque(names)
        left, losses = set(waiting), collections.Counter[Any]()
        count = min(self.room, len(left))
        try:
            while left:
                while len(self._idle) + len(self._busy) < count:
                    self._start()
                while self._idle and waiting:
                    name, worker = waiting.popleft(), self._idle.pop()
                    self._busy[worker.do.remote(*task(name))] = worker, name
                worker, name, found, lost = self._next()
                if lost is None:
                    # It stays, with nothing to do too: it may be needed for a task whose worker is lost.
                    self._idle.append(worker)
                    if isinstance(found, self.ray.exceptions.RayTaskError):
                        if name is not None:
                            raise found.cause from found
                    elif name is not None:
                        yield name, found
                        left.remove(name)
                    continue
                self.ray.kill(worker)
                losses[name] += 1
                if losses[name] > LOSSES:
                    what = "starting" if name is None else doing(name)
                    raise RuntimeError(f"Workers were lost {losses[name]} times while {what}. What was written is kept.") from lost
                if name is not None:
                    waiting.appendleft(name)
        finally:
            self._busy = {future: (worker, None) for future, (worker, _) in self._busy.items()}

    def _start(self):
        worker = self._worker.remote(*self._arguments)
        self._busy[worker.ready.remote()] = worker, None

    def _next(self):
        """The worker that is ready first, the name of its task, what came of that, and how the worker was lost, if it was."""
        errors = self.ray.exceptions
        (future, *_), _ = self.ray.wait(list(self._busy), num_returns=1)
        worker, name = self._busy.pop(future)
        try:
            return worker, name, self.ray.get(future), None
        except errors.RayTaskError as error:
            return worker, name, error, None
        except (errors.RayActorError, errors.ObjectLostError) as error:
            if name is None and "creation task" in str(error):
                raise ValueError(f"A worker could not start: {str(error).strip().splitlines()[-1]}") from error
            return worker, name, None, error


class _Worker:
    """A process of the cluster."""

    def __init__(self, kind, *arguments):
        self._work = kind(*arguments)

    def ready(self):
        return True

    def do(self, *task):
        return self._work(*task)


def _connected(address):
    try:
        import ray
    except ImportError:
        raise ImportError("A cluster needs Ray, which is not installed: pip install 'tfdefense[cluster]'") from None
    if not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=False)
        except (ConnectionError, ValueError) as error:
            why = str(error).strip().splitlines()[0]
            raise ValueError(f"No Ray cluster answers at {address!r}: {why} Start one: ray start --head") from None
    return ray
