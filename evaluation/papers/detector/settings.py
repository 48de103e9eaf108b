"""What `evaluation/detector.py` does on each data set: layers, sizes, samples, and the paper's adversaries."""

from dataclasses import dataclass, field

from evaluation.runner.benign import shown

KINDS = ("fast", "iterative linf", "iterative l2", "DeepFool l2", "DeepFool linf")
HALF = "decision at a probability of one half"
SIZED = {"fast": "linf", "iterative linf": "linf", "iterative l2": "l2"}


@dataclass(frozen=True)
class Plan:
    """What the protocol does on one data set.

    Args:
        depths: Layers AD(0), AD(1), ...; {n} is the number of the last block of a stage.
        usual, deepfool: Which of them is watched, and which against DeepFool: the last, as in the paper, but on MNIST, whose
            last maps are small and whose results hold every depth.
        width: Feature maps of the branch's first convolution; the paper has 96 (196 on ImageNet).
        linf, l2: Sizes of the perturbation; the smallest is the length of an iterative step, as in the paper on CIFAR-10.
        step: Length of an iterative step in linf where it is another.
        dynamic: Size for the dynamic adversary; None leaves that part out, as the paper does on ImageNet.
        strongest: linf sizes of the strongest attacks.
        fitted, epochs: Samples and epochs of a static branch, whose twins are kept.
        by_depth: Samples of the branches that are compared by their depth; None is as many as of all others.
        batches: Of 128, of a dynamic branch in all, whose attacks are made on the way.
        fought: Samples that it is trained on; None is the whole training set.
        annealed: Larger sizes that its training begins with, which share the batches with the last one: at small sizes alone it
            stays at the level of a coin for thousands of batches.
        fighting: Steps of the dynamic adversary in training; under test it has the paper's 10.
        harmless: Changes that are labelled clean in training where that is asked for.
        tested: Changes of the control; some of them no detector was trained on.
        mixed: Whether a branch is also fitted on the fly against a mixture, which the paper does not have.
        clipped: The linf distance that DeepFool's samples are clipped to.
        differs: What else is not as in the paper, for the page.
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
    by_depth: int | None = None
    fought: int | None = None
    annealed: tuple = ()
    fighting: int = 10
    mixed: bool = True
    clipped: float | None = None
    step: float | None = None
    differs: dict = field(default_factory=dict)


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
        # What two cores do in two hours: fitted on more samples, branches tell more of unseen training samples.
        fitted=10_000,
        epochs=6,
        by_depth=3000,
        batches=1800,
        fought=10_000,
        annealed=tuple(n * _PIXEL for n in (16, 8, 4, 2)),
        fighting=5,
        mixed=False,
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
        differs={
            "the paper's branch": "96 maps, 20 epochs, 45,000 samples",
            "the paper's classifier": "of the first form of residual networks, SGD, 100 epochs on 45,000 samples; here of the "
            "second, whose normalisation comes before the convolutions, and as its recipe says",
            "AD(1) to AD(4)": "behind a convolution or a sum that a normalisation and a ReLU follow; the paper: behind both",
        },
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
        step=_PIXEL,
        differs={
            "the paper's branch": "196 maps, 500 epochs, 10,000 pictures",
            "DeepFool's samples": "clipped to a linf distance of 6/255, as in the paper",
            "pictures": "96 x 96; the paper: 224 x 224, where the same size in l2 is less for each pixel",
            "branch": "no pooling: the maps that it watches are 6 x 6",
            "sizes of the transfer": "the smallest that leaves accuracy under 30 %; the paper: 2 of 255, and 800 of 255 in l2",
        },
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


# What is not as in the paper, whatever the data set.
DIFFERS = {
    "iterative adversaries": "the best of their points counts; the paper: the last",
    "DeepFool": "overshoot 0.02, towards the nearest of the 5 likeliest other classes; the paper: as in its first preprint",
    "fitted on": "branches are fitted on those that the classifier has right, clean and attacked; the paper: on all",
    "optimizer": "Adam at the learning rate, falling as a cosine, its first momentum 0.9 against an adversary who fights back; "
    "the paper: at 1e-4 throughout, 0.99",
    "kept": "the last epoch's weights; the paper: the best on a validation set",
}
# Of the dynamic adversary among the strongest attacks: close together below 0.5, where what wins a pixel changes.
AROUND_HALF = (0.3, 0.4, 0.43, 0.46, 0.49, 0.5)
STRONGEST = (
    "strongest of PGD on max(margin, suspicion), on log-sum-exp and on maximum confidence, selective and orthogonal PGD, and the "
    "dynamic adversary at six sigmas"
)


def evading(size, steps):
    from tfdefense.attacks import PGD, Evade

    return PGD(size, steps=steps, objective=Evade(), starts="all", early_stop=True)


def strongest(size, steps):
    """All that knows of a branch, in linf: none of them is the strongest for every sample."""
    from tfdefense.attacks import PGD, DynamicAdversary, LogSumExp, MaximumConfidence, OrthogonalPGD, WorstCase

    ball = {"epsilon": size, "steps": steps}
    pgd = [PGD(**ball, objective=one, starts="all", early_stop=True) for one in (LogSumExp(), MaximumConfidence())]
    forms = [OrthogonalPGD(**ball, form=form, starts="all") for form in ("selective", "orthogonal")]
    # Its steps stay as long as the paper's: where the two disagree on a pixel shorter ones would end short of the ball's edge.
    dynamic = [DynamicAdversary(**ball, sigma=one, early_stop=True) for one in AROUND_HALF]
    return WorstCase([forms[0], evading(size, steps), *pgd, forms[1], *dynamic], until_success=True)


@dataclass(frozen=True)
class Adversary:
    """One of the paper's, at one size; DeepFool has none."""

    kind: str
    size: float | None
    attack: object

    @property
    def name(self):
        return self.kind if self.size is None else f"{self.kind} {shown(self.size)}"


def adversaries(plan):
    """The adversaries of the paper, from weak to strong of each kind."""
    from tfdefense.attacks import FGSM, PGD, DeepFool

    found = [Adversary("fast", size, FGSM(size)) for size in plan.linf]
    for norm, sizes, step in (("linf", plan.linf, plan.step), ("l2", plan.l2, None)):
        for size in sizes:
            attack = PGD(size, norm=norm, steps=10, step_size=step or sizes[0], starts="sample")
            found.append(Adversary(f"iterative {norm}", size, attack))
    found += [Adversary(f"DeepFool {norm}", None, DeepFool(norm)) for norm in ("l2", "linf")]
    return {adversary.name: adversary for adversary in found}
