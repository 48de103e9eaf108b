"""Results as data: a row has fields, not a sentence. Rows are written by protocols and looked up by pages and goals."""

import dataclasses
import functools
import json
import math
from dataclasses import dataclass, field
from pathlib import Path

KNOWLEDGE = ("", "oblivious", "adaptive", "black box")
NORMS = ("", "linf", "l2", "l0")
# Where a paper says only that a number is at least so large, or close to it.
BOUNDS = ("", ">=", "~")
# What a number can be. A new one gets a line here, so that one thing has one name in all results.
METRICS = {
    "accuracy": "share of samples whose label is right; a rejected one is not",
    "robust accuracy": "share of samples right or rejected under attack",
    "certified accuracy": "share of samples proved right for each perturbation of the size",
    "error rate": "share of samples neither right nor rejected",
    "forced rejection rate": "share of samples, right and accepted when clean, that an attack within the size gets rejected",
    "stratified error": "share of samples accepted and wrong within the size, or rejected within alpha times it",
    "implied robust accuracy": "what a claim with rejection implies of a classifier without, at half its size",
    "success rate": "share of samples on which the attack succeeded",
    "undetected rate": "share of successful attacks that are not rejected",
    "rejection rate": "share of samples rejected",
    "false-positive rate": "share of clean or benignly perturbed samples rejected",
    "detection accuracy": "accuracy of a detector on equally many clean and attacked samples",
    "AUROC": "area under the ROC curve of a detector score",
    "median distance": "median size of the smallest perturbation that succeeds",
    "mean distance": "mean size of the perturbations that succeed",
    "distance difference": "how much larger one system's distance is than another's",
    "no farther": "share of samples whose nearest example is no farther than another attack's, or by 2 % at most",
    "distance ratio": "one system's distance over another's",
    "FPR at 95 % TPR": "share of OOD samples accepted where 95 % of the known ones are; known ones are the positives",
    "mean error": "mean absolute error, in the unit of its setting",
    "F->T": "share of forged pairs taken for true",
    "T->F": "share of true pairs taken for forged",
    "T->T rejected": "share of true pairs that the classifier has right and the detector rejects",
    "squared bandwidth": "of a kernel density",
    "zero-gradient rate": "share of samples without a gradient",
    "target rate": "share of samples that reached the class that was asked for",
    "time ratio": "time over that of what it is compared with",
    "passes": "CPU time in compiled forward and backward passes of the model",
    "wall passes": "the same by wall time",
    "throughput ratio": "throughput over that of stock Keras fit",
    "iterations": "mean iterations of an attack",
    "seconds": "wall time",
    "minutes": "wall time",
    "CPU seconds": "CPU time, all threads of the process",
    "GiB": "peak memory of the process",
    "count": "a number of things",
    "order": "1 where numbers stand in the order of the paper's, else 0",
}
# Of these a stronger attack finds at most as much: where a check on the attack failed, the number is an upper bound.
BOUNDED = {"accuracy", "robust accuracy", "detection accuracy", "AUROC", "median distance", "mean distance"}


@dataclass(frozen=True)
class Row:
    """One number and what it is a number of.

    Attributes:
        table: The paper's own, such as `pang2018.table2`, or that of a benchmark, such as `board`.
        metric: One of `METRICS`.
        value: The number; None where there is none, with a `note` that says why.
        row: Id of the paper's result in the list of all of them, such as "N5".
        system: The defense, or what stands in its place.
        detector: Which of its detectors or variants.
        base: How the classifier was trained.
        attack, norm, epsilon, knowledge, starts: The attack, if there was one.
        perturbation: The kind of benign perturbation, of size `epsilon`.
        ood: Name of the out-of-distribution set.
        settings: Further conditions by name, such as {"threshold": 0.5, "fitted on": "FGSM"}.
        interval, deviation, n, seed: What the number is worth.
        paper: The number of the paper.
        paper_bound: One of `BOUNDS`.
        flags: Checks on the attack that failed, by name.
        note: For people alone: nothing reads it.
    """

    table: str
    metric: str
    value: float | None
    row: str = ""
    system: str = ""
    detector: str = ""
    base: str = ""
    attack: str = ""
    norm: str = ""
    epsilon: float | None = None
    knowledge: str = ""
    starts: str = ""
    perturbation: str = ""
    ood: str = ""
    settings: dict = field(default_factory=dict)
    interval: tuple | None = None
    deviation: float | None = None
    n: int | None = None
    seed: int | None = None
    paper: float | None = None
    paper_bound: str = ""
    flags: tuple = ()
    note: str = ""

    def __post_init__(self):
        _one_of("metric", self.metric, METRICS)
        _one_of("knowledge", self.knowledge, KNOWLEDGE)
        _one_of("norm", self.norm, NORMS)
        _one_of("paper_bound", self.paper_bound, BOUNDS)
        if not self.table:
            raise ValueError("A row must name its `table`, such as 'pang2018.table2'. Received none.")
        for name in ("value", "epsilon", "deviation", "paper"):
            number = getattr(self, name)
            if number is not None and (isinstance(number, str | bool) or not math.isfinite(number)):
                raise ValueError(f"`{name}` must be a finite number or None. Received {number!r} in {self.about()}.")
        if self.value is None and not self.note:
            raise ValueError(f"A row without a value must say why in `note`. Received {self.about()}.")

    def key(self):
        """What the number is a number of: no two rows of a result may have the same."""
        told = {name: getattr(self, name) for name in _KEYS}
        return json.dumps(told | {"settings": self.settings}, sort_keys=True, default=str)

    def about(self):
        """The fields that are set, to read."""
        named = {name: getattr(self, name) for name in ("table", *_KEYS)} | self.settings
        return ", ".join(f"{name} {value}" for name, value in named.items() if value not in ("", None))

    def get(self, name):
        return getattr(self, name) if name in _FIELDS else self.settings.get(name)

    def plain(self):
        """As it stands in JSON: what is not set is left out."""
        full = {name: getattr(self, name) for name in _FIELDS}
        return {name: value for name, value in full.items() if name == "value" or value not in ("", None, (), {}, [])}


_FIELDS = tuple(one.name for one in dataclasses.fields(Row))
_WORTH = {"value", "settings", "interval", "deviation", "n", "paper", "paper_bound", "flags", "note"}
_KEYS = tuple(name for name in _FIELDS if name not in _WORTH)


def make(table, metric, value, **fields):
    """A row; names that are no fields of it become its `settings`, an underscore for a space."""
    own = {name: fields.pop(name) for name in list(fields) if name in _FIELDS}
    settings = {name.replace("_", " "): each for name, each in fields.items() if each not in ("", None)}
    return Row(table, metric, value, **own | {"settings": own.get("settings", {}) | settings})


@functools.cache
def paper_numbers(folder):
    """The paper's numbers beside a protocol: `paper.json`, a list of fields of rows, `dataset`, `value` and its `bound`."""
    path = Path(folder) / "paper.json"
    return json.loads(path.read_text()) if path.exists() else []


def beside_paper(row, dataset, numbers):
    """The row with the number of the paper that has the same fields; fields that the paper's does not name may be any."""
    found = [
        one
        for one in numbers
        if all(_fits(dataset if name == "dataset" else row.get(name), one[name]) for name in one.keys() - {"value", "bound"})
    ]
    if len(found) > 1:
        raise ValueError(f"{len(found)} numbers of the paper fit one row: {row.about()}. Give them another field.")
    return dataclasses.replace(row, paper=found[0]["value"], paper_bound=found[0].get("bound", "")) if found else row


def _one_of(name, value, known):
    if value not in known:
        raise ValueError(f"`{name}` of a row must be one of {', '.join(map(repr, known))}. Received {value!r}.")


class Results:
    """What one protocol found on one data set.

    Attributes:
        rows: Its `Row`s.
        about: Everything else that stands in the file: settings, commit, versions.
    """

    def __init__(self, content, name="results"):
        self.name = name
        self.about = {key: value for key, value in content.items() if key != "rows"}
        self.rows = [Row(**row | {"flags": tuple(row.get("flags", ()))}) for row in content["rows"]]

    @staticmethod
    def load(path):
        path = Path(path)
        return Results(json.loads(path.read_text()), path.stem)

    @property
    def settings(self):
        return self.about.get("settings", {})

    def all(self, **fields):
        """Rows whose fields or settings are these; a tuple, set or list stands for any of its values."""
        wanted = {name.replace("_", " ") if name not in _FIELDS else name: value for name, value in fields.items()}
        return [row for row in self.rows if all(_fits(row.get(name), value) for name, value in wanted.items())]

    def one(self, **fields):
        """The row of these fields; an error that names what there is where it is not one."""
        found = self.all(**fields)
        if len(found) != 1:
            near = "; ".join(row.about() for row in (found or self.rows)[:4])
            raise KeyError(f"Expected one row of {self.name} with {fields}. Found {len(found)}, such as: {near}.")
        return found[0]

    def __call__(self, **fields):
        """The number of the row of these fields."""
        return self.one(**fields).value

    def values(self, by, **fields):
        """Numbers of all rows of these fields, by one more field."""
        return {row.get(by): row.value for row in self.all(**fields)}


def _fits(found, wanted):
    if isinstance(wanted, list | tuple | set | frozenset):
        return found in wanted
    if isinstance(found, float) or isinstance(wanted, float):
        return found is not None and wanted is not None and not isinstance(found, str) and math.isclose(found, wanted, rel_tol=1e-5)
    return found == wanted
