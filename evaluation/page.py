"""The page of results, rendered from the JSON of the protocols alone."""

import json
from pathlib import Path

from evaluation import goals, headline, results, rows
from tfdefense._files import write_text

_INTRODUCTION = """# Results

Rendered from `evaluation/results/*.json` by `python -m evaluation results`; a test fails when this page does not match.
Each table is one run of a protocol. Fractions are between 0 and 1. A dash stands where there is no number.

All results but `calibration` set their thresholds by the older rule, a share of the calibration samples. On fresh samples that
rejects somewhat more than the share, as the table of `calibration` shows.
"""


def _cell(value):
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("|", "\\|").replace("\n", " ")


def _table(rows, headings):
    first, last = ["row", "what"], ["ours", "paper", "samples", "note"]
    more = [key for key in dict.fromkeys(key for row in rows for key in row) if key not in first + last]
    columns = [key for key in first + more + last if any(row.get(key) not in (None, "") for row in rows)]
    lines = [[headings.get(key, key) for key in columns], ["---"] * len(columns)]
    lines += [[_cell(row.get(key)) for key in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _duration(content):
    """The last run may have gone on where others stopped, or have had several processes: then its parts took longer."""
    parts = sum(content.get("parts", {}).values())
    return f"{content['seconds']} s" + (f" (its parts {parts:.0f} s)" if parts > content["seconds"] else "")


def _section(content, directory):
    versions_ = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    settings = "; ".join(f"{name}: {_cell(value)}" for name, value in content["settings"].items() if name != "quick")
    command = f"python -m evaluation {content['protocol']} --dataset {content['dataset']} {content.get('options', '')}".rstrip()
    text = [
        f"## {content['protocol']}, {content['dataset']}",
        f"`{command}`, {_duration(content)} on {content['machine']}; commit {content['commit']}; {versions_}.",
    ]
    if settings:
        text.append(f"Settings: {settings}.")
    text += filter(None, [goals.table(content)])
    text.append(_table(content["rows"], content.get("headings", {})))
    for curve in content.get("series", []):
        rows = [
            {"row": curve["row"], "what": "x", **{str(i): value for i, value in enumerate(curve["x"])}},
            {"row": "", "what": "y", **{str(i): value for i, value in enumerate(curve["y"])}},
        ]
        if "deviation" in curve:
            rows.append({"row": "", "what": "deviation", **{str(i): v for i, v in enumerate(curve["deviation"])}})
        text += [f"{curve['what']}:", _table(rows, {})]
    return "\n\n".join([*text, *_pictures(directory, f"{content['protocol']}-{content['dataset']}")])


def _pictures(directory, name):
    """What the protocol drew, as one paragraph."""
    paths = sorted((Path(directory) / name).glob("*.png"))
    shown = (f'<img src="results/{name}/{path.name}" alt="{path.stem}" title="{path.stem}" width="400">' for path in paths)
    return ["\n".join(shown)] if paths else []


def render(directory):
    """The page as text, sections in the order of the file names."""
    contents = []
    for path in sorted(Path(directory).glob("*.json")):
        contents.append(json.loads(path.read_text()))
        results.check(contents[-1], path.name)
    return (
        "\n\n".join([_INTRODUCTION.rstrip(), rows.section(contents), *(_section(content, directory) for content in contents)])
        + "\n"
    )


def write():
    """RESULTS.md, and what the README shows of the results."""
    write_text(results.PAGE, render(results.RESULTS))
    headline.write(results.RESULTS)
    return results.PAGE
