"""The tables of speed: attacks beside other libraries, and what defenses cost."""

from evaluation.runner.markdown import markdown, number, pivot

_COLUMNS = ("passes", "wall passes", "iterations", "success rate", "mean distance", "target rate")


def attacks(results):
    """A line for each attack and library."""
    lines = {}
    for row in results.all(table="speed.attacks"):
        lines.setdefault((row.attack, row.norm, row.system, row.n), {})[row.metric] = row
    made = [[*key, *(number(found.get(name)) for name in _COLUMNS), _remark(found)] for key, found in lines.items()]
    return markdown(("attack", "norm", "library", "images", *_COLUMNS, "remark"), made)


def _remark(found):
    return "; ".join(dict.fromkeys(text for row in found.values() for text in (*row.flags, row.note) if text))


def overhead(results):
    """What attacks, training, a report and a suite cost beside their bare forms."""
    head = ("what", "of", "samples", "metric", "value")
    return markdown(head, [(row.system, row.get("of"), row.n, row.metric, number(row)) for row in results.rows])


def defenses(results):
    fit = pivot(results.all(table="speed.fit"), "system", "clock", names={"cpu": "by CPU time", "wall": "by wall time"})
    others = [row for row in results.rows if row.table != "speed.fit"]
    lines = [(row.table.split(".")[1], row.system, row.get("of") or row.get("codes"), row.metric, number(row)) for row in others]
    return f"{fit}\n\n{markdown(('of', 'what', 'on', 'metric', 'value'), lines)}"


TABLES = {"speed": {"attacks": attacks}, "speed_overhead": {"overhead": overhead}, "speed_defenses": {"defenses": defenses}}
