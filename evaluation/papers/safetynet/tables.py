"""The paper's tables and figures with our numbers beside, and ours on what it leaves out."""

import functools
from pathlib import Path

from evaluation.papers import sceneproof
from evaluation.papers.safetynet.fit import ALL, GUARDS, NETS, PLAIN, fields
from evaluation.papers.safetynet.measure import PAPERS, TRANSFERRED
from evaluation.papers.safetynet.protocol import UNSEEN
from evaluation.runner.benign import size_text
from evaluation.runner.markdown import markdown, number
from evaluation.runner.rows import paper_numbers

_NAMES = {tuple(fields(name).values()): name for name in (*GUARDS, *NETS)}
_LINF = "BIM linf"
# As table 4 of the paper has them; it is that of `sceneproof`, which has the paper's task.
_MODELS = {"plain": "plain", "branch": "detector branch", "Det A": "Det A", ALL: "Det ABC"}


def _model(row):
    return _NAMES[row.system, row.detector, row.base]


def _sized(row):
    # Results have six digits.
    size = "" if row.epsilon is None else size_text(round(255 * row.epsilon, 3) / 255)
    return " ".join(filter(None, (row.attack or row.perturbation or "clean", row.norm, size)))


def _over(row, every=""):
    """An attack to read; a worst case is one over something."""
    return " over ".join(filter(None, (row.attack, row.get("over") or row.get("suite") or every)))


def _grid(rows, column=_sized, digits=3):
    """A line for each model, a column for each thing that was done to it."""
    cells = {(_model(row), column(row)): number(row, digits) for row in rows}
    models, columns = (dict.fromkeys(names) for names in zip(*cells, strict=True))
    return markdown(("model", *columns), [[name, *(cells.get((name, each)) for each in columns)] for name in models])


def known(found, **about):
    """Rows on detectors under the adversary that each was fitted on, at the same size."""
    rows = found.all(metric="detection accuracy", **about)
    return [row for row in rows if (f"{row.attack} {row.norm}", row.epsilon) == (row.get("fitted on"), row.get("fitted at"))]


def figure_2(found, threshold):
    """Detection accuracy of attacks that a detector was fitted on, of others for one fitted on linf, and the mean over others."""

    def column(row):
        on = row.get("fitted on")
        return _sized(row) if on in (None, f"{row.attack} {row.norm}") else f"fitted on {on}: {_sized(row)}"

    others = [row for row in found.all(metric="detection accuracy", fitted_on=_LINF, threshold=threshold) if row.epsilon]
    others = [row for row in others if f"{row.attack} {row.norm}" != _LINF] + found.all(
        attack=UNSEEN, threshold=threshold, fitted_on=_LINF
    )
    return _grid(
        [*known(found, threshold=threshold), *others, *found.all(attack=UNSEEN, threshold=threshold, fitted_on=None)], column
    )


def figure_3(found):
    """Area under the ROC curve of detectors on the attack that each was fitted on."""
    return _grid(row for row in found.all(metric="AUROC") if f"{row.attack} {row.norm}" == row.get("fitted on"))


def table_4(found):
    """The paper's lines and models. Beside our error rates stand the paper's shares of fakes called real and of reals called fake.

    They are of another task, two classes of RGBD pairs: so no row of ours has them as its paper's number.
    """
    paper = [one for one in paper_numbers(Path(sceneproof.__file__).parent) if one["table"] == "lu2017.table4"]
    theirs = {(one["attack"], one["system"], one["metric"]): one["value"] for one in paper}
    size = found.one(table="lu2017.table4", attack=PAPERS.attack, starts=PAPERS.starts, **fields(PLAIN[0])).epsilon
    own = {"attack": "BIM", "norm": "linf", "epsilon": size, "threshold": (None, "0")}
    lines = {
        "none: clean rejected": ("", {"metric": "false-positive rate", "threshold": "0"}),
        "gradient descent (I)": ("type I", own),
        "gradient descent (II)": ("type II", {"attack": PAPERS.attack, "starts": PAPERS.starts}),
    }
    for search, kind in zip(TRANSFERRED, ("another architecture", "fine-tuned", "with a branch"), strict=True):
        lines[search.attack] = f"type II transfer, {kind}", {"attack": search.attack}
    table = []
    for what, (attack, wanted) in lines.items():
        table.append([what])
        for name, system in _MODELS.items():
            row = next(iter(found.all(table="lu2017.table4", **wanted, **fields(name))), None)
            rates = ("F->T", "T->F") if attack else ("T->T rejected",)
            shares = " / ".join(f"{theirs[attack, system, rate]:.3f}" for rate in rates if (attack, system, rate) in theirs)
            table[-1].append(number(row) + (f" (paper {shares})" if shares else ""))
    return markdown(("attack", *_MODELS), table)


def type_one(found, threshold):
    return _grid(found.all(table="lu2017.table4", knowledge="oblivious", threshold=(None, threshold)))


def type_two(found):
    rows = found.all(table="lu2017.table4", metric="error rate", knowledge=("adaptive", "black box"))
    return _grid(rows, lambda row: f"{_over(row)}, {row.starts} starts" if row.starts else row.attack)


def worst_case(found):
    """Robust accuracy, and what is rejected at the same threshold of clean samples and of noise as large as the attack."""
    rows = found.all(table="lu2017.ours.worst_case", metric="robust accuracy")
    models, size = {_model(row) for row in rows}, rows[0].epsilon
    rejected = found.all(
        metric="false-positive rate", row="S5", threshold="5 % FPR", perturbation=("", "sign"), epsilon=(None, size)
    )
    rows += [row for row in rejected if _model(row) in models]
    return _grid(rows, lambda row: _over(row, "all attacks") if row.attack else f"{_sized(row)} rejected")


def benign(found, threshold):
    return _grid(found.all(metric="false-positive rate", row="S5", threshold=threshold))


def distance(found):
    return _grid(found.all(metric="median distance"), lambda row: f"{row.attack}, {row.norm}", digits=4)


_TABLES = {"table 4": table_4, "figure 3": figure_3, "type II": type_two, "worst case": worst_case, "distance": distance}
for _name, _table in {"figure 2": figure_2, "type I": type_one, "benign": benign}.items():
    _TABLES |= {f"{_name}, {title}": functools.partial(_table, threshold=title) for title in ("0", "5 % FPR")}
TABLES = {"safetynet": _TABLES}
