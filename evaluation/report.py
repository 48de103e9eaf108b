"""What `td.report` costs, and whether two runs of one seed give one page.

Of defended models as on the board: one that adds hardly anything, one with machines, and one with codes, which is searched through
a surrogate as well. Each gets the full protocol once and the quick one twice, as `tfdefense evaluate` runs them. Minutes are
those of this machine and mean something only where nothing else ran on it.
"""

from evaluation import ranking

DATASETS = ranking.DATASETS
REPORTED = ("confidence", "DNR", "SafetyNet")


def run(context):
    setup = ranking.SETUPS[context.dataset]
    samples = ranking.Samples(context, setup)
    context.settings["network"] = setup.recipes[0]
    for system in ranking.SYSTEMS:
        if system.joined or system.name not in REPORTED:
            continue
        model = context.model(f"model {system.name}", ranking.build, context, setup, system, 0, samples)
        full = context.part(f"{system.name}, full", reported, context, model, context.quick)
        _add_row(context, system.name, "full", full)
        pair = context.part(f"{system.name}, quick, twice", twice, context, model)
        _add_row(context, system.name, "quick", pair["first"])
        _add_row(context, system.name, "quick, again", pair["again"])
        note = f"differ: {', '.join(pair['differ'])}" if pair["differ"] else "numbers, pictures and page, but for the times"
        context.row("report", f"{system.name}, parts of two quick reports that differ", len(pair["differ"]), note=note)


def _add_row(context, system, kind, found):
    failed = "; ".join(found["failed"])
    note = found["verdict"] + (f" Checks that failed: {failed}." if failed else " No check failed.")
    context.row("report", f"{system}, {kind}, minutes", found["seconds"] / 60, samples=found["samples"], note=note)


def _made(context, model, quick):
    import tfdefense as td

    return td.report(model, context.dataset, quick=quick, data_dir=context.data_dir, progress=True)


def reported(context, model, quick):
    return _short(_made(context, model, quick))


def twice(context, model):
    """Two reports, and the names of what differs between them though it is no time."""
    from tfdefense.reporting.page import render

    first, again = (_made(context, model, True) for _ in range(2))
    one, other = first.content, again.content | {"times": first.content["times"]}
    differ = [key for key in sorted(one.keys() | other.keys()) if one.get(key) != other.get(key)]
    if not differ and render(one) != render(other):
        differ = ["the page"]
    return {"first": _short(first), "again": _short(again), "differ": differ}


def _short(report):
    content = report.content
    return {
        "seconds": content["times"]["total"],
        "samples": content["about"]["plan"]["samples"],
        "verdict": report.verdict,
        "failed": report.failed,
    }
