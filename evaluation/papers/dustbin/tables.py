"""The rows of `evaluation/dustbin.py`: what is measured of each network, part by part, and how it is told."""

from evaluation.papers.dustbin import numbers as paper
from evaluation.papers.dustbin.measure import (
    LONGER,
    SEARCHES,
    average_error,
    black_box,
    carlini,
    control,
    outcome,
    white_box,
    worse_error,
)
from evaluation.papers.dustbin.settings import ADJUSTED, AGAIN, BY_NOISE, GOAL, NAIVE_CHANGED, title
from evaluation.runner.benign import told

CLEAN_LOSS = 0.005  # what a change may cost of the naive network's accuracy


def lengthen(sets, factor):
    """Adds DeepFool's samples with the longer perturbations."""
    from evaluation.runner.crafted import lengthened

    sets[LONGER] = lengthened(sets["DeepFool"], factor)


def measured(context, name, measure, models, *arguments):
    """One part a network, each process beginning with another one; by the names of the networks, in their order."""
    found = {kind: context.part(f"{name}, {kind}", measure, models[kind], *arguments) for kind in context.turn(models)}
    return {kind: found[kind] for kind in models}


def clean(context, models, samples):
    dataset = context.dataset
    found = measured(context, "clean", outcome, models, samples.test.x, samples.test.y)
    for kind, value in found.items():
        known = paper.of(paper.CLEAN, dataset, kind)
        more = {"paper": known, "samples": value["samples"], "rejection": value["rejection"]}
        context.row("O6", f"clean accuracy, {title(kind)}", value["accuracy"], **more)
    kept = {kind: model for kind, model in models.items() if kind != "naive"}
    found = measured(context, "foreign", _rejected, kept, samples.foreign.x)
    for kind, value in found.items():
        known = paper.of(paper.FOREIGN, dataset, kind)
        what = f"held-back {samples.foreign.name} rejected, {title(kind)}"
        context.row("O6", what, value, paper=known, samples=len(samples.foreign.x))


def _rejected(model, x):
    import numpy as np

    from tfdefense.view import decide

    return float(np.mean(decide(model, x).label == -1))


def shares(context, paths):
    """How large the dustbin is beside the training set, in the paper's networks and where a change has other parts in it."""
    import json

    shown = []
    for kind, path in paths.items():
        config = json.loads((path.parent / "config.json").read_text())
        if not config["dustbin"] or config["dustbin"] in shown:
            continue
        shown.append(config["dustbin"])
        known, seen = paper.of(paper.SHARE, context.dataset, kind), config["train_samples"]
        what = f"samples in the dustbin for each training sample, {title(kind)}"
        parts = ", ".join(next(iter(part)) + " " + str(next(iter(part.values()))) for part in config["dustbin"])
        context.row("O3", what, config["dustbin_samples"] / seen, paper=known, samples=seen, note=parts)


def table(context, models, source, sets, transfers, attempted):
    """Table I: error, with accuracy and rejection beside it, for each attack and network."""
    found = measured(context, "black box", black_box, models | {"source": source}, sets)
    at_home = found.pop("source")
    for name, crafted in sets.items():
        for kind, values in found.items():
            if name not in values:
                context.row("O6", f"error, {name}, {title(kind)}", None, samples=0, note="no sample reached kappa")
                continue
            value, known = values[name], paper.black_box(context.dataset, name, kind)
            note = f"{at_home[name]['error']:.3f} mislead the network that they were crafted on"
            if name == LONGER:
                note += f"; perturbations {transfers['factor']:g} times as long, chosen on unseen training samples"
                note += f", of which {transfers['error']:.3f} then mislead the naive network"
            if name == "C&W":
                note += f"; {len(crafted.x)} of {attempted} reach kappa there, the others count nowhere"
            if known[2] is not None:
                rejected = "" if known[1] is None else f", {known[1]:.4f} rejected"
                note += f"; the paper: accuracy {known[0]:.4f}{rejected}"
            more = {name: value[name] for name in ("accuracy", "rejection")} | {"l2": _length(crafted), "samples": value["samples"]}
            context.row("O6", f"error, {name}, {title(kind)}", value["error"], paper=known[2], note=note, **more)
    for kind, values in found.items():
        for deepfool in ("DeepFool", LONGER):
            known = paper.of(paper.AVERAGE_ERROR, context.dataset, kind)
            counted = ", ".join(name for name in values if name == deepfool or not name.startswith("DeepFool"))
            what = f"average error over the attacks, {deepfool}, {title(kind)}"
            context.row("O6", what, average_error(values, deepfool), paper=known, note=f"of {counted}")


def _length(crafted):
    """Median l2 size of the perturbations."""
    import numpy as np

    if not len(crafted.x):
        return None
    change = (crafted.x_adv - crafted.x).reshape(len(crafted.x), -1)
    return round(float(np.median(np.linalg.norm(change, axis=1))), 3)


def transfer(context, plan, model, samples):
    """A dustbin that was trained on letters of another source."""
    found = measured(context, "transfer of letters", _rejected, {"other": model}, samples.foreign.x)["other"]
    what = f"held-back {samples.foreign.name} rejected, dustbin trained on {plan.other}"
    context.row("O1", what, found, samples=len(samples.foreign.x), note="neither the images nor their source were seen")


def controls(context, models, samples, plan, number):
    x, y = samples.test.x[:number], samples.test.y[:number]
    found = measured(context, "control", control, models, x, y, plan.controls)
    for change in next(iter(found.values())):
        for kind, values in found.items():
            value = values[change]
            more = {name: value[name] for name in ("accuracy", "error", "samples")}
            context.row("O4", f"rejected, harmless change: {change}, {title(kind)}", value["rejection"], **more)


def improvements(context, plan, trained, models, samples, sets, tried, number, again):
    """One row a change: what harmless samples it rejects, and what it costs. The best is chosen on unseen training samples.

    Args:
        trained: The changed networks by the names of their changes.
        sets, tried: What was crafted from test samples, and from the unseen training samples.
        again: Trains the network of that name once more, with another seed.

    Returns:
        The name of the best, and its model.
    """
    compared, x = {"both": models["both"]} | trained, samples.calibration.x
    adjusted = [kind for kind in ADJUSTED if kind in compared]
    compared["joined"] = joined(models["both"], x)
    compared |= {kind + BY_NOISE: by_noise(compared[kind], x, plan.controls[0]) for kind in adjusted}
    test = samples.test.take(slice(number))
    # The held-back images and the other controls are no part of the choice.
    found = measured(context, "unseen", judge, compared, samples.held_out, tried, None, plan.controls[:1])
    naive = context.part("unseen, naive", outcome, models["naive"], samples.held_out.x, samples.held_out.y)["accuracy"]
    best = chosen(found, naive - CLEAN_LOSS)
    # One training may be luck: the best has to show it twice.
    trained_as, by, _ = best.replace("joined", "both").partition(BY_NOISE)
    repeated = again(trained_as)
    if by:
        repeated = by_noise(repeated, x, plan.controls[0])
    elif best == "joined":
        repeated = joined(repeated, x)
    compared[best + AGAIN] = repeated
    found |= measured(context, "unseen", judge, {best + AGAIN: repeated}, samples.held_out, tried, None, plan.controls[:1])
    tested = measured(context, "change", judge, compared, test, sets, samples.foreign.x, plan.controls)
    goal = told(plan.controls[0])
    whole = measured(context, "clean, all", outcome, compared, samples.test.x, samples.test.y)
    for kind, value in tested.items():
        others, errors = (
            ", ".join(f"{name} {share:.3f}" for name, share in value[part].items()) for part in ("harmless", "errors")
        )
        context.row(
            "O9",
            f"harmless {goal} rejected: {title(kind)}",
            value["goal"],
            samples=len(test.x),
            clean=whole[kind]["accuracy"],
            foreign=value["foreign"],
            black_box=value["black_box"],
            unseen=found[kind]["goal"],
            unseen_black_box=found[kind]["black_box"],
            unseen_clean=found[kind]["clean"],
            note=f"rejected: {others}; error: {errors}" + ("; chosen on unseen training samples" if kind == best else ""),
        )
    quiet = "harmless, no noise"
    wanted = {"": best, ", trained again with another seed": best + AGAIN}
    wanted |= {", by one that never saw noise": quiet} if quiet in tested else {}
    for about, kind in wanted.items():
        value = tested[kind]
        met = value["goal"] < GOAL and value["black_box"] < GOAL and found[kind]["clean"] >= naive - CLEAN_LOSS
        what = f"goal met: under {GOAL:.0%} of {goal} rejected, black-box error under {GOAL:.0%}{about}"
        note = f"{title(kind)}; at most {CLEAN_LOSS:g} of clean accuracy lost on unseen samples"
        note += f"; clean accuracy {whole[kind]['accuracy']:.4f}, {value['foreign']:.4f} of foreign images rejected"
        context.row("O9", what, met, note=note)
    return best, compared[best]


def undefended(context, model, samples, sets):
    """The same training without a dustbin: what is the dustbin's and what the training's."""
    errors = measured(context, "black box", black_box, {NAIVE_CHANGED: model}, sets)[NAIVE_CHANGED]
    clean = measured(context, "clean", outcome, {NAIVE_CHANGED: model}, samples.test.x, samples.test.y)[NAIVE_CHANGED]
    note = ", ".join(f"{name} {value['error']:.3f}" for name, value in errors.items())
    note += f"; clean accuracy of {len(samples.test.x)} samples"
    what = f"average error over the attacks, the worse form of DeepFool, {title(NAIVE_CHANGED)}"
    context.row("O9", what, worse_error(errors), clean=clean["accuracy"], note=note)


def _with_dustbin(model):
    """The network inside a defended model, with the dustbin's score, which is no class of the undefended classifier."""
    import keras

    import tfdefense as td

    dustbin = next(layer for layer in model.layers if isinstance(layer, td.layers.Dustbin))
    return keras.Model(model.inputs[0], dustbin.input)


def joined(model, x):
    """The same network, rejecting what it is not sure of as well: up to 5 % of samples that it has not seen."""
    import tfdefense as td

    defended = td.AnyOf(td.DustbinDefense(), td.ThresholdDefense()).attach(_with_dustbin(model))
    td.calibrate(defended, x, max_rejected=0.05)
    return defended


def by_noise(model, x, change):
    """The same network, its threshold set to reject 5 % of harmlessly changed samples that it has not seen."""
    import tfdefense as td
    from tfdefense.metrics import benign_perturbation

    defended = td.DustbinDefense(threshold=None).attach(_with_dustbin(model))
    kind, size = change
    td.calibrate(defended, benign_perturbation(x, size, kind, seed=1), max_rejected=0.05)
    return defended


def judge(model, images, sets, foreign, controls):
    """What a change is judged by."""
    harmless, errors = control(model, images.x, images.y, controls), black_box(model, sets)
    return {
        "goal": harmless[told(controls[0])]["rejection"],
        "clean": harmless["unchanged"]["accuracy"],
        "foreign": None if foreign is None else _rejected(model, foreign),
        "black_box": worse_error(errors),
        "errors": {name: round(value["error"], 4) for name, value in errors.items()},
        "harmless": {name: round(value["rejection"], 4) for name, value in harmless.items()},
    }


def chosen(found, least, goal=GOAL):
    """Of the changes that keep clean and harmless samples the one with the smallest black-box error.

    Of none, the one that keeps most harmless samples of those that keep clean ones; at last, of all.
    """
    clean = {kind: value for kind, value in found.items() if value["clean"] >= least} or found
    kept = {kind: value for kind, value in clean.items() if value["goal"] < goal}
    if kept:
        return min(kept, key=lambda kind: kept[kind]["black_box"])
    return min(clean, key=lambda kind: clean[kind]["goal"])


def white_boxes(context, models, plan, samples, number, few):
    """The networks under attacks that know them: each objective, from the sample and from all starts, and all together."""
    import numpy as np

    x, y, naive = samples.test.x[:number], samples.test.y[:number], models["naive"]
    steps = 20 if context.quick else 100
    # On a network that rejects nothing the selective search is the one on the margin.
    cases = [(kind, search) for kind in models for search in SEARCHES if kind != "naive" or search != "selective"]
    found, slow = {}, [(kind, "C&W") for kind in models]
    # What takes longest first and last: two processes meet at what takes the least.
    for kind, search in context.turn([*slow[::2], *cases, *slow[1::2]]):
        if search == "C&W":
            measure, more = carlini, (context.quick, x[:few], y[:few])
        else:
            measure, more = white_box, (plan.sizes, search, steps, x, y)
        found[kind, search] = context.part(f"white box, {kind}, {search}", measure, models[kind], naive, *more)
    carlinis = {kind: found[kind, "C&W"] for kind in models}
    for size in plan.sizes:
        for kind in models:
            strongest = np.zeros(len(x), bool)
            inside = np.array(carlinis[kind]["linf"]) <= size
            strongest[: len(inside)] = inside & np.array(carlinis[kind]["success"])
            searches = [search for search in SEARCHES if (kind, search) in found]
            for search in searches:
                taken = {starts: np.array(rows) for starts, rows in found[kind, search][f"{size:g}"].items()}
                strongest |= taken["all"]
                for starts, begun in (("sample", "from the sample"), ("all", "all starts")):
                    what = f"error, PGD linf {size:g}, {search}, {begun}, {title(kind)}"
                    context.row("O9", what, float(taken[starts].mean()), samples=len(x), note=f"{steps} steps")
            what = f"error, PGD linf {size:g}, the strongest of all, {title(kind)}"
            note = f"the attacker knows the network; of {', '.join(searches)}"
            note += f"; on the first {len(inside)} also what C&W finds within this size"
            context.row("O9", what, float(strongest.mean()), samples=len(x), note=note)
    for kind, value in carlinis.items():
        success = np.array(value["success"])
        middle = float(np.median(np.array(value["l2"])[success])) if success.any() else None
        error, note = float(success.mean()), "from all starts, at any distance"
        context.row("O9", f"error, white-box C&W, {title(kind)}", error, samples=len(success), note=note)
        note = "of those that succeed; the smaller, the easier to mislead"
        context.row("O9", f"median l2, white-box C&W, {title(kind)}", middle, samples=int(success.sum()), note=note)
