"""The branch of the paper's figure 1 beside that of earlier versions, which had one convolution more."""

from evaluation.papers.detector import dynamic
from evaluation.papers.detector.settings import BRANCH, HALF
from evaluation.papers.intervals import balanced, wilson

TABLE = "metzen2017.ours.topology"
# Convolutions of 3x3 before the last one: the figure's, and those of earlier versions.
DEPTHS = (3, 4)


def weights(setting, depth):
    return setting.weights(depth)


def add_rows(context, setting, measure, sizes):
    """Row M1: weights, and what each tells of the adversaries that it is fitted on, and of the dynamic one.

    Args:
        measure: Detection accuracies by a branch, by adversary, and its false positives.
        sizes: The adversary of each kind that is measured.
    """
    sigmas = dynamic.tenths(dynamic.sigmas_of(context)) if setting.plan.dynamic else []
    jobs = {}
    for depth in DEPTHS:
        title = f"{depth} convolutions"
        jobs[f"{title}, weights"] = weights, setting, depth
        for name in sizes.values():
            layer = setting.layer(setting.adversaries[name].kind)
            jobs[f"{title}, fitted on {name}"] = measure, setting, (name,), layer, [name], None, depth
    # Fitting on the fly takes longest, and is done once for all sigmas.
    if sigmas:
        fitted = {f"{depth} convolutions, dynamic, fitting": (dynamic.took_to_fit, setting, "dynamic", depth) for depth in DEPTHS}
        took = context.parts(fitted)
        for depth in DEPTHS:
            for sigma in sigmas:
                part = dynamic.under_sigma, setting, "dynamic", sigma, None, depth
                jobs[f"{depth} convolutions, dynamic, sigma {sigma:g}"] = part
    found = context.parts(jobs)
    for depth in DEPTHS:
        title, about = f"{depth} convolutions", {"row": "M1", "system": BRANCH, "convolutions": depth}
        context.row(TABLE, "count", found[f"{title}, weights"], **about, counted="weights")
        for name in sizes.values():
            adversary, one = setting.adversaries[name], found[f"{title}, fitted on {name}"]
            own = about | adversary.fitted | {"detector": "static"}
            rate, clean, count = one["false positives"], len(setting.attacked.x), len(setting.test[0])
            interval = balanced(one[name], rate, clean, count)
            context.row(TABLE, "detection accuracy", one[name], **own, **adversary.tested, n=count, interval=interval)
            fields = own | {"threshold": HALF, "n": clean, "interval": wilson(rate, clean)}
            context.row(TABLE, "false-positive rate", rate, **fields)
        if sigmas:
            by_sigma = {sigma: found[f"{title}, dynamic, sigma {sigma:g}"] for sigma in sigmas}
            dynamic.least_row(context, setting, "dynamic", setting.plan.dynamic, by_sigma, table=TABLE, **about)
            steps = took[f"{title}, dynamic, fitting"]["steps"]
            context.row(TABLE, "count", steps, **about, detector="dynamic", counted="steps of 128 samples")
