"""The page, rendered from the JSON alone."""

import json
from pathlib import Path

from tfdefense.reporting import charts, sentences
from tfdefense.reporting.glossary import Terms

FOLDER = Path(__file__).parent / "template"
CURVES = (
    ("adaptive", "adaptive attacker", 1),
    ("oblivious", "oblivious attacker", 0),
    ("undefended", "the model without its defense", 2),
    ("certified", "certified: proved right of the majority over all noise", 3),
)
# Kinds of attackers, from the one who knows least.
KNOWLEDGE = ("oblivious", "black box", "adaptive")


def environment():
    try:
        import jinja2
    except ImportError:
        raise ImportError("The page is made with Jinja, which is not installed. Type: pip install jinja2") from None
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"percent": _percent, "number": _number, "seconds": _seconds}
    return found


def render(content):
    """The HTML of a report's content: one file that needs no other."""
    jinja = environment()
    from markupsafe import Markup

    about, terms = content["about"], Terms()
    bounds = about["bounds"]

    def levelled(text):
        return sentences.levelled(text, bounds)

    groups = [{**group, "what": levelled(group["what"])} for group in content["map"]["groups"]]
    legend = [(number, name) for key, name, number in CURVES if any(key in curves for curves in content["curves"].values())]
    shown = {
        "headline": sentences.headline(content),
        "clean": sentences.on_clean(content),
        "curves": [(norm, Markup(_curves(norm, curves, content))) for norm, curves in content["curves"].items()],
        "legend": legend,
        "roc": Markup(_roc(content["roc"])) if content["roc"] else None,
        # Reports of older versions have none of the three.
        "risk": Markup(_risk(content["clean"])) if content["clean"].get("risk_coverage") else None,
        "cost": [{"row": row, "svg": Markup(_cost(row, about))} for row in content.get("cost", ())],
        "invalid": content.get("invalid", ()),
        "benign": [{"name": "nothing was changed", **content["clean"]}, *map(_benign, content["benign"])],
        "attacked": _attacked(content),
        "checks": [[check for check in content["checks"] if check["passed"] == passed] for passed in (False, True)],
        "gallery": sorted(content["gallery"], key=lambda group: "ood" not in group),
        "sparks": [(row, Markup(charts.spark(row["path"]))) for row in content["harder"]],
        "name_of": lambda label: "rejected" if label == -1 else _class(about["classes"], label),
        "map_data": Markup(_script_json({**content["map"], "groups": groups, "classes": about["classes"]})),
        "levels": lambda norm, size: _behind(norm, size, bounds),
        "style": Markup((FOLDER / "page.css").read_text()),
        "script": Markup((FOLDER / "page.js").read_text()),
    }
    jinja.filters["levelled"] = levelled
    jinja.globals |= {"term": terms, "terms": terms, "meaning": sentences.meaning}
    return jinja.get_template("page.html").render(**content, shown=shown)


def _behind(norm, size, bounds):
    """What stands behind or below a size in linf; of one in grey levels only what it is."""
    levels = sentences.grey_levels(norm, size, bounds)
    return "of 255 grey levels" if levels and sentences.in_levels(bounds) else levels


def _class(names, label):
    return names[label] if 0 <= label < len(names) else str(label)


def _curves(norm, curves, content):
    found = []
    # What is drawn last lies on top.
    for key, name, number in reversed(CURVES):
        if key in curves:
            start = curves[key].get("start", 1 - content["clean"]["wrong"])
            sizes = [0, *curves[key]["sizes"]]
            found.append({"name": name, "x": sizes, "y": [start, *curves[key]["robust_accuracy"]], "colour": number})
    if content["about"]["rejects"]:
        rejected = [content["clean"]["rejected"], *curves["adaptive"]["rejected"]]
        found.append(
            {
                "name": "rejected, adaptive",
                "x": [0, *curves["adaptive"]["sizes"]],
                "y": rejected,
                "colour": 1,
                "dashed": True,
                "bare": True,
            }
        )
    size = content["about"]["plan"]["compared"][norm]
    options = _sizes(norm, content["about"]) | {"x_max": curves["adaptive"]["sizes"][-1], "marked": size}
    return charts.lines(found, ylabel="robust accuracy", **options)


def _sizes(norm, about):
    """The axis of sizes: in linf its ticks are grey levels, too."""
    label = f"{norm} size of the perturbation"
    if norm != "linf":
        return {"xlabel": label}
    bounds = about["bounds"]
    if sentences.in_levels(bounds):
        return {"xlabel": f"{label}, in grey levels of 255"}
    span = bounds[1] - bounds[0]
    return {"xlabel": f"{label}; below, in grey levels of 255", "second": lambda size: f"{255 * size / span:.3g}"}


def _cost(row, about):
    found = [
        {
            "name": "stratified error",
            "x": [a * row["size"] for a in row["alphas"]],
            "y": row["stratified"],
            "colour": 0,
            "dashed": True,
        },
        {"name": "forced rejections", "x": row["sizes"], "y": row["forced"], "colour": 1},
    ]
    # Beyond twice the compared size all is rejected, or will never be.
    for line in found:
        chosen = [i for i, x in enumerate(line["x"]) if x <= 2 * row["size"]]
        line["x"], line["y"] = ([line[axis][i] for i in chosen] for axis in "xy")
    options = _sizes(row["norm"], about) | {"x_max": 2 * row["size"], "marked": row["size"]}
    return charts.lines(found, ylabel="share of samples", **options)


def _roc(rows):
    found = [
        {"name": row["what"], "x": row["fpr"], "y": row["tpr"], "colour": i % 8, "bare": True, "dashed": i >= 8}
        for i, row in enumerate(rows)
    ]
    return charts.lines(found, "false-positive rate", x_max=1, ylabel="true-positive rate", diagonal=True)


def _risk(clean):
    """Risk against coverage; the thin line is where the threshold is."""
    curve = clean["risk_coverage"]
    most = max(*curve["risk"], 0.01)
    line = {"name": "wrong of those accepted", "x": curve["coverage"], "y": curve["risk"], "colour": 0, "bare": True}
    accepted = 1 - clean["rejected"]
    return charts.lines([line], "share accepted", x_max=1, y_max=most, ylabel="risk", marked=accepted, x_shares=True)


def _attacked(content):
    """For each norm who attacks, the bars that say most, and all of them."""
    found = []
    for norm, size in content["about"]["plan"]["compared"].items():
        if norm not in content["curves"]:
            continue
        rows = [entry for entry in content["attacks"] if entry["norm"] == norm]
        rows = sorted(rows, key=lambda entry: KNOWLEDGE.index(entry["knowledge"]))
        best = [
            min((entry for entry in rows if entry["knowledge"] == kind), key=lambda entry: entry["robust_accuracy"], default=None)
            for kind in KNOWLEDGE
        ]
        found.append(
            {
                "who": sentences.attacker(norm, size, content["about"]),
                "at": f"{norm} {size:.3g}",
                "first": [_worst_case(content, norm, size), *filter(None, best)],
                "all": rows,
            }
        )
    return found


def _benign(row):
    size = f", {row['norm']} {row['size']:g}" if row["norm"] else ""
    return {**row, "name": f"{row['what']}{size}", "knowledge": "benign"}


def _worst_case(content, norm, size):
    curve = content["curves"][norm]["adaptive"]
    at = curve["sizes"].index(size)
    robust, rejected = curve["robust_accuracy"][at], curve["rejected"][at]
    return {
        "name": "worst case over attacks",
        "knowledge": "worst case",
        "right": robust - rejected,
        "rejected": rejected,
        "wrong": 1 - robust,
    }


def _script_json(value):
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _percent(share, digits=0):
    if share is None:
        return "–"
    # 99.6 % is not all, and 0.4 % is not nothing.
    digits = 1 if digits == 0 and (0 < share < 0.01 or 0.99 < share < 1) else digits
    return f"{100 * share:.{digits}f} %"


def _number(value):
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def _seconds(value):
    return f"{value:.1f} s" if value < 100 else f"{value / 60:.1f} min"
