"""One training run: resumable to the bit, because what is random in an epoch depends on the seed and its number."""

import contextlib
import importlib
import time

import keras
import numpy as np

import tfdefense
from tfdefense import data
from tfdefense._cache import content
from training.batches import ShuffledBatches, WholeBatches
from training.checkpoints import Board, Checkpoints, same_data
from training.tasks import attacked, branch
from training.tasks.no_class import extended
from training.tasks.pairs import prepared

LOSSES = {
    "cross_entropy": keras.losses.SparseCategoricalCrossentropy,
    "reverse_cross_entropy": tfdefense.losses.ReverseCrossEntropy,
    "smoothed_cross_entropy": tfdefense.losses.SmoothedCrossEntropy,
    "absolute_error": keras.losses.MeanAbsoluteError,
}


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
class RisingCosine(keras.optimizers.schedules.CosineDecay):
    """Half a cosine over all steps, under a straight rise over the first `warmup_steps`.

    Not `warmup_target`: Keras begins the cosine after the rise, and trains at other rates than the recipes' numbers were made with.
    """

    def __call__(self, step):
        rise = (keras.ops.cast(step, "float32") + 1.0) / max(self.warmup_steps, 1)
        return super().__call__(step) * keras.ops.minimum(rise, 1.0)


def _network(recipe, shape, classes):
    file, function = recipe.model.split(":")
    options = recipe.model_options
    if recipe.task == "classes":
        options = {"input_shape": shape, "classes": classes} | options
    return _with_loss(recipe, getattr(importlib.import_module(f"models.{file}"), function)(**options))


def _with_loss(recipe, model):
    """The model as the recipe's loss needs it, and that loss."""
    if recipe.loss not in LOSSES:
        raise ValueError(f"`loss` must be one of {', '.join(LOSSES)}. Received {recipe.loss!r}.")
    if recipe.loss == "reverse_cross_entropy":
        reversed_ = tfdefense.layers.ReverseLogits(name="reverse_logits")(model.outputs[0])
        model = keras.Model(model.inputs[0], reversed_, name=model.name)
    of_scores = {} if recipe.loss == "absolute_error" else {"from_logits": True}
    return model, LOSSES[recipe.loss](**of_scores, **recipe.loss_options)


def _compiled(recipe, steps, shape, classes, watched):
    options = dict(recipe.optimizer_options)
    optimizer = getattr(keras.optimizers, recipe.optimizer, None)
    if not isinstance(optimizer, type):
        raise ValueError(f"`optimizer` must be a class of keras.optimizers, such as SGD or AdamW. Received {recipe.optimizer!r}.")
    if (recipe.decay or recipe.warmup_steps or recipe.drops) and "learning_rate" not in options:
        raise ValueError(f"A schedule needs a `learning_rate`. Received none for {recipe.optimizer}. Pass one, such as 0.1.")
    if watched:
        model, loss = branch.trainer(recipe, watched), None
    else:
        model, loss = _network(recipe, shape, classes)
    if recipe.attack is not None and not watched:
        model = attacked.trainer(recipe, model)
    if recipe.decay or recipe.warmup_steps:
        floor = 0.0 if recipe.decay else 1.0
        rate = RisingCosine(options["learning_rate"], recipe.epochs * steps, alpha=floor, warmup_steps=recipe.warmup_steps)
        options["learning_rate"] = rate
    if recipe.drops:
        options["learning_rate"] = _falling(recipe, options["learning_rate"], steps)
    model.compile(
        optimizer(**options),
        loss=loss,
        metrics=None if watched else [_measure(recipe)],
        # On a CPU XLA takes minutes to compile and is slower after; JAX knows no other compiler.
        jit_compile=keras.backend.backend() == "jax",
    )
    # Keras traces the first step a second time where the first trace made the optimizer's variables.
    model.optimizer.build(model.trainable_variables)
    return model


def _falling(recipe, rate, steps):
    """The rate in steps: a tenth after each drop."""
    shares = list(recipe.drops)
    if recipe.decay or recipe.warmup_steps or shares != sorted(set(shares)) or not all(0 < share < 1 for share in shares):
        raise ValueError(
            "`drops` must be shares of the run that rise between 0 and 1, such as (0.5, 0.75), without `decay` and "
            f"`warmup_steps`. Received {recipe.drops!r}, decay {recipe.decay} and {recipe.warmup_steps} warm-up steps."
        )
    # Keras counts from 0 and keeps a value through its boundary.
    ends = [round(share * recipe.epochs * steps) - 1 for share in shares]
    return keras.optimizers.schedules.PiecewiseConstantDecay(ends, [rate * 0.1**i for i in range(len(ends) + 1)])


def _measure(recipe):
    if recipe.watched:
        return "detectability"
    return "mean_absolute_error" if recipe.task == "depth" else "accuracy"


@contextlib.contextmanager
def _policy(mixed):
    """What layers compute in while the network is built: 16 bits where asked for, in the form that the device is made for."""
    before, name = keras.config.dtype_policy(), "float32"
    if mixed:
        gpu = keras.backend.backend() == "tensorflow" and importlib.import_module("tensorflow").config.list_physical_devices("GPU")
        name = "mixed_float16" if gpu else "mixed_bfloat16"
        keras.config.set_dtype_policy(name)
    try:
        yield name
    finally:
        keras.config.set_dtype_policy(before)


def fit(recipe, work, *, place, trained, data_dir=None, callbacks=(), verbose=2):
    """Trains in the directory `work`, which keeps the state after each epoch; returns the last model, the best, and numbers.

    `trained(name, **settings)` gives the directory of another recipe's result, where this one builds on it.
    """
    started = time.perf_counter()
    attacked.check(recipe)
    train = data.load(recipe.dataset, "train", data_dir=data_dir)
    test = data.load(recipe.dataset, "test", data_dir=data_dir)
    if recipe.task != "classes":
        train, test = data.scenes.by_scene(train), data.scenes.by_scene(test)
    x, y = train.x[: recipe.train_samples], train.y[: recipe.train_samples]
    judged_on, part = test, "test"
    if recipe.task != "classes" and len(train.x) > len(x) + 1:
        # Small sets take many tries: whoever looks at the test samples in each has tuned on them.
        judged_on, part = train.take(slice(len(x), None)), "held_out"
    if len(x) < (recipe.train_samples or 1):
        raise ValueError(f"`train_samples` must be at most the {len(x)} that there are. Received {recipe.train_samples}.")
    if len(x) < recipe.batch_size:
        raise ValueError(f"`batch_size` must be at most the {len(x)} training samples. Received {recipe.batch_size}.")
    if recipe.batch_size % place.replicas:
        raise ValueError(
            f"`batch_size` must be a multiple of the {place.replicas} replicas. Received {recipe.batch_size}. "
            "Change it, or pass `--strategy one`."
        )
    own, classes = len(x), int(train.y.max()) + 1 if recipe.task == "classes" else None
    if recipe.dustbin:
        x, y = extended(recipe, x, y, classes, work, trained=trained, data_dir=data_dir)
    found = {"train": content(x, y), "test": content(test.x, test.y)}
    same_data(work, found)
    watched = branch.classifier(recipe, trained) if recipe.watched else None
    # A detector is to take benign perturbations for clean, and draws its own.
    benign = {} if watched else recipe.benign
    batches, judged = ShuffledBatches(x, y, recipe.batch_size, recipe.seed, recipe.augment, benign, recipe.noise), (test.x, test.y)
    if watched:
        judged = branch.judged(recipe, watched, test)
    if recipe.task != "classes":
        batches, judged = prepared(recipe, x, judged_on.x, trained)
    keras.utils.set_random_seed(recipe.seed)
    with place.scope(), _policy(recipe.mixed_precision) as policy:
        outputs = classes and classes + bool(recipe.dustbin)
        model = place.prepare(_compiled(recipe, len(batches), x.shape[1:], outputs, watched))
    checkpoints = Checkpoints(work, writes=place.chief)
    tested = place.batches(WholeBatches(*judged, place.replicas))
    model.fit(
        place.batches(batches),
        epochs=recipe.epochs,
        validation_data=tested,
        shuffle=False,  # the batches are: Keras would draw their order from a state that no backup holds
        verbose=verbose if place.chief else 0,
        callbacks=[
            _Epoch(batches, recipe.seed),
            keras.callbacks.TerminateOnNaN(),
            checkpoints,
            *([Board(work / "tensorboard")] if place.chief and keras.backend.backend() == "tensorflow" else []),
            *callbacks,
        ],
    )
    if checkpoints.diverged:
        raise ValueError(
            f"Loss or weights were no finite numbers any more in epoch {checkpoints.diverged}. Lower the learning rate: "
            "`--learning-rate`. Epochs before it are kept."
        )
    measured = model.evaluate(tested, verbose=0, return_dict=True)[_measure(recipe)]
    model = place.release(model)
    last = best = _bare(model)
    if checkpoints.best != int(checkpoints.rows[-1]["epoch"]) and place.chief:
        model.load_weights(work / "best.weights.h5")
        best = _bare(model)
    numbers = {f"{part}_{_measure(recipe)}": round(float(measured), 5), "seconds": round(time.perf_counter() - started, 1)}
    numbers |= {"data": found, "strategy": place.words, "precision": policy, "best_epoch": checkpoints.best}
    return last, best, numbers | ({"dustbin_samples": len(x) - own} if recipe.dustbin else {})


def _bare(model):
    """Without optimizer, schedule, attack and what the place needed: plain `keras.models.load_model` opens the file anywhere."""
    model, usual = getattr(model, "trained", model), {"dtype": "float32", "synchronized": False}

    def plain(layer):
        config = layer.get_config()
        return type(layer).from_config(config | {name: value for name, value in usual.items() if name in config})

    bare = keras.models.clone_model(model, clone_function=plain)
    bare.set_weights(model.get_weights())
    return bare
