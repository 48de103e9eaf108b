from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from tfdefense import conformal
from tfdefense._progress import estimate
from tfdefense._validation import AnyModel, Bounds, PathLike, is_bounded
from tfdefense.comparison.candidates import Candidates, check_attached, check_untrained, named
from tfdefense.comparison.measure import Judge, predict_ratio, robust, samples_of
from tfdefense.comparison.result import UNDEFENDED, Comparison, Row
from tfdefense.comparison.splits import Part, thirds
from tfdefense.contract import base_model, bounds_of, is_defended
from tfdefense.contract import class_names as names_of
from tfdefense.metrics import aurc

if TYPE_CHECKING:
    from tfdefense.attacks.suites import Suite
    from tfdefense.data import Images

CRITERIA = {
    "ood": "the mean share of out-of-distribution samples rejected",
    "risk": "the area under the risk-coverage curve",
    "attack": "robust accuracy",
}


def compare(
    model: AnyModel,
    defenses: Candidates | None,
    held_out: str | Images | tuple[ArrayLike, ArrayLike],
    *,
    ood: Mapping[str, Any] | Images | ArrayLike | None = None,
    attack: str | Suite | Any | None = "quick-1",
    epsilon: float | None = None,
    norm: str = "linf",
    attacked: int = 32,
    steps: int | None = None,
    by: str | None = None,
    max_rejected: float = 0.05,
    confidence: float | None = None,
    train: Images | tuple[ArrayLike, ArrayLike] | None = None,
    bounds: Bounds = (0.0, 1.0),
    class_names: Any = None,
    seed: int = 0,
    batch_size: int | None = None,
    picture: PathLike | None = None,
    progress: bool = False,
) -> Comparison:
    """Sets up defenses of one model on the same held-out samples, at the same false-positive rate, and says which to take.

    Nothing is chosen on what calibrates or is reported. One third of the held-out samples and one half of each out-of-distribution
    set pick the winner, at thresholds of their own; another third calibrates all candidates anew; all that is reported comes from
    the last third and the other halves. So the promise of a threshold holds for the winner as for any other.

    Args:
        model: A Keras classifier; of a defended one the undefended model inside.
        defenses: Candidates: names of scores, such as "confidence" and "energy", defenses, or a dict of either by names of your
            own. None is every score by name; those that this model can't have are left out, with the reason. What needs adversarial
            samples or training is refused.
        held_out: Samples that the model was not trained on, with their classes: a pair of arrays, `Images`, or the name of a set.
        ood: Out-of-distribution samples, which are none of the classes: an array or `Images`, or a dict of them by name.
        attack: A suite of `td.attacks.suites` or its name, or an attack; None for none.
        epsilon, norm: Size of the attack and of the benign perturbations of that norm; None follows from the shape of a sample.
        attacked: Samples that are attacked, for each candidate.
        steps: Of each search of a suite; None is the suite's own.
        by: What the winner is chosen by: "ood", the mean share of `ood` samples rejected; "risk", the area under the
            risk-coverage curve; "attack", robust accuracy, which attacks as many samples of the part that chooses. None is "ood"
            with `ood`, else "risk".
        max_rejected, confidence: Share of fresh clean samples that may be rejected, as in `td.calibrate`.
        train: Training samples and classes to adapt on. Without them half of the part that chooses adapts, and the rest chooses.
        bounds: Lowest and highest value of a plain model's inputs, as for `attach`.
        class_names: Names of its classes, as for `attach`.
        seed: Of the parts, the benign perturbations and the attack.
        batch_size: Samples at once; None as for `td.adapt`.
        picture: Where to draw the comparison.
        progress: Whether to show how far it is.

    Returns:
        A `Comparison`: `print(found.summary())`, `found["energy"].rejected`, `found.winner.save("defended.keras")`.

    Example:

    >>> found = td.compare(model, ["confidence", "energy"], (x_held_out, y_held_out), ood=1 - x_held_out, attack=None)
    >>> found.chosen in ("confidence", "energy"), len(found.rows)
    (True, 3)
    """
    candidates, listed = named(defenses), defenses is not None
    conformal.check_promise(max_rejected, confidence)
    if is_defended(model):
        bounds, class_names, model = bounds_of(model), class_names or names_of(model), base_model(model)
    by = _criterion(by, ood, attack)
    chosen, calibrated, reported = thirds(model, held_out, ood, train, bounds, class_names, seed)
    for name, defense in candidates.items():
        check_untrained(name, defense)
    span = reported.bounds[1] - reported.bounds[0] if is_bounded(reported.bounds) else None
    attacking = robust(attack, norm, epsilon, steps, seed, reported.x.shape[1:], span)
    # In passes of the held-out samples through the network; an attack takes hundreds for each of its samples.
    total = 2.0 + len(candidates) * (1 + (200 * attacked / len(reported.x) if attacking.attack else 0))
    with estimate(progress) as begin:
        ready, left_out, done = {}, {}, 0.0
        waits = _attach(candidates, model, bounds, class_names, listed, left_out)
        fitted, choosing = chosen.fit_and_choose(any(adapts for _, adapts, _ in waits.values()), seed)
        for name, (defended, adapts, seconds) in waits.items():
            begin(f"setting up {name}", done, total)
            done += 1
            try:
                seconds += _set_up(defended, fitted if adapts else None, choosing, max_rejected, batch_size)
                ready[name] = defended
            except conformal.TooFew:
                raise
            except ValueError as error:
                if listed:
                    raise ValueError(f"Candidate {name!r}: {error}") from error
                left_out[name] = str(error)
            waits[name] = (defended, adapts, seconds)
        if not ready:
            raise ValueError(f"No candidate is left. {' '.join(f'{name}: {reason}' for name, reason in left_out.items())}")
        begin("predicting", done, total)
        judge = Judge(model, ready, batch_size)
        scores = _scores(by, judge, ready, choosing, attacking, attacked)
        picked = max(scores, key=lambda name: scores[name])
        for name, defended in ready.items():
            seconds = _calibrate(defended, calibrated, max_rejected=max_rejected, confidence=confidence, batch_size=batch_size)
            waits[name] = (*waits[name][:2], waits[name][2] + seconds)
        done += 2
        rows = _rows(judge, reported, attacking, seed)
        for index, row in enumerate(rows):
            begin(f"attacking {row['name']}", min(done + index * (total - done) / len(rows), total), total)
            name = row["name"]
            defended = ready.get(name, model)
            row["robust_accuracy"] = attacking(defended, reported, attacked)
            if name != UNDEFENDED:
                row |= {"setup_seconds": waits[name][2], "score": scores[name]}
                row |= {"predict_ratio": predict_ratio(model, defended, reported.x)}
                row |= {"added_kib": _kib(defended) - _kib(base_model(defended))}
            if row["robust_accuracy"] is not None:
                row["samples"]["attack"] = min(attacked, len(reported.x))
    about = {"by": CRITERIA[by], "held_out": reported.name, "promise": conformal.promise(max_rejected, confidence), "seed": seed}
    about |= {"adapted_on": len(fitted.x), "chosen_on": len(choosing.x), "calibrated_on": len(calibrated.x)}
    about |= {"reported": len(reported.x)} | attacking.about
    found = Comparison(tuple(Row(**row) for row in rows), ready[picked], picked, about, left_out)
    if picture is not None:
        from tfdefense import plots

        plots.comparison(found, picture)
    return found


def _criterion(by, ood, attack):
    by = ("risk" if ood is None else "ood") if by is None else by
    if by not in CRITERIA:
        raise ValueError(f"`by` must be one of {', '.join(map(repr, CRITERIA))}. Received: {by!r}.")
    if by == "ood" and ood is None:
        raise ValueError('To choose by "ood" takes out-of-distribution samples. Pass `ood={\'noise\': x}`, or by="risk".')
    if by == "attack" and attack is None:
        raise ValueError('To choose by "attack" takes one. Pass attack="quick-1", or by="risk".')
    return by


def _attach(candidates, model, bounds, class_names, listed, left_out):
    """Defended models by name, whether they wait to be adapted, and the seconds that it took."""
    import time

    found = {}
    for name, defense in candidates.items():
        begun = time.perf_counter()
        try:
            defended = defense.attach(model, bounds=bounds, class_names=class_names)
        except ValueError as error:
            if listed:
                raise ValueError(f"Candidate {name!r}: {error}") from error
            left_out[name] = str(error)
            continue
        found[name] = (defended, check_attached(name, defended, base_model(defended)), time.perf_counter() - begun)
    return found


def _set_up(defended, fitted: Part | None, choosing: Part, max_rejected, batch_size):
    """Seconds of adapting. The threshold is the one to choose at: the one that makes the promise takes more samples."""
    import time

    from tfdefense.calibration import adapt

    begun = time.perf_counter()
    if fitted is not None:
        adapt(defended, fitted.x, fitted.y, max_rejected=None, batch_size=batch_size)
    seconds = time.perf_counter() - begun
    _calibrate(defended, choosing, max_rejected=max_rejected, batch_size=batch_size)
    return seconds


def _calibrate(defended, part: Part, **options):
    """Seconds of it."""
    import time

    from tfdefense.calibration import calibrate

    begun = time.perf_counter()
    calibrate(defended, part.x, **options)
    return time.perf_counter() - begun


def _scores(by, judge, ready, choosing, attacking, attacked):
    """What each candidate is worth on the part that chooses: larger is better."""
    if by == "attack":
        return {name: attacking(defended, choosing, attacked, required=True) for name, defended in ready.items()}
    if by == "risk":
        return {name: -aurc(outcomes) for name, outcomes in judge(choosing.x, choosing.y).items() if name != UNDEFENDED}
    sets = [judge(x, np.zeros(len(x), int)) for x in choosing.ood.values()]
    return {name: float(np.mean([outcomes[name].rejection for outcomes in sets])) for name in ready}


def _rows(judge, reported, attacking, seed):
    """All that is reported but for what is measured on each model alone."""
    counts = {"clean": len(reported.x)} | {name: len(x) for name, x in reported.ood.items()}
    rows = {}
    for name, outcomes in judge(reported.x, reported.y).items():
        score = None if outcomes.suspicion is None else aurc(outcomes)
        rows[name] = {
            "name": name,
            "right": outcomes.accuracy,
            "rejected": outcomes.rejection,
            "risk": outcomes.risk,
            "aurc": score,
        }
        rows[name] |= {"ood": {}, "benign": {}, "samples": dict(counts)}
    for kind, sets in (("ood", reported.ood), ("benign", samples_of(reported, attacking, seed))):
        for what, x in sets.items():
            y = reported.y if len(x) == len(reported.y) else np.zeros(len(x), int)
            for name, outcomes in judge(x, y).items():
                rows[name][kind][what] = outcomes.rejection
    return list(rows.values())


def _kib(model):
    return sum(np.prod(weight.shape) * np.dtype(_numpy_name(weight.dtype)).itemsize for weight in model.weights) / 1024


def _numpy_name(dtype):
    import keras

    name = keras.backend.standardize_dtype(dtype)
    return "float16" if name == "bfloat16" else name
