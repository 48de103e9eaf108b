"""What `evaluation/detector.py` works with: a plan for each data set, the adversaries, their twins, and fitted branches."""

import ast
import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluation.workers import alone

KINDS = ("fast", "iterative linf", "iterative l2", "DeepFool l2", "DeepFool linf")
SIZED = {"fast": "linf", "iterative linf": "linf", "iterative l2": "l2"}


@dataclass(frozen=True)
class Plan:
    """What the protocol does on one data set.

    Args:
        depths: Layers AD(0), AD(1), ...; {n} is the number of the last block of a stage.
        usual, deepfool: Which of them is watched, and which against DeepFool.
        width: Feature maps of the branch's first convolution; the paper has 96 (196 on ImageNet).
        linf, l2: Sizes of the perturbation; the smallest is the length of an iterative step, as in the paper.
        dynamic: Size for the dynamic adversary; None leaves that part out, as the paper does on ImageNet.
        strongest: linf sizes of the strongest attacks.
        fitted, epochs: Samples and epochs of a static branch, whose twins are kept.
        batches: Of 128, of a dynamic branch, from the whole training set: its attacks are made on the way.
        harmless: Changes that are labelled clean in training where that is asked for.
        tested: Changes of the control; some of them no detector was trained on.
        clipped: The linf distance that DeepFool's samples are clipped to.
    """

    recipe: str
    depths: tuple
    usual: int
    deepfool: int
    linf: tuple
    l2: tuple
    dynamic: float | None
    strongest: tuple
    fitted: int
    epochs: int
    batches: int
    harmless: tuple
    tested: tuple
    width: int = 32
    form: str = "cifar"
    depth: int | None = None
    clipped: float | None = None


_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)
# Bytes that the maps of all samples may take to be kept while a branch is fitted.
ROOM = 5e8
_PIXEL = 1 / 255
_STAGES = ("image", "conv_1", "stage_1_block_{n}", "stage_2_block_{n}", "stage_3_block_{n}")
PLANS = {
    "mnist": Plan(
        recipe="mnist_carlini",
        depths=("image", "conv_1", "conv_2", "pool_1", "pool_2"),
        usual=2,
        deepfool=2,
        linf=(0.05, 0.1, 0.2, 0.3),
        l2=(1.0, 1.5, 2.0, 3.0),
        dynamic=0.2,
        strongest=(0.1, 0.2, 0.3),
        fitted=8000,
        epochs=6,
        batches=2000,
        harmless=(("sign", 0.1), ("sign", 0.2), ("gaussian", 0.1), ("dim", 0.3)),
        tested=(("sign", 0.1), ("sign", 0.2), ("gaussian", 0.1), ("gaussian", 0.2), ("dim", 0.3), ("shift", 1)),
        width=24,
    ),
    "cifar10": Plan(
        recipe="cifar10_resnet_ce",
        depths=_STAGES,
        usual=2,
        deepfool=4,
        linf=tuple(n * _PIXEL for n in (1, 2, 3, 4)),
        l2=tuple(n * _PIXEL for n in (20, 40, 60, 80)),
        dynamic=_PIXEL,
        strongest=(_PIXEL, 2 * _PIXEL, 4 * _PIXEL),
        fitted=8000,
        epochs=6,
        batches=2000,
        harmless=(("sign", _PIXEL), ("sign", 4 * _PIXEL), ("gaussian", 4 * _PIXEL), ("dim", 0.3)),
        tested=(
            ("sign", _PIXEL),
            ("sign", 4 * _PIXEL),
            ("gaussian", 4 * _PIXEL),
            ("gaussian", 8 * _PIXEL),
            ("dim", 0.3),
            ("shift", 1),
        ),
        depth=14,
    ),
    "imagenette_small": Plan(
        recipe="imagenette_small_vgg",
        depths=("pool_4",),
        usual=0,
        deepfool=0,
        linf=tuple(n * _PIXEL for n in (2, 4, 6)),
        l2=tuple(n * _PIXEL for n in (400, 800, 1200)),
        dynamic=None,
        strongest=(),
        fitted=1500,
        epochs=40,
        batches=0,
        harmless=(),
        tested=(),
        width=64,
        form="imagenet",
        clipped=6 / 255,
    ),
    "digits": Plan(
        recipe="digits",
        depths=("image", "conv_1", "conv_2", "pool_1"),
        usual=1,
        deepfool=3,
        linf=(0.1, 0.2),
        l2=(0.5, 1.0),
        dynamic=0.2,
        strongest=(0.1, 0.2),
        fitted=1400,
        epochs=10,
        batches=300,
        harmless=(("sign", 0.1), ("sign", 0.2), ("gaussian", 0.1), ("dim", 0.3)),
        tested=(("sign", 0.1), ("gaussian", 0.1), ("dim", 0.3), ("shift", 1)),
        width=8,
    ),
}


@dataclass(frozen=True)
class Adversary:
    """One of the paper's, at one size; DeepFool has none."""

    kind: str
    size: float | None
    attack: object

    @property
    def name(self):
        return self.kind if self.size is None else f"{self.kind} {shown(self.size)}"


def shown(size):
    """A size to read: whole parts of 255 as such."""
    parts = round(size * 255, 6)
    return f"{parts:g}/255" if parts == int(parts) and round(size, 2) != size else f"{size:g}"


def adversaries(plan):
    """The adversaries of the paper, from weak to strong of each kind."""
    from tfdefense.attacks import FGSM, PGD, DeepFool

    found = [Adversary("fast", size, FGSM(size)) for size in plan.linf]
    for norm, sizes in (("linf", plan.linf), ("l2", plan.l2)):
        for size in sizes:
            attack = PGD(size, norm=norm, steps=10, step_size=sizes[0], starts="sample")
            found.append(Adversary(f"iterative {norm}", size, attack))
    found += [Adversary(f"DeepFool {norm}", None, DeepFool(norm)) for norm in ("l2", "linf")]
    return {adversary.name: adversary for adversary in found}


class Setting:
    """A trained classifier, the samples, and what was fitted; what is on disk already is read from there."""

    def __init__(self, context, plan, network, budget, train, attacked, held_out):
        self.context, self.plan, self.budget, self.network = context, plan, budget, network
        # Twins and branches of other code are others.
        self.cache = context.kept.parent / "detectors" / _code()
        blocks = (budget["depth"] - 2) // 6 if budget["depth"] else 0
        self.layers = [name.format(n=blocks) for name in plan.depths]
        self.adversaries = adversaries(plan)
        self.train, self.attacked, self.held_out = train, attacked, held_out

    @functools.cached_property
    def base(self):
        import keras

        return keras.models.load_model(self.network, compile=False)

    @functools.cached_property
    def samples(self):
        """Samples to attack that the classifier has right, in training and test: an attack leaves the others alone."""
        return {"train": self._right(self.train.take(slice(self.budget["fitted"]))), "test": self._right(self.attacked)}

    def _right(self, images):
        from tfdefense.decisions import decide

        right = decide(self.base, images.x).label == images.y
        return images.x[right], images.y[right], float(right.mean())

    @property
    def test(self):
        return self.samples["test"][:2]

    def twins(self, name, part="test"):
        """The attacked twins of the samples of a part."""
        import tfdefense as td

        x, y, _ = self.samples[part]
        with alone(self.cache / f"{self.context.dataset}-{part}-{name.replace('/', ' of ')}.twins"):
            x_adv = td.twins(self.base, self.adversaries[name].attack, x, y, cache=self.cache)[0][len(x) :]
        limit = self.plan.clipped if name.startswith("DeepFool") else None
        return x_adv if limit is None else np.clip(x_adv, x - limit, x + limit)

    def mixed(self, names, part="train"):
        """Twins of which each sample has one, of several adversaries in turn: so that every detector sees as many."""
        mixed = np.empty_like(self.samples[part][0])
        for number, name in enumerate(names):
            mixed[number :: len(names)] = self.twins(name, part)[number :: len(names)]
        return mixed

    def accuracy(self, name):
        """The classifier's accuracy under an adversary, over all samples."""
        from tfdefense.decisions import decide

        return float(np.mean(decide(self.base, self.twins(name)).label == self.test[1])) * self.samples["test"][2]

    def layer(self, kind):
        return self.layers[self.plan.deepfool if kind.startswith("DeepFool") else self.plan.usual]

    def detector(self, fitted_on, layer, *, harmless=False, threshold=0.0):
        """A defended model whose branch was fitted on adversaries (names, for a static one) or on the dynamic adversary.

        Args:
            fitted_on: Names of adversaries, of which each sample gets one, or an attack that fights back in training.
            threshold: 0 is a probability of one half; None is set so that 5 % of the held-out samples are rejected.
        """
        import tfdefense as td

        budget, changes = self.budget, self.plan.harmless if harmless else ()
        detector = td.AdversaryDetector(layer, form=self.plan.form, width=budget["width"], seed=0, threshold=threshold)
        defended = detector.attach(self.base)
        branch = next(one for one in defended.layers if isinstance(one, td.layers.DetectorBranch))
        static = isinstance(fitted_on, tuple)
        content = [self._digest, [repr(self.adversaries[name].attack) for name in fitted_on] if static else repr(fitted_on)]
        samples = budget["fitted"] if static else len(self.train.x)
        length = {name: budget[name] for name in ("width", "learning_rate", "epochs" if static else "batches")}
        content += [layer, changes, self.plan.form, self.plan.clipped, length, samples]
        path = self.cache / f"branch-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]}.npz"
        with alone(path):
            if not path.exists():
                self._fit(defended, fitted_on, layer, changes, path.with_suffix(""), static)
                unfinished = path.with_suffix(".new.npz")
                np.savez(unfinished, *branch.get_weights())
                unfinished.replace(path)
        with np.load(path) as file:
            branch.set_weights([file[f"arr_{i}"] for i in range(len(file.files))])
        if threshold is None:
            td.calibrate(defended, self.held_out.x, max_rejected=0.05)
        return defended

    @functools.cached_property
    def _digest(self):
        return hashlib.sha256(b"".join(weight.tobytes() for weight in self.base.get_weights())).hexdigest()

    def _fit(self, defended, fitted_on, layer, harmless, backup, static):
        import keras

        import tfdefense as td

        x, y, _ = self.samples["train"] if static else self._right(self.train)
        if static:
            x, y = np.concatenate([x, self.mixed(fitted_on)]), np.repeat([0, 1], len(x))
        epochs = self.budget["epochs"] if static else -(-self.budget["batches"] * 128 // len(x))
        keras.utils.set_random_seed(0)
        branch = next(one for one in defended.layers if isinstance(one, td.layers.DetectorBranch))
        maps = keras.Model(self.base.inputs[0], self.base.get_layer(layer).output)
        if static and not harmless and 4 * len(x) * np.prod(maps.output.shape[1:]) < ROOM:
            # The classifier is frozen and the samples stay the same: so do its maps, which are run once.
            x = np.concatenate([maps(x[i : i + 256], training=False) for i in range(0, len(x), 256)])
            inputs = keras.Input(x.shape[1:])
            trainer = keras.Model(inputs, branch(inputs))
        else:
            trainer = td.DetectorTraining(defended, () if static else fitted_on, harmless=harmless)
        rate = keras.optimizers.schedules.CosineDecay(self.budget["learning_rate"], epochs * -(-len(x) // 128))
        optimizer = keras.optimizers.Adam(rate, beta_1=0.99, beta_2=0.999)
        trainer.compile(optimizer, keras.losses.BinaryCrossentropy(from_logits=True), jit_compile=False)
        trainer.fit(x, y, batch_size=128, epochs=epochs, verbose=0, callbacks=[
            keras.callbacks.BackupAndRestore(str(backup)),
            keras.callbacks.LambdaCallback(on_epoch_end=functools.partial(self._tell, epochs=epochs)),
        ])  # fmt: skip

    def _tell(self, epoch, logs, epochs):
        numbers = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in logs.items())
        self.context.say(f"  epoch {epoch + 1} of {epochs}: {numbers}")


@functools.cache
def _code():
    """Changes with the code that attacks and that fits a branch, not with its comments or layout."""
    import tfdefense as td

    root = Path(td.__file__).parent
    files = [root / name for name in ("detection.py", "adversarial.py", "layers/detector_branch.py")]
    content = []
    for file in (Path(__file__), *files, *sorted((root / "attacks").glob("*.py"))):
        tree = ast.parse(file.read_text())
        for node in ast.walk(tree):
            if isinstance(node, _DOCUMENTED) and ast.get_docstring(node) is not None:
                node.body = node.body[1:]
        content.append(ast.dump(tree))
    return hashlib.sha256("".join(content).encode()).hexdigest()[:16]
