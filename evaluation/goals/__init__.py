"""What each protocol was meant to show, computed from its results: a page of numbers does not say which of them fell short."""

from evaluation.goals import detector, dnr, dustbin, rce, report, safetynet, sceneproof
from evaluation.goals.goal import Goal

__all__ = ["GOALS", "Goal", "table"]
GOALS = {
    key: goals for module in (rce, dustbin, dnr, safetynet, sceneproof, detector, report) for key, goals in module.GOALS.items()
}


def table(content):
    """The goals of a protocol as lines of Markdown, or nothing where it has none."""
    goals = GOALS.get((content["protocol"], content["dataset"]), [])
    if not goals:
        return ""
    of = {row["what"]: row["ours"] for row in content["rows"]}
    samples = {row["what"]: row.get("samples") for row in content["rows"]}
    lines = ["| goal | measured | limit | met | why |", "| --- | --- | --- | --- | --- |"]
    for goal in goals:
        value = goal.measured(of)
        shown = "-" if value is None else f"{value:.4g}" + (f" (of {samples[goal.row]} samples)" if samples.get(goal.row) else "")
        bounds = [f"{sign} {limit:g}" for sign, limit in (("at least", goal.least), ("at most", goal.most)) if limit is not None]
        met = ("yes" if goal.met(value) else "**no**") if bounds else "-"
        if value is None:
            met = "not measured"
        # Of no samples there is no number, but a reason.
        known = value is not None or goal.row in of
        remark = goal.remark if known and not (bounds and goal.met(value)) else ""
        lines.append(f"| {goal.what} | {shown} | {' and '.join(bounds) or '-'} | {met} | {remark or '-'} |")
    return "\n".join(lines)
