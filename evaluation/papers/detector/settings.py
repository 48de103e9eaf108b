"""What the protocol does on each data set: layers, sizes, samples, and the paper's adversaries."""

from dataclasses import dataclass, field

from evaluation.runner.benign import size_text

# The paper's adversaries, and what they are called elsewhere.
KINDS = {"fast": "FGSM", "iterative linf": "BIM", "iterative l2": "BIM", "DeepFool l2": "DeepFool", "DeepFool linf": "DeepFool"}
# The system in its rows, and the two thresholds that its detectors are judged at.
BRANCH, HALF, CALIBRATED = "detector branch", "probability 0.5", "5 % FPR"


@dataclass(frozen=True)
class Plan:
    """What the protocol does on one data set."""

    recipe: str
    depths: tuple  # layers AD(0), AD(1), ...; {n} is the number of the last block of a stage
    # Which of them is watched, and which against DeepFool: the last, as in the paper, but on MNIST, whose last maps are small.
    usual: int
    deepfool: int
    linf: tuple  # sizes of the perturbation; the smallest is the length of an iterative step, as in the paper on CIFAR-10
    l2: tuple
    dynamic: float | None  # size of the dynamic adversary; None leaves that part out, as the paper does on ImageNet
    strongest: tuple  # linf sizes of the worst case over attacks
    fitted: int  # samples of a static branch, whose adversarial samples are cached
    epochs: int
    batches: int  # of 128, of a dynamic branch in all, whose attacks are made on the way
    labelled_clean: tuple  # benign perturbations that are labelled clean in training where that is asked for
    tested: tuple  # those that all are tested on; some of them no detector was trained on
    width: int = 32  # feature maps of the branch's first convolution; the paper has 96, on ImageNet 196
    form: str = "cifar"
    depth: int | None = None
    by_depth: int | None = None  # samples of the branches that are compared by their depth; None is as many as of all others
    fought: int | None = None  # samples that a dynamic branch is trained on; None is the whole training set
    # Larger sizes that its training begins with: at small sizes alone it stays at the level of a coin for thousands of batches.
    annealed: tuple = ()
    fighting: int = 10  # steps of the dynamic adversary in training; under test it has the paper's 10
    mixed: bool = True  # whether a branch is also fitted on the fly against a mixture, which the paper does not have
    clipped: float | None = None  # linf distance that DeepFool's samples are clipped to
    step: float | None = None  # length of an iterative step in linf where it is another
    differs: dict = field(default_factory=dict)  # what else is not as in the paper, for the page
    # Of the paper: on detectability, on transfer between sizes and on transfer between adversaries.
    figures: tuple = ("metzen2017.fig2", "metzen2017.fig3", "metzen2017.fig4")


_PIXEL = 1 / 255


def _pixels(*parts):
    return tuple(n * _PIXEL for n in parts)


_STAGES = ("image", "conv_1", "stage_1_block_{n}", "stage_2_block_{n}", "stage_3_block_{n}")
_NOISES = {
    "labelled_clean": (("sign", 0.1), ("sign", 0.2), ("gaussian", 0.1), ("dim", 0.3)),
    "tested": (("sign", 0.1), ("sign", 0.2), ("gaussian", 0.1), ("gaussian", 0.2), ("dim", 0.3), ("shift", 1)),
}
PLANS = {
    "mnist": Plan(
        recipe="mnist_carlini", depths=("image", "conv_1", "conv_2", "pool_1", "pool_2"), usual=2, deepfool=2,
        linf=(0.05, 0.1, 0.2, 0.3), l2=(1.0, 1.5, 2.0, 3.0), dynamic=0.2, strongest=(0.1, 0.2, 0.3),
        fitted=8000, epochs=6, batches=2000, width=24, **_NOISES,
    ),
    "cifar10": Plan(
        recipe="cifar10_resnet_ce", depths=_STAGES, usual=2, deepfool=4, depth=14,
        linf=_pixels(1, 2, 3, 4), l2=_pixels(20, 40, 60, 80), dynamic=_PIXEL, strongest=_pixels(1, 2, 4),
        # What two cores do in two hours: fitted on more samples, branches tell more of unseen training samples.
        fitted=10_000, epochs=6, by_depth=3000, batches=1800, fought=10_000, annealed=_pixels(16, 8, 4, 2), fighting=5, mixed=False,
        labelled_clean=(("sign", _PIXEL), ("sign", 4 * _PIXEL), ("gaussian", 4 * _PIXEL), ("dim", 0.3)),
        tested=(
            ("sign", _PIXEL), ("sign", 4 * _PIXEL), ("gaussian", 4 * _PIXEL), ("gaussian", 8 * _PIXEL), ("dim", 0.3), ("shift", 1),
        ),
        differs={
            "the paper's branch": "96 maps, 20 epochs, 45,000 samples",
            "the paper's classifier": "of the first form of residual networks, SGD, 100 epochs on 45,000 samples; here of the "
            "second, whose normalisation comes before the convolutions, and as its recipe says",
            "AD(1) to AD(4)": "behind a convolution or a sum that a normalisation and a ReLU follow; the paper: behind both",
        },
    ),
    "imagenette_small": Plan(
        recipe="imagenette_small_vgg", depths=("pool_4",), usual=0, deepfool=0, form="imagenet",
        linf=_pixels(2, 4, 6), l2=_pixels(400, 800, 1200), clipped=6 / 255, step=_PIXEL, dynamic=None, strongest=(),
        fitted=1500, epochs=40, batches=0, width=64, labelled_clean=(), tested=(),
        differs={
            "the paper's branch": "196 maps, 500 epochs, 10,000 pictures",
            "DeepFool's samples": "clipped to a linf distance of 6/255, as in the paper",
            "pictures": "96 x 96; the paper: 224 x 224, where the same size in l2 is less for each pixel",
            "branch": "no pooling: the maps that it watches are 6 x 6",
            "sizes of the transfer": "the smallest that leaves accuracy under 30 %; the paper: 2 of 255, and 800 of 255 in l2",
        },
        figures=("metzen2017.fig6", "metzen2017.fig7", "metzen2017.fig8"),
    ),
    "digits": Plan(
        recipe="digits", depths=("image", "conv_1", "conv_2", "pool_1"), usual=1, deepfool=3,
        linf=(0.1, 0.2), l2=(0.5, 1.0), dynamic=0.2, strongest=(0.1, 0.2), fitted=1400, epochs=10, batches=300, width=8,
        labelled_clean=_NOISES["labelled_clean"], tested=(("sign", 0.1), ("gaussian", 0.1), ("dim", 0.3), ("shift", 1)),
    ),
}  # fmt: skip


# What is not as in the paper, whatever the data set.
DIFFERS = {
    "iterative adversaries": "the best of their points counts; the paper: the last",
    "DeepFool": "overshoot 0.02, towards the nearest of the 5 likeliest other classes; the paper: as in its first preprint",
    "fitted on": "branches are fitted on those that the classifier has right, clean and attacked; the paper: on all",
    "optimizer": "Adam at the learning rate, falling as a cosine, its first momentum 0.9 against an adversary who fights back; "
    "the paper: at 1e-4 throughout, 0.99",
    "kept": "the last epoch's weights; the paper: the best on a validation set",
}


COMMANDS = {
    "cifar10": ("detector --dataset cifar10 --batches 1700 --steps 50 --attacked 80", 4),
    "mnist": ("detector --dataset mnist --attacked 100", 4.5),
    "imagenette_small": ("detector --dataset imagenette_small --samples 400", 0.2),
}
# ImageNet's branches are static, and sit on one layer.
DYNAMIC = {name: cost for name, cost in COMMANDS.items() if name != "imagenette_small"}
# Tables by name that results may lack: for each data set the command that makes them, and its hours of CPU time, estimated.
UNMEASURED = {
    "topology": DYNAMIC,
    "regularized": DYNAMIC,
    # Of 7,040 batches on the fly and twice as many static ones, from the time of a few of either.
    "as_in_the_paper": {"cifar10": ("detector_figure5 --dataset cifar10", 7)},
}


def strongest(size, steps, without=()):
    """The worst case over all adaptive attacks on a branch, in linf."""
    from tfdefense.attacks.suites import Situation, get

    return get("detector-2").worst_case(Situation("linf", size, steps=steps, rejects=True), without)


@dataclass(frozen=True)
class Adversary:
    """One of the paper's, at one size; DeepFool has none."""

    kind: str
    size: float | None
    attack: object

    @property
    def name(self):
        return self.kind if self.size is None else f"{self.kind} {size_text(self.size)}"

    @property
    def tested(self):
        """Fields of rows that it is the attack of."""
        return {"attack": self._attack, "norm": self.attack.norm, "epsilon": self.size, "knowledge": "oblivious"}

    @property
    def fitted(self):
        """Fields of rows on a branch that was fitted on it."""
        return {"fitted_on": f"{self._attack} {self.attack.norm}", "fitted_at": self.size}

    @property
    def _attack(self):
        """Its name in rows; a further adversary that the paper does not have is named as its kind, without the norm."""
        return KINDS.get(self.kind) or self.kind.removesuffix(f" {self.attack.norm}")


def adversaries(plan):
    """The adversaries of the paper, from weak to strong of each kind."""
    from tfdefense.attacks import FGSM, PGD, DeepFool

    found = [Adversary("fast", size, FGSM(size)) for size in plan.linf]
    for norm, sizes, step in (("linf", plan.linf, plan.step), ("l2", plan.l2, None)):
        for size in sizes:
            attack = PGD(size, norm=norm, steps=10, step_size=step or sizes[0], starts="sample", schedule="fixed")
            found.append(Adversary(f"iterative {norm}", size, attack))
    found += [Adversary(f"DeepFool {norm}", None, DeepFool(norm)) for norm in ("l2", "linf")]
    return {adversary.name: adversary for adversary in found}
