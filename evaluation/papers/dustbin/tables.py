"""The tables of docs/results/dustbin.md."""

import functools

from evaluation.papers import counterparts
from evaluation.papers.counterparts import Counterpart
from evaluation.papers.dustbin.measure import AT_ZERO, CARLINI, REACHED, SEARCHES
from evaluation.papers.dustbin.settings import CONFIDENCE, PLANS, UNMEASURED
from evaluation.papers.unmeasured import beside, rows_of, unmeasured
from evaluation.runner.markdown import markdown, number, pivot

TABLE, OURS = "abbasi2018.table1", "abbasi2018.ours"


def detector(row):
    """The whole network."""
    base, seed = "" if row.base == "clean" else row.base, "trained again" if row.seed and row.detector else ""
    threshold = (row.get("threshold") or "").replace(CONFIDENCE, f"or confidence, {CONFIDENCE}")
    return ", ".join(filter(None, (row.detector or "no dustbin", base, threshold, seed)))


def attack(row):
    """What it was shown."""
    return " with ".join(filter(None, (row.attack or row.ood or "clean", row.get("deepfool"))))


def perturbation(row):
    return f"{row.perturbation} {row.epsilon:g}" if row.perturbation else "none"


def measured(row):
    return row.metric + (" (unseen)" if row.get("on") else "")


def table1(results):
    """The paper's table I."""
    rows = [row for row in results.all(table=TABLE, seed=0, on=None) if row.attack not in (AT_ZERO, REACHED)]
    return pivot(rows, (attack, "metric"), detector)


def source(results):
    """How often each attack succeeded on the network that it was crafted on, and the length of its perturbations."""
    rows = results.all(table=TABLE, seed=1)
    lines = [(row.attack, row.metric, number(row), row.get("median l2"), row.get("factor"), row.n) for row in rows]
    return markdown(("attack", "metric", "on its own network", "median l2 size", "times DeepFool's", "samples"), lines)


def dustbin(results):
    rows = results.all(counted="dustbin samples per training sample")
    return markdown(("dustbin", "samples for each training sample"), [(row.detector, number(row, 2)) for row in rows])


def benign(results):
    return pivot(results.all(table=f"{OURS}.benign", metric="false-positive rate"), perturbation, detector)


def worst(results):
    """Of each size the worst case over attacks, and the distance that C&W needs."""
    rows = results.all(table=f"{OURS}.adaptive", attack=("worst case", CARLINI))
    return pivot(rows, (attack, "norm", "epsilon", "metric"), detector)


def searches(results):
    return pivot(results.all(table=f"{OURS}.adaptive", attack=SEARCHES), ("epsilon", attack, "starts"), detector)


def changes(results):
    """What each change rejects of the goal's noise, and what it costs: on test samples, and on those that decided."""
    kind, size = PLANS[results.about["dataset"]].perturbations[0]
    columns = ({"perturbation": kind, "epsilon": size}, {"attack": "average"}, {"metric": "accuracy"}, {"metric": "rejection rate"})
    rows = [row for on in (None, "unseen training samples") for fields in columns for row in _changes(results, on=on, **fields)]
    return pivot(rows, detector, measured)


def changes_benign(results):
    return pivot(_changes(results, on=None, metric="false-positive rate"), detector, perturbation)


def changes_attacks(results):
    return pivot(_changes(results, on=None, metric="error rate"), detector, attack)


def _changes(results, **fields):
    return results.all(table=f"{OURS}.changes", **fields)


def more(results):
    """The dustbin with more OOD images, from the results of `dustbin_ood`, or what it takes to have them."""
    return _more(results, _rejected, _more_dustbin)


def more_benign(results):
    return _more(results, lambda of: pivot(of.all(table="abbasi2018.ours.more_ood.benign"), perturbation, detector))


def _rejected(of):
    rows = of.all(table="abbasi2018.ours.more_ood")
    return pivot(rows, (attack, "metric"), detector)


def _more_dustbin(of):
    rows = of.all(counted="dustbin samples")
    return markdown(("dustbin", "samples", "of"), [(row.detector, number(row), row.note) for row in rows])


def _more(results, *builds):
    other = beside("dustbin_ood", results)
    return "\n\n".join([*(build(other) for build in builds), rows_of(other)]) if other else unmeasured(*UNMEASURED["dustbin_ood"])


def at_zero(results):
    """C&W at kappa 0, and how many of those at the paper's kappa reach it."""
    rows = [row for row in results.all(table=TABLE, on=None) if row.attack in (AT_ZERO, REACHED)]
    if not rows:
        return unmeasured(*UNMEASURED[results.about["dataset"]])
    return pivot([row for row in rows if row.metric in ("accuracy", "rejection rate", "error rate")], (attack, "metric"), network)


def network(row):
    return "its own network" if row.seed and not row.detector and row.base == "clean" else detector(row)


_COSTS = {name: UNMEASURED[name] for name in ("mnist", "cifar10")}
_MORE = {"cifar10": UNMEASURED["dustbin_ood"]}
COUNTERPARTS = (
    Counterpart("table I", "clean and OOD images, attacks", lambda results: [
        row for row in results.all(table=TABLE, seed=0, on=None) if row.attack not in (AT_ZERO, REACHED)], _COSTS),
    Counterpart("table I", "C&W at kappa 0, and who reaches kappa", lambda results: results.all(
        table=TABLE, on=None, attack=(AT_ZERO, REACHED)), _COSTS),
    Counterpart("table I", "OOD images, with more of them in training", lambda results: results.all(
        table=f"{OURS}.more_ood"), _MORE, protocol="dustbin_ood"),
    Counterpart("figure 1", "adversarial examples", reason="pictures, below"),
    Counterpart("figures 2 to 4", "two moons, interpolated samples, features", reason="pictures, below"),
    Counterpart("outlook", "adaptive attacks", lambda results: results.all(table=f"{OURS}.adaptive"), _COSTS),
)  # fmt: skip
_TABLES = (table1, source, dustbin, benign, worst, searches, changes, changes_benign, changes_attacks, more, more_benign, at_zero)
TABLES = {
    "dustbin": {"counterparts": functools.partial(counterparts.table, COUNTERPARTS)} | {table.__name__: table for table in _TABLES},
    "dustbin_ood": {"rejected": _rejected, "dustbin": _more_dustbin},
}
