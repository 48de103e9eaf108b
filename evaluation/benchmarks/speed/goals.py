"""What attacks and defenses may cost."""

from evaluation.benchmarks.speed.report import MODELS
from evaluation.runner.goals import Goal


def _ours(metric, attack):
    return lambda of: of(system="tfdefense", metric=metric, attack=attack)


def _less(metric, attack):
    """Ours less foolbox's."""
    return lambda of: of(system="tfdefense", metric=metric, attack=attack) - of(system="foolbox", metric=metric, attack=attack)


def _over(metric, attack):
    """Ours over foolbox's."""
    return lambda of: of(system="tfdefense", metric=metric, attack=attack) / of(system="foolbox", metric=metric, attack=attack)


def _beside_foolbox(attack):
    # A cheap attack that ends farther away is no faster.
    return (
        Goal(f"{attack}: success rate less foolbox's", _less("success rate", attack), least=0),
        Goal(f"{attack}: mean l2 over foolbox's", _over("mean distance", attack), most=1.02),
    )


def _throughput(system, clock):
    return lambda of: of(table="speed.fit", system=system, clock=clock)


def _overhead(system):
    return lambda of: of(table="speed.overhead", system=system)


def _report(system, metric, of):
    return lambda results: results(table="speed.report", system=system, metric=metric, of=of)


GOALS = {
    ("speed", "mnist"): [
        Goal("PGD: passes", _ours("passes", "PGD"), most=42),
        Goal(
            "Carlini-Wagner: passes an iteration",
            lambda of: _ours("passes", "Carlini-Wagner")(of) / _ours("iterations", "Carlini-Wagner")(of),
            most=1.1,
        ),
        *_beside_foolbox("Carlini-Wagner"),
        Goal("DeepFool: passes", _ours("passes", "DeepFool"), most=45),
        Goal("DeepFool: success rate", _ours("success rate", "DeepFool"), least=1),
        Goal("DeepFool: mean l2", _ours("mean distance", "DeepFool"), most=1.95),
        *_beside_foolbox("DeepFool"),
        Goal("JSMA: passes", _ours("passes", "JSMA"), most=150),
    ],
    ("speed_overhead", "mnist"): [
        Goal("Square: passes forward a query, 32 samples", _overhead("Square"), most=1.1),
        Goal("Carlini-Wagner: passes a step, 32 samples", _overhead("Carlini-Wagner"), most=1.1),
        Goal("training with a random start over a loop by hand", _overhead("training with a random start"), most=1.05),
        Goal("the first attack over the first gradient", _overhead("first attack"), most=1.5),
        Goal("quick report: CPU time over its floor", _report("report", "time ratio", MODELS["mnist"]), most=1.5),
        Goal("quick report: CPU seconds", _report("report", "CPU seconds", MODELS["mnist"]), most=60),
        Goal("quick report: traces", _report("report", "count", "traces"), most=15),
        Goal("standard suite on 100 samples: seconds", _report("suite", "seconds", MODELS["mnist"]), most=300),
    ],
    ("speed_defenses", "mnist"): [
        *(
            Goal(f"training, {system}: throughput over stock fit, {clock} time", _throughput(system, clock), least=0.97)
            for system in ("RCE", "dustbin")
            for clock in ("cpu", "wall")
        ),
        Goal(
            "a step of dynamic training over what its parts cost",
            lambda of: of(metric="passes", system="step") / of(metric="passes", system="limit"),
            most=1,
        ),
        Goal("a decision with 10,000 codes over the classifier's", lambda of: of(table="speed.predict"), most=1.5),
    ],
}
