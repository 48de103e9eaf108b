"""The paper's tables and figures with our numbers beside, and ours on what it leaves out."""

import functools
from pathlib import Path

from evaluation.papers import counterparts, sceneproof
from evaluation.papers.counterparts import Counterpart
from evaluation.papers.safetynet.fit import ALL, GUARDS, NETS, PLAIN, fields
from evaluation.papers.safetynet.measure import PAPERS, THRESHOLDS, TRANSFERRED
from evaluation.papers.safetynet.protocol import UNSEEN
from evaluation.papers.unmeasured import unmeasured
from evaluation.runner.benign import size_text
from evaluation.runner.markdown import markdown, number
from evaluation.runner.rows import paper_numbers

_NAMES = {tuple(fields(name).values()): name for name in (*GUARDS, *NETS)}
_LINF = "BIM linf"
# As table 4 of the paper has them; it is that of `sceneproof`, which has the paper's task.
# Of a whole run, by the seconds of the parts of earlier ones.
_HOURS = {"mnist": 2, "cifar10": 3, "digits": 0.5}
_COSTS = {name: (f"safetynet --dataset {name} --workers 2", hours) for name, hours in _HOURS.items()}
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


def generalises(found, threshold):
    """Mean detection accuracy over unseen attacks of all that were fitted on BIM in linf, by model: figure 2 C as one number."""
    rows = found.all(table="lu2017.fig2", attack=UNSEEN, fitted_on=_LINF, threshold=threshold)
    return {_model(row): row.value for row in rows}


def figure_2_c(found):
    """Whether codes detect unseen attacks better than the branch, as the paper's figure 2 C says."""
    lines = []
    for threshold in THRESHOLDS:
        every = generalises(found, threshold)
        branch, nets = every.pop("branch"), every
        best = max(nets, key=nets.get)
        ahead = f"{sum(value > branch for value in nets.values())} of {len(nets)}"
        shown = [f"{value:.3f}" for value in (branch, nets["Det A"], nets["Det A"] - branch)]
        holds = "holds" if nets["Det A"] > branch else "does not hold"
        lines.append((threshold, *shown, holds, ahead, f"{best}: {nets[best]:.3f}"))
    head = ("threshold", "branch", "Det A", "Det A less branch", "better than the branch", "nets ahead of it", "best net")
    return markdown(head, lines)


def figure_3(found):
    """Area under the ROC curve of detectors on the attack that each was fitted on."""
    return _grid(row for row in found.all(metric="AUROC") if f"{row.attack} {row.norm}" == row.get("fitted on"))


def _transfers():
    """Lines of the paper's table that are of the same kind as each of our sources."""
    paper = ("type I transfer from a ResNet, gradient", "type II transfer, fine-tuned", "type II transfer, with a branch")
    return dict(zip((search.attack for search in TRANSFERRED), paper, strict=True))


def table_4(found):
    """The paper's lines and models at its own rule, f(c) > 0, and each line once more at a false-positive rate of 5 %.

    Beside our error rates stand the paper's shares of fakes called real and of reals called fake. They are of another task, two
    classes of RGBD pairs: so no row of ours has them as its paper's number.
    """
    paper = [one for one in paper_numbers(Path(sceneproof.__file__).parent) if one["table"] == "lu2017.table4"]
    theirs = {(one["attack"], one["system"], one["metric"]): one["value"] for one in paper}
    size = next(row.epsilon for row in found.all(table="lu2017.table4", attack=PAPERS.attack, starts=PAPERS.starts))
    lines = {
        "none: clean rejected": ("", {"metric": "false-positive rate"}),
        "gradient descent (I)": ("type I", {"attack": "BIM", "norm": "linf", "epsilon": size}),
        "gradient descent (II)": ("type II", {"attack": PAPERS.attack, "starts": PAPERS.starts}),
    }
    lines |= {attack: (one, {"attack": attack}) for attack, one in _transfers().items()}
    table, absent = [], False
    for what, (attack, wanted) in lines.items():
        for threshold in THRESHOLDS:
            table.append([what, threshold])
            for name, system in _MODELS.items():
                # A plain network has no threshold: it is the same at both.
                given = wanted | {"threshold": (None, threshold)}
                row = next(iter(found.all(table="lu2017.table4", **given, perturbation="", **fields(name))), None)
                text = number(row) if row or (name in PLAIN and not attack) else "not measured"
                absent |= text == "not measured"
                rates = () if threshold != "0" else ("F->T", "T->F") if attack else ("T->T rejected",)
                shares = " / ".join(f"{theirs[attack, system, rate]:.3f}" for rate in rates if (attack, system, rate) in theirs)
                table[-1].append(text + (f" (paper {shares})" if shares else ""))
    text = markdown(("attack", "threshold", *_MODELS), table)
    return f"{text}\n\n{_not_measured(found)}" if absent else text


def _not_measured(found):
    return unmeasured(*_COSTS[found.about["dataset"]])


def type_one(found, threshold):
    return _grid(found.all(table="lu2017.table4", knowledge="oblivious", threshold=(None, threshold)))


def type_two(found, threshold="5 % FPR"):
    at = (None, threshold) if threshold == "5 % FPR" else threshold
    rows = found.all(table="lu2017.table4", metric="error rate", knowledge=("adaptive", "black box"), threshold=at)
    return (
        _grid(rows, lambda row: f"{_over(row)}, {row.starts} starts" if row.starts else row.attack)
        if rows
        else _not_measured(found)
    )


def worst_case(found, threshold="5 % FPR"):
    """Robust accuracy, and what is rejected at the same threshold of clean samples and of noise as large as the attack."""
    at = (None, threshold) if threshold == "5 % FPR" else threshold
    rows = found.all(table="lu2017.ours.worst_case", metric="robust accuracy", threshold=at)
    if not rows:
        return _not_measured(found)
    models, size = {_model(row) for row in rows}, rows[0].epsilon
    rejected = found.all(
        metric="false-positive rate", row="S5", threshold=threshold, perturbation=("", "sign"), epsilon=(None, size)
    )
    rows += [row for row in rejected if _model(row) in models]
    return _grid(rows, lambda row: _over(row, "all attacks") if row.attack else f"{_sized(row)} rejected")


def benign(found, threshold):
    return _grid(found.all(metric="false-positive rate", row="S5", threshold=threshold))


def distance(found):
    return _grid(found.all(metric="median distance"), lambda row: f"{row.attack}, {row.norm}", digits=4)


def _known_rows(*models):
    def rows(found):
        return [row for threshold in THRESHOLDS for row in known(found, threshold=threshold) if not models or _model(row) in models]

    return rows


def _unseen_rows(found):
    rows = found.all(table="lu2017.fig2", metric="detection accuracy", fitted_on=_LINF)
    return [row for row in rows if f"{row.attack} {row.norm}" != _LINF]


def _of_figure_3(found):
    return [row for row in found.all(metric="AUROC") if f"{row.attack} {row.norm}" == row.get("fitted on")]


def _type_two_rows(threshold):
    return lambda found: found.all(table="lu2017.table4", knowledge=("adaptive", "black box"), threshold=threshold)


# 90 passes of VGG19 in all, of 15,000 pictures of 224 x 224, at 1.2 s a pass on two cores.
_IMAGENET = 450.0
_NO_IMAGENET = "ImageNet-1000 and a trained VGG19 are not here"
_ON_SCENEPROOF = "of SceneProof, which has a page of its own"
COUNTERPARTS = (
    Counterpart("figure 1", "the parts of SafetyNet", reason="a drawing without numbers"),
    Counterpart("figure 2 A", "the branch, fitted and tested on the same attack", _known_rows("branch"), _COSTS),
    Counterpart("figure 2 B", "SafetyNet, the same", _known_rows(*NETS), _COSTS),
    Counterpart("figure 2 C", "both, fitted on BIM in linf, tested on others", _unseen_rows, _COSTS),
    Counterpart("figure 2 D, E, F", "the same on ImageNet-1000, top 5 and top 1", None, _IMAGENET, _NO_IMAGENET),
    Counterpart("figure 3, left", "ROC curves, here also their areas", _of_figure_3, _COSTS),
    Counterpart(
        "figure 3, center and right", "ROC curves on ImageNet-1000, with DeepFool-5", None, _IMAGENET,
        f"{_NO_IMAGENET}, and no set with more than ten classes has a training part; `td.attacks.DeepFool(top=5)` is the attack",
    ),
    Counterpart("figure 4", "attacked pairs", reason=_ON_SCENEPROOF),
    Counterpart("figure 5", "bar functions", reason="a drawing of three formulas, nothing is measured"),
    Counterpart("tables 1 to 3", "SceneProof", reason=_ON_SCENEPROOF),
    Counterpart("table 4, type I", "here on this set, at 0", lambda found: found.all(
        table="lu2017.table4", knowledge="oblivious", threshold=(None, "0")), _COSTS),
    Counterpart("table 4, type II", "here on this set, at the paper's rule, f(c) > 0", _type_two_rows("0"), _COSTS),
    Counterpart("table 4, type II", "the same at a false-positive rate of 5 %", _type_two_rows("5 % FPR"), _COSTS),
)  # fmt: skip
_TABLES = {"table 4": table_4, "figure 3": figure_3, "type II": type_two, "worst case": worst_case, "distance": distance}
_TABLES |= {"figure 2 C": figure_2_c, "counterparts": functools.partial(counterparts.table, COUNTERPARTS)}
_TABLES |= {f"{name}, 0": functools.partial(_TABLES[name], threshold="0") for name in ("type II", "worst case")}
for _name, _table in {"figure 2": figure_2, "type I": type_one, "benign": benign}.items():
    _TABLES |= {f"{_name}, {title}": functools.partial(_table, threshold=title) for title in ("0", "5 % FPR")}
TABLES = {"safetynet": _TABLES}
