"""The network in two parts, images and their features, and the systems on them. Features are computed once, and kept."""

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluation.benchmarks.ood import sets
from evaluation.benchmarks.ood.settings import MAX_REJECTED, Setup

INPUT = "features"


def divided(model):
    """A network up to what its last Dense layer takes, and a classifier of features that is that layer. Weights are copied."""
    import keras

    from tfdefense.graph import before_last_dense, expose

    exposed = expose(model)
    features, last = before_last_dense(exposed.logits)
    if features is None or len(features.shape) != 2:
        raise ValueError(
            f"Expected a network that ends in a Dense layer on one row of features a sample. Model '{model.name}' ends in "
            f"'{last.name}' ({type(last).__name__}). Pass another by `--network`."
        )
    rows = keras.Input(features.shape[1:], name="rows")
    logits = keras.layers.Dense(last.units, use_bias=last.use_bias, name="logits")
    head = keras.Model(rows, logits(keras.layers.Identity(name=INPUT)(rows)), name="head")
    logits.set_weights(last.get_weights())
    return keras.Model(exposed.input, features, name="body"), head


@dataclass(frozen=True)
class Study:
    """One network on one data set. It can be pickled; images and features are loaded where they are needed.

    Args:
        path: Of the network's file.
    """

    context: object
    setup: Setup
    path: Path

    @functools.cached_property
    def network(self):
        import keras

        import tfdefense.layers  # noqa: F401 - the network may end in one of them

        return keras.models.load_model(self.path, compile=False)

    @functools.cached_property
    def parts(self):
        return divided(self.network)

    @property
    def body(self):
        return self.parts[0]

    @property
    def head(self):
        return self.parts[1]

    def __getstate__(self):
        # Models, images and features are loaded again.
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @functools.cached_property
    def train(self):
        return self._of("train")

    @functools.cached_property
    def test(self):
        """Known samples of the test set; any beginning has as many of each class as there are."""
        return _balanced(self._of("test"), self.setup.tested)

    def _of(self, split):
        from tfdefense import data

        return data.load(self.context.dataset, split, data_dir=self.context.data_dir, dtype="uint8")

    @functools.cached_property
    def fitted(self):
        """Samples that the network has seen: on them scores are fitted."""
        return _balanced(self.train.take(slice(self.setup.seen)), self.setup.fitted)

    @functools.cached_property
    def held_out(self):
        """Samples that it has not seen: they calibrate."""
        return self.train.take(slice(self.setup.seen, self.setup.seen + self.setup.calibrates)).moved((0.0, 1.0))

    def ood(self, name):
        """Images of an OOD set."""
        return sets.load(name, self.test.x.shape[1:], self.setup.each, data_dir=self.context.data_dir)

    def exposed(self):
        """Images that the dustbin is trained on."""
        return sets.load(self.setup.exposed, self.test.x.shape[1:], self.setup.fitted, "train", data_dir=self.context.data_dir)

    def features(self, x):
        from evaluation.benchmarks.photos.features import features

        return features(self.context, self.body, x)

    def adversarial(self):
        """Adversarial samples of the network, from the first of those that fit, for detectors that learn from them."""
        from tfdefense import attacks

        x, y = (part[: self.setup.points] for part in (self.fitted.x, self.fitted.y))
        attack = attacks.BIM(self.setup.crafted)
        return self.context.adversarial("BIM", attack, self.network, x, y, batch_size=self.setup.batch).x_adv

    def defended(self, system):
        """A system, fitted and calibrated: a model of features, or of images where it watches an inner layer."""
        return self.context.model(f"model {system.name}", build, self, system.name)

    def judged(self, system, x):
        """What a system says of images, from their features where it works on those."""
        from tfdefense.view import decide

        return decide(self.defended(system), x if system.on_images else self.features(x))


def _balanced(images, number):
    """So many of them, as many of each class as there are, in [0, 1]."""
    from tfdefense.data.images import balanced_order

    return images.take(balanced_order(images.y, 0)[:number]).moved((0.0, 1.0))


def build(study, name):
    """Attaches a system, fits it, and calibrates it as a whole."""
    import keras

    import tfdefense as td
    from evaluation.benchmarks.board.fitting import Fitting
    from evaluation.benchmarks.ood.systems import every

    system, setup = every()[name], study.setup
    keras.utils.set_random_seed(0)
    defense = system.make(td, setup)
    if system.on_images:
        fitting = Fitting(setup.crafted, setup.shown, 1e-3, max_rejected=MAX_REJECTED)
        return fitting.fit(defense.attach(study.network), study.fitted, study.held_out)
    head = with_dustbin(study) if system.dustbin else study.head
    defended = defense.attach(head, bounds=None)
    if system.fits:
        number = setup.few if system.kernels else setup.fitted
        x, y = study.features(study.fitted.x)[:number], study.fitted.y[:number]
        options = {}
        if system.codes:
            crafted = study.features(study.adversarial())
            options = {"adversarial": crafted, "sources": np.arange(len(crafted))}
        td.adapt(defended, x, y, max_rejected=None, **options)
    td.calibrate(defended, study.features(study.held_out.x), max_rejected=MAX_REJECTED)
    return defended


def with_dustbin(study):
    """The classifier of features with one output more, trained on known samples and on OOD ones; the network stays as it is."""
    import keras

    import tfdefense as td

    head = td.graft_dustbin(study.head)
    known, ood = study.features(study.fitted.x), study.features(study.exposed())
    x = np.concatenate([known, ood])
    y = np.concatenate([study.fitted.y, np.full(len(ood), head.output_shape[-1] - 1)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    head.compile(keras.optimizers.Adam(1e-3), loss, jit_compile=False)
    head.fit(x, y, batch_size=128, epochs=-(-study.setup.dustbin // -(-len(x) // 128)), verbose=0)
    return head
