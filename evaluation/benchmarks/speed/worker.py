"""One library in one process: answers requests of `speed`, one JSON line each, with what it measures.

CPU time is that of the whole process, all threads included: other programs change it less than wall time.
"""

import sys
import time

from evaluation.runner.peers import installed, serve

_PASSES = 8


def _clock():
    return time.process_time(), time.perf_counter()


def _since(start):
    return [now - then for now, then in zip(_clock(), start, strict=True)]


class Worker:
    def __init__(self, library, model_path, samples_path):
        import keras
        import numpy as np
        import tensorflow as tf

        from evaluation.benchmarks.speed.peers import ADAPTERS

        model = keras.models.load_model(model_path, compile=False)
        with np.load(samples_path) as file:
            self.samples = [file[name] for name in ("x", "y", "target")]
        compiled = tf.function(
            lambda x: model(x, training=False), input_signature=[tf.TensorSpec((None, *model.inputs[0].shape[1:]))]
        )
        self.attacks = ADAPTERS[library](model, compiled, model.outputs[0].shape[-1])
        self.predict = lambda x: compiled(tf.constant(x)).numpy().argmax(1)
        self.tensors = lambda batch: [tf.constant(array) for array in batch[:2]]
        if library == "tfdefense":
            from tfdefense import __version__ as version
        else:
            version = installed(library)
        self.about = {"version": version, "attacks": list(self.attacks)}

        @tf.function(jit_compile=False)
        def one_pass(x, y):
            with tf.GradientTape() as tape:
                tape.watch(x)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, model(x, training=False))
                loss = tf.reduce_sum(losses)
            return tape.gradient(loss, x)

        self.one_pass = one_pass

    def passes(self, batch):
        """CPU and wall seconds of one pass."""
        x, y = self.tensors(batch)
        self.one_pass(x, y).numpy()
        start = _clock()
        for _ in range(_PASSES):
            self.one_pass(x, y).numpy()
        return [seconds / _PASSES for seconds in _since(start)]

    def answer(self, attack, settings, samples, warm):
        """Runs an attack between two measurements of the pass; the warm-up run compiles and is not measured."""
        import numpy as np

        batch = [array[:samples] for array in self.samples]
        if warm:
            self.passes(batch)
            self.attacks[attack](settings, *batch)
            return {"warm": True}
        before = self.passes(batch)
        start = _clock()
        adversarial, iterations = self.attacks[attack](settings, *batch)
        cpu, wall = _since(start)
        one_pass = np.mean([before, self.passes(batch)], axis=0)
        x, y, target = batch
        found = self.predict(adversarial)
        change = (adversarial - x).reshape(len(x), -1)
        fooled = found != y
        sizes = {"l2": np.linalg.norm(change, axis=1), "linf": np.abs(change).max(1)}
        distances = {norm: float(size[fooled].mean()) if fooled.any() else None for norm, size in sizes.items()}
        return {
            "pass_cpu": one_pass[0],
            "pass_wall": one_pass[1],
            "cpu": cpu,
            "wall": wall,
            "passes": cpu / one_pass[0],
            "wall_passes": wall / one_pass[1],
            "success": float(fooled.mean()),
            "on_target": float((found == target).mean()),
            "largest_linf": float(sizes["linf"].max()),
            "in_bounds": bool(adversarial.min() >= -1e-6 and adversarial.max() <= 1 + 1e-6),
            "iterations": iterations,
            **distances,
        }


if __name__ == "__main__":
    serve(sys.argv[1], lambda: Worker(*sys.argv[1:]))
