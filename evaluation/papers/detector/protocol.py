"""Detector branch: detectability of attacks, transfer of detectors, the dynamic adversary and training against it.

Rows M1 to M9: detectability against the classifier's accuracy by adversary and size, and by depth; transfer over sizes and
adversaries; one branch fitted on a mixture; static and dynamic detector under the dynamic adversary for each sigma; all of
them under all adaptive attacks and under benign perturbations, fitted with and without such perturbations labelled clean; the
branch of figure 1 beside one with one convolution more; a classifier trained through its detector. A
classifier, samples and epochs smaller than the paper's: see the settings. With `--workers 2` on two free CPU cores and the
options of its results one to two hours on MNIST and on CIFAR-10, whose network takes 40 minutes more: the dynamic detectors and
the worst case over attacks take most of them.
"""

from typing import Annotated

import typer

from evaluation.papers.detector import dynamic, regularized, topology
from evaluation.papers.detector.fit import prepared
from evaluation.papers.detector.settings import BRANCH, DIFFERS, HALF, KINDS, PLANS
from evaluation.papers.intervals import balanced, wilson
from evaluation.runner.benign import size_text
from evaluation.runner.networks import named

MIXED = "a mixture"
DATASETS = ("mnist", "cifar10", "imagenette_small", "digits")


def clean_accuracy(setting):
    """On all test samples, and their number."""
    import tfdefense as td

    test = td.data.load(setting.context.dataset, "test", data_dir=setting.context.data_dir)
    return td.evaluate(setting.base, test.x, test.y).accuracy, len(test)


def on_every_adversary(setting, fitted_on, layer, names, number=None, depth=None):
    """Detectability of several adversaries by one branch, and its false positives."""
    from tfdefense.metrics import detectability
    from tfdefense.view import decide

    defended = setting.detector(fitted_on, layer, number=number, depth=depth)
    clean = decide(defended, setting.attacked.x).suspicion
    found = {name: detectability(clean, decide(defended, setting.attacked_samples(name)).suspicion) for name in names}
    return found | {"false positives": float((clean > 0).mean())}


def detectabilities(context, setting, sizes):
    """Detectability by branches fitted on each adversary, on a mixture, and at each depth; the transfer needs each one's of all."""
    names, plan = list(setting.adversaries), setting.plan
    jobs = {name: (f"fitted on {name}", (name,), setting.layer(setting.adversaries[name].kind), names) for name in names}
    jobs[MIXED] = (f"fitted on {MIXED}", tuple(sizes.values()), setting.layers[plan.usual], names)
    for kind, depth in _depths(setting):
        one = sizes[kind]
        jobs[kind, depth] = (f"AD({depth}), {one}", (one,), setting.layers[depth], [one], plan.by_depth)
    found = context.parts({title: (on_every_adversary, setting, *arguments) for title, *arguments in jobs.values()})
    return {job: found[title] for job, (title, *_) in jobs.items()}


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
    branch_depth: Annotated[
        int | None, typer.Option(help="Convolutions of the branch before its last one; else the paper's.", min=1)
    ] = None,
    width: Annotated[int | None, typer.Option(help="Maps of the branch's first convolution; the paper: 96, or 196.", min=1)] = None,
    fitted: Annotated[int | None, typer.Option(help="Training samples of a static branch.", min=128)] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of a static branch; the paper: 20, or 500.", min=1)] = None,
    batches: Annotated[int | None, typer.Option(help="Batches of 128 of a dynamic branch.", min=1)] = None,
    network_epochs: Annotated[int | None, typer.Option(help="Epochs of the classifier; else its recipe's.", min=1)] = None,
    learning_rate: Annotated[float, typer.Option(help="Of Adam, falling as a cosine; the paper has a constant 1e-4.")] = 1e-3,
    steps: Annotated[int | None, typer.Option(help="Steps of the strongest attacks; 100, or 20 in a quick run.", min=1)] = None,
    attacked: Annotated[int | None, typer.Option(help="Samples for the strongest attacks; 300, or 30.", min=1)] = None,
    benign: Annotated[bool, typer.Option(help="Also compare detectors trained with benign perturbations.")] = True,
):
    quick, dataset = context.quick, context.dataset
    plan, small = PLANS[dataset], quick and dataset != "digits"
    if not plan.dynamic and (batches or steps or attacked or not benign):
        raise ValueError(
            f"On {dataset} nothing is trained against the dynamic adversary, as in the paper. Expected none of --batches, --steps, "
            "--attacked and --no-benign, which are for that. Leave them out."
        )
    depth = (depth or (8 if quick else plan.depth)) if plan.depth else None
    budget = {
        "depth": depth,
        "branch_depth": branch_depth,
        "width": width or plan.width,
        "epochs": epochs or (2 if quick else plan.epochs),
        "batches": batches or (min(plan.batches, 60) if quick else plan.batches),
        "learning_rate": learning_rate,
        "steps": steps or (20 if quick else 100),
        "fitted": fitted or (min(plan.fitted, 1000) if quick else plan.fitted),
    }
    network, searched = context.network(plan.recipe, depth=depth, epochs=network_epochs or (1 if small else None)), None
    setting = prepared(context, network, budget)
    unsaid = ("branch_depth",) if plan.dynamic else ("branch_depth", "batches", "steps")
    told = {name: value for name, value in budget.items() if name not in unsaid}
    told |= {"samples": len(setting.attacked), "convolutions": setting.depth(), "seed": 0}
    if plan.dynamic:
        searched = attacked or (30 if quick else 300)
        told |= {"fitted, dynamic": len(setting.train), "strongest": searched, **dynamic.differs(plan, budget["batches"])}
    smaller = {"classifier": f"{depth} layers; the paper: 32"} if depth not in (None, 32) else {}
    told |= {"network": named(network), "layers": setting.layers, **DIFFERS, **plan.differs, **smaller}
    told |= {
        "adversary of figure 5": size_text(plan.dynamic) if plan.dynamic else None,
        "benign perturbations labelled clean": plan.labelled_clean,
    }
    context.settings.update(told)
    plots = context.output / f"detector-{dataset}"
    plots.mkdir(parents=True, exist_ok=True)
    accuracy = _accuracies(context, setting)
    sizes = chosen_sizes(setting, accuracy)
    found = detectabilities(context, setting, sizes)
    _detectability_rows(context, setting, accuracy, found, plots)
    _depth_rows(context, setting, found, sizes)
    _transfer_rows(context, setting, found, sizes)
    _mixture_rows(context, setting, found, sizes, accuracy)
    if plan.dynamic:
        topology.add_rows(context, setting, on_every_adversary, sizes)
        regularized.add_rows(context, setting, sizes["iterative linf"])
        dynamic.add_rows(context, setting, min(searched, len(setting.test[0])), plots, benign)


def _accuracies(context, setting):
    """The classifier's accuracy under each adversary; adds that on clean samples."""
    clean, count = context.part("clean accuracy", clean_accuracy, setting)
    fields = {"row": "M9", "system": "no defense", "n": count, "interval": wilson(clean, count)}
    context.row(setting.plan.figures[0], "accuracy", clean, **fields)
    found = context.parts({f"accuracy {name}": (setting.accuracy, name) for name in setting.adversaries})
    return {name: found[f"accuracy {name}"] for name in setting.adversaries}


def _add(context, setting, table, value, fitted, tested=None, row="M5", clean=None, **fields):
    """A row on the detection accuracy of a branch that was fitted on something and tested on an adversary.

    Args:
        clean: Its false-positive rate, for the interval.
    """
    attack = setting.adversaries[tested].tested if tested else {}
    count = len(setting.test[0])
    fields["interval"] = balanced(value, clean, len(setting.attacked.x), count)
    context.row(table, "detection accuracy", value, row=row, system=BRANCH, **fitted, **attack, n=count, **fields)


def _detectability_rows(context, setting, accuracy, found, plots):
    """Figure 2 (left) and figure 6."""
    from tfdefense.plots import detectability

    points, figure, about = {}, setting.plan.figures[0], {"row": "M4", "n": len(setting.attacked.x)}
    for name, adversary in setting.adversaries.items():
        own = found[name][name]
        rate = found[name]["false positives"]
        _add(context, setting, figure, own, adversary.fitted, name, row="M4", clean=rate)
        share, fields = accuracy[name], {"system": "no defense"} | adversary.tested | about
        context.row(figure, "accuracy", share, **fields, interval=wilson(share, about["n"]))
        fields = {"system": BRANCH, "threshold": HALF, "interval": wilson(rate, about["n"])} | adversary.fitted | about
        context.row(figure, "false-positive rate", rate, **fields)
        points.setdefault(adversary.kind, []).append((accuracy[name], own))
    for limit in (0.3, 0.1):
        strong = [found[name][name] for name in setting.adversaries if accuracy[name] < limit]
        fields = {"statistic": "minimum", "accuracy_under": limit, "note": f"{len(strong)} adversaries"}
        _add(context, setting, figure, min(strong, default=None), {"fitted_on": "each"}, row="M4", **fields)
    detectability(points, plots / "detectability.png")


def _depth_rows(context, setting, found, sizes):
    """Figure 2 (right)."""
    plan = setting.plan
    few = plan.by_depth and f"fitted on {min(plan.by_depth, len(setting.samples['train'][0])):,} samples"
    for kind, depth in _depths(setting):
        one, note = sizes[kind], "; ".join(filter(None, [setting.layers[depth], few]))
        clean = found[kind, depth].get("false positives")
        fields = {"attached_to": f"AD({depth})", "note": note, "row": "M4", "clean": clean}
        _add(context, setting, plan.figures[0], found[kind, depth][one], setting.adversaries[one].fitted, one, **fields)


def _transfer_rows(context, setting, found, sizes):
    """Figures 3 and 7 between sizes of one adversary, figures 4 and 8 between adversaries of the chosen sizes."""
    _, by_size, by_adversary = setting.plan.figures
    for name, one in setting.adversaries.items():
        for tested, other in setting.adversaries.items():
            value, clean = found[name][tested], found[name].get("false positives")
            if one.kind == other.kind and one.size is not None:
                _add(context, setting, by_size, value, one.fitted, tested, clean=clean)
            elif one.kind != other.kind and name in sizes.values() and tested in sizes.values():
                _add(context, setting, by_adversary, value, one.fitted, tested, clean=clean)


def _mixture_rows(context, setting, found, sizes, accuracy):
    """One branch for all: fitted on all five, or on the iterative method in l2 alone."""
    table, alone = "metzen2017.ours.one_branch", sizes["iterative l2"]
    strong = [name for name, share in accuracy.items() if share < 0.3]
    fitted = ({"fitted_on": f"{MIXED} of the five"}, found[MIXED]), (setting.adversaries[alone].fitted, found[alone])
    for one, by_name in fitted:
        for name in setting.adversaries:
            _add(context, setting, table, by_name[name], one, name, clean=by_name.get("false positives"))
        for over, names in (("the five", sizes.values()), ("accuracy under 0.3", strong)):
            least = min((by_name[name] for name in names), default=None)
            _add(context, setting, table, least, one, statistic="minimum", over=over, note="" if names else "no adversary")
