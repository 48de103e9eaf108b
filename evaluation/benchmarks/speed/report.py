"""For `speed_overhead`: what a quick report and a suite cost beside their floor, in a process of its own.

The floor is what the passes that were made would cost in full batches, and the training of the network to transfer from.
"""

import resource
import time
from unittest import mock

MODELS = {"mnist": "mnist_cuda.dustbin", "digits": "digits_cnn.dnr"}
SUITE, SIZES = "standard-1", {"mnist": ("linf", 0.1), "digits": ("linf", 0.1)}


def cpu():
    """User and system seconds of this process, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure(dataset, data_dir, samples):
    """A quick report, then the suite on samples of the same model."""
    return {"report": _report(dataset, data_dir), "suite": _suite(dataset, data_dir, samples)}


def _report(dataset, data_dir):
    import tfdefense as td
    from evaluation.benchmarks.speed.counting import counted
    from tfdefense.reporting import protocol

    model = td.zoo.load(MODELS[dataset])
    training, train = [0.0], protocol.substitute_network

    def substitute(*arguments, **options):
        begun = cpu()
        found = train(*arguments, **options)
        training[0] += cpu() - begun
        return found

    begun, wall = cpu(), time.perf_counter()
    with counted() as work, mock.patch.object(protocol, "substitute_network", substitute):
        report = td.report(model, dataset, quick=True, data_dir=data_dir)
    found = {
        "cpu": cpu() - begun,
        "wall": time.perf_counter() - wall,
        "training": training[0],
        "samples": report.content["about"]["plan"]["samples"],
    }
    x = td.data.load(dataset, "test", data_dir=data_dir, limit=128).x
    return found | _told(work, x, training[0]) | {"jobs": report.content["times"]["jobs"]}


def _suite(dataset, data_dir, samples):
    import tfdefense as td
    from evaluation.benchmarks.speed.counting import counted
    from tfdefense.attacks import suite

    test = td.data.load(dataset, "test", data_dir=data_dir, limit=samples)
    model = td.zoo.load(MODELS[dataset])
    begun, wall = cpu(), time.perf_counter()
    with counted() as work:
        norm, size = SIZES[dataset]
        suite(SUITE).attack(size, norm)(model, test.x, test.y)
    return {"cpu": cpu() - begun, "wall": time.perf_counter() - wall, "samples": len(test.x)} | _told(work, test.x, 0.0)


def _told(work, x, training):
    """The numbers of some work, plain."""
    calls, rows = sum(work.calls.values()), sum(work.rows.values())
    names = sorted(work.rows, key=work.rows.get, reverse=True)
    return {
        "floor": work.floor(x) + training,
        "traces": work.traces,
        "tracing": work.tracing,
        "rows": rows / calls,
        "functions": [[name, work.calls[name], work.rows[name], work.seconds[name]] for name in names],
    }


def add_rows(context, found):
    for system, one in found.items():
        about = {"system": system, "of": MODELS[context.dataset], "n": one["samples"]}
        context.row("speed.report", "time ratio", one["cpu"] / one["floor"], **about)
        context.row("speed.report", "CPU seconds", one["cpu"], **about)
        context.row("speed.report", "seconds", one["wall"], **about)
        context.row("speed.report", "count", one["traces"], **about | {"of": "traces"})
