"""Detector branch: detectability of attacks, transfer of detectors, the dynamic adversary and training against it.

Rows M2 to M9: detectability against the classifier's accuracy by adversary and size, and by depth; transfer over sizes and
adversaries; one branch fitted on a mixture; static and dynamic detector under the dynamic adversary for each sigma; all of
them under the strongest attacks and under harmless changes, fitted with and without such changes labelled clean. A
classifier, samples and epochs smaller than the paper's: see the settings. With `--workers 2` on two free CPU cores and the
options of its results one to two hours on MNIST and on CIFAR-10, whose network takes 40 minutes more: the dynamic detectors and
the strongest attacks take most of them.
"""

from typing import Annotated

import typer

from evaluation.papers.detector import dynamic as detector_dynamic
from evaluation.papers.detector import numbers as paper
from evaluation.papers.detector.fit import Setting
from evaluation.papers.detector.settings import DIFFERS, HALF, KINDS, PLANS, SIZED
from evaluation.runner.benign import shown

MIXED = "a mixture"
DATASETS = ("mnist", "cifar10", "imagenette_small", "digits")


def on_every_adversary(setting, fitted_on, layer, names, number=None):
    """Detectability of several adversaries by one branch, and its false positives."""
    from tfdefense.metrics import detectability
    from tfdefense.view import decide

    defended = setting.detector(fitted_on, layer, number=number)
    clean = decide(defended, setting.attacked.x).suspicion
    found = {name: detectability(clean, decide(defended, setting.twins(name)).suspicion) for name in names}
    return found | {"false positives": float((clean > 0).mean())}


def detectabilities(context, setting, sizes):
    """Detectability by branches fitted on each adversary, on a mixture, and at each depth, whichever a process has time for.

    The transfer needs each one's of every adversary.
    """
    names, plan = list(setting.adversaries), setting.plan
    jobs = {name: (f"fitted on {name}", (name,), setting.layer(setting.adversaries[name].kind), names) for name in names}
    jobs[MIXED] = (f"fitted on {MIXED}", tuple(sizes.values()), setting.layers[plan.usual], names)
    for kind, depth in _depths(setting):
        one = sizes[kind]
        jobs[kind, depth] = (f"AD({depth}), {one}", (one,), setting.layers[depth], [one], plan.by_depth)
    found = {}
    for job in context.turn(jobs):
        title, *arguments = jobs[job]
        found[job] = context.part(title, on_every_adversary, setting, *arguments)
    return found


def _depths(setting):
    depths = range(len(setting.layers))
    return [(kind, depth) for kind in KINDS for depth in depths] if len(depths) > 1 else []


def chosen_sizes(setting, accuracy, kinds=KINDS):
    """For each kind the smallest size that takes accuracy under 30 %, as in the paper; else the largest."""
    chosen = {}
    for kind in kinds:
        names = [name for name, adversary in setting.adversaries.items() if adversary.kind == kind]
        chosen[kind] = next((name for name in names if accuracy[name] < 0.3), names[-1])
    return chosen


def run(
    context,
    *,
    depth: Annotated[int | None, typer.Option(help="Depth of a residual classifier; else 14.")] = None,
    width: Annotated[int | None, typer.Option(help="Maps of the branch's first convolution; the paper: 96, or 196.", min=1)] = None,
    fitted: Annotated[int | None, typer.Option(help="Training samples of a static branch.", min=128)] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of a static branch; the paper: 20, or 500.", min=1)] = None,
    batches: Annotated[int | None, typer.Option(help="Batches of 128 of a dynamic branch.", min=1)] = None,
    network_epochs: Annotated[int | None, typer.Option(help="Epochs of the classifier; else its recipe's.", min=1)] = None,
    learning_rate: Annotated[float, typer.Option(help="Of Adam, falling as a cosine; the paper has a constant 1e-4.")] = 1e-3,
    steps: Annotated[int | None, typer.Option(help="Steps of the strongest attacks; 100, or 20 in a quick run.", min=1)] = None,
    attacked: Annotated[int | None, typer.Option(help="Samples for the strongest attacks; 300, or 30.", min=1)] = None,
    harmless: Annotated[bool, typer.Option(help="Also compare detectors that were trained with harmless changes.")] = True,
):
    from tfdefense import data

    quick, dataset = context.quick, context.dataset
    plan, small = PLANS[dataset], quick and dataset != "digits"
    if not plan.dynamic and (batches or steps or attacked or not harmless):
        raise ValueError(
            f"On {dataset} nothing is trained against the dynamic adversary, as in the paper. Expected none of --batches, --steps, "
            "--attacked and --no-harmless, which are for that. Leave them out."
        )
    depth = (depth or (8 if quick else plan.depth)) if plan.depth else None
    budget = {
        "depth": depth,
        "width": width or plan.width,
        "epochs": epochs or (2 if quick else plan.epochs),
        "batches": batches or (min(plan.batches, 60) if quick else plan.batches),
        "learning_rate": learning_rate,
        "steps": steps or (20 if quick else 100),
    }
    budget["fitted"] = fitted = fitted or (min(plan.fitted, 1000) if quick else plan.fitted)
    number, searched = context.samples_or(500, 60), attacked or (30 if quick else 300)
    fought = (fitted if quick else plan.fought) if plan.dynamic else fitted
    train = data.load(dataset, "train", data_dir=context.data_dir, limit=fought and max(fought, fitted))
    test = data.load(dataset, "test", data_dir=context.data_dir)
    # Where no threshold is set, no sample is held out for it.
    number = min(number, len(test.x) // 2 if plan.dynamic else len(test.x))
    chosen, rest = test.divide(number) if number < len(test.x) else (test, test.take(slice(0)))
    network = context.network(plan.recipe, depth=depth, epochs=network_epochs or (1 if small else None))
    dynamic = {}
    if plan.dynamic:
        dynamic = {"fitted, dynamic": len(train.x), "strongest": searched, **detector_dynamic.told_of(plan, budget["batches"])}
    unused = () if plan.dynamic else ("batches", "steps")
    told = {name: value for name, value in budget.items() if name not in unused}
    context.settings.update({**told, "samples": number, **dynamic})
    setting = Setting(context, plan, network, budget, train, chosen, rest.take(slice(2000)))
    smaller = {"classifier": f"{depth} layers; the paper: 32"} if depth not in (None, 32) else {}
    context.settings.update({"network": network.parent.name, "layers": setting.layers, **DIFFERS, **plan.differs, **smaller})
    context.settings.update({"adversary of figure 5": shown(plan.dynamic) if plan.dynamic else None, "harmless": plan.harmless})
    plots = context.output / f"detector-{dataset}"
    plots.mkdir(parents=True, exist_ok=True)
    accuracy = _accuracy_rows(context, setting, test)
    sizes = chosen_sizes(setting, accuracy)
    weak = weak_ones(accuracy, sizes)
    found = detectabilities(context, setting, sizes)
    _detectability_rows(context, setting, accuracy, found, plots)
    _depth_rows(context, setting, found, sizes, weak, plots)
    _transfer_rows(context, setting, found, sizes, weak, plots)
    _mixture_rows(context, setting, found, sizes, accuracy)
    if plan.dynamic:
        detector_dynamic.add_rows(context, setting, min(searched, len(setting.test[0])), plots, harmless)


def _accuracy_rows(context, setting, test):
    import tfdefense as td

    clean = context.part("clean accuracy", lambda: td.evaluate(setting.base, test.x, test.y).accuracy)
    known = paper.CLEAN_ACCURACY.get(context.dataset)
    context.row("M9", "accuracy of the classifier, clean", clean, paper=known, samples=len(test.x), note=setting.plan.recipe)
    return {name: context.part(f"accuracy {name}", setting.accuracy, name) for name in context.turn(setting.adversaries)}


def _detectability_rows(context, setting, accuracy, found, plots):
    """Figure 2 (left) and figure 6."""
    from tfdefense.plots import detectability

    names, points = list(setting.adversaries), {}
    note = f"{HALF}; clean samples, and the twins of those that the classifier has right"
    for name in names:
        adversary, count = setting.adversaries[name], len(setting.test[0])
        known = paper.detectability(context.dataset, adversary.kind, adversary.size, setting.plan.l2[0])
        about = "; ".join(filter(None, [note, paper.bound(known)]))
        context.row("M4", f"detectability, {name}", found[name][name], paper=known, samples=count, note=about)
        context.row("M4", f"accuracy of the classifier, {name}", accuracy[name], samples=len(setting.attacked.x))
        context.row("M4", f"false positives, {name}", found[name]["false positives"], samples=len(setting.attacked.x))
        points.setdefault(adversary.kind, []).append((accuracy[name], found[name][name]))
    for limit in (0.3, 0.1):
        strong = [found[name][name] for name in names if accuracy[name] < limit]
        known = paper.LEAST.get(context.dataset, {}).get(limit)
        what = f"least detectability of adversaries that take accuracy under {limit:g}"
        about = "; ".join(filter(None, [f"{len(strong)} adversaries", paper.bound(known)]))
        context.row("M4", what, min(strong, default=None), paper=known, samples=len(setting.test[0]), note=about)
    detectability(points, plots / "detectability.png")


def weak_ones(accuracy, sizes):
    """Of the chosen adversaries those that leave more accuracy than the paper's did at their chosen size."""
    return {name: f"leaves an accuracy of {accuracy[name]:.3f}" for name in sizes.values() if accuracy[name] >= 0.3}


def _depth_rows(context, setting, found, sizes, weak, plots):
    """Figure 2 (right)."""
    from tfdefense.plots import matrix

    pairs = _depths(setting)
    if not pairs:
        return
    found = {(kind, depth): found[kind, depth][sizes[kind]] for kind, depth in pairs}
    few = setting.plan.by_depth and f"fitted on {min(setting.plan.by_depth, len(setting.samples['train'][0])):,} samples"
    for kind, depth in pairs:
        note = "; ".join(filter(None, [setting.layers[depth], few, weak.get(sizes[kind])]))
        what = f"detectability at AD({depth}), {sizes[kind]}"
        context.row("M4", what, found[kind, depth], samples=len(setting.test[0]), note=note)
    table = [[found[kind, depth] for depth in range(len(setting.layers))] for kind in KINDS]
    depths = [f"AD({depth})" for depth in range(len(setting.layers))]
    matrix(table, [sizes[kind] for kind in KINDS], depths, plots / "depth.png", ylabel="adversary", xlabel="attached at")


def _transfer_rows(context, setting, found, sizes, weak, plots):
    """Figures 3, 4, 7 and 8."""
    from tfdefense.plots import matrix

    for kind, norm in SIZED.items():
        swept = getattr(setting.plan, norm)
        names = [f"{kind} {shown(size)}" for size in swept]
        for fitted, size in zip(names, swept, strict=True):
            for tested, other in zip(names, swept, strict=True):
                known = paper.sized_transfer(context.dataset, kind, size, other, swept)
                what = f"detectability, fitted on {fitted}, tested on {tested}"
                context.row("M5", what, found[fitted][tested], paper=known, samples=len(setting.test[0]))
        table = [[found[fitted][tested] for tested in names] for fitted in names]
        labels = [shown(size) for size in swept]
        path = plots / f"transfer-{kind.replace(' ', '-')}.png"
        matrix(table, labels, labels, path, ylabel="fitted at", xlabel=f"tested at, {kind}")
    chosen = list(sizes.values())
    for fitted in chosen:
        for tested in chosen:
            if setting.adversaries[fitted].kind != setting.adversaries[tested].kind:
                what = f"detectability, fitted on {fitted}, tested on {tested}"
                context.row("M5", what, found[fitted][tested], samples=len(setting.test[0]), note=weak.get(tested, ""))
    table = [[found[fitted][tested] for tested in chosen] for fitted in chosen]
    matrix(table, chosen, chosen, plots / "transfer.png", ylabel="fitted on", xlabel="tested on")


def _strong(accuracy):
    return [name for name, share in accuracy.items() if share < 0.3]


def _mixture_rows(context, setting, found, sizes, accuracy):
    """One branch for all: fitted on all five, or on the iterative method in l2 alone."""
    alone = sizes["iterative l2"]
    for title, by_name in ((f"{MIXED} of the five", found[MIXED]), (f"{alone} alone", found[alone])):
        for name in setting.adversaries:
            what = f"one branch fitted on {title}: detectability, {name}"
            note = f"leaves an accuracy of {accuracy[name]:.3f}" if accuracy[name] >= 0.3 else ""
            context.row("M5", what, by_name[name], samples=len(setting.test[0]), note=note)
        for title_of, names in (("the five", sizes.values()), ("all that take accuracy under 0.3", _strong(accuracy))):
            what = f"one branch fitted on {title}: least detectability of {title_of}"
            context.row("M5", what, min((by_name[name] for name in names), default=None), samples=len(setting.test[0]))
