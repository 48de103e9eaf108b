"""One training run: resumable to the bit, because what is random in an epoch depends on the seed and its number."""

import importlib
import platform
import time

import keras
import numpy as np

from tfdefense import data


class ShuffledBatches(keras.utils.PyDataset):
    """Whole batches in an order drawn from (seed, epoch). Keras's own shuffling can't be taken up again half way."""

    def __init__(self, x, y, batch_size, seed):
        super().__init__()
        self.x, self.y, self.batch_size, self.seed = x, y, batch_size, seed
        self.start(0)

    def start(self, epoch):
        self.order = np.random.default_rng([self.seed, epoch]).permutation(len(self.x))

    def __len__(self):
        return len(self.x) // self.batch_size

    def __getitem__(self, index):
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return self.x[chosen], self.y[chosen]


class _Epoch(keras.callbacks.Callback):
    """Makes all that is random in an epoch follow from the seed and its number: no backup holds the state of dropout."""

    def __init__(self, batches, seed):
        super().__init__()
        self.batches, self.seed = batches, seed

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.start(epoch)
        states = [variable for variable in self.model.variables if variable.path.endswith("seed_generator_state")]
        for index, state in enumerate(states):
            words = np.random.SeedSequence([self.seed, epoch, index]).generate_state(1)
            state.assign(np.array([words[0] >> 1, 0], "int64"))


@keras.saving.register_keras_serializable(package="training")
class Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """A straight rise to the rate over the first steps, then the rate itself."""

    def __init__(self, rate, steps):
        self.rate, self.steps = rate, steps

    def __call__(self, step):
        share = (keras.ops.cast(step, "float32") + 1.0) / self.steps
        return self.rate * keras.ops.minimum(share, 1.0)

    def get_config(self):
        return {"rate": self.rate, "steps": self.steps}


def versions():
    names = ("keras", "tensorflow", "numpy")
    return {"python": platform.python_version()} | {name: importlib.import_module(name).__version__ for name in names}


def _compiled(recipe):
    file, function = recipe.model.split(":")
    model = getattr(importlib.import_module(f"models.{file}"), function)(**recipe.model_options)
    options = dict(recipe.optimizer_options)
    if recipe.warmup_steps:
        options["learning_rate"] = Warmup(options["learning_rate"], recipe.warmup_steps)
    model.compile(
        getattr(keras.optimizers, recipe.optimizer)(**options),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,  # on a CPU XLA takes minutes to compile and is slower after
    )
    return model


def fit(recipe, work, *, data_dir=None, callbacks=(), verbose=2):
    """Trains in the directory `work`, which keeps the state after each epoch; returns the model and its numbers."""
    started = time.perf_counter()
    train = data.load(recipe.dataset, "train", data_dir=data_dir)
    test = data.load(recipe.dataset, "test", data_dir=data_dir)
    if len(train.x) < recipe.batch_size:
        raise ValueError(f"`batch_size` must be at most the {len(train.x)} training samples. Received {recipe.batch_size}.")
    keras.utils.set_random_seed(recipe.seed)
    model = _compiled(recipe)
    batches = ShuffledBatches(train.x, train.y, recipe.batch_size, recipe.seed)
    model.fit(
        batches,
        epochs=recipe.epochs,
        validation_data=(test.x, test.y),
        validation_batch_size=512,
        shuffle=False,  # the batches are: Keras would draw their order from a state that no backup holds
        verbose=verbose,
        callbacks=[
            _Epoch(batches, recipe.seed),
            keras.callbacks.TerminateOnNaN(),
            keras.callbacks.CSVLogger(str(work / "log.csv"), append=True),
            keras.callbacks.BackupAndRestore(str(work / "backup"), delete_checkpoint=False),
            *callbacks,
        ],
    )
    _, accuracy = model.evaluate(test.x, test.y, batch_size=512, verbose=0)
    # Without optimizer and schedule, so that plain `keras.models.load_model` opens the file anywhere.
    bare = keras.models.clone_model(model)
    bare.set_weights(model.get_weights())
    return bare, {"test_accuracy": round(float(accuracy), 5), "seconds": round(time.perf_counter() - started, 1)}
