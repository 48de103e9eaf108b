"""The table of `outsiders`: what attackers from outside left of each model, beside its card."""

from evaluation.runner.markdown import markdown


def outsiders(results):
    """A line for each model and size: the robust accuracy that each attack left for the next, and the card's."""
    rows = results.all(metric="robust accuracy")
    attacks = dict.fromkeys(row.attack for row in rows if row.attack not in ("worst case", "card"))
    lines = []
    for system, norm, size in dict.fromkeys((row.system, row.norm, row.epsilon) for row in rows):
        here = {"system": system, "norm": norm, "epsilon": size}
        left = results.values("attack", **here, metric="robust accuracy")
        difference = results.one(**here, metric="accuracy difference")
        shares = [left.get(attack) for attack in (*attacks, "card")]
        lines.append((system, f"{norm} {size:g}", *shares, difference.value, "; ".join(difference.flags)))
    return markdown(("model", "size", *(f"after {attack}" for attack in attacks), "card", "outsiders less card", "remark"), lines)


TABLES = {"outsiders": {"outsiders": outsiders}}
