"""SceneProof: is a picture with depth one of a real scene? Rates under forgeries and attacks on the depth (rows S8 and S9).

For the plain network, a detector branch and SafetyNet's detectors: how often forged pairs are taken for true, true ones for
forged, and true ones rejected; on test pairs as they are, on unfamiliar forgeries, and under type I, type II and transferred
attacks. Everything is smaller than the paper's: pairs, pictures, networks; see the settings. All detectors reject equally
many held-out real pairs. An estimated hour of training and two of attacks with `--workers 2` on two free cores.
"""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from evaluation.papers.sceneproof import numbers as paper
from evaluation.papers.sceneproof.fit import ATTACKS, FAR, STRONGEST, SYSTEMS, TYPE_ONE, TYPE_TWO, Setting, flags, rates
from tfdefense._files import write_file

DATASETS = ("nyu_depth_v2_small",)
MEANS = {"type I": TYPE_ONE, "type II": TYPE_TWO, "type I transfers": TYPE_ONE[1:], "type II transfers": TYPE_TWO[1:]}
QUICK = {"epochs": 2, "train_samples": 64}


def run(
    context,
    *,
    epsilon: Annotated[
        float | None,
        typer.Option(help="linf size of the attacks on depth, where 1 is 10 m; else chosen on held-out pairs.", min=1 / 255),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the attacks; 40, or 5 in a quick run.", min=1)] = None,
    strongest: Annotated[int | None, typer.Option(help="Pairs of each label for the strongest attack; 100, or 8.", min=1)] = None,
    width: Annotated[int | None, typer.Option(help="Filters of the classifiers' first block; else the recipe's.", min=1)] = None,
    save: Annotated[Path | None, typer.Option(help="Also write the network with Det ABC to this .keras file.")] = None,
):
    from evaluation.papers.sceneproof.figures import attacks_of, kinds_of

    quick = context.quick
    if save and save.suffix != ".keras":
        raise ValueError(f"`--save` must end in .keras. Received {save}.")
    if save and not save.absolute().parent.is_dir():
        raise ValueError(f"`--save` must be in a folder that exists. Received {save}.")
    steps, number = steps or (5 if quick else 40), context.samples_or(300, 8)
    few = strongest or (8 if quick else 100)
    length = QUICK if quick else {}
    options = {**length, "width": width or (4 if quick else None)}
    networks = {
        "depth": context.network("nyu_depth", **length | ({"train_samples": 32} if quick else {})),
        "classifier": context.network("nyu_scene", **options),
        "other": context.network("nyu_scene", seed=1, **options),
    }
    learned = tuple(_learned(networks[name]) for name in ("depth", "classifier"))
    context.settings.update(
        {
            "samples": number,
            "strongest": few,
            "size asked for": epsilon,
            "steps": steps,
            "fitted on scenes": learned[1] - learned[0],
        }
        | {name: path.parent.name for name, path in networks.items()}
    )
    setting = Setting(context, networks, learned, number, few, epsilon, steps, epochs=(1, 1) if quick else (60, 5))
    context.settings["epsilon"] = setting.epsilon
    plots = context.output / f"sceneproof-{context.dataset}"
    plots.mkdir(parents=True, exist_ok=True)
    kinds_of(setting, plots)
    for network in context.turn(("classifier", "other")):
        setting.fitting(network)
    for system in context.turn(SYSTEMS):
        setting.system(system)
    if save and not context.worker:
        write_file(save, setting.system("Det ABC").save)
    _clean_rows(context, setting)
    _harmless_rows(context, setting)
    _kind_rows(context, setting)
    _attack_rows(context, setting)
    attacks_of(setting, plots)


def _learned(network):
    """How many scenes a network has seen."""
    return json.loads((network.parent / "config.json").read_text())["train_samples"]


def _rate_rows(context, attack, system, found, samples, note=""):
    for name in paper.RATES if system != "plain" else paper.RATES[:2]:
        known = paper.rate(attack, system, name)
        context.row("S9", f"{name}, {attack}, {system}", found[name], paper=known, samples=samples, note=note)


def _clean_rows(context, setting):
    test, (real, guessed) = setting.scenes("test"), setting.pairs["test"]
    unfamiliar = setting.unfamiliar
    off = float(10 * np.abs(real[..., 3:] - guessed).mean())
    usual = np.median(setting.pairs["train"][0][..., 3:], axis=0)
    note = f"{10 * np.abs(real[..., 3:] - usual).mean():.2f} for the median of the training depths at each pixel"
    context.row("S8", "depth that forgeries are made of, mean error in metres", off, samples=len(real), note=note)
    for size, found in setting.tried.items():
        for name in paper.RATES[:2]:
            what = f"{name}, type I on held-out pairs at {255 * float(size):.0f}/255, plain"
            note = "the size of the attacks is chosen by these; a file of whole parts of 255 holds no smaller one than the first"
            context.row("S9", what, found[name], samples=len(found["label"]), note=note)
    for system in context.turn(SYSTEMS):
        context.part(f"clean, {system}", rates, setting.system(system), test.x, test.y)
    for system in SYSTEMS:
        found = context.part(f"clean, {system}", rates, setting.system(system), test.x, test.y)
        if system == "plain":
            note = "real pairs and familiar forgeries of the test split; goal: over 0.85. The network is also given edges of "
            note += "picture and depth and how well they fit, which the paper's is not"
            context.row("S8", "clean accuracy", found["right before rejection"], samples=len(test.y), note=note)
        else:
            note = "goal: under 0.15"
            context.row("S9", f"T rejected, no attack, {system}", found["T rejected"], samples=len(test.y) // 2, note=note)
            context.row("S9", f"F rejected, no attack, {system}", found["F rejected"], samples=len(test.y) // 2)
        _rate_rows(context, "no attack", system, found, len(test.y) // 2)
        parts = [context.part(f"{kind}, {system}", rates, setting.system(system), x, y) for kind, (x, y) in unfamiliar.items()]
        for kind, part in zip(unfamiliar, parts, strict=True):
            context.row("S9", f"F->T, {kind}, {system}", part["F->T"], samples=len(real))
        passed = float(np.mean([part["F->T"] for part in parts]))
        known = paper.rate("unfamiliar", system, "F->T")
        note = f"mean over {', '.join(unfamiliar)}; the paper's are others: a film instead of rendered rooms, and stereo pictures"
        context.row("S9", f"F->T, unfamiliar, {system}", passed, paper=known, samples=len(real) * len(parts), note=note)


def _harmless_rows(context, setting):
    """What each system says of real pairs that nobody forged or attacked, but that are not as clean."""
    changes = setting.harmless
    pairs, found = [(change, system) for change in changes for system in paper.SYSTEMS], {}
    for change, system in context.turn(pairs):
        x = changes[change]
        part = f"harmless, {change}, {system}"
        found[change, system] = context.part(part, rates, setting.system(system), x, np.ones(len(x), "int32"))
    for change, system in pairs:
        for name in ("T->F", "T rejected") if system != "plain" else ("T->F",):
            context.row("S9", f"{name}, {change}, {system}", found[change, system][name], samples=len(changes[change]))


def _kind_rows(context, setting):
    """Tables 2 and 3, and the familiar forgeries one by one."""
    test, y = setting.scenes("test"), setting.attacked[1]
    x_adv = setting.under("type I", "plain")
    groups = {kind: (test.x[test.kind == kind], test.y[test.kind == kind]) for kind in dict.fromkeys(test.kind.tolist())}
    groups["forged"] = test.x[test.y == 0], test.y[test.y == 0]
    groups |= {f"{name}, type I": (x_adv[y == label], y[y == label]) for name, label in (("forged", 0), ("real", 1))}
    groups |= setting.unfamiliar
    for name, (some, labels) in groups.items():
        found = context.part(f"flags, {name}", flags, setting, some, labels)
        for column in paper.COLUMNS:
            row = "S8" if column == "right" else "S9"
            what = "right by the classifier" if column == "right" else f"flagged by {column}"
            count = found["taken for true"] if column.endswith("taken for true") else len(labels)
            known, note = paper.flagged(name, column), "the paper's are of a film" if name == "rendered" else ""
            context.row(row, f"{what}, {name}", found[column], paper=known, samples=count, note=note)


def _attack_rows(context, setting):
    """Table 4; transferred and type I samples are the same for all systems."""
    y, first = setting.attacked[1], setting.first
    pairs = [(attack, system) for attack in ATTACKS for system in paper.SYSTEMS]
    found = {}
    for attack, system in context.turn(pairs):
        found[attack, system] = context.part(f"{attack}, {system}", _measured, setting, attack, system)
    for attack, system in pairs:
        note = f"linf {255 * setting.epsilon:.0f}/255, of what survives a file of whole parts of 255"
        if attack == STRONGEST:
            note += "; several starts and searches, the best of each sample"
        _rate_rows(context, attack, system, found[attack, system], setting.few if attack == STRONGEST else len(y) // 2, note)
    for system in paper.SYSTEMS:
        for title, group in MEANS.items():
            mean = {name: float(np.mean([found[attack, system][name] for attack in group])) for name in paper.RATES}
            note = f"over {', '.join(group)}; the paper has transfers from a ResNet too"
            _rate_rows(context, f"{title}, mean", system, mean, len(y) // 2, note)
        labels = [np.array(found[attack, system]["label"]) for attack in ATTACKS]
        # Of those that the strongest was tried on.
        labels = np.array([each if len(each) == len(first) else each[first] for each in labels])
        worst = {"F->T": (labels[:, y[first] == 0] == 1).any(0), "T->F": (labels[:, y[first] == 1] == 0).any(0)}
        for name, through in worst.items():
            note = "each sample under whichever attack gets it through"
            context.row("S9", f"{name}, any of these attacks, {system}", float(through.mean()), samples=len(through), note=note)
    _paired_rows(context, setting, found)
    for system in ("branch", "Det ABC"):
        far = context.part(f"far, {system}", lambda system=system: rates(setting.system(system), *setting.far(system)))
        what = f"F->T, {STRONGEST}, {FAR} times the size, {system}"
        context.row(
            "S9", what, far["F->T"], samples=len(far["label"]), note="little: the attack failed, and its other rows say less"
        )


def _paired_rows(context, setting, found):
    """Of the same forged pairs: how many pass one system and not Det ABC, and the other way round."""
    forged = setting.attacked[1] == 0
    for attack in ("type I", "type II"):
        for system in ("plain", "branch"):
            if (attack, system) not in found:
                continue
            passed, ours = (np.array(found[attack, each]["label"])[forged] == 1 for each in (system, "Det ABC"))
            for what, count in (
                (f"forged pairs that pass {system} and not Det ABC, {attack}", passed & ~ours),
                (f"forged pairs that pass Det ABC and not {system}, {attack}", ours & ~passed),
            ):
                context.row("S9", what, int(count.sum()), samples=int(forged.sum()))


def _measured(setting, attack, system):
    y = setting.attacked[1][setting.first] if attack == STRONGEST else setting.attacked[1]
    return rates(setting.system(system), setting.under(attack, system), y)
