"""For `evaluation/detector.py`: the dynamic adversary, training against it, and detectors under all who know them."""

import numpy as np

from evaluation.papers.detector import numbers as paper
from evaluation.papers.detector.fit import took
from evaluation.papers.detector.settings import HALF, STRONGEST, evading, strongest
from evaluation.runner.benign import changed, shown, told

SIGMAS = tuple(sorted({round(0.1 * i, 2) for i in range(11)} | {round(0.4 + 0.01 * i, 2) for i in range(11)}))
QUICK_SIGMAS = (0.0, 0.3, 0.4, 0.45, 0.5, 1.0)
ENOUGH = 30
PLAIN = ("static", "dynamic")
MIXTURE = "dynamic, against a mixture"
DETECTORS = (*PLAIN, MIXTURE, *(f"{name} with harmless changes" for name in PLAIN))
# The searches that each of them is put under, for the rows.
TOLD = {
    "strongest": "strongest of all",
    "paper": "the paper's dynamic adversary",
    "half": f"the paper's dynamic adversary, {HALF}",
    "evade": "PGD on max(margin, suspicion)",
}


def told_of(plan, batches):
    """How dynamic training differs from the paper's, for the settings."""
    stages = ", ".join(shown(size) for size in (*plan.annealed, plan.dynamic))
    found = {}
    if plan.annealed:
        found["sizes of dynamic training"] = (
            f"{stages} in turn, {_share(plan, batches)} batches or some more for each, with a learning rate that falls anew; the "
            "paper: the last alone"
        )
    if plan.fighting != 10:
        found["steps of its adversary"] = f"{plan.fighting} in training, 10 under test; the paper: 10"
    return found


def _share(plan, batches):
    """Of the batches of dynamic training what each of its sizes gets."""
    return -(-batches // (len(plan.annealed) + 1))


def fitting(setting, name, size=None):
    """How one of the detectors that are compared under attacks that know them is fitted; training may end at a larger size."""
    from tfdefense.attacks import PGD, DynamicAdversary, Evade

    plan, layer = setting.plan, setting.layers[setting.plan.usual]
    sizes = (*plan.annealed, plan.dynamic)
    batches = _share(plan, setting.budget["batches"])
    if name.startswith("static"):
        # As many steps as on the fly, but that both go on to the end of an epoch.
        fitted_on, batches = (f"iterative linf {shown(plan.dynamic)}",), batches * len(sizes)
    else:
        fitted_on = []
        for one in sizes[: sizes.index(size or plan.dynamic) + 1]:
            evading = PGD(one, steps=10, objective=Evade(), random_start=True)
            fitted_on.append([DynamicAdversary(one, steps=plan.fighting)] + [evading] * (name == MIXTURE))
    return {"fitted_on": fitted_on, "layer": layer, "harmless": "harmless" in name, "batches": batches}


def dynamic_detector(setting, name, threshold, size=None):
    return setting.detector(**fitting(setting, name, size), threshold=threshold)


def took_to_fit(setting, name):
    return took(setting.branch(**fitting(setting, name)))


def under_sigma(setting, name, sigma, size=None):
    """A detector under the dynamic adversary: on all clean samples, and on those that are misclassified by it, as in the paper.

    Args:
        size: That of the attack, where another than the plan's; a detector that was fitted on the fly is that whose training
            ended there.
    """
    import tfdefense as td
    from tfdefense.attacks import DynamicAdversary
    from tfdefense.metrics import detectability, successful_pairs
    from tfdefense.view import decide

    defended = dynamic_detector(setting, name, 0.0, size)
    x, y = setting.test
    result = DynamicAdversary(size or setting.plan.dynamic, sigma=sigma)(defended, x, y)
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
    from tfdefense.attacks import DynamicAdversary, WorstCase
    from tfdefense.view import decide

    defended, half = (dynamic_detector(setting, name, threshold) for threshold in (None, 0.0))
    x, y = (part[:number] for part in setting.test)
    steps, found = setting.budget["steps"], {title: [] for title in TOLD}
    evaded = fooled = np.zeros(len(x), bool)
    for size in setting.plan.strongest:
        rows, ends = {}, [DynamicAdversary(size, sigma=one)(half, x, y).x_adv for one in sigmas]
        for title, judge in (("paper", defended), ("half", half)):
            labels = np.array([decide(judge, x_adv).label for x_adv in ends])
            rows[title] = ((labels != y) & (labels != -1)).any(0)
        first = evading(size, steps)
        evaded = evaded | first(defended, x, y, only=~evaded).success
        fooled = fooled | evaded | rows["paper"]
        others = WorstCase([one for one in strongest(size, steps).attacks if one != first], until_success=True)
        fooled = fooled | others(defended, x, y, only=~fooled).success
        for title, own in (rows | {"evade": evaded, "strongest": fooled}).items():
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


def add_rows(context, setting, number, plots, harmless=True):
    """M7 and M8; `number` of the samples are attacked by all who know a detector."""
    names = [name for name in DETECTORS if (name != MIXTURE or setting.plan.mixed) and (harmless or "harmless" not in name)]
    measured = _measured(context, setting, number, names)
    _sigma_rows(context, setting, measured, plots)
    _annealed_rows(context, setting)
    _control_rows(context, setting, measured)
    _strongest_rows(context, setting, measured, plots)


def _measured(context, setting, number, names):
    """What is measured on each of the detectors that are compared, by its name and by what it is."""
    sigmas, found = QUICK_SIGMAS if context.quick else SIGMAS, {}
    # Fitting on the fly takes longest: two processes begin at different ones, and meet at those that take the least.
    long, short = ([name for name in names if name.startswith(kind)] for kind in ("dynamic", "static"))
    jobs = {"control": (control,), **{f"sigma {sigma:g}": (under_sigma, sigma) for sigma in sigmas}}
    jobs["strongest"] = (under_strongest, number, sigmas)
    for name in context.turn([*long[:-1], *short, *long[-1:]]):
        # Fitting comes first whichever way a process goes: what is measured first would be told to have taken as long.
        found[name] = {"fitting": context.part(f"{name}, fitting", took_to_fit, setting, name)}
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
        _least_row(context, name, counted, len(sigmas), paper.under_sigma(context.dataset, name, None))
        if counted:
            points[name] = [(one["accuracy"], one["detectability"]) for _, one in counted]
    if points:
        detectability(points, plots / "dynamic.png")


def _least_row(context, about, counted, tried, known=None):
    """Of pairs of a sigma and what was measured at it: the sigma that is worst for the detector, and the curve."""
    worst, one = min(counted, key=lambda each: each[1]["detectability"], default=(None, {"successful": 0, "detectability": None}))
    at = f"at {worst:g}" if counted else ""
    note = "; ".join(filter(None, [at, f"{len(counted)} of {tried} count", paper.bound(known)]))
    what = f"least detectability over the sigmas that count, {about}"
    context.row("M8", what, one["detectability"], paper=known, samples=one["successful"], note=note)
    sigmas, values = [sigma for sigma, _ in counted], [one["detectability"] for _, one in counted]
    context.curve("M8", f"detectability against sigma, {about}", sigmas, values)


def _annealed_rows(context, setting):
    """The same at the larger sizes that dynamic training began with, by the detectors of these stages, in the paper's sigmas."""
    sigmas = [sigma for sigma in SIGMAS if round(10 * sigma, 6) % 1 == 0]
    pairs = [(size, sigma) for size in setting.plan.annealed for sigma in sigmas]
    found = {}
    for size, sigma in context.turn(pairs):
        name = f"dynamic, trained and attacked at {shown(size)}, sigma {sigma:g}"
        found[size, sigma] = context.part(name, under_sigma, setting, "dynamic", sigma, size)
    for size in setting.plan.annealed:
        counted = [(sigma, found[size, sigma]) for sigma in sigmas if found[size, sigma]["detectability"] is not None]
        _least_row(context, f"dynamic, trained and attacked at {shown(size)}", counted, len(sigmas))


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
        "strongest": f"{STRONGEST}; {setting.budget['steps']} steps, all starts but of the dynamic adversary, from the sample; and "
        "all that the paper's finds",
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
