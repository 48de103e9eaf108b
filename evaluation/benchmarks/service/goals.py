"""What a defense may cost in service."""

from evaluation.benchmarks.service.decisions import BRANCH, DENSITY, PHOTOS, SCORE
from evaluation.runner.goals import Goal


def _decision(system, runtime="TensorFlow", batch=128, base=""):
    return lambda of: of(table="service.decisions", metric="time ratio", system=system, runtime=runtime, batch=batch, base=base)


def _fit(system, metric, few=False, result="fitted"):
    return lambda of: of(table="service.fits", metric=metric, system=system, few=few, result=result)


GOALS = {
    ("service", "mnist"): [
        Goal("K-density, 10,000 points: a compiled decision over the bare network's", _decision(DENSITY), most=1.3),
        *(Goal(f"the same in {one} at batch 1", _decision(DENSITY, one, 1), most=3) for one in ("ONNX", "LiteRT")),
        *(Goal(f"the same in {one} at batch 128", _decision(DENSITY, one), most=1.3) for one in ("ONNX", "LiteRT")),
        Goal("detector branch of default width: a decision over the bare network's", _decision(BRANCH), most=1.5),
        *(
            Goal(f"{PHOTOS}, {system}: a decision over the bare network's", _decision(system, batch=32, base=PHOTOS), most=most)
            for system, most in ((DENSITY, 1.3), (BRANCH, 1.5))
        ),
        Goal("`decide` on one digit: CPU seconds", lambda of: of(system=SCORE, of="decide"), most=0.004),
        Goal("bare network's time over that of `td.predict` on many", lambda of: 1 / of(system=SCORE, of="td.predict"), least=0.9),
        Goal("`td.adapt` of K-density: passes forward a sample", _fit("K-density", "time ratio", few=True), most=1.3),
        Goal("K-density on 50,000 samples: CPU seconds", _fit("K-density", "CPU seconds"), most=60),
        Goal("SafetyNet on 50,000 samples, some drawn: CPU seconds", _fit("SafetyNet", "CPU seconds"), most=60),
        Goal("DNR on 10,000 samples: GiB beyond the network", _fit("DNR", "GiB", few=True), most=1),
        Goal("DNR on 50,000 samples: CPU seconds of the refusal", _fit("DNR", "CPU seconds", result="refused"), most=1),
        Goal("DNR on 50,000 samples, some drawn: CPU seconds", _fit("DNR", "CPU seconds"), most=60),
        Goal("DNR on 50,000 samples, some drawn: GiB beyond the network", _fit("DNR", "GiB"), most=3),
    ],
}
