"""Every result of the papers, by its id: what it is, or why it has no number."""

from typing import NamedTuple

PARTS = "a part of the system and not a number: "
FIGURE = "a figure: "


class Row(NamedTuple):
    """A row; `reason` stands where no protocol has a number for it."""

    what: str
    reason: str = ""


ROWS = {
    "N1": Row("RBF-SVMs on inner layers"),
    "N2": Row("the combiner on scores that the base SVMs did not fit"),
    "N3": Row("rejection and its threshold"),
    "N4": Row("the attack that knows the defense"),
    "N5": Row("security evaluation curves of DNN, NR and DNR"),
    "N6": Row("the networks", PARTS + "the recipes `mnist_dnr` and `cifar10_dnr`; their accuracies are rows of N5"),
    "N7": Row("the problem in the plane; adversarial examples", FIGURE + "`python -m evaluation dnr` draws both"),
    "N8": Row("SVMs, combiner and network trained together"),
    "R1": Row("the loss"),
    "R2": Row("confidence, non-ME and K-density; bandwidths"),
    "R3": Row("rejection under a threshold"),
    "R4": Row("oblivious attacks: accuracy, and distortion of Carlini-Wagner"),
    "R5": Row("AUC of six attacks, two losses and three metrics"),
    "R6": Row("the white-box attack on K-density"),
    "R7": Row("transfer between networks"),
    "R8": Row("residual networks and their test errors"),
    "R9": Row("t-SNE of the last hidden layer"),
    "S1": Row("discrete codes of ReLUs", PARTS + "`td.layers.QuantizedReLU`"),
    "S2": Row("the SVM on codes", PARTS + "`td.layers.DetectorSVM`"),
    "S3": Row("detectors on several layers, joined", PARTS + "`td.SafetyNet(layers, join=...)`"),
    "S4": Row("attacks of type I and II", PARTS + "the attacks of the rows of S5 and S6"),
    "S5": Row("type II through a smooth surrogate, and by transfer"),
    "S6": Row("detection against attack success; ROC curves"),
    "S7": Row("the networks"),
    "S8": Row("SceneProof: is an image with depth a real scene?"),
    "S9": Row("rates of fakes taken for real"),
    "O1": Row("the dustbin class"),
    "O2": Row("interpolated samples", PARTS + "`td.data.interpolate`; what they add is in the rows of O6"),
    "O3": Row("size and sources of the dustbin"),
    "O4": Row("correct, rejected or error"),
    "O5": Row("black-box attacks from an independent network", PARTS + "the attacks of the rows of O6"),
    "O6": Row("accuracy, rejection and error for each attack"),
    "O7": Row("two moons; interpolated samples; features in 3-D", FIGURE + "`python -m evaluation dustbin` draws all three"),
    "O8": Row("the networks", PARTS + "the recipes `mnist_cuda` and `cifar10_vgg`; their accuracies are rows of O6"),
    "O9": Row("a white-box attack on the dustbin; what changes of its training make of it"),
    "M1": Row("the branch on a frozen classifier", PARTS + "`td.AdversaryDetector`; tests hold that no other weight moves"),
    "M2": Row(
        "static training on clean / adversarial pairs",
        PARTS + "`td.DetectorTraining` on `td.adversarial_pairs`; measured in the rows of M4",
    ),
    "M3": Row("the five adversaries", PARTS + "the attacks of the rows of M4 and M5"),
    "M4": Row("detectability, also by depth of the branch"),
    "M5": Row("fitted on one adversary, tested on another"),
    "M6": Row("the dynamic adversary", PARTS + "`td.attacks.DynamicAdversary`; measured in the rows of M8"),
    "M7": Row("dynamic adversary training"),
    "M8": Row("static against dynamic detector"),
    "M9": Row("the networks"),
}
