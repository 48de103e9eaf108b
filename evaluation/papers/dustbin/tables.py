"""The tables of docs/results/dustbin.md."""

import dataclasses

from evaluation.papers.dustbin.measure import CARLINI, SEARCHES
from evaluation.papers.dustbin.settings import CONFIDENCE, PLANS
from evaluation.runner.markdown import markdown, number, pivot

TABLE, OURS = "abbasi2018.table1", "abbasi2018.ours"


def _by_network(rows, down, across="detector"):
    """A pivot of rows that name in `detector` the whole network, in `attack` and `perturbation` what it was shown."""
    named = []
    for row in rows:
        base, seed = "" if row.base == "clean" else row.base, "trained again" if row.seed and row.detector else ""
        threshold = (row.get("threshold") or "").replace(CONFIDENCE, f"or confidence, {CONFIDENCE}")
        network = ", ".join(filter(None, (row.detector or "no dustbin", base, threshold, seed)))
        attack = " with ".join(filter(None, (row.attack or row.ood or "clean", row.get("deepfool"))))
        perturbation = f"{row.perturbation} {row.epsilon:g}" if row.perturbation else "none"
        column = row.metric + (" (unseen)" if row.get("on") else "")
        named.append(dataclasses.replace(row, detector=network, attack=attack, perturbation=perturbation, note=column))
    return pivot(named, down, across)


def table1(results):
    """The paper's table I."""
    return _by_network(results.all(table=TABLE, seed=0, on=None), ("attack", "metric"))


def source(results):
    """How often each attack succeeded on the network that it was crafted on, and the length of its perturbations."""
    rows = results.all(table=TABLE, seed=1)
    lines = [(row.attack, row.metric, number(row), row.get("median l2"), row.get("factor"), row.n) for row in rows]
    return markdown(("attack", "metric", "on its own network", "median l2 size", "times DeepFool's", "samples"), lines)


def dustbin(results):
    rows = results.all(counted="dustbin samples per training sample")
    return markdown(("dustbin", "samples for each training sample"), [(row.detector, number(row, 2)) for row in rows])


def benign(results):
    return _by_network(results.all(table=f"{OURS}.benign", metric="false-positive rate"), "perturbation")


def worst(results):
    """Of each size the worst case over attacks, and the distance that C&W needs."""
    rows = results.all(table=f"{OURS}.adaptive", attack=("worst case", CARLINI))
    return _by_network(rows, ("attack", "norm", "epsilon", "metric"))


def searches(results):
    return _by_network(results.all(table=f"{OURS}.adaptive", attack=SEARCHES), ("epsilon", "attack", "starts"))


def changes(results):
    """What each change rejects of the goal's noise, and what it costs: on test samples, and on those that decided."""
    kind, size = PLANS[results.about["dataset"]].perturbations[0]
    columns = ({"perturbation": kind, "epsilon": size}, {"attack": "average"}, {"metric": "accuracy"}, {"metric": "rejection rate"})
    rows = [row for on in (None, "unseen training samples") for fields in columns for row in _changes(results, on=on, **fields)]
    return _by_network(rows, "detector", "note")


def changes_benign(results):
    return _by_network(_changes(results, on=None, metric="false-positive rate"), "detector", "perturbation")


def changes_attacks(results):
    return _by_network(_changes(results, on=None, metric="error rate"), "detector", "attack")


def _changes(results, **fields):
    return results.all(table=f"{OURS}.changes", **fields)


_TABLES = (table1, source, dustbin, benign, worst, searches, changes, changes_benign, changes_attacks)
TABLES = {"dustbin": {table.__name__: table for table in _TABLES}}
