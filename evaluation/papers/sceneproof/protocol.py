"""SceneProof: is a picture with depth one of a real scene? Rates under forgeries and attacks on the depth (rows S8 and S9).

For the plain network, a detector branch and SafetyNet's detectors: how often forged pairs are taken for true, true ones for
forged, and true ones rejected; on test pairs as they are, on unfamiliar forgeries, and under type I, type II and transferred
attacks. Everything is smaller than the paper's: pairs, pictures, networks; see the settings. All detectors reject equally many
held-out real pairs, or have the paper's own rule, f(c) > 0. An estimated CPU hour and a half of training and as much of attacks;
`--workers 2` takes both cores.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from evaluation.papers.sceneproof import names
from tfdefense._files import write_file

DATASETS = ("nyu_depth_v2_small",)


def run(
    context,
    *,
    epsilon: Annotated[
        float | None,
        typer.Option(help="linf size of the attacks on depth, where 1 is 10 m; else chosen on held-out pairs.", min=1 / 65535),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the attacks; 40, or 5 in a quick run.", min=1)] = None,
    strongest: Annotated[int | None, typer.Option(help="Pairs of each label for the worst case; 100, or 8.", min=1)] = None,
    width: Annotated[int | None, typer.Option(help="Filters of the classifiers' first block; else the recipe's.", min=1)] = None,
    save: Annotated[Path | None, typer.Option(help="Also write the network with Det ABC to this .keras file.")] = None,
):
    from evaluation.papers.sceneproof import measure
    from evaluation.papers.sceneproof.figures import attacks_of, kinds_of
    from evaluation.papers.sceneproof.setting import Setting, scenes_learned, trained

    quick = context.quick
    if save and save.suffix != ".keras":
        raise ValueError(f"`--save` must end in .keras. Received {save}.")
    if save and not save.absolute().parent.is_dir():
        raise ValueError(f"`--save` must be in a folder that exists. Received {save}.")
    steps, number, few = steps or (5 if quick else 40), context.samples_or(300, 8), strongest or (8 if quick else 100)
    networks = trained(context, ("depth", "classifier", "other", "resnet"), width)
    learned = scenes_learned(networks)
    context.settings.update({"samples": number, "worst case on": few, "size asked for": epsilon, "steps": steps})
    context.settings.update(
        {"fitted on scenes": learned[1] - learned[0]} | {name: path.parent.name for name, path in networks.items()}
    )
    setting = Setting(context, networks, learned, number, few, epsilon, steps, (1, 1) if quick else (60, 5))
    context.settings |= {"epsilon": setting.epsilon, "epsilon in millimetres": round(10_000 * setting.epsilon, 2)}
    context.settings["depth"] = "16 bits; what the set's 8 bits lost is drawn at random, alike for real and guessed depth"
    plots = context.output / f"sceneproof-{context.dataset}"
    plots.mkdir(parents=True, exist_ok=True)
    kinds_of(setting, plots)
    groups = [(name, "") for name in (*dict.fromkeys(setting.scenes("test").kind.tolist()), "forged", *setting.unfamiliar)]
    groups += [("forged", "type I"), ("real", "type I")]
    parts = {
        ("attacked", attack, system): (measure.attacked, setting, attack, system)
        for attack in names.ATTACKS
        for system in (*names.SYSTEMS, *names.AT_ZERO)
    }
    parts |= {("far", system): (measure.far, setting, system) for system in (names.BRANCH, "Det ABC")}
    parts |= {("clean", system): (measure.clean, setting, system) for system in (*names.EVERY, *names.AT_ZERO)}
    parts |= {("benign", system): (measure.benign, setting, system) for system in names.SYSTEMS}
    parts |= {("flagged", *group): (measure.flagged, setting, *group) for group in groups}
    found = context.parts({", ".join(filter(None, name)): part for name, part in parts.items()})
    found = dict(zip(parts, found.values(), strict=True))
    if save:
        write_file(save, setting.system("Det ABC").save)
    _clean_rows(context, setting, found)
    for group in groups:
        _flag_rows(context, found["flagged", *group], *group)
    _attack_rows(context, setting, found)
    attacks_of(setting, plots)


def _rate_rows(context, system, found, **about):
    for name in names.RATES if system != "plain" else names.RATES[:2]:
        context.row("lu2017.table4", name, found[name], row="S9", **names.of_rows(system), **about)


def _clean_rows(context, setting, found):
    real = setting.pairs["test"][0]
    for system, errors in setting.depth_errors.items():
        metres, half = float(errors.mean()), float(1.96 * errors.std(ddof=1) / len(errors) ** 0.5)
        about = {"row": "S8", "system": system, "unit": "metres", "n": len(errors), "interval": (metres - half, metres + half)}
        context.row("lu2017.ours.depth", "mean error", metres, **about)
    for size, rates in setting.tried.items():
        about = {"attack": "type I", "norm": "linf", "epsilon": float(size), "pairs": "held out"}
        _rate_rows(context, "plain", rates, **about, n=len(rates["label"]))
    for system in (*names.EVERY, *names.AT_ZERO):
        rates, unfamiliar = found["clean", system]
        count = len(rates["label"]) // 2
        if system == "plain":
            right = rates["right before rejection"]
            context.row("lu2017.ours.clean", "accuracy", right, row="S8", system=system, n=2 * count)
        else:
            for label, name in (("real", "T rejected"), ("forged", "F rejected")):
                about = {"row": "S9", "label": label, "n": count} | names.of_rows(system)
                context.row("lu2017.ours.clean", "rejection rate", rates[name], **about)
        _rate_rows(context, system, rates, n=count)
        for kind, each in unfamiliar.items():
            context.row("lu2017.table1", "F->T", each["F->T"], row="S9", forgery=kind, n=len(real), **names.of_rows(system))
        passed = float(np.mean([each["F->T"] for each in unfamiliar.values()]))
        about = {"forgery": "mean over unfamiliar ones", "n": len(real) * len(unfamiliar)}
        context.row("lu2017.table1", "F->T", passed, row="S9", **names.of_rows(system), **about)
    for system in names.SYSTEMS:
        for name, rates in found["benign", system].items():
            for metric, key in (("T->F", "T->F"), ("false-positive rate", "T rejected")):
                if metric == "T->F" or system != "plain":
                    about = {"system": system, "perturbation": name, "n": len(rates["label"])}
                    context.row("lu2017.ours.benign", metric, rates[key], row="S9", **about)


def _flag_rows(context, found, name, attack):
    """A line of tables 2 and 3."""
    for column in names.COLUMNS:
        metric, row = ("accuracy", "S8") if column == "right" else ("rejection rate", "S9")
        table = "lu2017.table2" if column == "right" else "lu2017.table3"
        count = found["taken for true"] if column.endswith("taken for true") else found["samples"]
        about = {"detector": "" if column == "right" else column, "pairs": name, "attack": attack, "n": count}
        context.row(table, metric, found[column], row=row, **about, note="" if found[column] is not None else "no pair is left")


def _attack_rows(context, setting, found):
    """Table 4; transferred and type I samples are the same for all systems."""
    y, first = setting.attacked[1], setting.first
    size = {"norm": "linf", "epsilon": setting.epsilon}
    for system in (*names.SYSTEMS, *names.AT_ZERO):
        rates = {attack: found["attacked", attack, system] for attack in names.ATTACKS}
        for attack in names.ATTACKS:
            about = {"attack": attack, "knowledge": names.knowledge(attack), "n": len(rates[attack]["label"]) // 2}
            _rate_rows(context, system, rates[attack], **size, **about)
        for title, group in names.MEANS.items():
            some = [rates[attack] for attack in group]
            mean = {name: float(np.mean([each[name] for each in some])) for name in names.RATES}
            _rate_rows(context, system, mean, attack=f"{title}, mean", **size, n=len(y) // 2)
        labels = [np.array(each["label"]) for each in rates.values()]
        # Of those that the worst case was tried on.
        labels = np.array([each if len(each) == len(first) else each[first] for each in labels])
        worst = {"F->T": (labels[:, y[first] == 0] == 1).any(0), "T->F": (labels[:, y[first] == 1] == 0).any(0)}
        for name, through in worst.items():
            about = {"row": "S9", "attack": "any of these", "n": len(through)} | names.of_rows(system)
            context.row("lu2017.table4", name, float(through.mean()), **about, **size)
    _paired_rows(context, y, found)
    for system in (names.BRANCH, "Det ABC"):
        far = found["far", system]
        about = {"row": "S9", "system": system, "attack": names.WORST_CASE, "knowledge": "adaptive", "n": len(far["label"])}
        context.row("lu2017.table4", "F->T", far["F->T"], **about, norm="linf", epsilon=setting.far_size)


def _paired_rows(context, y, found):
    """Of the same forged pairs: how many pass one system and not Det ABC, and the other way round."""
    for attack in ("type I", "type II"):
        for system in ("plain", names.BRANCH):
            if ("attacked", attack, system) in found:
                passed, ours = (np.array(found["attacked", attack, each]["label"])[y == 0] == 1 for each in (system, "Det ABC"))
                for one, other, count in ((system, "Det ABC", passed & ~ours), ("Det ABC", system, ours & ~passed)):
                    about = {"row": "S9", "attack": attack, "passes": one, "fails": other, "n": int((y == 0).sum())}
                    context.row("lu2017.ours.pairs", "count", int(count.sum()), **about)
