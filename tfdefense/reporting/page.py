"""The page, rendered from the JSON alone."""

import json
from pathlib import Path

from tfdefense.reporting import charts

FOLDER = Path(__file__).parent / "template"
CURVES = (
    ("adaptive", "adaptive attacker", 1),
    ("oblivious", "oblivious attacker", 0),
    ("undefended", "the model without its defense", 2),
    ("certified", "certified: proved right of the majority over all noise", 3),
)
KNOWLEDGE = {
    "oblivious": "does not know of the defense",
    "adaptive": "knows model and defense; among them what the authors of the defense use",
    "black box": "has a substitute network of his own, or sees outputs alone",
}
# What a check that passed says, by its kind; the text of the check itself says what it means that one failed.
PASSED = {
    "falls at a large size": "At that size nearly every attack succeeds, as it must: the attack works.",
    "white box before black box": "Attackers who see the model find nearly all that others find.",
    "many steps before one": "Many steps find nearly all that a single one finds.",
    "gradients are there": "The attack had gradients to follow.",
    "steps gain": "The steps bring down what they are to bring down.",
    "rejects clean samples as calibrated": "The model rejects about as many clean samples as it was calibrated to.",
    "examples are what they claim": "Examples lie in the ball and the bounds, and the model says of them what the attack said.",
}
HARDER_PASSED = "This search found hardly more than the others."


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

    about = content["about"]
    shown = {
        "curves": [(norm, Markup(_curves(norm, curves, content))) for norm, curves in content["curves"].items()],
        "legend": [(number, name) for key, name, number in CURVES if any(key in curves for curves in content["curves"].values())],
        "roc": Markup(_roc(content["roc"])) if content["roc"] else None,
        # Reports of older versions have none.
        "cost": [{"row": row, "svg": Markup(_cost(row))} for row in content.get("cost", ())],
        "bars": _bars(content),
        "sparks": [(row, Markup(charts.spark(row["path"]))) for row in content["harder"]],
        "name_of": lambda label: "rejected" if label == -1 else _class(about["classes"], label),
        "map_data": Markup(_script_json({**content["map"], "classes": about["classes"]})),
        "levels": lambda norm, size: grey_levels(norm, size, about["bounds"]),
        "meaning": lambda check: PASSED.get(check["kind"], HARDER_PASSED) if check["passed"] else check["text"],
        "style": Markup((FOLDER / "page.css").read_text()),
        "script": Markup((FOLDER / "page.js").read_text()),
    }
    return jinja.get_template("page.html").render(**content, shown=shown, knowledge=KNOWLEDGE)


def grey_levels(norm, size, bounds):
    """A size in linf as levels of 8-bit pixels, such as "25.5 of 255 grey levels"; nothing in another norm, or of no size."""
    if norm != "linf" or not size:
        return ""
    levels = 255 * size / (bounds[1] - bounds[0])
    return f"{levels:.1f}".removesuffix(".0") + " of 255 grey levels"


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
    xlabel = f"{norm} size of the perturbation"
    return charts.lines(found, xlabel, x_max=curves["adaptive"]["sizes"][-1], ylabel="robust accuracy", marked=size)


def _cost(row):
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
    xlabel = f"{row['norm']} size of the perturbation"
    # Beyond twice the compared size all is rejected, or will never be.
    for line in found:
        chosen = [i for i, x in enumerate(line["x"]) if x <= 2 * row["size"]]
        line["x"], line["y"] = ([line[axis][i] for i in chosen] for axis in "xy")
    return charts.lines(found, xlabel, x_max=2 * row["size"], ylabel="share of samples", marked=row["size"])


def _roc(rows):
    found = [
        {"name": row["what"], "x": row["fpr"], "y": row["tpr"], "colour": i % 8, "bare": True, "dashed": i >= 8}
        for i, row in enumerate(rows)
    ]
    return charts.lines(found, "false-positive rate", x_max=1, ylabel="true-positive rate", diagonal=True)


def _bars(content):
    """Groups of rows with the shares that are drawn: what was done to the samples, and what became of them."""
    clean = {"name": "clean samples", **content["clean"]}
    groups = [("Nobody attacks", "What is rejected here is lost", [clean, *map(_benign, content["benign"])])]
    for norm, size in content["about"]["plan"]["compared"].items():
        if norm not in content["curves"]:
            continue
        rows = [entry for entry in content["attacks"] if entry["norm"] == norm]
        rows = sorted(rows, key=lambda entry: list(KNOWLEDGE).index(entry["knowledge"]))
        groups.append(
            (
                f"Attacks of {norm} size {size:g}",
                "Robust accuracy counts right and rejected samples",
                rows + [_worst_case(content, norm, size)],
            )
        )
    return groups


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
