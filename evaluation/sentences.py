"""What the README tells of the defenses in sentences: the words stand here, their numbers come from the results alone."""

import json
import math
import re
import textwrap
from pathlib import Path

from evaluation.detector_plan import HALF
from evaluation.safetynet import FOUR
from evaluation.safetynet_fit import EVERY_CHANGE
from evaluation.worth import JOINED, TWICE, Found, percent

WIDTH = 127
_MORE = "Det A, C and gamma by cross-validation, 7,000 pairs"
_STRONGEST = "not fooled at l2 2, strongest of all starts"
_STILL = "DNN attacked in training, trained on as long"
_END_TO_END = "DNR on the DNN attacked in training, end to end, attacked"


def _between(shares):
    """The least and the most of several shares, or the one that they are."""
    low, high = percent(min(shares)), percent(max(shares))
    return low if low == high else f"{low.removesuffix(' %')} to {high}"


def _at_least(share):
    """Never rounded up."""
    return f"{math.floor(1000 * share) / 10:g} %"


def _of_kinds(of, guard):
    """Of detectors, each tested on the adversary that it was fitted on."""
    threshold, kinds = "5 % of clean rejected", "|".join(FOUR)
    known = [re.fullmatch(f"detection accuracy, ({kinds})( [^,]*)?, {threshold}, {re.escape(guard)}", what) for what in of.rows]
    shares = [of(match[0]) for match in known if match]
    return *shares, of(f"detection accuracy, mean over attacks never seen, {threshold}, {guard}")


def _noisy(of, name):
    """What is rejected of the noise that branches with harmless changes were trained on."""
    return _between([of(f"rejected, {noise}, threshold at 5 %, {name}") for noise in ("sign 0.1", "sign 0.2", "gaussian 0.1")])


def _letters(of):
    seen, unseen = (percent(of(f"held-back notmnist rejected, {name}")) for name in (JOINED, "dustbin trained on letters"))
    return f"Of held-back letters {seen} are rejected, {unseen} where it learned from letters of another source."


def _pictures(of):
    rejected = of(f"held-back cifar100_out_small rejected, {JOINED}")
    return f"On CIFAR-10, with a narrow VGG16, {percent(rejected)} of foreign pictures are."


def _noise(of):
    return (
        f"Trained with noise it lets {percent(of.told(f'harmless sign 0.1 rejected: {TWICE}', 'C&W'))} of C&W's samples of another "
        "network through."
    )


def _known(of):
    error, l2 = f"error, white-box C&W, {JOINED}", "median l2, white-box C&W, {}".format
    return (
        f"C&W that knows it misleads it on {percent(of(error))} of the digits, at {percent(of(l2(JOINED)) / of(l2('naive')))} of "
        "the distance that it takes without a dustbin."
    )


def _least_detectability(of):
    own = of("least detectability of adversaries that take accuracy under 0.3")
    one = of("one branch fitted on a mixture of the five: least detectability of all that take accuracy under 0.3")
    return tuple(_at_least(share) for share in (own, one, of("least detectability over the sigmas that count, dynamic")))


def _twins(of):
    own, one, sigma = _least_detectability(of)
    return (
        f"On MNIST the detectability of known attacks that work, which is the accuracy on as many clean as attacked samples (a "
        f"coin: 50 %), is {own} or more, each by a branch of its own (one for all: {one}). Trained against the dynamic adversary, "
        f"it is {sigma} for that one's successes, at every sigma that has enough of them."
    )


def _twins_of_pictures(of):
    own, one, sigma = _least_detectability(of)
    staged = of.items("least detectability over the sigmas that count, dynamic, trained and attacked at ")
    larger = ", ".join(f"{percent(share)} at {size}" for size, share in staged if share is not None)
    return (
        f"On CIFAR-10, with {of.settings['depth']} residual layers, it is {own} ({one}), and for the dynamic one's successes, each "
        f"time trained at that size, {larger}, and {sigma} at the paper's {of.settings['adversary of figure 5']}, where the branch "
        f"takes {percent(of(f'rejected, unchanged, {HALF}, dynamic'))} of the clean pictures for attacked."
    )


def _labelled_clean(of):
    names = [f"{name} with harmless changes" for name in ("static", "dynamic")]
    held = [percent(of(f"not fooled, strongest of all, linf 0.2, {name}")) for name in names]
    return (
        f"On MNIST, trained with noise labelled clean, the branch on twins rejects {_noisy(of, names[0])} of it, by kind and size, "
        f"in place of {_noisy(of, 'static')}, and holds {held[0]}; the one trained against the dynamic adversary still rejects "
        f"{_noisy(of, names[1])}, and holds {held[1]}."
    )


def _ten_classes(of):
    own = [(share, what) for what, share in of.items("detectability, ") if "fitted" not in what]
    (low, worst), (high, best) = min(own), max(own)
    return (
        f"On ten classes of ImageNet, with a small network and {of.settings['fitted']:,} training pictures, branches tell their "
        f"own attacks at {percent(low)} ({worst}) to {percent(high)} ({best})."
    )


def _codes(of):
    *known, unseen = _of_kinds(of, "Det A")
    return (
        f"One layer's codes tell the attacks that they were fitted on at {_between(known)} and others at {percent(unseen)}, where "
        f"5 % of clean digits are rejected (a branch: {percent(_of_kinds(of, 'branch')[-1])})."
    )


def _codes_of_pictures(of):
    few, more, branch = (_between(_of_kinds(of, guard)) for guard in ("Det A", _MORE, "branch"))
    return (
        f"On CIFAR-10, with a small residual network, at {few}, fitted on more samples with C and gamma by cross-validation at "
        f"{more} ({branch})."
    )


def _codes_and_noise(of):
    rejected = "rejected, sign 0.2, 5 % of clean rejected, {}".format
    return (
        f"Of noise as large as the attack it rejects {percent(of(rejected('Det A')))} on MNIST, with every change "
        f"{percent(of(rejected(EVERY_CHANGE)))}."
    )


def _trained(of):
    none, long, confident = (of(f"{name}: {_STRONGEST}") for name in ("DNN", _STILL, f"{_STILL}, confidence"))
    clean = [of(what) for what in of.rows if what.startswith("DNR") and what.endswith(_STRONGEST) and "attacked" not in what]
    return (
        f"Its lead over no defense is mostly the place where the paper's attack begins: from all starts {_between(clean)} hold at "
        f"l2 2 on MNIST, whatever its kernels and layers, and {percent(none)} of no defense. Trained end to end with attacks in "
        f"the batch it holds, {percent(of(f'{_END_TO_END}: {_STRONGEST}'))}; so does the network trained like that alone, "
        f"{percent(long)}, and with a mere threshold on its confidence {percent(confident)}. "
        "[Each change by itself](evaluation/RESULTS.md)."
    )


def _scenes(of):
    through, systems = "F->T, {}, {}".format, ("plain", "branch", "Det ABC")
    known = _between([of(through("type II", name)) for name in (*systems, "Det A")])
    elsewhere = _between([share for what, share in of.items("F->T, ") if " transfer, " in what])
    alone = [percent(of(through("type I", name))) for name in systems]
    return (
        f"Of the test scenes {_at_least(of('clean accuracy'))} of pairs are judged right and "
        f"{percent(of('T rejected, no attack, Det ABC'))} of the real ones rejected (Det ABC). One step of 1/255 of the depth "
        f"against the network alone passes {alone[0]} of forgeries, {alone[1]} with a detector branch, {alone[2]} with Det ABC; "
        f"found by a gradient that knows the detectors, it passes {known} with any of them. Transferred ones hardly pass: "
        f"{elsewhere}, measured before a transfer changed what its source has wrong too, and so too few. So it answers for "
        "careless forgers."
    )


# A sentence is a text, or what makes it of the results that are named.
BULLETS = {
    "Dustbin.": [("dustbin-mnist", _letters), ("dustbin-cifar10", _pictures), ("dustbin-mnist", _noise), ("dustbin-mnist", _known)],
    "Reverse cross-entropy with K-density": [
        "and **Deep Neural Rejection** hold from the sample alone and fall from other starts."
    ],
    "Detector branch.": [
        ("detector-mnist", _twins),
        ("detector-cifar10", _twins_of_pictures),
        ("detector-mnist", _labelled_clean),
        ("detector-imagenette_small", _ten_classes),
    ],
    "SafetyNet.": [
        ("safetynet-mnist", _codes),
        ("safetynet-cifar10", _codes_of_pictures),
        ("safetynet-mnist", _codes_and_noise),
        "Its paper's attack, and ours, go through a smooth surrogate. What holds is a network that was attacked in training, and "
        "there a threshold on the confidence does as well as all the codes.",
    ],
    "SceneProof": ["on NYU Depth V2 stops most attacks on the network alone and falls to those that know its detectors."],
}
PARAGRAPHS = {"trained": [("dnr_trained-mnist", _trained)], "scenes": [("sceneproof-nyu_depth_v2_small", _scenes)]}


def bullets(directory):
    lines = []
    for name, sentences in BULLETS.items():
        lines.append(_wrapped(f"- **{name}** {_joined(sentences, directory)}", "  "))
    return "\n".join(lines)


def paragraph(name, directory):
    return _wrapped(_joined(PARAGRAPHS[name], directory), "")


def _joined(sentences, directory):
    """Those whose results are there."""
    told = []
    for sentence in sentences:
        if isinstance(sentence, str):
            told.append(sentence)
        else:
            results, made = sentence
            path = Path(directory) / f"{results}.json"
            if path.exists():
                told.append(made(Found(json.loads(path.read_text()))))
    return " ".join(told)


def _wrapped(text, indent):
    """A number and its sign stay together."""
    kept = text.replace(" %", "\N{NO-BREAK SPACE}%")
    filled = textwrap.fill(kept, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return filled.replace("\N{NO-BREAK SPACE}", " ")
