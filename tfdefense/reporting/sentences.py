"""What a report says in plain words: the headline, sizes in grey levels, and a sentence for each check."""

import math
import re

# Sets of OOD images that the protocol makes itself.
NOISE, BLENDED = "uniform noise", "two classes blended"
# Checks by a search that goes beyond those of the suite.
STEP_SIZE, STEPS, RESTARTS = "another initial step size", "four times the steps", "three times the random starts"
OBJECTIVE, START = "another objective", "another start"
# By the kind of a check: what it says when it passed, and when it failed.
CHECKS = {
    "falls at a large size": (
        "At the largest size nearly every attack succeeds, as it must: the attack works.",
        "No model is robust at the largest size: an attack that finds little there is too weak.",
    ),
    STEP_SIZE: (
        "Shorter and longer first steps find hardly more.",
        "Other step sizes find more: the search was badly tuned, and the model is weaker than the curve says.",
    ),
    STEPS: (
        "Four times the steps find hardly more.",
        "Longer searches find more: the search was stopped too early. Give it more with --steps.",
    ),
    RESTARTS: (
        "Three times the random starts find hardly more.",
        "More random starts find more: where the search begins matters. --thorough goes on until nothing more is found.",
    ),
    OBJECTIVE: (
        "Another objective finds hardly more.",
        "Another objective finds more: the attack went for the wrong goal, and the model is weaker than the curve says.",
    ),
    START: (
        "Starts at images of other classes find hardly more.",
        "Starts at images of other classes find more: the search begins in the wrong places.",
    ),
    "white box before black box": (
        "Attackers who see the model find nearly all that others find.",
        "Attackers who see less find more. The gradients lead nowhere: the defense may only hide them.",
    ),
    "many steps before one": (
        "Many steps find nearly all that a single one finds.",
        "A single step finds what many miss: they get stuck, and gradients are of use only far away.",
    ),
    "gradients are there": (
        "The attack had gradients to follow.",
        "Where the gradient is all zeros the search stands still: that is no strength of the model.",
    ),
    "steps gain": (
        "The steps bring down what they are to bring down.",
        "The steps do not bring down what they should: the search goes nowhere.",
    ),
    "rejects clean samples as calibrated": (
        "The model rejects about as many clean samples as it was calibrated to.",
        "The threshold has moved: it buys robustness with clean samples, or gives it away. Calibrate again.",
    ),
    "examples are what they claim": (
        "All examples lie within the size and the bounds, and the model says of them what the attack said.",
        "Some examples are too far away, out of bounds, or judged otherwise than the attack said. Please report this fault.",
    ),
}
_LINF = re.compile(r"\blinf (?:= |size )?(\d+(?:\.\d+)?(?:e-?\d+)?)")


def failure(kind):
    """What it means that a check failed."""
    return CHECKS[kind][1]


def meaning(check):
    """The sentence of a check, as it came out; a check that no longer exists says what its report says."""
    if check["measured"] is None and not check["passed"]:
        return "This could not be measured: nothing is proved, so the check counts as failed."
    return CHECKS.get(check["kind"], ("Nothing was found here.", check["text"]))[not check["passed"]]


def grey_levels(norm, size, bounds):
    """A size in linf as levels of 8-bit pixels, such as "25.5 of 255 grey levels"; nothing in another norm, or of no size."""
    if norm != "linf" or not size:
        return ""
    return _levels(255 * size / (bounds[1] - bounds[0]))


def in_levels(bounds):
    """Whether sizes are grey levels as they are."""
    return bounds[1] - bounds[0] == 255


def _levels(levels):
    return f"{levels:.1f}".removesuffix(".0") + " of 255 grey levels"


def levelled(text, bounds):
    """The same text, with grey levels behind each size in linf."""
    if in_levels(bounds):
        return _LINF.sub(lambda found: f"{found[0]} of 255 grey levels", text)
    return _LINF.sub(lambda found: f"{found[0]} ({grey_levels('linf', float(found[1]), bounds)})", text)


def attacker(norm, size, about):
    """Who attacks: what he may change, for a person who knows no norm."""
    pixels, span = math.prod(about["shape"]), about["bounds"][1] - about["bounds"][0]
    if len(about["shape"]) != 3:
        return f"An attacker who may change a sample by {norm} {size:.3g}"
    if norm == "linf":
        return f"An attacker who may change each pixel by {grey_levels(norm, size, about['bounds'])}"
    # The mean change is at most the root of the mean square.
    mean = size / pixels if norm == "l1" else size / math.sqrt(pixels)
    return f"An attacker who may change the pixels by {_levels(255 * mean / span)} on average"


def headline(content):
    """What it comes to, in sentences that need no paper: images of something else first, then attackers."""
    about = content["about"]
    found = [_of_ood(content["ood"][0], about)] if content["ood"] else []
    norm = next((norm for norm in content["curves"] if norm in about["plan"]["compared"]), None)
    if norm:
        found.append(_of_attack(norm, content))
    return " ".join(found)


def _of_ood(row, about):
    if not about["rejects"]:
        return "This model cannot reject: it gives each image one of its classes, whatever the image shows."
    total, passing = _counted(1 - row["rejected"], row["samples"])
    what = "of pure noise" if row["what"] == NOISE else f"that it does not know ({row['what']})"
    return f"Of {total} {_noun(about)} {what} it lets {passing or 'none'} pass."


def _of_attack(norm, content):
    about = content["about"]
    size, curve = about["plan"]["compared"][norm], content["curves"][norm]["adaptive"]
    total, broken = _counted(1 - curve["robust_accuracy"][curve["sizes"].index(size)], about["plan"]["samples"])
    known = broken and not broken.startswith(("all", "fewer", "more"))
    least = "at least " if known and content["verdict"]["failed"] else ""
    result = "accepted with a wrong class" if about["rejects"] else "named wrong"
    number = f"{broken or 'none'} of {total}" if broken != f"all {total}" else broken
    return f"{attacker(norm, size, about)} gets {least}{number} {result}."


def on_clean(content):
    """What becomes of the images that the model is for."""
    clean, about = content["clean"], content["about"]
    total = 100 if clean["samples"] >= 100 else clean["samples"]
    shares = {part: _counted(clean[part], clean["samples"])[1] or "none" for part in ("right", "rejected", "wrong")}
    rejected = f"It rejects {shares['rejected']} and" if about["rejects"] else "It"
    return f"Of {total} {_noun(about)} of its classes it names {shares['right']} right. {rejected} names {shares['wrong']} wrong."


def _noun(about):
    return "images" if len(about["shape"]) == 3 else "samples"


def _counted(share, samples):
    """Of how many, and how many of them as text: of a hundred, but never of more than there were; empty for none."""
    total = 100 if samples >= 100 else samples
    number = round(share * total)
    if number == 0:
        return total, "fewer than 1" if share * samples > 0.5 else ""
    if number == total:
        return total, f"more than {total - 1}" if (1 - share) * samples > 0.5 else f"all {total}"
    return total, str(number)
