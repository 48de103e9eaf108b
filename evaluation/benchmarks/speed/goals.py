"""What attacks and defenses may cost."""

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
