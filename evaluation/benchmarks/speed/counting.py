"""Counts what compiled functions do on their views: traces, calls, and passes of the model by kind."""

import contextlib
import time
from collections import Counter
from dataclasses import dataclass, field
from unittest import mock

FULL, REPEATS = 128, 10


@dataclass
class Work:
    """What was done while `counted` was on.

    Attributes:
        traces: Functions traced, each for one view.
        tracing: CPU seconds of the calls that traced, first run included.
        calls: Of compiled functions on a batch, by function.
        rows: Samples in these calls, by function.
        seconds: CPU seconds of the calls that did not trace, by function.
        passes: Samples that went forward and back, by view: pairs.
    """

    traces: int = 0
    tracing: float = 0.0
    calls: Counter = field(default_factory=Counter)
    rows: Counter = field(default_factory=Counter)
    seconds: Counter = field(default_factory=Counter)
    passes: dict = field(default_factory=dict)

    def floor(self, x):
        """CPU seconds of these passes at the cost that each has in a full batch of its model."""
        costs = {view: cost(view, x) for view in self.passes}
        return sum(ahead * costs[view][0] + back * (costs[view][1] - costs[view][0]) for view, (ahead, back) in self.passes.items())


def cost(view, x):
    """CPU seconds a sample of a pass forward, and of one forward and back to the input, in a full batch."""
    import numpy as np
    import tensorflow as tf

    from evaluation.benchmarks.speed.detector import seconds

    x = tf.constant(np.resize(x, (FULL, *x.shape[1:])))

    @tf.function(autograph=False)
    def forward(x):
        return view.forward(x)[0]

    @tf.function(autograph=False)
    def both(x):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            scores, suspicion, _ = view.forward(x)
            value = scores[:, 0] if suspicion is None else scores[:, 0] + suspicion
        return tape.gradient(value, x)

    return [seconds(lambda run=run: run(x), REPEATS) / FULL for run in (forward, both)]


@contextlib.contextmanager
def counted():
    """Gives a `Work` that fills while the block runs."""
    import tensorflow as tf

    from tfdefense.view import View

    work, each = Work(), {}
    tracing, depth = Counter(), [0]
    once, outputs, gradient = View._traced_once, View._outputs, tf.GradientTape.gradient

    def look(view, x):
        # A view on a surrogate asks other views in turn: one look all the same.
        tracing["forward"] += not depth[0]
        depth[0] += 1
        try:
            return outputs(view, x)
        finally:
            depth[0] -= 1

    def back(*arguments, **options):
        tracing["back"] += 1
        return gradient(*arguments, **options)

    def compiled(view, key, build, arguments):
        def building():
            inner = build()

            def traced(*arguments):
                tracing.clear()
                found = inner(*arguments)
                each[view, key] = tracing["forward"], tracing["back"]
                return found

            return traced

        before, begun = len(view._compiled), time.process_time()
        found = once(view, key, building, arguments)
        spent = time.process_time() - begun
        name, rows = _name(key), _rows(arguments)
        if len(view._compiled) > before:
            work.traces += 1
            work.tracing += spent
        else:
            work.seconds[name] += spent
        work.calls[name] += 1
        work.rows[name] += rows
        ahead, behind = work.passes.get(view, (0, 0))
        # Of what was traced before this began the looks are known.
        one = each.get((view, key), (1, int(key != "look")))
        work.passes[view] = ahead + one[0] * rows, behind + one[1] * rows
        return found

    with (
        mock.patch.object(View, "_traced_once", compiled),
        mock.patch.object(View, "_outputs", look),
        mock.patch.object(tf.GradientTape, "gradient", back),
    ):
        yield work


def _name(key):
    """Of a function of a view, without what it knows of the model's scores."""
    kind = key if isinstance(key, str) else key[0]
    return " ".join(map(str, kind)) if isinstance(kind, tuple) else str(kind)


def _rows(arguments):
    import tensorflow as tf

    return max((len(tensor) for tensor in tf.nest.flatten(arguments) if len(tensor.shape) > 1), default=0)
