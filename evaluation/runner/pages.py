"""The generated parts of pages that people write: tables of docs/results and the README, and the rows as CSV beside them.

Between two marks, `<!-- begin NAME-SET: TABLE -->` and `<!-- end -->`, stands what a function made of the results. `about`, `goals`
and `pictures` exist for every protocol. The others are in the package's `tables.py`: `TABLES[protocol][name]` is a function of
`Results` that gives Markdown, `PICTURES[protocol][name]` one that gives an SVG. Where there are no results yet,
`COSTS[protocol][set]` says how to get them: a command, and its hours of CPU time.
"""

import csv
import functools
import importlib
import io
import re
from pathlib import Path

from evaluation.runner import goals, results
from evaluation.runner.markdown import markdown
from evaluation.runner.protocols import protocols
from evaluation.runner.rows import Results
from evaluation.runner.summary import BLOCKS
from tfdefense import _cache
from tfdefense._files import write_text

_BLOCK = re.compile(r"(<!-- begin (?P<name>[^:>]+): (?P<table>[^>]+?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_CSV = ("table", "row", "system", "detector", "base", "attack", "norm", "epsilon", "knowledge", "starts", "perturbation", "ood")
_CSV_VALUES = ("metric", "value", "deviation", "interval", "n", "seed", "paper", "flags", "note")


def about(found):
    """How the results were made, and whether by the code that is here now."""
    content = found.about
    command = f"python -m evaluation {content['protocol']} --dataset {content['dataset']} {content.get('options', '')}".rstrip()
    # The last run may have gone on where others stopped, or have had several processes: then its parts took longer.
    parts = sum(content.get("parts", {}).values())
    took = f"{content['seconds']} s" + (f" (its parts {parts:.0f} s)" if parts > content["seconds"] else "")
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    lines = [f"`{command}`: {took} on {content['machine']}; commit {content['commit']}; {versions}.", "", age(content)]
    settings = {name: value for name, value in content["settings"].items() if name != "quick"}
    if settings:
        lines += [
            "",
            "<details><summary>Settings</summary>",
            "",
            markdown(("setting", "value"), settings.items()),
            "",
            "</details>",
        ]
    return "\n".join(lines)


def age(content):
    """Whether the modules that made the results have changed since."""
    if not content.get("code"):
        return "**Older code**: made before the modules of a run were recorded with it."
    changed = _cache.changed(content["code"])
    if not changed:
        return "Made by the code that is here."
    return f"**Older code**: of the {len(content['code'])} modules that made these results {len(changed)} have changed since."


def pictures(found):
    """What the protocol drew, as one paragraph."""
    paths = sorted((results.RESULTS / found.name).glob("*.png"))
    shown = (
        f'<img src="../../evaluation/results/{found.name}/{path.name}" alt="{path.stem}" title="{path.stem}" width="400">'
        for path in paths
    )
    return "\n".join(shown)


def package(found):
    return protocols()[found.about["protocol"]][0].rpartition(".")[0]


def _goals(found):
    module = importlib.import_module(f"{package(found)}.goals")
    return goals.table(module.GOALS[found.about["protocol"], found.about["dataset"]], found)


def _tables(found):
    return importlib.import_module(f"{package(found)}.tables")


def _table(name, found):
    tables = _tables(found).TABLES[found.about["protocol"]]
    if name not in tables:
        raise ValueError(f"{found.about['protocol']} has the tables {', '.join(tables)}. Received {name!r}.")
    return tables[name](found)


def made(name, table):
    """What stands between the marks."""
    if name == "every":
        return BLOCKS[table](results.RESULTS)
    path = results.RESULTS / f"{name}.json"
    if not path.exists():
        return _not_measured(name)
    found = _read(path, path.stat().st_mtime_ns)
    build = {"about": about, "goals": _goals, "pictures": pictures}.get(table) or functools.partial(_table, table)
    return build(found)


def _not_measured(name):
    """The command that measures it and what that takes, where the protocol's tables know: `COSTS[protocol][dataset]`."""
    from evaluation.papers.unmeasured import unmeasured

    protocol, _, dataset = name.rpartition("-")
    if protocol not in protocols():
        return "Not measured yet."
    module = importlib.import_module(f"{protocols()[protocol][0].rpartition('.')[0]}.tables")
    cost = getattr(module, "COSTS", {}).get(protocol, {}).get(dataset)
    return unmeasured(*cost) if cost else "Not measured yet."


@functools.cache
def _read(path, changed):
    return Results.load(path)


def rendered(text):
    """The text with what stands between its marks made anew."""
    return _BLOCK.sub(lambda block: f"{block[1]}{made(block['name'], block['table'])}\n{block[5]}", text)


def as_csv(found):
    """All rows of a result."""
    further = list(dict.fromkeys(name for row in found.rows for name in row.settings))
    further += ["paper_bound"] if any(row.paper_bound for row in found.rows) else []
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*_CSV, *further, *_CSV_VALUES])
    for row in found.rows:
        values = [row.get(name) for name in (*_CSV, *further, *_CSV_VALUES)]
        writer.writerow("; ".join(map(str, value)) if isinstance(value, tuple | list) else value for value in values)
    return out.getvalue()


def files():
    """Every file that is made from the results, and its text."""
    for path in (*sorted(results.PAGES.glob("*.md")), results.ROOT / "README.md"):
        if path.exists():
            yield path, rendered(path.read_text())
    for path in sorted(Path(results.RESULTS).glob("*.json")):
        found = _read(path, path.stat().st_mtime_ns)
        yield results.PAGES / f"{path.stem}.csv", as_csv(found)
        for name, draw in getattr(_tables(found), "PICTURES", {}).get(found.about["protocol"], {}).items():
            yield results.PAGES / f"{path.stem}-{name}.svg", draw(found)


def write():
    """Makes them anew and returns the paths of those that changed."""
    changed = []
    for path, text in files():
        if not path.exists() or path.read_text() != text:
            write_text(path, text)
            changed.append(path)
    return changed
