"""Where a run is computed: on one device, on all GPUs of a machine, or on several machines.

The result is the same but for rounding; and but for dropout, of which each replica draws the masks of its own part.
"""

import contextlib
import functools
import json
import os
import sys

import keras
import numpy as np

NAMES = ("auto", "one", "mirrored", "multiworker")


class Place:
    """One device of Keras's backend; what several replicas do otherwise, `Replicas` does.

    Attributes:
        replicas: How many share each batch.
        chief: Whether this process writes what is kept.
    """

    replicas = 1
    chief = True

    def __init__(self, words):
        self.words = words

    def scope(self):
        return contextlib.nullcontext()

    def prepare(self, model):
        return model

    def release(self, model):
        """The model as it was before `prepare`, trained."""
        return model

    def batches(self, batches):
        return batches

    def wait(self):
        """Until all processes are here."""


class Replicas(Place):
    """A strategy of tf.distribute, under `fit`."""

    def __init__(self, strategy, words):
        super().__init__(words)
        self.strategy, self.replicas = strategy, strategy.num_replicas_in_sync
        resolver = strategy.cluster_resolver
        self.several = bool(resolver and resolver.task_type)
        self.chief = not self.several or (resolver.task_type, resolver.task_id) in (("chief", 0), (_first(), 0))

    def scope(self):
        return self.strategy.scope()

    def prepare(self, model):
        """Statistics of batch normalisations over all replicas; and what `fit` lacks for them."""
        from tfdefense.trainers.adversarial import synchronize

        synchronize(model)
        kind = type(model)
        model.__class__ = type(kind.__name__, (_Shared, kind), {"across_processes": self.several})
        return model

    def release(self, model):
        model.__class__ = type(model).__bases__[1]
        return model

    def batches(self, batches):
        """Each replica gets its own part of each batch, whole batches being what they are on one device."""
        import tensorflow as tf

        def of_this_process(context):
            here = self.replicas // context.num_input_pipelines
            own = range(context.input_pipeline_id * here, (context.input_pipeline_id + 1) * here)

            def parts():
                for index in range(len(batches)):
                    split = [np.array_split(array, self.replicas) for array in batches[index]]
                    yield from (tuple(part[place] for part in split) for place in own)

            signature = tuple(tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in batches[0])
            data = tf.data.Dataset.from_generator(parts, output_signature=signature)
            # Keras takes this number for that of whole batches. Where one process makes several parts of each, it finds the end.
            return data.apply(tf.data.experimental.assert_cardinality(len(batches))) if here == 1 else data

        return self.strategy.distribute_datasets_from_function(of_this_process)

    def wait(self):
        import tensorflow as tf

        @tf.function
        def arrive():
            return self.strategy.run(lambda: tf.distribute.get_replica_context().all_reduce("SUM", tf.ones([])))

        if self.several:
            self.strategy.experimental_local_results(arrive())[0].numpy()


class _Shared:
    """What Keras's `fit` lacks where replicas share a batch, mixed into a model's class.

    It would take the mean over the replicas' samples to build by, which their classes and parts of unequal length do not have;
    and of logs in several processes it takes the mean over a first axis, which a number does not have (keras issue 20585).
    """

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        if iterator is not None:
            _, _, batches = next(iter(iterator))
            data_batch = keras.tree.map_structure(
                lambda v: self.distribute_strategy.experimental_local_results(v)[0], next(batches)
            )
        with self.distribute_strategy.scope():
            self._symbolic_build(data_batch=data_batch)

    def train_step(self, data):
        return self._in_a_row(super().train_step(data))

    def test_step(self, data):
        return self._in_a_row(super().test_step(data))

    def _in_a_row(self, logs):
        return {name: keras.ops.reshape(value, [1]) for name, value in logs.items()} if self.across_processes else logs


def _first():
    """Without a chief, worker 0 is it."""
    cluster = json.loads(os.environ["TF_CONFIG"])["cluster"] if "TF_CONFIG" in os.environ else {}
    return None if "chief" in cluster else "worker"


def choose(name="auto", report=sys.stderr, batch_size=None):
    """The place of that name; says which one it is. To be called before anything is computed.

    Where "auto" finds GPUs that batches of that size do not divide by, it takes one of them.
    """
    if name not in NAMES:
        raise ValueError(f"`strategy` must be one of {', '.join(NAMES)}. Received {name!r}.")
    place = _choose(name, batch_size)
    print(f"Strategy: {place.words}", file=report, flush=True)
    return place


@functools.cache
def _mirrored(devices):
    """One for all runs of a process: the messages of two of them on the same devices get mixed up."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(devices)


def _choose(name, batch_size):
    backend = keras.backend.backend()
    if backend != "tensorflow":
        if name in ("mirrored", "multiworker"):
            raise ValueError(f"`strategy` {name!r} needs Keras's TensorFlow backend. Received KERAS_BACKEND={backend}. Pass 'one'.")
        return Place(f"one device, backend {backend}")
    import tensorflow as tf

    if name == "multiworker":
        config = json.loads(os.environ.get("TF_CONFIG") or "{}")
        if "cluster" not in config or "task" not in config:
            raise ValueError(
                "`strategy` 'multiworker' needs TF_CONFIG, which names all workers and which one this is. Received "
                f"{os.environ.get('TF_CONFIG')!r}. See training/WORKERS.md."
            )
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        task = f"{config['task']['type']} {config['task']['index']}"
        return Replicas(strategy, f"multiworker, {strategy.num_replicas_in_sync} replicas, this is {task}")
    gpus = tf.config.list_logical_devices("GPU")
    if name == "auto" and batch_size and batch_size % max(1, len(gpus)):
        return Place(f"one device, GPU: batches of {batch_size} do not divide by the {len(gpus)} that there are")
    if name == "mirrored" or (name == "auto" and len(gpus) > 1):
        devices = [device.name for device in gpus or tf.config.list_logical_devices("CPU")]
        return Replicas(_mirrored(tuple(devices)), f"mirrored over {len(devices)} {'GPU' if gpus else 'CPU'}s")
    return Place(f"one device, {'GPU' if gpus else 'CPU'}")
