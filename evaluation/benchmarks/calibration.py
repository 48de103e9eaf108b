"""Whether calibrated thresholds keep their promise: the false-positive rate on fresh samples, over 500 calibrations.

Detector scores of a zoo model on its test samples, which no part of it has seen, are computed once. Each draw takes n of them to
calibrate on, by the very function behind `td.calibrate`; the others are fresh. Beside it stands the plain share, which holds for
the calibration samples alone.
"""

import numpy as np

DATASETS = ("mnist", "digits")
NETWORKS = {"mnist": "mnist_cnn.dnr", "digits": "digits_cnn.dnr"}
SIZES = (20, 50, 100, 200, 1000)
PROMISED, CONFIDENCE = 0.05, 0.95
DETECTORS = ("DNR", "confidence", "non-ME")
# Which of them each system has, and how they are joined; None for one alone.
SYSTEMS = {
    "DNR": ((0,), None),
    "any of DNR, confidence": ((0, 1), lambda rejects: rejects.any(axis=0)),
    "all of DNR, confidence": ((0, 1), lambda rejects: rejects.all(axis=0)),
    "any of DNR, (all of confidence, non-ME)": ((0, 1, 2), lambda rejects: rejects[0] | (rejects[1] & rejects[2])),
}


def scores_of(network, x):
    """Detector scores of each sample: the one that the network has, and two more on the classifier inside."""
    import tfdefense as td
    from tfdefense.view import decide

    base, defended = td.base_model(td.zoo.load(network)), td.zoo.load(network)
    others = [td.ThresholdDefense(metric, threshold=0.0).attach(base) for metric in ("confidence", "non-me")]
    # All but for a constant, which no threshold feels.
    return [decide(model, x).suspicion.tolist() for model in (defended, *others)]


def share(scores, decide):
    """The rule that was: as many samples above the threshold as the share allows. For one detector."""
    return np.sort(scores, axis=1)[:, [-1 - int(PROMISED * scores.shape[1])]][:, 0]


def rules():
    from tfdefense.conformal import thresholds

    yield "share of these samples", share
    for confidence in (None, CONFIDENCE):
        name = "mean" if confidence is None else f"confidence {confidence}"
        yield name, lambda scores, decide, sure=confidence: thresholds(scores, decide, PROMISED, sure)


def rates(scores, decide, rule, size, draws):
    """The rate on the samples that were not drawn, of each draw; and how many the rule needs, where there were too few."""
    from tfdefense.conformal import TooFew

    joined, found, needed = decide or (lambda rejects: rejects.any(axis=0)), [], None
    for seed in range(draws):
        order = np.random.default_rng(seed).permutation(scores.shape[1])
        drawn, fresh = scores[:, order[:size]], scores[:, order[size:]]
        try:
            value = rule(drawn, decide)
        except TooFew as error:
            needed = error.needed
            continue
        found.append(float(joined(fresh > value[:, None]).mean()))
    return found, needed


def run(context):
    from tfdefense import data

    network, draws = NETWORKS[context.dataset], 20 if context.quick else 500
    test = data.load(context.dataset, "test", data_dir=context.data_dir, limit=context.samples_or(None, 1000))
    context.settings.update(network=network, draws=draws, promised=PROMISED, pool=f"{len(test)} test samples")
    scores = np.array(context.part("scores", scores_of, network, test.x), "float32")
    for system, (detectors, decide) in SYSTEMS.items():
        for size in (size for size in SIZES if size <= len(test) // 2):
            for name, rule in rules():
                if rule is share and decide:
                    continue
                found, needed = rates(scores[list(detectors)], decide, rule, size, draws)
                about = {"needed": needed, "left_out": draws - len(found), "note": "too few samples"} if needed else {}
                _rows(context, found, system=system, calibrated_on=size, rule=name, **about)


def _rows(context, found, **about):
    statistics = {"mean": np.mean, "95th percentile": lambda rates: np.quantile(rates, 0.95)}
    statistics["draws above"] = lambda rates: np.mean(np.array(rates) > PROMISED)
    for name, of in statistics.items():
        value = float(of(found)) if found else None
        context.row("calibration", "false-positive rate", value, **about, statistic=name)
