"""What stands in the zoo: each model's network, defense, samples and suite."""

import dataclasses
from collections.abc import Callable

from evaluation.benchmarks import zoo_photos, zoo_scene
from evaluation.benchmarks.board.fitting import Fitting
from evaluation.benchmarks.ood import sets
from evaluation.benchmarks.ood.settings import SETUPS

SUITE = "standard-1"


@dataclasses.dataclass(frozen=True)
class Entry:
    """A model of the zoo.

    Args:
        recipe: Name of the recipe of its network, with its settings.
        make: Gives the attached defense: `make(network)`.
        seen: So many training samples, the first ones, were shown to the network. What calibrates the defense was not: it
            comes from the others, or, where there are none, from the test samples, which then count in no number.
        fitted, calibrated: So many samples fit the defense, and at most so many others calibrate it.
        fitted_on: "seen" ones, as a density of the training set asks for, or "unseen" ones.
        fitting: How they do.
        suite: Whose worst case it is measured under.
        scenes: Whether it is the model of pictures with depth, which `zoo_scene` makes: an attacker may change depth alone.
        ood: Gives the OOD sets that it is measured on, images by name: `ood(context)`.
        body: Name of a plain network of the zoo that a head is fitted on, `recipe` too: its weights are not shipped again.
    """

    dataset: str
    summary: str
    defense: str
    recipe: str
    make: Callable
    seen: int
    settings: dict = dataclasses.field(default_factory=dict)
    fitted: int = 1_000
    calibrated: int = 2_000
    fitted_on: str = "seen"
    fitting: Fitting = Fitting()
    suite: str = SUITE
    scenes: bool = False
    ood: Callable | None = None
    body: str | None = None

    @property
    def command(self):
        if self.body:
            return f"python -m evaluation zoo --dataset {self.dataset} --fit"
        options = [f"--{name.replace('_', '-')} {value}" for name, value in self.settings.items()]
        return " ".join(["python -m training", self.recipe, *options])


def attach(name, *arguments, **options):
    """Attaches the defense of that name in `tfdefense`."""

    def make(network):
        import tfdefense as td

        return getattr(td, name)(*arguments, **options).attach(network)

    return make


def _cifar10_ood(context):
    setup = SETUPS["cifar10"]
    return {name: sets.load(name, (32, 32, 3), setup.each, data_dir=context.data_dir) for name in setup.sets}


def _energy_or_vim(network):
    import tfdefense as td

    return td.AnyOf(td.ThresholdDefense("energy"), td.ThresholdDefense("vim")).attach(network)


_COMPRESSED = Fitting(vectors=300)
_RCE_SIGMA = (0.1 / 0.26) ** 0.5
_SVMS = "Deep Neural Rejection on the last three layers, SVMs compressed to 300 vectors"
_DENSITY = "K-density in the last hidden layer, on a network trained with reverse cross-entropy"
_BRANCH = "a detector branch, trained against the dynamic adversary, benign perturbations labelled clean"
_CONFIDENCE = "a threshold on the largest probability"
_DIGITS = {"dataset": "digits", "seen": 1_100, "settings": {"train_samples": 1_100}}
_DIGITS_DNR = Entry(
    **_DIGITS,
    summary="8x8 digits, rejecting by RBF-SVMs",
    defense=_SVMS,
    recipe="digits",
    make=attach("DeepNeuralRejection", ["conv_2", "dense_1", "logits"]),
    fitting=_COMPRESSED,
)
_ATTACKED = {"summary": "8x8 digits, adversarially trained in l2, rejecting by RBF-SVMs", "recipe": "digits_pgd"}
# Nobody looked at these while the suites were made: letters tell whether those find as much on another set.
_LETTERS = {"dataset": "notmnist", "recipe": "mnist_wong", "seen": 4_000}
_LETTERS |= {"settings": {"dataset": "notmnist", "train_samples": 4_000}}
ENTRIES = {
    "digits_cnn.dnr": _DIGITS_DNR,
    "digits_cnn_attacked.dnr": dataclasses.replace(_DIGITS_DNR, **_ATTACKED),
    "digits_resnet.rce": Entry(
        **_DIGITS,
        summary="8x8 digits, rejecting by density",
        defense=_DENSITY,
        recipe="digits_resnet_rce",
        make=attach("DensityDefense", _RCE_SIGMA, max_points=1_100),
        fitted=1_100,
    ),
    "mnist_cnn.dnr": Entry(
        dataset="mnist",
        summary="MNIST, rejecting by RBF-SVMs",
        defense=_SVMS,
        recipe="mnist_dnr",
        make=attach("DeepNeuralRejection", ["dense_1", "dense_2", "logits"]),
        seen=30_000,
        fitted=10_000,
        fitted_on="unseen",
        fitting=_COMPRESSED,
    ),
    "mnist_cnn.safetynet": Entry(
        dataset="mnist",
        summary="MNIST, rejecting by discrete codes",
        defense="SafetyNet: an RBF-SVM on quaternary codes of each of two dense layers, fitted on BIM",
        recipe="mnist_dnr",
        make=attach("SafetyNet", ["dense_1", "dense_2"]),
        seen=30_000,
        # All of its samples are stored, as codes; more of them would be too large for the repository.
        fitted=2_500,
        fitting=Fitting(points=1_500),
    ),
    "mnist_cnn.detector": Entry(
        dataset="mnist",
        summary="MNIST, rejecting by a detector branch",
        defense=_BRANCH,
        recipe="mnist_dnr",
        make=attach("AdversaryDetector", "conv_2", width=16, seed=0, depth=4),
        seen=30_000,
        fitted=10_000,
        fitting=Fitting(shown=60_000),
    ),
    "mnist_cuda.dustbin": Entry(
        dataset="mnist",
        summary="MNIST, with a class for everything else",
        defense="the dustbin class, trained on letters of NotMNIST and on samples between the classes",
        recipe="mnist_cuda_interpolated",
        make=attach("DustbinDefense", threshold=None),
        seen=50_000,
    ),
    "mnist_resnet8.rce": Entry(
        dataset="mnist",
        summary="MNIST, rejecting by density",
        defense=_DENSITY,
        recipe="mnist_resnet_rce",
        make=attach("DensityDefense", _RCE_SIGMA, max_points=5_000),
        seen=60_000,
        settings={"depth": 8},
        fitted=60_000,
    ),
    "notmnist_cnn.dnr": Entry(
        **_LETTERS,
        summary="letters of NotMNIST, rejecting by RBF-SVMs",
        defense=_SVMS,
        make=attach("DeepNeuralRejection", ["conv_2", "dense_1", "logits"]),
        fitted=1_500,
        fitted_on="unseen",
        fitting=_COMPRESSED,
    ),
    "notmnist_cnn.detector": Entry(
        **_LETTERS,
        summary="letters of NotMNIST, rejecting by a detector branch",
        defense=_BRANCH,
        make=attach("AdversaryDetector", "conv_1", width=16, seed=0, depth=4),
        fitted=4_000,
        fitting=Fitting(attacked=0.1, shown=60_000),
    ),
    "cifar10_resnet8.rce": Entry(
        dataset="cifar10",
        summary="CIFAR-10, rejecting by density",
        defense=_DENSITY,
        recipe="cifar10_resnet_rce",
        make=attach("DensityDefense", _RCE_SIGMA, max_points=5_000),
        seen=50_000,
        settings={"depth": 8, "epochs": 10},
        fitted=50_000,
    ),
    # Energy is the best on the images of the OOD board that choose, which are photos. Joined with ViM it is level with that, and
    # on photos ViM sees the noise that energy lets through.
    "cifar10_resnet9.energy_or_vim": Entry(
        dataset="cifar10",
        summary="CIFAR-10, rejecting what is none of its classes",
        defense="a threshold on the energy, another on ViM of the last hidden layer",
        recipe="cifar10_resnet9",
        make=_energy_or_vim,
        seen=45_000,
        fitted=10_000,
        ood=_cifar10_ood,
    ),
    # The first of the board, and the same on photos: networks trained against attacks, with a threshold alone.
    "mnist_cnn_attacked.confidence": Entry(
        dataset="mnist",
        summary="MNIST, adversarially trained in l2, rejecting by confidence",
        defense=_CONFIDENCE,
        recipe="mnist_wong_pgd",
        make=attach("ThresholdDefense", "confidence"),
        seen=45_000,
    ),
    "cifar10_resnet14_attacked.confidence": Entry(
        dataset="cifar10",
        summary="CIFAR-10, adversarially trained in linf, rejecting by confidence",
        defense=_CONFIDENCE,
        recipe="cifar10_fgsm",
        make=attach("ThresholdDefense", "confidence"),
        seen=40_000,
    ),
    zoo_scene.NAME: Entry(
        dataset="nyu_depth_v2_small",
        summary="is a picture with depth one of a real scene?",
        defense="SafetyNet: RBF-SVMs on quaternary codes of fc7, fc6 and pool5, fitted on attacks on depth",
        recipe="nyu_scene",
        make=zoo_scene.build,
        seen=650,
        suite=zoo_scene.SUITE,
        scenes=True,
    ),
    zoo_photos.NAME: Entry(**zoo_photos.ABOUT, make=attach("DustbinDefense", threshold=None)),
}
