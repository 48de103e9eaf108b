"""What the protocol works with: samples of each adversary, and fitted branches."""

import dataclasses
import functools
import json
import shutil
import time

import numpy as np

from evaluation.papers.detector.settings import PLANS, adversaries
from tfdefense import _cache
from tfdefense._files import write_text

# Bytes that the maps of all samples may take to be kept while a branch is fitted.
ROOM = 3e9
_prepared = {}


def prepared(context, network, budget):
    """The setting of a run. Each process makes it once, for all parts that it works on."""
    from tfdefense import data

    place = [context.dataset, context.quick, context.samples, context.data_dir, context.cache]
    key = json.dumps([place, network, budget], default=str)
    if key not in _prepared:
        # What a run changes in the plan is in its budget: a process that is given a part makes the same.
        plan, fitted = dataclasses.replace(PLANS[context.dataset], **budget.get("plan", {})), budget["fitted"]
        fought = (fitted if context.quick else plan.fought) if plan.dynamic else fitted
        train = data.load(context.dataset, "train", data_dir=context.data_dir, limit=fought and max(fought, fitted))
        test = data.load(context.dataset, "test", data_dir=context.data_dir)
        # Where no threshold is set, no sample is held out for it.
        number = min(context.samples_or(500, 60), len(test) // 2 if plan.dynamic else len(test))
        attacked, rest = test.divide(number) if number < len(test) else (test, test.take(slice(0)))
        _prepared[key] = Setting(context, plan, network, budget, train, attacked, rest.take(slice(2000)))
    return _prepared[key]


class Setting:
    """A trained classifier, the samples, and what was fitted; what is on disk already is read from there."""

    def __init__(self, context, plan, network, budget, train, attacked, held_out):
        self.context, self.plan, self.budget, self.network = context, plan, budget, network
        self.cache = context.cache.parent / "detectors"
        blocks = (budget["depth"] - 2) // 6 if budget["depth"] else 0
        self.layers = [name.format(n=blocks) for name in plan.depths]
        self.adversaries = adversaries(plan)
        self.train, self.attacked, self.held_out = train, attacked, held_out
        self._detectors = {}

    def __reduce__(self):
        # Another process makes it from the same files: neither samples nor what was fitted are sent there with each part.
        return prepared, (self.context, self.network, self.budget)

    @functools.cached_property
    def base(self):
        import keras

        return keras.models.load_model(self.network, compile=False)

    @functools.cached_property
    def samples(self):
        """Samples to attack that the classifier has right, in training and test: an attack leaves the others alone."""
        fitted = self.budget["fitted"]
        # Those that are compared with one that is fitted on the fly are fitted on as many.
        images = self.train if self.plan.dynamic else self.train.take(slice(fitted))
        right, first = self._right(images), np.arange(len(images.x)) < fitted
        found = {"train": _chosen(images, right & first), "test": _chosen(self.attacked, self._right(self.attacked))}
        return found | ({"whole": _chosen(images, right)} if self.plan.dynamic else {})

    def _right(self, images):
        from tfdefense.view import decide

        return decide(self.base, images.x).label == images.y

    @property
    def test(self):
        return self.samples["test"][:2]

    def attacked_samples(self, name, part="test"):
        """The adversarial sample of each of a part."""
        x, y, _ = self.samples[part]
        x_adv = self.context.adversarial(name, self.adversaries[name].attack, self.base, x, y, regardless=True).x_adv
        limit = self.plan.clipped if name.startswith("DeepFool") else None
        return x_adv if limit is None else np.clip(x_adv, x - limit, x + limit)

    def mixed(self, names, part="train"):
        """Adversarial samples, one of each sample, by several adversaries in turn: so that every detector sees as many."""
        mixed = np.empty_like(self.samples[part][0])
        for number, name in enumerate(names):
            mixed[number :: len(names)] = self.attacked_samples(name, part)[number :: len(names)]
        return mixed

    def accuracy(self, name):
        """The classifier's accuracy under an adversary, over all samples."""
        from tfdefense.view import decide

        return float(np.mean(decide(self.base, self.attacked_samples(name)).label == self.test[1])) * self.samples["test"][2]

    def layer(self, kind):
        return self.layers[self.plan.deepfool if kind.startswith("DeepFool") else self.plan.usual]

    def detector(self, fitted_on, layer, *, benign=False, threshold=0.0, batches=None, number=None, depth=None, onto=None):
        """A defended model whose branch was fitted on adversaries (names, for a static one) or against attacks on the fly.

        Args:
            fitted_on: Names of adversaries, of which each sample gets one; or a list of attacks that fight back in training
                for each of its stages, each of which goes on from the one before.
            threshold: 0 is a probability of one half; None is set so that 5 % of the held-out samples are rejected.
            batches: How long it is fitted, each stage of one that fights; else a static one is for the epochs of the budget.
            number: Of the samples that a static one is fitted on; else all.
            depth: Convolutions of the branch before its last one; else as the budget says, or as in the paper.
            onto: A classifier of the same weights to attach it to, where they are to be changed.
        """
        import tfdefense as td

        known = (repr(fitted_on), layer, benign, threshold, batches, number, depth)
        if onto is not None or known not in self._detectors:
            made = self._attached(layer, threshold, depth, onto)
            _restore(made, self.branch(fitted_on, layer, benign, batches, number, depth))
            if threshold is None:
                td.calibrate(made, self.held_out.x, max_rejected=0.05)
            if onto is not None:
                return made
            self._detectors[known] = made
        return self._detectors[known]

    def depth(self, depth=None):
        """Convolutions of a branch before its last one: those asked for, else the budget's, else the paper's."""
        from tfdefense.layers.detector_branch import FORMS

        return depth or self.budget.get("branch_depth") or FORMS[self.plan.form][2]

    def branch(self, fitted_on, layer, benign=False, batches=None, number=None, depth=None):
        """The file of a fitted branch: its weights, and the `steps` and CPU `seconds` that it took; NaN if it was interrupted."""
        changes, static = self.plan.labelled_clean if benign else (), isinstance(fitted_on, tuple)
        attacks = [self.adversaries[name].attack for name in fitted_on] if static else fitted_on
        begun = None if static else fitted_on[:-1]
        earlier = self.branch(begun, layer, benign, batches, depth=depth) if begun else None
        part = "train" if static and not batches else "whole"
        x, y = (each[:number] for each in self.samples[part][:2])
        epochs = -(-batches * 128 // (2 * len(x) if static else len(x))) if batches else self.budget["epochs"]
        depth, own = self.depth(depth), [self.budget[name] for name in ("width", "learning_rate")]
        known = [self.base, attacks, layer, changes, self.plan.form, self.plan.clipped, epochs, x, y, depth, *own]
        name = f"branch-{_cache.content(*known, bool(self.budget.get('as_in_the_paper')))}"

        def write(new):
            made, samples, labels, before = self._attached(layer, None, depth), x, y, {"steps": 0, "seconds": 0.0}
            if earlier is not None:
                _restore(made, earlier)
                before = took(earlier)
            if static:
                x_adv = self.mixed(fitted_on, part)[:number]
                # What an attack left as it was is clean.
                moved = (x_adv != x).reshape(len(x), -1).any(1)
                samples, labels = np.concatenate([x, x_adv]), np.concatenate([np.zeros(len(x), "int32"), moved.astype("int32")])
            against = () if static else attacks[-1]
            own = self._fit(made, samples, labels, against, layer, changes, epochs, self.cache / name)
            np.savez(new, *_branch(made).get_weights(), **{key: before[key] + value for key, value in own.items()})

        return _cache.entry(self.cache / f"{name}.npz", write)

    def _attached(self, layer, threshold=None, depth=None, onto=None):
        import tfdefense as td

        options = {"form": self.plan.form, "width": self.budget["width"], "depth": self.depth(depth)}
        return td.AdversaryDetector(layer, **options, seed=0, threshold=threshold).attach(onto or self.base)

    def weights(self, depth):
        """How many a branch of a depth has, where it is usually attached."""
        return _branch(self._attached(self.layers[self.plan.usual], None, depth)).count_params()

    def _fit(self, defended, x, y, attacks, layer, benign, epochs, backup):
        """Fits on samples and whether they are adversarial or, with attacks, on samples and their classes; gives what it took."""
        import keras

        import tfdefense as td

        began = time.process_time()
        keras.utils.set_random_seed(0)
        branch = _branch(defended)
        maps = keras.Model(self.base.inputs[0], self.base.get_layer(layer).output)
        if not attacks and not benign and 4 * len(x) * np.prod(maps.output.shape[1:]) < ROOM:
            # The classifier is frozen and the samples stay the same: so do its maps, which are run once.
            x = np.concatenate([maps(x[i : i + 256], training=False) for i in range(0, len(x), 256)])
            inputs = keras.Input(x.shape[1:])
            trainer = keras.Model(inputs, branch(inputs))
        else:
            trainer = td.DetectorTraining(defended, attacks, benign=benign)
        steps = epochs * -(-len(x) // 128)
        # The paper's 0.99 remembers what moved the branch a hundred steps ago: an adversary who moves with it is elsewhere by then.
        rate, beta = self.budget["learning_rate"], 0.99
        if not self.budget.get("as_in_the_paper"):
            rate, beta = keras.optimizers.schedules.CosineDecay(rate, steps), 0.9 if attacks else 0.99
        optimizer = keras.optimizers.Adam(rate, beta_1=beta, beta_2=0.999)
        trainer.compile(optimizer, keras.losses.BinaryCrossentropy(from_logits=True), jit_compile=False)
        optimizer.build(trainer.trainable_variables)  # or Keras traces the first step twice
        code = backup.with_suffix(".code.json")
        if backup.exists() and _cache.changed(json.loads(code.read_text())):
            shutil.rmtree(backup)
        # Of one that goes on nobody knows what it took before.
        resumed = backup.exists()
        write_text(code, json.dumps(_cache.imported()))
        trainer.fit(x, y, batch_size=128, epochs=epochs, verbose=0, callbacks=[
            keras.callbacks.BackupAndRestore(str(backup), double_checkpoint=True),
            keras.callbacks.LambdaCallback(on_epoch_end=functools.partial(self._tell, epochs=epochs)),
        ])  # fmt: skip
        code.unlink()
        return {"steps": steps, "seconds": np.nan if resumed else time.process_time() - began}

    def _tell(self, epoch, logs, epochs):
        numbers = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in logs.items())
        self.context.say(f"  epoch {epoch + 1} of {epochs}: {numbers}")


def _chosen(images, rows):
    """The samples and classes of some of the images, and their share."""
    return images.x[rows], images.y[rows], float(rows.mean())


def took(path):
    """What it took to fit the branch of a file."""
    with np.load(path) as file:
        return {"steps": int(file["steps"]), "seconds": float(file["seconds"])}


def _restore(defended, path):
    branch = _branch(defended)
    with np.load(path) as file:
        branch.set_weights([file[f"arr_{i}"] for i in range(len(branch.weights))])


def _branch(defended):
    import tfdefense as td

    return next(one for one in defended.layers if isinstance(one, td.layers.DetectorBranch))
