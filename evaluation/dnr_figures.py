"""The figures of `evaluation/dnr.py`: curves, adversarial examples, and the problem in the plane of the paper's figure 2."""

import numpy as np


def draw(context, split, curves, plan, steps):
    from evaluation.dnr import METHODS, attack
    from tfdefense import plots

    folder = context.output / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    name = f"dnr-{context.dataset}"
    for kind, found in curves.items():
        plots.security_curve(found, folder / f"{name}-{kind}.png", xlabel="l2 size of the perturbation")
    x, y = (array[:8] for array in split.data["attacked"])
    for method in METHODS:
        for size in plan.shown:
            result = attack("strongest", size, steps)(split.attackable(method), x, y)
            plots.examples(x, result.x_adv, y, result.label, folder / f"{name}-examples-{method}-{size:g}.png")
    plane(folder / "dnr-plane.png")


def plane(path=None, samples=60, epsilon=0.28, steps=60, seed=0):
    """Three classes in the plane, machines right on the points, and the paper's attack on one of them."""
    import keras

    import tfdefense as td
    from tfdefense import plots

    rng = np.random.default_rng(seed)
    middles = np.array([[0.3, 0.35], [0.7, 0.35], [0.5, 0.72]])
    y = np.repeat(np.arange(3), 2 * samples)
    x = np.clip(middles[y] + 0.06 * rng.standard_normal((len(y), 2)), 0, 1).astype("float32")
    points = keras.Input((2,))
    scores = td.layers.RBFSVM(3, C=10.0, gamma=30.0)(points)
    model = td.defend(points, scores, td.layers.Threshold()(td.layers.BestScore()(scores)))
    td.adapt(model, x[::2], y[::2], calibration=x[1::2], max_rejected=0.1)
    objective = td.attacks.MaximumConfidence()
    attack = td.attacks.PGD(epsilon, norm="l2", steps=steps, objective=objective, starts="sample")
    # From the middle of its class the slope may lead away from the other two, and the search ends where all is rejected.
    start = middles[:1].astype("float32") + np.array([[0.06, 0.0]], "float32")
    found = attack(model, start, np.array([0]))
    return plots.plane(
        model, x[::2], y[::2], path, objective=objective, start=start[0], aim=0, found=found.x_adv[0], epsilon=epsilon
    )
