"""What Deep Neural Rejection, and what training changes of it, was meant to show."""

from evaluation.papers.dnr import rows
from evaluation.papers.dnr.fit import Variant
from evaluation.papers.dnr.measure import PAPERS
from evaluation.papers.dnr.trained import CONFIDENCE, FINE_TUNED, NAMED, VARIANTS
from evaluation.runner.goals import Goal
from evaluation.runner.summary import Line

_FIGURE = {"table": rows.FIGURE, "metric": "robust accuracy"}
_RATE = {"metric": "false-positive rate", "perturbation": ""}
_RATE_OF_DNR = _RATE | {"table": rows.CLEAN, "system": "DNR"}
_PLAIN = Variant("DNR")
_ORDER = "DNR at or above NR, NR above no defense"


def _number(**fields):
    return lambda of: of(**fields)


def _worst_case(variant, size=2.0):
    return _number(table=rows.VARIANTS, metric="robust accuracy", starts="all", epsilon=size, **variant.fields)


def _less(what, one, other, remark=""):
    """Robust accuracy of a variant less another's."""
    return Goal(what, lambda of: _worst_case(one)(of) - _worst_case(other)(of), remark=remark)


def _lost(of):
    return of(table=rows.CLEAN, metric="accuracy", system="no defense") - of(table=rows.CLEAN, metric="accuracy", system="DNR")


GOALS = {
    ("dnr", "mnist"): [
        Goal("accuracy on clean samples, no defense less DNR", _lost, most=0.06),
        Goal("false-positive rate, DNR", _number(**_RATE_OF_DNR), most=0.06),
        Goal(
            "the paper's attack: DNR at or above NR and NR above no defense for l2 1.5 to 4; 1 is yes",
            _number(metric="order", order=_ORDER, starts="sample", kept=PAPERS),
            least=1.0,
            remark="the sizes where the order differs are in the curves",
        ),
        Goal(
            "robust accuracy at l2 8, worst case over attacks, the best of the three",
            lambda of: max(row.value for row in of.all(**_FIGURE, starts="all", epsilon=8.0)),
            most=0.1,
        ),
        Goal("seconds to fit DNR on 10,000 samples and three layers", _number(metric="seconds", system="DNR"), most=120),
        Goal("time of a prediction, compressed DNR over no defense", _number(metric="time ratio", detector="compressed"), most=1.5),
    ],
    ("dnr_trained", "mnist"): [
        Goal(f"robust accuracy at l2 2, worst case over attacks: {NAMED.name}", _worst_case(NAMED), least=0.5),
        Goal("false-positive rate of the first", _number(table=rows.VARIANTS, **_RATE, **NAMED.fields), most=0.06),
        _less("the first less that network without a defense, fine-tuned as long", NAMED, FINE_TUNED),
        _less(
            "the first less that network with a threshold on its confidence",
            NAMED,
            CONFIDENCE,
            "on an adversarially trained network a threshold on its confidence does as well as SVMs",
        ),
        _less(
            "the first less plain DNR",
            NAMED,
            _PLAIN,
            "what follows are the changes one by one: those of kernels and layers give little at this size",
        ),
        *(
            _less(f"{one.name} less plain DNR", one, _PLAIN)
            for one in VARIANTS
            # The compressed one is only faster.
            if (one.system, one.base) == ("DNR", "clean") and one.detector not in ("", "compressed")
        ),
        Goal(
            "the first at l2 8, where nothing should stand",
            _worst_case(NAMED, 8.0),
            most=0.1,
            remark="the attack failed there, so that robust accuracies at smaller sizes are upper limits",
        ),
    ],
}


def _line(results, size, benign):
    def both(starts):
        systems = ("DNR", "no defense")
        return lambda of: tuple(of(**_FIGURE, starts=starts, kept=PAPERS, epsilon=size, system=system) for system in systems)

    worst = f"worst case over attacks, l2 {size:g}, all starts"
    attacks = f"algorithm 1, l2 {size:g}, from the sample", both("sample"), worst, both("all"), "no defense"
    noise = _number(**_RATE_OF_DNR | {"perturbation": "direction", "epsilon": benign})
    return Line("DNR", results, *attacks, _number(**_RATE_OF_DNR), noise, f"l2 {benign:g}")


LINES = (_line("dnr-mnist", 2.0, 2.0), _line("dnr-cifar10", 0.2, 0.3))
