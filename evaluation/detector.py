"""Detector branch: detectability of attacks, transfer of detectors, the dynamic adversary and training against it.

Rows M2 to M9: detectability against the classifier's accuracy by adversary and size, and by depth; transfer over sizes and
adversaries; one branch fitted on a mixture; static and dynamic detector under the dynamic adversary for each sigma; all of
them under the strongest attacks and under harmless changes, fitted with and without such changes labelled clean. A
classifier, samples and epochs smaller than the paper's: see the settings. On MNIST 80 minutes with `--workers 2`
on two free, fast CPU cores: the three dynamic detectors and the strongest attacks take most of them.
"""

from typing import Annotated

import numpy as np
import typer

from evaluation import detector_paper as paper
from evaluation.controls import changed, shown, told
from evaluation.detector_fit import Setting
from evaluation.detector_plan import DIFFERS, KINDS, PLANS, SIZED, STRONGEST, evading, strongest

DATASETS = ("mnist", "cifar10", "imagenette_small", "digits")
SIGMAS = tuple(sorted({round(0.1 * i, 2) for i in range(11)} | {round(0.4 + 0.01 * i, 2) for i in range(11)}))
QUICK_SIGMAS = (0.0, 0.3, 0.4, 0.45, 0.5, 1.0)
ENOUGH = 30
PLAIN = ("static", "dynamic")
MIXTURE = "dynamic, against a mixture"
DETECTORS = (*PLAIN, MIXTURE, *(f"{name} with harmless changes" for name in PLAIN))
HALF = "decision at a probability of one half"
# The searches that each of them is put under, for the rows.
TOLD = {
    "strongest": "strongest of all",
    "paper": "the paper's dynamic adversary",
    "half": f"the paper's dynamic adversary, {HALF}",
    "evade": "PGD on max(margin, suspicion)",
}


def on_every_adversary(setting, fitted_on, layer, names):
    """Detectability of several adversaries by one branch, and its false positives."""
    from tfdefense.decisions import decide
    from tfdefense.metrics import detectability

    defended = setting.detector(fitted_on, layer)
    clean = decide(defended, setting.attacked.x).suspicion
    found = {name: detectability(clean, decide(defended, setting.twins(name)).suspicion) for name in names}
    return found | {"false positives": float((clean > 0).mean())}


def fitting(setting, name):
    """How one of the detectors that are compared under attacks that know them is fitted."""
    from tfdefense.attacks import PGD, DynamicAdversary, Evade

    size, layer = setting.plan.dynamic, setting.layers[setting.plan.usual]
    static = name.startswith("static")
    if static:
        fitted_on = (f"iterative linf {shown(size)}",)
    else:
        evading = PGD(size, steps=10, objective=Evade(), random_start=True)
        fitted_on = [DynamicAdversary(size)] + [evading] * (name == MIXTURE)
    # As many steps as on the fly.
    batches = setting.budget["batches"] if static else None
    return {"fitted_on": fitted_on, "layer": layer, "harmless": "harmless" in name, "batches": batches}


def dynamic_detector(setting, name, threshold):
    return setting.detector(**fitting(setting, name), threshold=threshold)


def took(setting, name):
    """Steps and CPU seconds of fitting."""
    with np.load(setting.branch(**fitting(setting, name))) as file:
        return {"steps": int(file["steps"]), "seconds": float(file["seconds"])}


def under_sigma(setting, name, sigma):
    """A detector under the dynamic adversary: on all clean samples, and on those that are misclassified by it, as in the paper."""
    import tfdefense as td
    from tfdefense.attacks import DynamicAdversary
    from tfdefense.decisions import decide
    from tfdefense.metrics import detectability, successful_pairs

    defended = dynamic_detector(setting, name, threshold=0.0)
    x, y = setting.test
    result = DynamicAdversary(setting.plan.dynamic, sigma=sigma)(defended, x, y)
    clean, attacked = td.evaluate(defended, x, y), td.evaluate(defended, result, y)
    misled = successful_pairs(clean, attacked)
    accuracy = attacked.accuracy_before_rejection * setting.samples["test"][2]
    found = {"detectability": None, "detected": None, "successful": int(misled.sum()), "accuracy": accuracy}
    if misled.sum() >= ENOUGH:
        suspicion = attacked.suspicion[misled]
        found["detectability"] = detectability(decide(defended, setting.attacked.x).suspicion, suspicion)
        found["detected"] = float((suspicion > 0).mean())
    return found


def under_strongest(setting, name, number, sigmas):
    """Which samples fool it at each size: by PGD alone, by the strongest search, and by the paper's dynamic adversary.

    The threshold rejects 5 % of held-out clean samples. Who fools it at one size does so at each larger one, and what PGD has
    found the others need not look for; of the paper's adversary, which ends where it ends, each size stands alone. That one's
    steps know of no threshold: what it finds is judged by one half as well.
    """
    from tfdefense.attacks import DynamicAdversary, Strongest
    from tfdefense.decisions import decide

    defended, half = (dynamic_detector(setting, name, threshold) for threshold in (None, 0.0))
    x, y = (part[:number] for part in setting.test)
    steps, found = setting.budget["steps"], {title: [] for title in TOLD}
    evaded = fooled = np.zeros(len(x), bool)
    for size in setting.plan.strongest:
        first = evading(size, steps)
        evaded = evaded | first(defended, x, y, only=~evaded).success
        fooled = fooled | evaded
        others = Strongest([one for one in strongest(size, steps).attacks if one != first], until_success=True)
        fooled = fooled | others(defended, x, y, only=~fooled).success
        ends = [DynamicAdversary(size, sigma=one)(half, x, y).x_adv for one in sigmas]
        rows = {"evade": evaded, "strongest": fooled}
        for title, judge in (("paper", defended), ("half", half)):
            labels = np.array([decide(judge, x_adv).label for x_adv in ends])
            rows[title] = ((labels != y) & (labels != -1)).any(0)
        for title, own in rows.items():
            found[title].append(own.tolist())
    return found


def control(setting, name):
    """What a detector rejects of samples that nobody attacked, at both thresholds."""
    import tfdefense as td

    # Noise as large as the strongest attacks is among them.
    tested = dict.fromkeys((*setting.plan.tested, *(("sign", size) for size in setting.plan.strongest)))
    y, changes, found = setting.attacked.y, changed(setting.attacked.x, tested), {}
    for threshold, title in ((None, "calibrated"), (0.0, "half")):
        defended = dynamic_detector(setting, name, threshold)
        found[title] = {change: td.evaluate(defended, x, y).rejection for change, x in changes.items()}
    return found


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
    width: Annotated[int | None, typer.Option(help="Maps of the branch's first convolution; the paper has 96.", min=1)] = None,
    fitted: Annotated[int | None, typer.Option(help="Training samples of a static branch.", min=128)] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of a static branch; the paper has 20.", min=1)] = None,
    batches: Annotated[int | None, typer.Option(help="Batches of 128 of a dynamic branch.", min=1)] = None,
    network_epochs: Annotated[int | None, typer.Option(help="Epochs of the classifier; else its recipe's.", min=1)] = None,
    learning_rate: Annotated[float, typer.Option(help="Of Adam, falling as a cosine; the paper has a constant 1e-4.")] = 1e-3,
    steps: Annotated[int | None, typer.Option(help="Steps of the strongest attacks; 100, or 20 in a quick run.", min=1)] = None,
    attacked: Annotated[int | None, typer.Option(help="Samples for the strongest attacks; 300, or 30.", min=1)] = None,
):
    from tfdefense import data

    quick, dataset = context.quick, context.dataset
    plan, small = PLANS[dataset], quick and dataset != "digits"
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
    train = data.load(dataset, "train", data_dir=context.data_dir, limit=None if plan.dynamic and not quick else fitted)
    test = data.load(dataset, "test", data_dir=context.data_dir)
    # Where no threshold is set, no sample is held out for it.
    number = min(number, len(test.x) // 2 if plan.dynamic else len(test.x))
    chosen, rest = test.divide(number) if number < len(test.x) else (test, test.take(slice(0)))
    network = context.network(plan.recipe, depth=depth, epochs=network_epochs or (1 if small else None))
    fought = {"fitted, dynamic": len(train.x), "strongest": searched}
    unused = () if plan.dynamic else ("batches", "steps")
    told = {name: value for name, value in budget.items() if name not in unused}
    context.settings.update({**told, "samples": number, **(fought if plan.dynamic else {})})
    setting = Setting(context, plan, network, budget, train, chosen, rest.take(slice(2000)))
    context.settings.update({"network": network.parent.name, "layers": setting.layers, **DIFFERS, **plan.differs})
    context.settings.update({"adversary of figure 5": shown(plan.dynamic) if plan.dynamic else None, "harmless": plan.harmless})
    plots = context.output / f"detector-{dataset}"
    plots.mkdir(parents=True, exist_ok=True)
    accuracy = _accuracy_rows(context, setting, test)
    sizes = chosen_sizes(setting, accuracy)
    weak = weak_ones(accuracy, sizes)
    found = _detectability_rows(context, setting, accuracy, plots)
    _depth_rows(context, setting, sizes, weak, plots)
    _transfer_rows(context, setting, found, sizes, weak, plots)
    _mixture_rows(context, setting, found, sizes, accuracy)
    if plan.dynamic:
        against = _measured(context, setting, min(searched, len(setting.test[0])))
        _sigma_rows(context, setting, against, plots)
        _control_rows(context, setting, against)
        _strongest_rows(context, setting, against, plots)


def _accuracy_rows(context, setting, test):
    import tfdefense as td

    clean = context.part("clean accuracy", lambda: td.evaluate(setting.base, test.x, test.y).accuracy)
    known = paper.CLEAN_ACCURACY.get(context.dataset)
    context.row("M9", "accuracy of the classifier, clean", clean, paper=known, samples=len(test.x), note=setting.plan.recipe)
    return {name: context.part(f"accuracy {name}", setting.accuracy, name) for name in context.turn(setting.adversaries)}


def _detectability_rows(context, setting, accuracy, plots):
    """Figure 2 (left) and figure 6. Each branch is asked about every adversary: the transfer needs that too."""
    from tfdefense.plots import detectability

    names, found, points = list(setting.adversaries), {}, {}
    for name in context.turn(names):
        layer = setting.layer(setting.adversaries[name].kind)
        found[name] = context.part(f"fitted on {name}", on_every_adversary, setting, (name,), layer, names)
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
    return found


def weak_ones(accuracy, sizes):
    """Of the chosen adversaries those that leave more accuracy than the paper's did at their chosen size."""
    return {name: f"leaves an accuracy of {accuracy[name]:.3f}" for name in sizes.values() if accuracy[name] >= 0.3}


def _depth_rows(context, setting, sizes, weak, plots):
    """Figure 2 (right)."""
    from tfdefense.plots import matrix

    if len(setting.layers) == 1:
        return
    pairs = [(kind, depth) for kind in KINDS for depth in range(len(setting.layers))]
    found = {}
    for kind, depth in context.turn(pairs):
        arguments = ((sizes[kind],), setting.layers[depth], [sizes[kind]])
        found[kind, depth] = context.part(f"AD({depth}), {sizes[kind]}", on_every_adversary, setting, *arguments)[sizes[kind]]
    for kind, depth in pairs:
        note = "; ".join(filter(None, [setting.layers[depth], weak.get(sizes[kind])]))
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
    chosen, layer = tuple(sizes.values()), setting.layers[setting.plan.usual]
    mixture = context.part("fitted on a mixture", on_every_adversary, setting, chosen, layer, list(setting.adversaries))
    alone = sizes["iterative l2"]
    for title, by_name in (("a mixture of the five", mixture), (f"{alone} alone", found[alone])):
        for name in setting.adversaries:
            what = f"one branch fitted on {title}: detectability, {name}"
            note = f"leaves an accuracy of {accuracy[name]:.3f}" if accuracy[name] >= 0.3 else ""
            context.row("M5", what, by_name[name], samples=len(setting.test[0]), note=note)
        for title_of, names in (("the five", chosen), ("all that take accuracy under 0.3", _strong(accuracy))):
            what = f"one branch fitted on {title}: least detectability of {title_of}"
            context.row("M5", what, min((by_name[name] for name in names), default=None), samples=len(setting.test[0]))


def _measured(context, setting, number):
    """What is measured on each of the detectors that are compared, by its name and by what it is."""
    sigmas, found = QUICK_SIGMAS if context.quick else SIGMAS, {}
    # Fitting on the fly takes longest: two processes begin at different ones, and meet at those that take the least.
    names = [name for name in DETECTORS if name != MIXTURE or setting.plan.mixed]
    long, short = ([name for name in names if name.startswith(kind)] for kind in ("dynamic", "static"))
    jobs = {"control": (control,), **{f"sigma {sigma:g}": (under_sigma, sigma) for sigma in sigmas}}
    jobs["strongest"] = (under_strongest, number, sigmas)
    for name in context.turn([*long[:-1], *short, *long[-1:]]):
        # Fitting comes first whichever way a process goes: what is measured first would be told to have taken as long.
        found[name] = {"fitting": context.part(f"{name}, fitting", took, setting, name)}
        for job in context.turn(jobs):
            measure, *more = jobs[job]
            found[name][job] = context.part(f"{name}, {job}", measure, setting, name, *more)
    return {name: found[name] for name in names}


def _sigma_rows(context, setting, measured, plots):
    """Figure 5."""
    from tfdefense.plots import detectability

    sigmas, points = QUICK_SIGMAS if context.quick else SIGMAS, {}
    about = f"dynamic adversary at {shown(setting.plan.dynamic)}"
    for name in measured:
        counted = []
        for sigma in sigmas:
            one = measured[name][f"sigma {sigma:g}"]
            known = paper.under_sigma(context.dataset, name, sigma)
            accuracy = f"accuracy of the classifier {one['accuracy']:.3f}"
            if one["detectability"] is None:
                note = f"too few: {one['successful']} successful, {ENOUGH} are needed; {accuracy}"
            else:
                note = "; ".join(filter(None, [HALF, f"{one['detected']:.3f} detected", accuracy, paper.bound(known)]))
                counted.append((sigma, one))
            what = f"detectability, {about}, sigma {sigma:g}, {name}"
            context.row("M8", what, one["detectability"], paper=known, samples=one["successful"], note=note)
        values = [one["detectability"] for _, one in counted]
        what = f"least detectability over the sigmas that count, {name}"
        known = paper.under_sigma(context.dataset, name, None)
        worst, one = min(counted, key=lambda each: each[1]["detectability"], default=(None, {"successful": 0}))
        at = f"at {worst:g}" if counted else ""
        note = "; ".join(filter(None, [at, f"{len(counted)} of {len(sigmas)} count", paper.bound(known)]))
        context.row("M8", what, min(values, default=None), paper=known, samples=one["successful"], note=note)
        context.curve("M8", f"detectability against sigma, {name}", [sigma for sigma, _ in counted], values)
        if counted:
            points[name] = [(one["accuracy"], one["detectability"]) for _, one in counted]
    if points:
        detectability(points, plots / "dynamic.png")


def _control_rows(context, setting, measured):
    for name in measured:
        one, static = measured[name]["fitting"], name.startswith("static")
        note = "interrupted: nobody knows what it took"
        if np.isfinite(one["seconds"]):
            note = f"{one['seconds']:.0f} s of CPU time on this machine" + (", without the attacks that made its samples" * static)
        what = f"steps of 128 samples that fitted it, {name}"
        context.row("M7", what, one["steps"], samples=(1 + static) * len(setting.samples["whole"][0]), note=note)
        for threshold, title in (("half", HALF), ("calibrated", "threshold at 5 %")):
            for change, rejected in measured[name]["control"][threshold].items():
                seen = change in [told(known) for known in setting.plan.harmless]
                note = f"{title}; {'among' if seen and 'harmless' in name else 'not among'} the changes it was fitted on"
                what = f"rejected, {change}, {title}, {name}"
                clean = change == "unchanged"
                context.row("M7" if clean else "M8", what, rejected, samples=len(setting.attacked.x), note="" if clean else note)


def _strongest_rows(context, setting, measured, plots):
    from tfdefense.metrics import SecurityCurve
    from tfdefense.plots import security_curve

    curves, sizes = {}, setting.plan.strongest
    sigmas = QUICK_SIGMAS if context.quick else SIGMAS
    about = {
        "strongest": f"{STRONGEST}; {setting.budget['steps']} steps, all starts but of the dynamic adversary, from the sample",
        "evade": f"{setting.budget['steps']} steps, all starts",
        "paper": f"as in the paper 10 steps from the sample, the last point; the best of {len(sigmas)} sigmas from 0 to 1",
    }
    about["half"] = about["paper"]
    for name in measured:
        for title, what in TOLD.items():
            held = []
            for size, fooled in zip(sizes, measured[name]["strongest"][title], strict=True):
                held.append(float(1 - np.mean(fooled)))
                note = f"{about[title]}; {HALF if title == 'half' else 'threshold at 5 %'}, of what was right"
                if title in ("strongest", "evade") and size == sizes[-1] and held[-1] >= 0.1:
                    note += "; the curve does not fall under 0.1: the attack failed here, an upper limit"
                context.row("M8", f"not fooled, {what}, linf {shown(size)}, {name}", held[-1], samples=len(fooled), note=note)
            if title == "strongest":
                curves[name] = SecurityCurve(sizes, [held], [[0.0] * len(sizes)], [[1 - share for share in held]])
    security_curve(curves, plots / "strongest.png", xlabel="linf", rejection=False)
