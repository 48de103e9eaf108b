"""What the OOD board does on each data set: network, samples, OOD sets, and how hard is searched."""

import dataclasses
from dataclasses import dataclass, field

MAX_REJECTED = 0.05


@dataclass(frozen=True)
class Setup:
    """One data set.

    Args:
        recipe: Of the network; None is the network of photos in the zoo, whose head is fitted here.
        seen: Training samples that the network has seen. Of the others the first ones calibrate.
        near, far: OOD sets, by their names in `sets`. Near ones show things as the classes are, in photos as theirs.
        exposed: What the dustbin is trained on; on images of that kind nothing is tested.
        crafted: Size in linf of the attacks that the detectors of adversarial samples are fitted on.
        branch: Layer that the detector branch watches, and the form of the branch.
        sizes: Of the attacks on the scores, in linf.
        attacked: OOD images, half of them near ones, and as many known ones, that are attacked.
        settings, short: Of the recipe, in full and in a quick run.
        fitted, few: Samples that scores are fitted on, and those that fit kernels.
        calibrates, tested, each: Samples that calibrate, known ones that test, and images of each OOD set.
        points, shown: Samples that are attacked for SafetyNet, and those that the branch is trained on, with repetitions.
        dustbin: Steps of its training, on features.
        k: The neighbour that counts.
        steps: Of each search.
        checked: So many samples of each direction are searched for longer.
        batch: Images that go through the network at once where it is attacked.
    """

    recipe: str | None
    seen: int
    near: tuple
    far: tuple
    exposed: str
    crafted: float
    branch: tuple
    sizes: tuple = (2 / 255, 8 / 255)
    attacked: int = 200
    settings: dict = field(default_factory=dict)
    short: dict = field(default_factory=dict)
    fitted: int = 10_000
    few: int = 2_000
    calibrates: int = 2_000
    tested: int = 2_000
    each: int = 1_000
    points: int = 1_000
    shown: int = 20_000
    dustbin: int = 3_000
    k: int = 10
    steps: int = 20
    checked: int = 40
    batch: int = 100

    @property
    def sets(self):
        return self.near + self.far

    def quick(self):
        """As much as shows that it works."""
        few = {"fitted": 300, "few": 120, "calibrates": 120, "tested": 100, "each": 20, "points": 30, "shown": 128, "dustbin": 100}
        seen = self.short.get("train_samples", self.seen)
        few = {name: min(number, getattr(self, name)) for name, number in few.items()}
        return dataclasses.replace(self, **few, seen=seen, settings=self.short, steps=3, checked=4, k=3)


_SEEN = {"train_samples": 45_000}
SETUPS = {
    # CIFAR-100 is near in OpenOOD too, whose Tiny ImageNet is not here. Its far sets are digits, house numbers, textures and
    # places: letters, drawn textures and rooms stand in for them.
    "cifar10": Setup(
        recipe="cifar10_resnet9",
        settings=_SEEN,
        short={"train_samples": 1_000, "epochs": 1},
        seen=45_000,
        near=("CIFAR-100",),
        far=("NotMNIST", "NYU rooms", "textures", "noise"),
        exposed="crops of Imagenette",
        crafted=4 / 255,
        branch=("block_1", "cifar"),
    ),
    # A step costs fifteen times that of the other network.
    "imagenette_small": Setup(
        recipe=None,
        seen=1_000,
        near=("CIFAR-100, other classes", "CIFAR-10, other classes"),
        far=("NotMNIST", "NYU rooms", "noise"),
        exposed="textures",
        crafted=2 / 255,
        branch=("block_5", "imagenet"),
        attacked=40,
        fitted=1_000,
        few=1_000,
        calibrates=500,
        tested=500,
        each=500,
        points=150,
        shown=2_000,
        k=5,
        checked=8,
        batch=16,
    ),
    "digits": Setup(
        recipe="digits",
        settings={"train_samples": 1_100},
        short={"train_samples": 1_100, "epochs": 3},
        seen=1_100,
        near=("drawn letters",),
        far=("noise",),
        exposed="textures",
        crafted=0.15,
        branch=("conv_1", "cifar"),
        sizes=(0.05, 0.2),
        fitted=1_100,
        few=1_100,
        calibrates=300,
        tested=397,
        points=500,
        k=5,
    ),
}
