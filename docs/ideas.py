"""The ideas of some defenses as pictures: `python docs/ideas.py` writes docs/pictures/*.svg. They show no measured number."""

from html import escape
from pathlib import Path

FOLDER = Path(__file__).parent / "pictures"
# A picture has its own paper: it can be read on a page of either look.
STYLE = """
.paper { fill: #ffffff } text { fill: #5b636b; font: 13px system-ui, sans-serif } .ink { fill: #1c1f23; font-weight: 600 }
line, path, polyline { stroke: #5b636b; fill: none; stroke-width: 1.5 } .edge { stroke: #0072b2; stroke-width: 2.5 }
.wrong-edge { stroke: #d55e00; stroke-width: 2.5 } .thin { stroke-dasharray: 2 4 }
.dash { stroke: #d55e00; stroke-dasharray: 6 4; stroke-width: 2.2 }
.step { stroke: #0072b2; stroke-width: 2.5 } .box { fill: none; stroke: #c3c9cf } .no { fill: #d55e00; fill-opacity: .22 }
.yes { fill: #0072b2; fill-opacity: .13 } .dot { fill: #0072b2 } .bad { fill: #d55e00 } .say-no { fill: #b04a00; font-weight: 600 }
.say-yes { fill: #0b6aa6; font-weight: 600 } .l0 { fill: #e9edf0 } .l1 { fill: #a9cbe3 } .l2 { fill: #4f97c7 } .l3 { fill: #075389 }
@media (prefers-color-scheme: dark) { .paper { fill: #1c2024 } text { fill: #a2acb5 } .ink { fill: #e9ecef }
line, path, polyline { stroke: #a2acb5 } .edge, .step { stroke: #4aa8e8 }
.wrong-edge, .dash { stroke: #f08a45 } .box { stroke: #4a535b }
.no { fill: #f08a45; fill-opacity: .3 } .yes { fill: #4aa8e8; fill-opacity: .18 } .dot { fill: #4aa8e8 } .bad { fill: #f08a45 }
.say-no { fill: #f6a469 } .say-yes { fill: #6cb8ec }
.l0 { fill: #2e353b } .l1 { fill: #32536b } .l2 { fill: #3b86b8 } .l3 { fill: #8fd0fa } }
"""


def picture(width, height, label, *parts):
    """The text of an SVG file."""
    opened = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img"'
    paper = f'<rect class="paper" width="{width}" height="{height}" rx="10"/>'
    return "\n".join([f'{opened} aria-label="{escape(label)}">', f"<style>{STYLE}</style>", paper, *parts, "</svg>", ""])


def say(x, y, text, kind="", anchor="middle"):
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def rect(x, y, width, height, kind="box", **style):
    more = "".join(f' {name}="{value}"' for name, value in style.items())
    return f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"{more}/>'


def line(x1, y1, x2, y2, kind=""):
    return f'<line class="{kind}" x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"/>'


def arrow(x1, y, x2):
    return line(x1, y, x2, y) + f'<path d="M{x2 - 6} {y - 4} L{x2} {y} L{x2 - 6} {y + 4}"/>'


def safetynet():
    """A ReLU in levels, the codes of two samples, and the SVM that compares them."""
    left, bottom, wide, high = 50, 190, 200, 140
    steps = [(left, bottom)]
    for level in range(1, 4):
        x = left + wide * (level / 4 + 0.02)
        steps += [(x, steps[-1][1]), (x, bottom - high * level / 3.3)]
    steps.append((left + wide, steps[-1][1]))
    smooth = [(left + wide * t / 40, bottom - high * min(max(t / 40 - 0.14, 0) / 0.66, 1) * 3 / 3.3) for t in range(41)]
    parts = [
        say(left + wide / 2, 28, "1. Activations in four levels", "ink"),
        line(left, bottom, left + wide, bottom),
        line(left, bottom, left, bottom - high),
        f'<polyline class="step" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in steps)}"/>',
        f'<polyline class="dash" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in smooth)}"/>',
        say(left + wide / 2, bottom + 20, "activation"),
        say(left, bottom + 44, "steps: the code, which is flat", "say-yes", "start"),
        say(left, bottom + 64, "dashed: the surrogate of an attacker", "say-no", "start"),
        say(410, 28, "2. The code of a layer", "ink"),
    ]
    rows = (
        ("clean samples of a class", ("3021003120", "3021003110", "3020003120")),
        ("an attacked one", ("3102311022",)),
    )
    y = 62
    for title, codes in rows:
        parts.append(say(310, y, title, anchor="start"))
        for code in codes:
            y += 8
            parts += [rect(310 + 20 * i, y, 18, 16, f"l{level}") for i, level in enumerate(code)]
            y += 12
        y += 34
    parts += [
        say(650, 28, "3. An SVM compares", "ink"),
        arrow(525, 92, 575),
        arrow(525, 176, 575),
        say(585, 97, "a code like those: accepted", "say-yes", "start"),
        say(585, 181, "a code that none has: rejected", "say-no", "start"),
    ]
    label = "SafetyNet: activations are cut into levels, and a support vector machine compares the codes of samples"
    return picture(850, 275, label, *parts)


def _scene(x, y, person, depth):
    """A room with a box, and a person in it or not; as colours or as depth, where near is dark."""
    room, box, body = ("l0", "l1", "l2") if not depth else ("l1", "l2", "l3")
    parts = [rect(x, y, 150, 105, room), rect(x + 16, y + 50, 44, 45, box)]
    if person:
        parts += [f'<circle class="{body}" cx="{x + 105}" cy="{y + 34}" r="12"/>', rect(x + 92, y + 48, 26, 47, body)]
    return parts


def sceneproof():
    """A pair of colours and depth that fits, and one where a person is in the picture alone."""
    parts = [
        say(115, 26, "picture", "ink"),
        say(295, 26, "depth map", "ink"),
        say(475, 26, "edges of both", "ink"),
        say(660, 26, "what it says", "ink"),
    ]
    for y, forged in ((42, False), (172, True)):
        parts += [*_scene(40, y, True, False), *_scene(220, y, not forged, True), rect(400, y, 150, 105)]
        parts.append(f'<rect class="edge" fill="none" x="416" y="{y + 50}" width="44" height="45"/>')
        kind = "wrong-edge" if forged else "edge"
        parts += [
            f'<circle class="{kind}" fill="none" cx="505" cy="{y + 34}" r="12"/>',
            f'<rect class="{kind}" fill="none" x="492" y="{y + 48}" width="26" height="47"/>',
            arrow(560, y + 52, 590),
            say(600, y + 47, "forged" if forged else "real", "say-no" if forged else "say-yes", "start"),
            say(600, y + 67, "a person without depth" if forged else "the edges fit", anchor="start"),
        ]
    parts.append(say(40, 306, "A forged pair that was perturbed to pass is what SafetyNet should reject.", anchor="start"))
    return picture(770, 325, "SceneProof: a picture and its depth map have the same edges; those of a forged pair differ", *parts)


# Two detector scores of some samples in 0..1: clean ones, and others that one or both of the detectors suspect.
CLEAN = ((0.15, 0.2), (0.3, 0.12), (0.22, 0.38), (0.4, 0.3), (0.48, 0.5), (0.1, 0.48))
OTHERS = ((0.85, 0.25), (0.75, 0.8), (0.9, 0.45), (0.3, 0.85), (0.55, 0.92))
CUT = 0.62


def _panel(x, title, rejected, says):
    """The plane of two detector scores with what is rejected in it."""
    y, side = 48, 150
    parts = [say(x + side / 2, 28, title, "ink"), rect(x, y, side, side, "yes")]
    for left, top, w, h in rejected:
        place = (x + left * side, y + (1 - top) * side, w * side, h * side)
        parts += [rect(*place, "paper"), rect(*place, "no")]
    parts += [
        line(x + CUT * side, y, x + CUT * side, y + side, "thin"),
        line(x, y + (1 - CUT) * side, x + side, y + (1 - CUT) * side, "thin"),
    ]
    for points, kind in ((CLEAN, "dot"), (OTHERS, "bad")):
        parts += [f'<circle class="{kind}" cx="{x + a * side:g}" cy="{y + (1 - b) * side:g}" r="4.5"/>' for a, b in points]
    parts += [say(x + side / 2, y + side + 20, "detector score of a"), say(x + side / 2, y + side + 42, says, "say-no")]
    return [*parts, f'<text transform="translate({x - 8} {y + side / 2}) rotate(-90)" text-anchor="middle">of b</text>']


def combining():
    """What any-of and all-of reject, a threshold for each class, and honest probabilities."""
    rest = 1 - CUT
    parts = _panel(40, "AnyOf(a, b)", [(CUT, 1, rest, 1), (0, 1, CUT, rest)], "any of them suffices")
    parts += _panel(250, "AllOf(a, b)", [(CUT, 1, rest, rest)], "both must agree")
    parts.append(say(535, 28, "PerClass(a)", "ink"))
    for row, (name, cut, scores) in enumerate(
        (("cat", 0.45, (0.1, 0.2, 0.35, 0.7)), ("dog", 0.72, (0.3, 0.5, 0.62, 0.9)), ("frog", 0.58, (0.2, 0.4, 0.48, 0.8)))
    ):
        y = 62 + 48 * row
        parts += [
            rect(470, y, 150 * cut, 30, "yes"),
            rect(470 + 150 * cut, y, 150 * (1 - cut), 30, "no"),
            say(462, y + 20, name, anchor="end"),
            line(470 + 150 * cut, y - 5, 470 + 150 * cut, y + 35, "thin"),
        ]
        parts += [f'<circle class="{"bad" if s > cut else "dot"}" cx="{470 + 150 * s:g}" cy="{y + 15}" r="4.5"/>' for s in scores]
    parts += [say(545, 218, "detector score of a"), say(545, 240, "a threshold each", "say-no")]
    parts.append(say(745, 28, "TemperatureScaled(a)", "ink"))
    for x, bars, title in ((675, (0.97, 0.02, 0.01), "before"), (765, (0.7, 0.2, 0.1), "after")):
        parts += [rect(x + 24 * i, 198 - 140 * bar, 19, 140 * bar, "l2") for i, bar in enumerate(bars)]
        parts += [line(x - 4, 198, x + 72, 198), say(x + 34, 218, title)]
    parts.append(say(745, 240, "no surer than it should be", "say-yes"))
    return picture(
        860, 262, "Four ways to combine defenses: any of, all of, a threshold for each class, and honest probabilities", *parts
    )


# The border between two classes, and noisy copies of a sample, in a plane of 280 to 180.
BORDER = ((200, 0), (188, 30), (196, 62), (182, 95), (190, 130), (204, 158), (198, 180))
NOISE = (
    *((-44, 10), (-30, -32), (-22, 24), (-12, -8), (-6, 40), (4, -46), (10, 12), (16, -22), (26, 30), (34, -4), (-52, -16)),
    *((-36, 44), (92, 18), (100, -30), (86, 6)),
)


def _plane(x, y, title):
    """Two classes side by side."""
    border = [(x + a, y + b) for a, b in BORDER]
    corners = [(x + 280, y), *border, (x + 280, y + 180)]
    return [
        say(x + 140, y - 20, title, "ink"),
        rect(x, y, 280, 180, "yes"),
        f'<polygon class="paper" points="{" ".join(f"{a},{b}" for a, b in corners)}"/>',
        f'<polygon class="no" points="{" ".join(f"{a},{b}" for a, b in corners)}"/>',
        f'<polyline points="{" ".join(f"{a},{b}" for a, b in border)}"/>',
        say(x + 8, y + 172, "class a", anchor="start"),
        say(x + 272, y + 172, "class b", anchor="end"),
    ]


def _ball(x, y, radius, kind="thin"):
    return f'<circle class="{kind}" cx="{x}" cy="{y}" r="{radius}" fill="none" stroke="#5b636b" stroke-width="1.5"/>'


def consistency():
    """A search around two samples, and the distance that the steepness of the lead foretells."""
    left, bottom = 420, 228
    curve = [(left + 240 * t / 30, bottom - 150 * (1 - t / 24) * (1 - 0.25 * t / 30)) for t in range(25)]
    parts = [
        *_plane(40, 48, "Consistency: search around the sample"),
        _ball(105, 120, 52),
        '<circle class="dot" cx="105" cy="120" r="5"/>',
        _ball(202, 128, 52),
        '<circle class="bad" cx="202" cy="128" r="5"/>',
        '<polyline class="wrong-edge" points="202,128 218,120 232,126 246,118"/>',
        say(105, 62, "all of class a", "say-yes"),
        say(160, 198, "b was found", "say-no"),
        say(180, 252, "accepted where the search finds no other class"),
        say(560, 28, "Radius: do not search, divide", "ink"),
        line(left, bottom, left + 290, bottom),
        line(left, bottom, left, 48),
        f'<polyline class="edge" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in curve)}"/>',
        line(left, bottom - 150, left + 156, bottom, "dash"),
        f'<circle class="dot" cx="{left}" cy="{bottom - 150}" r="5"/>',
        say(left + 14, 74, "lead of the class at the sample", anchor="start"),
        say(left + 152, bottom - 58, "the true lead", "say-yes", "start"),
        say(left + 290, bottom + 20, "distance", anchor="end"),
        say(left + 156, bottom + 20, "lead / steepness", "say-no"),
    ]
    label = "Consistency rejection searches for another class around the sample; radius rejection divides its lead by the steepness"
    return picture(750, 268, label, *parts)


def smoothing():
    """Noisy copies of a sample, their votes, and the radius that follows."""
    x, y = 150, 130
    inside = sum(a < 80 for a, _ in NOISE)
    votes = ((inside, "a", "dot"), (len(NOISE) - inside, "b", "bad"))
    parts = [*_plane(40, 48, "1. Noisy copies of a sample")]
    parts += [f'<circle class="{"dot" if a < 80 else "bad"}" cx="{x + a}" cy="{y + b}" r="4"/>' for a, b in NOISE]
    parts += [f'<circle class="ink" cx="{x}" cy="{y}" r="5"/>', say(430, 28, "2. They vote", "ink")]
    for row, (count, name, kind) in enumerate(votes):
        parts += [rect(390 + 50 * row, 208 - 11 * count, 32, 11 * count, kind), say(406 + 50 * row, 226, name)]
    parts += [
        line(380, 208, 490, 208),
        say(405, 252, "a close vote is a rejection", "say-no"),
        *_plane(530, 48, "3. What follows"),
        _ball(640, 130, 40),
        '<circle class="ink" cx="640" cy="130" r="5"/>',
        say(640, 80, "proved: a", "say-yes"),
        say(690, 252, "the clearer the vote, the larger the radius"),
    ]
    return picture(850, 268, "Smoothing: noisy copies vote, and a clear vote proves a radius", *parts)


PICTURES = {
    "safetynet": safetynet,
    "sceneproof": sceneproof,
    "combining": combining,
    "consistency": consistency,
    "smoothing": smoothing,
}


if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(draw())
