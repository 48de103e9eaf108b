"""The dynamic adversary, training against it, and detectors under all adaptive attacks and benign perturbations."""

import numpy as np

from evaluation.papers.detector.fit import took
from evaluation.papers.detector.settings import BRANCH, CALIBRATED, HALF, strongest
from evaluation.papers.intervals import balanced, wilson
from evaluation.runner.benign import perturbed, size_text

SIGMAS = tuple(sorted({round(0.1 * i, 2) for i in range(11)} | {round(0.4 + 0.01 * i, 2) for i in range(11)}))
QUICK_SIGMAS = (0.0, 0.3, 0.4, 0.45, 0.5, 1.0)
ENOUGH = 30
PLAIN = ("static", "dynamic")
MIXTURE = "dynamic, against a mixture"
DETECTORS = (*PLAIN, MIXTURE, *(f"{name} with benign perturbations" for name in PLAIN))
# The attacks that each of them is put under, for the rows. The paper's takes the best of all sigmas, with steps that know of no
# threshold: what it finds is judged by a probability of one half as well.
ATTACKS = {
    "strongest": {"attack": "worst case", "starts": "all", "threshold": CALIBRATED},
    "paper": {"attack": "dynamic adversary", "starts": "sample", "threshold": CALIBRATED},
    "half": {"attack": "dynamic adversary", "starts": "sample", "threshold": HALF},
    "evade": {"attack": "PGD", "starts": "all", "threshold": CALIBRATED},
}
# The failed check of a curve whose last point is above it.
FALLS, LEFT = "falls at a large size", 0.1


def differs(plan, batches):
    """How dynamic training differs from the paper's, for the settings."""
    stages = ", ".join(size_text(size) for size in (*plan.annealed, plan.dynamic))
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
    """How one of the detectors that are compared under adaptive attacks is fitted; training may end at a larger size."""
    from tfdefense.attacks import PGD, DynamicAdversary, Evade

    plan, layer = setting.plan, setting.layers[setting.plan.usual]
    sizes = (*plan.annealed, plan.dynamic)
    batches = _share(plan, setting.budget["batches"])
    if name.startswith("static"):
        # As many steps as on the fly, but that both go on to the end of an epoch; the paper has as many epochs, each twice as long.
        fitted_on = (f"iterative linf {size_text(plan.dynamic)}",)
        batches *= 2 if setting.budget.get("as_in_the_paper") else len(sizes)
    else:
        fitted_on = []
        for one in sizes[: sizes.index(size or plan.dynamic) + 1]:
            pgd = PGD(one, steps=10, objective=Evade(), random_start=True, schedule="fixed")
            fitted_on.append([DynamicAdversary(one, steps=plan.fighting, schedule="fixed")] + [pgd] * (name == MIXTURE))
    return {"fitted_on": fitted_on, "layer": layer, "benign": "benign" in name, "batches": batches}


def dynamic_detector(setting, name, threshold, size=None, depth=None):
    return setting.detector(**fitting(setting, name, size), threshold=threshold, depth=depth)


def took_to_fit(setting, name, depth=None):
    return took(setting.branch(**fitting(setting, name), depth=depth))


def under_sigma(setting, name, sigma, size=None, depth=None):
    """A detector under the dynamic adversary: on all clean samples, and on those that are misclassified by it, as in the paper.

    Args:
        size: That of the attack, where another than the plan's; a detector that was fitted on the fly is that whose training
            ended there.
        depth: Convolutions of the branch, where they are others than the run's.
    """
    import tfdefense as td
    from tfdefense.attacks import DynamicAdversary
    from tfdefense.metrics import detectability, successful_pairs
    from tfdefense.view import decide

    defended = dynamic_detector(setting, name, 0.0, size, depth)
    x, y = setting.test
    result = DynamicAdversary(size or setting.plan.dynamic, sigma=sigma, schedule="fixed")(defended, x, y)
    clean, attacked = td.evaluate(defended, x, y), td.evaluate(defended, result, y)
    wrong = successful_pairs(clean, attacked)
    accuracy = attacked.accuracy_before_rejection * setting.samples["test"][2]
    found = {"detectability": None, "successful": int(wrong.sum()), "accuracy": accuracy}
    unattacked = decide(defended, setting.attacked.x).suspicion
    if wrong.sum() >= ENOUGH:
        found["detectability"] = detectability(unattacked, attacked.suspicion[wrong])
    return found | {"false positives": float((unattacked > 0).mean())}


def under_strongest(setting, name, number, sigmas):
    """On which samples attacks succeed at each size: PGD alone, the worst case over attacks, and the paper's dynamic adversary.

    The threshold rejects 5 % of held-out clean samples. A success at one size is one at each larger size, and what PGD has found
    the others need not look for; of the paper's adversary, which ends where it ends, each size stands alone.
    """
    from tfdefense.attacks import DynamicAdversary
    from tfdefense.view import decide

    defended, half = (dynamic_detector(setting, name, threshold) for threshold in (None, 0.0))
    x, y = (part[:number] for part in setting.test)
    steps, found = setting.budget["steps"], {title: [] for title in ATTACKS}
    evaded = broken = np.zeros(len(x), bool)
    for size in setting.plan.strongest:
        rows, ends = {}, [DynamicAdversary(size, sigma=one, schedule="fixed")(half, x, y).x_adv for one in sigmas]
        for title, judge in (("paper", defended), ("half", half)):
            labels = np.array([decide(judge, x_adv).label for x_adv in ends])
            rows[title] = ((labels != y) & (labels != -1)).any(0)
        evaded = evaded | strongest(size, steps).named["PGD"](defended, x, y, only=~evaded).success
        broken = broken | evaded | rows["paper"]
        broken = broken | strongest(size, steps, without=("PGD",))(defended, x, y, only=~broken).success
        for title, own in (rows | {"evade": evaded, "strongest": broken}).items():
            found[title].append(own.tolist())
    return found


def _perturbations(plan):
    """Noise as large as the strongest attacks is among them."""
    return list(dict.fromkeys((*plan.tested, *(("sign", size) for size in plan.strongest))))


def false_positives(setting, name):
    """What a detector rejects at each threshold of the clean samples, and of those under each benign perturbation."""
    import tfdefense as td

    y, found = setting.attacked.y, {}
    samples = [x for _, _, x in perturbed(setting.attacked.x, _perturbations(setting.plan))]
    for threshold, title in ((0.0, HALF), (None, CALIBRATED)):
        defended = dynamic_detector(setting, name, threshold)
        found[title] = [td.evaluate(defended, x, y).rejection for x in samples]
    return found


def add_rows(context, setting, number, plots, benign=True):
    """M7 and M8; `number` of the samples are attacked by all adaptive attacks."""
    names = [name for name in DETECTORS if (name != MIXTURE or setting.plan.mixed) and (benign or "benign" not in name)]
    measured = _measured(context, setting, number, names)
    sigma_rows(context, setting, measured, sigmas_of(context), plots)
    _annealed_rows(context, setting)
    training_rows(context, setting, measured)
    _benign_rows(context, setting, measured)
    _adaptive_rows(context, setting, measured, plots)


def sigmas_of(context):
    return QUICK_SIGMAS if context.quick else SIGMAS


def tenths(sigmas):
    """Those that the paper has."""
    return [sigma for sigma in sigmas if round(10 * sigma, 6) % 1 == 0]


def _measured(context, setting, number, names):
    """What is measured on each of the detectors that are compared, by its name and by what it is."""
    sigmas = sigmas_of(context)
    jobs = {"control": (false_positives,), **{f"sigma {sigma:g}": (under_sigma, sigma) for sigma in sigmas}}
    jobs["strongest"] = (under_strongest, number, sigmas)
    # Fitting comes first, or what is measured first would seem to take as long; on the fly it takes longest.
    longest = sorted(names, key=lambda name: name.startswith("static"))
    found = context.parts({f"{name}, fitting": (took_to_fit, setting, name) for name in longest})
    found |= context.parts({
        f"{name}, {job}": (measure, setting, name, *more) for name in names for job, (measure, *more) in jobs.items()
    })  # fmt: skip
    return {name: {job: found[f"{name}, {job}"] for job in ("fitting", *jobs)} for name in names}


def _under(name, size):
    """Fields of rows on a detector under the dynamic adversary at a size."""
    return {
        "row": "M8", "system": BRANCH, "detector": name, "attack": "dynamic adversary", "norm": "linf", "epsilon": size,
        "knowledge": "adaptive", "starts": "sample",
    }  # fmt: skip


def sigma_rows(context, setting, measured, sigmas, plots):
    """Figure 5."""
    from tfdefense.plots import detectability

    points, size = {}, setting.plan.dynamic
    for name, found in measured.items():
        by_sigma = {sigma: found[f"sigma {sigma:g}"] for sigma in sigmas}
        for sigma, one in by_sigma.items():
            few = one["detectability"] is None
            note = f"too few: {one['successful']} successful, {ENOUGH} are needed" if few else ""
            about = _under(name, size) | {"sigma": sigma}
            fields = about | {"n": one["successful"], "note": note, "interval": _interval(setting, one)}
            context.row("metzen2017.fig5", "detection accuracy", one["detectability"], **fields)
            count = len(setting.attacked.x)
            fields = about | {"system": "no defense", "n": count, "interval": wilson(one["accuracy"], count)}
            context.row("metzen2017.fig5", "accuracy", one["accuracy"], **fields)
        counted = least_row(context, setting, name, size, by_sigma)
        if counted:
            points[name] = [(one["accuracy"], one["detectability"]) for one in counted.values()]
    if points:
        detectability(points, plots / "dynamic.png")


def _interval(setting, one):
    return balanced(one["detectability"], one.get("false positives"), len(setting.attacked.x), one["successful"])


def least_row(context, setting, name, size, by_sigma, table="metzen2017.fig5", **fields):
    """The sigma that is worst for the detector; returns those that count."""
    counted = {sigma: one for sigma, one in by_sigma.items() if one["detectability"] is not None}
    worst = min(counted, key=lambda sigma: counted[sigma]["detectability"], default=None)
    one = counted.get(worst, {"successful": 0, "detectability": None})
    at = f"at sigma {worst:g}; " if counted else ""
    note = f"{at}{len(counted)} of {len(by_sigma)} count"
    fields = _under(name, size) | {"statistic": "minimum", "n": one["successful"], "note": note} | fields
    fields["interval"] = _interval(setting, one)
    context.row(table, "detection accuracy", one["detectability"], **fields)
    return counted


def _annealed_rows(context, setting):
    """The same at the larger sizes that dynamic training began with, by the detectors of these stages, in the paper's sigmas."""
    sigmas = tenths(SIGMAS)
    pairs = {(size, sigma): f"trained and attacked at {size_text(size)}" for size in setting.plan.annealed for sigma in sigmas}
    found = context.parts({
        f"dynamic, {stage}, sigma {sigma:g}": (under_sigma, setting, "dynamic", sigma, size)
        for (size, sigma), stage in pairs.items()
    })  # fmt: skip
    for size in setting.plan.annealed:
        by_sigma = {sigma: found[f"dynamic, {pairs[size, sigma]}, sigma {sigma:g}"] for sigma in sigmas}
        counted = least_row(context, setting, "dynamic", size, by_sigma)
        values = [one["detectability"] for one in counted.values()]
        context.curve("metzen2017.fig5", "sigma", counted, "detection accuracy", values, **_under("dynamic", size))


def training_rows(context, setting, measured):
    for name, found in measured.items():
        took, static = found["fitting"], name.startswith("static")
        fields = {"row": "M7", "system": BRANCH, "detector": name, "n": (1 + static) * len(setting.samples["whole"][0])}
        context.row("metzen2017.ours.training", "count", took["steps"], statistic="steps of 128 samples", **fields)
        seconds = took["seconds"] if np.isfinite(took["seconds"]) else None
        note = "without the attacks that made its samples" * static if seconds else "interrupted: nobody knows what it took"
        context.row("metzen2017.ours.training", "CPU seconds", seconds, note=note, **fields)


def _benign_rows(context, setting, measured):
    plan = setting.plan
    for name, found in measured.items():
        for threshold, rates in found["control"].items():
            for (kind, size), rate in zip([("", None), *_perturbations(plan)], rates, strict=True):
                seen = "benign" in name and (kind, size) in plan.labelled_clean if kind else None
                context.row(
                    "metzen2017.ours.benign", "false-positive rate", rate, row="M8" if kind else "M7", system=BRANCH, detector=name,
                    perturbation=kind, epsilon=size, threshold=threshold, in_training=seen, n=len(setting.attacked.x),
                )  # fmt: skip


def _adaptive_rows(context, setting, measured, plots):
    from tfdefense.metrics import SecurityCurve
    from tfdefense.plots import security_curve

    curves, sizes = {}, setting.plan.strongest
    for name, found in measured.items():
        for title, attack in ATTACKS.items():
            broken = np.array(found["strongest"][title])
            robust = [float(1 - share) for share in broken.mean(axis=1)]
            # The paper's own is no search for the strongest: that it leaves many says nothing of a search that failed.
            fell = robust[-1] < LEFT or attack["attack"] == "dynamic adversary"
            for size, share in zip(sizes, robust, strict=True):
                fields = _under(name, size) | attack | {"n": broken.shape[1], "note": "of samples that the classifier has right"}
                failed = () if fell or size != sizes[-1] else (FALLS,)
                context.row("metzen2017.ours.adaptive", "robust accuracy", share, flags=failed, **fields)
            if title == "strongest":
                curves[name] = SecurityCurve(sizes, [robust], [[0.0] * len(sizes)], [[1 - share for share in robust]])
    security_curve(curves, plots / "strongest.png", xlabel="linf", rejection=False)
