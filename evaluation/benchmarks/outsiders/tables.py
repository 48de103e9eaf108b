"""The table of `outsiders`: what attackers from outside left of each model, beside its card."""

from evaluation.runner.markdown import markdown


def outsiders(results):
    """A line for each model and size: the robust accuracy that each attack left for the next, and the card's."""
    rows = results.all(metric="robust accuracy")
    attacks = dict.fromkeys(row.attack for row in rows if row.attack not in ("worst case", "card"))
    lines = []
    for system, norm, size in dict.fromkeys((row.system, row.norm, row.epsilon) for row in rows):
        here = {"system": system, "norm": norm, "epsilon": size}
        left, worst = results.values("attack", **here), results.one(**here, attack="worst case")
        shares = [left.get(attack) for attack in (*attacks, "card")]
        remark = "; ".join([*worst.flags, *([worst.note] if worst.note else [])])
        lines.append((system, f"{norm} {size:g}", *shares, worst.value - left["card"], remark))
    return markdown(("model", "size", *(f"after {attack}" for attack in attacks), "card", "outsiders less card", "remark"), lines)


TABLES = {"outsiders": {"outsiders": outsiders}}
