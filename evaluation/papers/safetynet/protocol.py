"""SafetyNet: detection of known and unknown attacks, attacks that know it, and whether its robustness is hidden gradients.

Rows S5 and S6: detectors on binary, quaternary and unquantised codes of one layer or of three, beside a detector branch and
a plain network, at a threshold of 0 as in the paper and where each rejects 5 % of held-out clean samples. Type I attacks
know the classifier, type II the detector too, in the open (smoothed as in the paper, and stronger) or as a black box
(transferred, or asking for outputs or labels alone). Control: harmless changes. On MNIST also detectors on a network that
was attacked in training, that network alone, and with a threshold on its confidence. There about half an hour with
`--workers 2` on two free, fast CPU cores; branches and twins are shared with the protocol `detector`.
"""

from typing import Annotated

import numpy as np
import typer

from evaluation.papers.detector.protocol import chosen_sizes
from evaluation.papers.detector.settings import PLANS
from evaluation.papers.safetynet import measure as attacks
from evaluation.papers.safetynet import numbers as paper
from evaluation.papers.safetynet.fit import CODES, CONFIDENCE, EVERY_CHANGE, HARDENED, NETS, PLAIN, Guards
from evaluation.runner.benign import changed, shown, told

DATASETS = ("mnist", "cifar10", "digits")
FOUR = ("fast", "iterative linf", "iterative l2", "DeepFool l2")
DETECTORS = ("branch", *[name for name, net in NETS.items() if not (net.rounds or net.harmless or net.hardened)])
GUARDS = (*PLAIN, CONFIDENCE, "branch", "Det A", *[name for name, net in NETS.items() if net.watched == "ABC"])
EVERY_PAIR = ("branch", "Det A")
# What the codes themselves do to harmless changes.
BESIDE = ("Det A, activations as they are", "Det A, binary")
# In a quick run.
FEWER_DETECTORS = ("branch", "Det A, activations as they are", "Det A, binary", "Det A")
FEWER_GUARDS = (*PLAIN, CONFIDENCE, "branch", "Det A", EVERY_CHANGE, f"{EVERY_CHANGE}, attacked in training")
# Where ROC curves are written down; the pictures have all of them.
FALSE_POSITIVES = (0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1)
THRESHOLDS = {"half": "threshold 0", "calibrated": "5 % of clean rejected"}


def detection(setting, name, fitted_on, tested):
    """What a detector fitted on some adversaries says of clean samples and of each of the adversaries."""
    import tfdefense as td
    from tfdefense.metrics import auc, detectability
    from tfdefense.view import decide

    branch = name == "branch"
    fitted = None if branch else setting.net(name, fitted_on)
    found = {}
    for title in THRESHOLDS:
        threshold = 0.0 if title == "half" else None
        if branch:
            layer = setting.layer(setting.adversaries[fitted_on[0]].kind)
            fitted = setting.detector(fitted_on, layer, threshold=threshold)
        elif threshold is None:
            td.calibrate(fitted, setting.held_out.x, max_rejected=0.05)
        clean = decide(fitted, setting.test[0]).suspicion
        # The others are for the curve against the classifier's accuracy, which the paper draws at its own threshold.
        twins = {one: decide(fitted, setting.twins(one)).suspicion for one in (tested if title == "half" else setting.chosen)}
        found[title] = {one: detectability(clean, values) for one, values in twins.items()}
        found[title]["false positives"] = float((clean > 0).mean())
    # With several detectors the relation of their thresholds counts: it is that of equal rates here.
    found["auc"] = {one: auc(clean, values) for one, values in twins.items()}
    found["clean"], found["twins"] = clean.tolist(), {one: twins[one].tolist() for one in setting.chosen}
    return found


def control(setting, name):
    """What a model rejects of samples that nobody attacked, at both thresholds."""
    import tfdefense as td

    # Noise as large as the attacks is among them.
    tested = dict.fromkeys((*setting.plan.tested, ("sign", setting.codes.size)))
    y, changes, found = setting.attacked.y, changed(setting.attacked.x, tested), {}
    for title in attacks.thresholds(name):
        guard = setting.of(name).guard(name, 0.0 if title == "half" else None)
        found[title] = {change: td.evaluate(guard, x, y).rejection for change, x in changes.items()}
    return found


def run(
    context,
    *,
    depth: Annotated[int | None, typer.Option(help="Depth of a residual classifier; else 14.")] = None,
    fitted: Annotated[int | None, typer.Option(help="Training samples of a branch.", min=128)] = None,
    pairs: Annotated[int | None, typer.Option(help="Clean and as many attacked samples for machines.", min=20)] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of a type II attack; 40, or 5 in a quick run.", min=2)] = None,
    strongest: Annotated[int | None, typer.Option(help="Samples for the strongest attacks; 150, or 10.", min=1)] = None,
    asked: Annotated[int | None, typer.Option(help="Samples for attacks that ask for outputs or labels; 100, or 5.", min=1)] = None,
    queries: Annotated[int | None, typer.Option(help="What such an attack may ask for each; 4000, or 300.", min=250)] = None,
):
    import tfdefense as td
    from tfdefense import data

    quick, dataset = context.quick, context.dataset
    plan, codes = PLANS[dataset], CODES[dataset]
    depth = (depth or (8 if quick else plan.depth)) if plan.depth else None
    budget = {
        "depth": depth,
        "width": plan.width,
        "epochs": 2 if quick else plan.epochs,
        "batches": plan.batches,
        "learning_rate": 1e-3,
        "short": quick and dataset != "digits",
        "pairs": pairs or (200 if quick else codes.pairs),
        "steps": steps or (5 if quick else 40),
        "strongest": strongest or (10 if quick else 150),
        "asked": asked or (5 if quick else 100),
        "queries": queries or (300 if quick else 4000),
        "against": 30 if quick else 600,
    }
    budget["fitted"] = fitted = fitted or (400 if quick else plan.fitted)
    # The same samples as the protocol `detector`, which shares twins and branches.
    train = data.load(dataset, "train", data_dir=context.data_dir, limit=fitted if quick or not plan.dynamic else None)
    test = data.load(dataset, "test", data_dir=context.data_dir)
    attacked, rest = test.divide(min(context.samples_or(500, 40), len(test.x) // 2))
    network = context.network(plan.recipe, depth=depth, epochs=1 if budget["short"] else None)
    context.settings.update({**budget, "samples": len(attacked.x), "size": shown(codes.size), "network": network.parent.name})
    context.settings.update({"machines": 'C 1, gamma "scale"', **codes.differs})
    context.settings["threshold under attacks of type II"] = "5 % of held-out clean samples rejected; the paper: 0"
    setting = Guards(context, plan, codes, network, budget, (train, attacked, rest.take(slice(2000))))
    plots = context.output / f"safetynet-{dataset}"
    plots.mkdir(parents=True, exist_ok=True)
    sizes = [name for name, one in setting.adversaries.items() if one.kind in FOUR]
    clean = context.part("clean accuracy", lambda: td.evaluate(setting.base, test.x, test.y).accuracy)
    context.row("S7", "accuracy of the classifier, clean", clean, samples=len(test.x), note=plan.recipe)
    accuracy = {name: context.part(f"accuracy {name}", setting.accuracy, name) for name in context.turn(sizes)}
    chosen = chosen_sizes(setting, accuracy, FOUR)
    setting.chosen = tuple(chosen.values())
    _detection_rows(context, setting, accuracy, plots)
    guards = [name for name in (FEWER_GUARDS if quick else GUARDS) if codes.hardened or name not in HARDENED]
    if PLAIN[1] in guards:
        hardened = setting.hardened
        right = context.part(f"clean accuracy, {PLAIN[1]}", lambda: td.evaluate(hardened.base, test.x, test.y).accuracy)
        context.row("S7", f"accuracy of the classifier, clean, {PLAIN[1]}", right, samples=len(test.x), note=codes.hardened)
    _control_rows(context, setting, guards)
    _type_one_rows(context, setting, guards)
    _type_two_rows(context, setting, guards, plots)


def _file(name):
    return name.replace(",", "").replace(" ", "-")


def _detection_rows(context, setting, accuracy, plots):
    """Figures 2 and 3."""
    from tfdefense.metrics import roc
    from tfdefense.plots import detectability, matrix
    from tfdefense.plots import roc as draw_roc

    detectors, found = FEWER_DETECTORS if context.quick else DETECTORS, {}
    for name, fitted in context.turn([(name, fitted) for name in detectors for fitted in setting.chosen]):
        part = f"{name} fitted on {fitted}"
        kind = setting.adversaries[fitted].kind
        swept = [one for one in accuracy if setting.adversaries[one].kind == kind]
        found[name, fitted] = context.part(
            part, detection, setting, name, (fitted,), list(dict.fromkeys((*setting.chosen, *swept)))
        )
    count = len(setting.test[0])
    for name in detectors:
        learned = f"fitted on {setting.pairs(name)} pairs"
        for fitted in setting.chosen:
            for tested in setting.chosen:
                # As in the paper: each attack known, and the iterative one in linf alone. The drawings hold every pair.
                same = tested == fitted
                if not (same or setting.adversaries[fitted].kind == "iterative linf" or name in EVERY_PAIR):
                    continue
                one = found[name, fitted]
                for title, about in THRESHOLDS.items():
                    what = f"detection accuracy, {'' if same else f'fitted on {fitted}, '}{tested}, {about}, {name}"
                    note = (
                        f"{one[title]['false positives']:.3f} of clean rejected, area under the ROC curve {one['auc'][tested]:.3f}"
                    )
                    note += f", the classifier has {accuracy[tested]:.3f} right"
                    if same and title == "half" and name.startswith("Det A"):
                        note += "; goal: over 0.85"
                    context.row("S6", what, one[title][tested], samples=count, note=note)
        for title, about in THRESHOLDS.items():
            table = [[found[name, fitted][title][tested] for tested in setting.chosen] for fitted in setting.chosen]
            others = [table[i][j] for i in range(len(table)) for j in range(len(table)) if i != j]
            context.row(
                "S6", f"detection accuracy, mean over attacks never seen, {about}, {name}", sum(others) / len(others), note=learned
            )
            for i, fitted in enumerate(setting.chosen):
                if setting.adversaries[fitted].kind == "iterative linf":
                    unseen = [value for j, value in enumerate(table[i]) if j != i]
                    what = f"detection accuracy, fitted on {fitted}, mean over the others, {about}, {name}"
                    context.row("S6", what, sum(unseen) / len(unseen), note=learned)
            path = plots / f"cross-{title}-{_file(name)}.png"
            matrix(table, setting.chosen, setting.chosen, path, ylabel="fitted on", xlabel="tested on")
        points, curves = {}, {}
        for fitted in setting.chosen:
            kind = setting.adversaries[fitted].kind
            swept = [one for one in accuracy if setting.adversaries[one].kind == kind]
            points[kind] = [(accuracy[one], found[name, fitted]["half"][one]) for one in swept]
            curve = roc(found[name, fitted]["clean"], found[name, fitted]["twins"][fitted])
            curves[fitted] = curve
            context.curve("S6", f"ROC, {fitted}, {name}", FALSE_POSITIVES, [curve.tpr_at(rate) for rate in FALSE_POSITIVES])
            context.curve(
                "S6", f"detection accuracy against that of the classifier, {kind}, {name}", *zip(*points[kind], strict=True)
            )
        detectability(points, plots / f"accuracy-{_file(name)}.png")
        draw_roc(curves, plots / f"roc-{_file(name)}.png")


def _control_rows(context, setting, guards):
    rejecting = [*(name for name in guards if name not in PLAIN), *BESIDE]
    found = {name: context.part(f"control, {name}", control, setting, name) for name in context.turn(rejecting)}
    for name in rejecting:
        for title, rejections in found[name].items():
            about = THRESHOLDS[title]
            for change, rejected in rejections.items():
                known = paper.REJECTED.get(name) if title == "half" and change == "unchanged" else None
                notes = [f"the paper, on SceneProof: {known:g} of reals"] if known else []
                if "harmless" in name and change != "unchanged":
                    known = change in [told(seen) for seen in setting.plan.harmless]
                    notes.append(f"{'among' if known else 'not among'} the changes that it was fitted on")
                note = "; ".join(notes)
                context.row("S5", f"rejected, {change}, {about}, {name}", rejected, samples=len(setting.attacked.x), note=note)


def _type_one_rows(context, setting, guards):
    found = {name: context.part(f"type I, {name}", attacks.type_one, setting, name) for name in context.turn(guards)}
    count = len(setting.test[0])
    for name in guards:
        for title, rates in found[name].items():
            about = "" if name in PLAIN else f"{THRESHOLDS[title]}, "
            for attack, missed in rates.items():
                note = paper.missed(paper.TYPE_ONE, name) if attack.startswith("iterative linf") else ""
                context.row("S5", f"missed, type I, {attack}, {about}{name}", missed, samples=count, note=note)


def _type_two_rows(context, setting, guards, plots):
    """Open and black box, at one size; every threshold rejects 5 % of held-out samples."""
    from tfdefense.metrics import Distortion
    from tfdefense.plots import distortion

    size, found = shown(setting.codes.size), {}
    for name, attack in context.turn([(guard, attack) for guard in guards for attack in attacks.tried_on(guard)]):
        found[name, attack] = context.part(f"{attack}, {name}", attacks.type_two, setting, name, attack)
    for name in guards:
        tried = (*attacks.white_box(name), *attacks.BLACK)
        for attack in tried:
            one, known = found[name, attack], ""
            if attack == attacks.PAPERS:
                known = paper.missed(paper.TYPE_TWO, name)
            elif attack in paper.TRANSFER:
                known = paper.missed(paper.TRANSFER[attack], name)
            notes = [known, f"no gradient for {one['zero gradient']:.3f}" if one["zero gradient"] else ""]
            note = "; ".join(note for note in notes if note)
            missed, count = one["missed"], len(one["missed"])
            # As in the paper: another plain network knows of no detector.
            kind = "type I" if name in PLAIN or attack == attacks.TRANSFERRED[0] else "type II"
            what = f"missed, {kind}, {attacks.title(attack, name)}, linf {size}, {name}"
            context.row("S5", what, sum(missed) / count, samples=count, note=note)
        own = {attack: found[name, attack]["missed"] for attack in tried}
        for row in attacks.summary(own, name):
            context.row("S5", **row)
    told = {"labels": "labels alone", "Carlini-Wagner": "Carlini-Wagner through the surrogate where there is one"}
    for attack in ("labels, linf", attacks.SMALLEST):
        kind, norm = attack.split(", ")
        drawn = {}
        for name in guards:
            one = found[name, attack]
            distance, reached = np.array(one["distance"]), np.array(one["reached"])
            drawn[name] = Distortion(distance, distance, reached, norm)
            # Half of them at least must be reached for a median of all.
            median = drawn[name].median_of_all if reached.mean() > 0.5 else None
            note = "" if median is not None else f"found for {reached.sum()} of {len(reached)}: this search fails, others need not"
            context.row("S5", f"median {norm} distance by {told[kind]}, {name}", median, samples=len(reached), note=note)
        distortion(drawn, plots / f"{kind.lower()}-{norm}.png")
