"""SafetyNet: detection of known and unknown attacks, attacks that know it, and whether its robustness is hidden gradients.

Rows S5 to S7: detectors on binary, quaternary and unquantised codes of one layer or of three, beside a detector branch and
a plain network, at a threshold of 0 as in the paper and at a false-positive rate of 5 %. Type I attacks know the classifier,
type II the detector too, in the open (smoothed as in the paper, and stronger) or as a black box (transferred, or asking for
outputs or labels alone). Control: benign perturbations. On MNIST also detectors on an adversarially trained network, that
network alone, and with a threshold on its confidence. There about half an hour with `--workers 2` on two free, fast CPU
cores; branches and adversarial samples are shared with the protocol `detector`.
"""

from typing import Annotated

import numpy as np
import typer

from evaluation.papers.detector.protocol import chosen_sizes, clean_accuracy
from evaluation.papers.safetynet import fit, measure
from evaluation.papers.safetynet.fit import PLAIN, TRAINED, fields
from evaluation.papers.safetynet.measure import THRESHOLDS
from evaluation.runner.benign import size_text
from evaluation.runner.networks import named

DATASETS = ("mnist", "cifar10", "digits")
FOUR = ("fast", "iterative linf", "iterative l2", "DeepFool l2")
DETECTORS = ("branch", *[name for name, net in fit.NETS.items() if not (net.rounds or net.benign)])
EVERY_PAIR = ("branch", "Det A")
# What the codes themselves do to benign perturbations.
BESIDE = ("Det A, activations as they are", "Det A, binary")
# In a quick run.
FEWER_DETECTORS = ("branch", *BESIDE, "Det A")
FEWER_GUARDS = (*PLAIN, fit.CONFIDENCE, "branch", "Det A", fit.EVERY_CHANGE, f"{fit.EVERY_CHANGE}{TRAINED}")
# Where ROC curves are written down; the pictures have all of them.
FALSE_POSITIVES = (0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1)
UNSEEN = "mean over unseen attacks"


def run(
    context,
    *,
    depth: Annotated[int | None, typer.Option(help="Depth of a residual classifier; else 14.")] = None,
    fitted: Annotated[int | None, typer.Option(help="Training samples of a branch.", min=128)] = None,
    pairs: Annotated[int | None, typer.Option(help="Clean / adversarial pairs for RBF-SVMs.", min=20)] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of a type II attack; 40, or 5 in a quick run.", min=2)] = None,
    strongest: Annotated[int | None, typer.Option(help="Samples for the strongest attacks; 150, or 10.", min=1)] = None,
    asked: Annotated[int | None, typer.Option(help="Samples for attacks that ask for outputs or labels; 100, or 5.", min=1)] = None,
    queries: Annotated[int | None, typer.Option(help="What such an attack may ask for each; 4000, or 300.", min=250)] = None,
):
    quick, dataset = context.quick, context.dataset
    plan, codes = fit.PLANS[dataset], fit.CODES[dataset]
    budget = {
        "depth": (depth or (8 if quick else plan.depth)) if plan.depth else None,
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
        "fitted": fitted or (400 if quick else plan.fitted),
    }
    setting, plots = fit.prepared(context, budget), context.output / f"safetynet-{dataset}"
    plots.mkdir(parents=True, exist_ok=True)
    context.settings |= budget | {"samples": len(setting.attacked.x), "size": size_text(codes.size)} | (codes.differs or {})
    context.settings |= {"network": named(setting.network), "RBF-SVMs": 'C 1, gamma "scale"'}
    context.settings["threshold under attacks of type II"] = "5 % of held-out clean samples rejected, and the paper's own, 0"
    # DeepFool-5 is there for sets with more than ten classes.
    kinds = [kind for kind in (*FOUR, fit.OUT_OF_FIVE) if any(one.kind == kind for one in setting.adversaries.values())]
    sizes = {f"accuracy {name}": name for name, one in setting.adversaries.items() if one.kind in kinds}
    accuracy = context.parts({part: (fit.Guards.accuracy, setting, name) for part, name in sizes.items()})
    accuracy = {name: accuracy[part] for part, name in sizes.items()}
    setting.chosen = tuple(chosen_sizes(setting, accuracy, kinds).values())
    guards = [name for name in (FEWER_GUARDS if quick else fit.GUARDS) if codes.trained or not name.endswith(TRAINED)]
    for name in [name for name in guards if name in PLAIN]:
        clean, count = context.part(f"clean accuracy, {name}", clean_accuracy, setting.of(name))
        note = codes.trained if name.endswith(TRAINED) else plan.recipe
        context.row("lu2017.ours.networks", "accuracy", clean, row="S7", **fields(name), n=count, note=note)
    for name, value in accuracy.items():
        about = fields(PLAIN[0]) | setting.adversaries[name].tested | {"n": len(setting.attacked.x)}
        context.row("lu2017.fig2", "accuracy", value, row="S6", **about)
    _detection_rows(context, setting, accuracy, plots)
    _control_rows(context, setting, guards)
    _type_one_rows(context, setting, guards)
    _type_two_rows(context, setting, guards, plots)


def _file(*names):
    return "-".join(" ".join(names).replace(",", "").replace("%", "").split()) + ".png"


def _detection_rows(context, setting, accuracy, plots):
    """Figures 2 and 3."""
    from tfdefense.metrics import roc
    from tfdefense.plots import detectability, matrix
    from tfdefense.plots import roc as draw_roc

    chosen, known, count = setting.chosen, setting.adversaries, len(setting.test[0])
    swept = {one: [size for size in accuracy if known[size].kind == known[one].kind] for one in chosen}
    tried = {one: list(dict.fromkeys((*chosen, *swept[one]))) for one in chosen}
    detectors = FEWER_DETECTORS if context.quick else DETECTORS
    parts = {(name, one): f"{name} fitted on {one}" for name in detectors for one in chosen}
    measured = context.parts({
        part: (measure.detection, setting, name, (one,), tried[one]) for (name, one), part in parts.items()
    })  # fmt: skip
    for name in detectors:
        about, mean = fields(name) | {"row": "S6"}, {"attack": UNSEEN, "note": f"fitted on {setting.pairs(name)} pairs"}
        found = {one: measured[parts[name, one]] for one in chosen}
        curves = {one: roc(it["clean"], it["attacked"][one]) for one, it in found.items()}
        for fitted, one in found.items():
            linf, on = known[fitted].kind == "iterative linf", about | known[fitted].fitted
            # As in the paper: each attack known, and the iterative one in linf alone. The drawings hold every pair.
            shown = chosen if linf or name in EVERY_PAIR else (fitted,)
            for threshold in THRESHOLDS:
                on_clean, at = one[threshold]["false positives"], {"threshold": threshold}
                context.row("lu2017.fig2", "false-positive rate", on_clean, **on, **at, n=count)
                for tested in dict.fromkeys((*shown, *(swept[fitted] if threshold == "0" else ()))):
                    of = on | known[tested].tested | at | {"n": count}
                    context.row("lu2017.fig2", "detection accuracy", one[threshold][tested], **of)
                if linf:
                    unseen = np.mean([one[threshold][tested] for tested in chosen if tested != fitted])
                    context.row("lu2017.fig2", "detection accuracy", unseen, **on, **mean, **at, n=count)
            for tested in shown:
                context.row("lu2017.fig3", "AUROC", one["auc"][tested], **on, **known[tested].tested, n=count)
            rates = [curves[fitted].tpr_at(rate) for rate in FALSE_POSITIVES]
            context.curve("lu2017.fig3", "false-positive rate", FALSE_POSITIVES, "rejection rate", rates, **on)
        for threshold in THRESHOLDS:
            table = np.array([[found[fitted][threshold][tested] for tested in chosen] for fitted in chosen])
            unseen = table[~np.eye(len(chosen), dtype=bool)].mean()
            context.row("lu2017.fig2", "detection accuracy", unseen, **about, **mean, threshold=threshold, n=count)
            matrix(table, chosen, chosen, plots / _file("cross", threshold, name), ylabel="fitted on", xlabel="tested on")
        points = {known[one].kind: [(accuracy[size], found[one]["0"][size]) for size in swept[one]] for one in chosen}
        detectability(points, plots / _file("accuracy", name))
        draw_roc(curves, plots / _file("roc", name))


def _control_rows(context, setting, guards):
    """What is rejected of samples that nobody attacked; of those without a perturbation table 4 has it."""
    names = [*(name for name in guards if name not in PLAIN), *BESIDE]
    found = context.parts({f"control, {name}": (measure.control, setting, name) for name in names})
    for name in names:
        for threshold, rates in found[f"control, {name}"].items():
            for kind, size, rate in rates:
                about = fields(name) | {"row": "S5", "threshold": threshold, "n": len(setting.attacked.x)}
                if kind:
                    seen = "benign" in name and (kind, size) in setting.plan.labelled_clean
                    about |= {"perturbation": kind, "epsilon": size, "in_training": seen}
                context.row("lu2017.ours.benign" if kind else "lu2017.table4", "false-positive rate", rate, **about)


def _type_one_rows(context, setting, guards):
    found = context.parts({f"type I, {name}": (measure.type_one, setting, name) for name in guards})
    for name in guards:
        for threshold, rates in found[f"type I, {name}"].items():
            about = fields(name) | {"row": "S5", "threshold": "" if name in PLAIN else threshold}
            for attack, missed in rates.items():
                of = about | setting.adversaries[attack].tested | {"n": len(setting.of(name).test[0])}
                context.row("lu2017.table4", "error rate", missed, **of)


def _type_two_rows(context, setting, guards, plots):
    """Open and black box, at one size; thresholds are set on held-out samples, or are the paper's own, 0."""
    from tfdefense.metrics import Distortion
    from tfdefense.plots import distortion

    at = {"norm": "linf", "epsilon": setting.codes.size}
    tried = {name: (*measure.white_box(name), *measure.BLACK, measure.SMALLEST) for name in guards}
    parts = {(name, search): f"{' '.join(filter(None, search))}, {name}" for name in guards for search in tried[name]}
    measured = context.parts({part: (measure.type_two, setting, *pair) for pair, part in parts.items()})
    about = {name: fields(name) | {"row": "S5", "threshold": "" if name in PLAIN else "5 % FPR"} for name in guards}
    for name in guards:
        found = {search: measured[parts[name, search]] for search in tried[name][:-1]}
        for search, one in found.items():
            missed, note = one["missed"], f"no gradient for {one['zero gradient']:.3f}" if one["zero gradient"] else ""
            of = about[name] | search.fields(name) | at | {"n": len(missed), "note": note}
            context.row("lu2017.table4", "error rate", np.mean(missed), **of)
        worst = measure.worst_cases({search: one["missed"] for search, one in found.items()}, name)
        for kind, missed in worst.items():
            of = about[name] | at | {"attack": "worst case", "n": len(missed)}
            of["over"] = "" if kind == "all" else f"{kind} attacks"
            of["knowledge"] = "black box" if kind == "black-box" else "adaptive"
            context.row("lu2017.ours.worst_case", "robust accuracy", 1 - missed.mean(), **of)
        if name not in PLAIN:
            count = min(len(worst["white-box"]), len(worst["black-box"]))
            white, black = worst["white-box"][:count], worst["black-box"][:count]
            word, alone = measure.gradients(white, black)
            of = about[name] | at | {"statistic": "white box less black box", "n": count}
            of |= {"note": f"gradients: {word}; {alone} fall to the black box alone"}
            of |= {"flags": ("masked gradients",) if word == "masked" else ()}
            context.row("lu2017.ours.worst_case", "error rate", white.mean() - black.mean(), **of)
    _at_zero_rows(context, setting, guards, at)
    for search in (measure.LABELS, measure.SMALLEST):
        drawn = {}
        for name in guards:
            distance, reached = (np.array(measured[parts[name, search]][key]) for key in ("distance", "reached"))
            drawn[name] = Distortion(distance, distance, reached, search.norm)
            # Half of them at least must be reached for a median of all.
            median = drawn[name].median_of_all if reached.mean() > 0.5 else None
            note = "" if median is not None else f"found for {reached.sum()} of {len(reached)}: this search fails, others need not"
            of = about[name] | search.fields(name) | {"n": len(reached), "note": note}
            context.row("lu2017.ours.distance", "median distance", median, **of)
        distortion(drawn, plots / _file(search.attack.lower(), search.norm))


def _at_zero_rows(context, setting, guards, at):
    """Type II at the paper's own rule, f(c) > 0; of a branch that is a probability of one half."""
    tried = {
        (name, search): f"{' '.join(filter(None, search))}, threshold 0, {name}"
        for name in guards
        for search in measure.at_zero(name)
    }
    found = context.parts({part: (measure.type_two, setting, *pair, "0") for pair, part in tried.items()})
    for name in dict.fromkeys(name for name, _ in tried):
        missed = {search: found[tried[name, search]]["missed"] for search in measure.at_zero(name)}
        about = fields(name) | at | {"row": "S5", "threshold": "0"}
        for search, each in missed.items():
            of = about | search.fields(name) | at | {"n": len(each)}
            context.row("lu2017.table4", "error rate", np.mean(each), **of)
        worst = measure.together(missed, measure.white_box(name))
        of = about | {"attack": "worst case", "over": "white-box attacks", "knowledge": "adaptive", "n": len(worst)}
        context.row("lu2017.ours.worst_case", "robust accuracy", 1 - worst.mean(), **of)
