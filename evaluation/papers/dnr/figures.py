"""The figures of `dnr`: curves, adversarial examples, and the problem in the plane of the paper's figure 2."""

import numpy as np


def draw(context, models, curves, sizes, steps):
    """The curves of each system under each attack, and what attacks of some sizes make of eight samples."""
    from evaluation.papers.dnr.measure import ATTACKS, situation
    from tfdefense import plots
    from tfdefense.attacks import MaximumConfidence

    folder = context.output / f"dnr-{context.dataset}"
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ATTACKS:
        found = {system: of[kind] for system, of in curves.items()}
        # What is rejected is shown of the paper's attack alone; see the rows.
        plots.security_curve(found, folder / f"{kind}.png", xlabel="l2 size of the perturbation", rejection=kind == "paper")
    for system, fitted in models.items():
        x, y = (array[:8] for array in fitted.split.data()["attacked"])
        for size in sizes:
            where = situation(fitted, size, steps=steps, early_stop=False)
            result = where.pgd(objective=MaximumConfidence(), starts=("sample", *where.other_starts))(fitted.model(), x, y)
            path = folder / f"examples-{system.replace(' ', '_')}-{size:g}.png"
            plots.examples(x, result.x_adv, y, result.label, path)
    plane(folder / "plane.png")


def plane(path=None, samples=60, epsilon=0.28, steps=60, seed=0):
    """Three classes in the plane, SVMs right on the points, and the paper's attack on one of them."""
    import keras

    import tfdefense as td

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
    return regions(model, x[::2], y[::2], path, objective=objective, start=start[0], aim=0, found=found.x_adv[0], epsilon=epsilon)


def regions(model, x, y, path=None, *, objective=None, start=None, aim=None, found=None, epsilon=None, cells=160):
    """Decision regions of a model of points in the plane, white where it rejects; beside them what an attack makes small.

    Args:
        model: A defended model or a classifier with inputs of shape (2,).
        x, y: Points to draw, and their classes.
        path: Where to save the figure.
        objective: An objective of `td.attacks`, drawn for a sample of class `aim`.
        start, found: Points before and after the attack.
        epsilon: l2 size of the attack, drawn as a circle around `start`.
        cells: Cells of the grid a side.
    """
    from tfdefense.plots import INK, PALETTE, WRONG
    from tfdefense.plots.canvas import figure as new_figure
    from tfdefense.view import View, decide

    view = View.of(model)
    if view.input_shape is not None and tuple(view.input_shape[1:]) != (2,):
        raise ValueError(f"Expected a model of points in the plane, input shape (2,). Received {tuple(view.input_shape[1:])}.")
    low, high = view.bounds
    ticks = np.linspace(low, high, cells)
    grid = np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2).astype("float32")
    decisions = decide(view, grid, batch_size=4096)
    classes = decisions.scores.shape[1]
    with new_figure((3.1 * (1 if objective is None else 2), 3.0), path) as figure:
        panels = figure.subplots(1, 1 if objective is None else 2, squeeze=False)[0]
        colours = ["#FFFFFF", *PALETTE[:classes]]
        levels = np.arange(-1.5, classes)
        panels[0].contourf(ticks, ticks, decisions.label.reshape(cells, cells), levels, colors=colours, alpha=0.35)
        if objective is not None:
            scale = objective.measure(view, grid, np.full(len(grid), aim, "int32"))
            value = np.asarray(objective.value(decisions.scores, decisions.suspicion, np.full(len(grid), aim), None, scale))
            drawn = panels[1].contourf(ticks, ticks, value.reshape(cells, cells), 20, cmap="viridis")
            figure.colorbar(drawn, ax=panels[1], shrink=0.85)
        for axes in panels:
            axes.set(aspect="equal", xlim=(low, high), ylim=(low, high))
            axes.grid(False)
            for label in range(classes):
                axes.scatter(*x[y == label].T, s=6, color=PALETTE[label], edgecolor="white", linewidth=0.3)
            if start is not None:
                axes.plot(*start, marker="h", markersize=8, color=WRONG, markeredgecolor="white", linestyle="none")
            if found is not None:
                axes.plot(*found, marker="*", markersize=12, color="white", markeredgecolor=INK, linestyle="none")
            if start is not None and epsilon is not None:
                angle = np.linspace(0, 2 * np.pi, 200)
                axes.plot(start[0] + epsilon * np.cos(angle), start[1] + epsilon * np.sin(angle), color=INK, linewidth=1)
        return figure
