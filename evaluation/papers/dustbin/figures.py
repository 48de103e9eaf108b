"""The figures of the paper: regions of two moons, interpolated samples, and features in three dimensions."""

import numpy as np

from evaluation.papers.dustbin.settings import BOTH, NAIVE, PAPER
from tfdefense import plots
from tfdefense.plots import canvas


def draw(study):
    from tfdefense.view import decide

    context, sets = study.context, study.sets("test")
    folder = context.output / f"dustbin-{context.dataset}"
    folder.mkdir(parents=True, exist_ok=True)
    for dustbin in (False, True):
        moons(dustbin, folder / f"moons-{'augmented' if dustbin else 'naive'}.png", epochs=10 if context.quick else 40)
    between(study.samples.unseen, study.model(NAIVE), folder / "interpolated.png")
    shown = {"clean": sets["FGS"].x, "FGS": sets["FGS"].x_adv, "T-FGS": sets["T-FGS"].x_adv}
    for network in PAPER:
        found = {label: features(study.model(network), study.plan.features, x[:300]) for label, x in shown.items()}
        space(found, folder / f"features-{network}.png", title=network.fields()["detector"] or "no dustbin")
    for label in ("FGS", "DeepFool"):
        found = sets[label].take(slice(8))
        said = decide(study.model(BOTH), found.x_adv).label
        plots.examples(found.x, found.x_adv, found.y, said, folder / f"{label.lower()}.png")


def features(model, layer, x):
    """Outputs of a layer of the classifier inside a defended model, or of a plain one."""
    import keras

    import tfdefense as td
    from tfdefense.contract import is_defended

    network = td.base_model(model) if is_defended(model) else model
    found = keras.Model(network.inputs[0], network.get_layer(layer).output)(x, training=False)
    return keras.ops.convert_to_numpy(found).reshape(len(x), -1)


def moons(dustbin, path=None, *, samples=400, epochs=40, seed=0):
    """Regions of a small network on two moons; with a dustbin, points far from both are given to it."""
    import keras
    from sklearn.datasets import make_moons
    from sklearn.neighbors import NearestNeighbors

    import tfdefense as td
    from evaluation.papers.dnr.figures import regions

    x, y = make_moons(samples, noise=0.06, random_state=seed)
    x = (0.5 + (x - x.mean(0)) / 4).astype("float32")
    all_x, all_y = x, y
    if dustbin:
        # Beyond the frame too: where nothing was seen the classes would run out of it.
        around = np.random.default_rng(seed).uniform(-0.25, 1.25, (4 * samples, 2)).astype("float32")
        distance, _ = NearestNeighbors(n_neighbors=1).fit(x).kneighbors(around)
        outside = around[distance[:, 0] > 0.08]
        all_x, all_y = np.concatenate([x, outside]), np.concatenate([y, np.full(len(outside), 2)])
    keras.utils.set_random_seed(seed)
    hidden = [keras.layers.Dense(32, "tanh") for _ in range(2)]
    network = keras.Sequential(
        [keras.Input((2,)), keras.layers.Rescaling(8.0, offset=-4.0), *hidden, keras.layers.Dense(3 if dustbin else 2)]
    )
    network.compile(keras.optimizers.Adam(0.01), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(all_x, all_y, batch_size=64, epochs=epochs, verbose=0)
    model = td.DustbinDefense().attach(network) if dustbin else network
    regions(model, x, y, path)
    return model, x, y


def between(images, network, path=None, *, columns=10):
    """Samples, their nearest neighbours of another class, and what lies half way."""
    from tfdefense import data

    images = images.take(slice(2000))
    made = data.interpolate(images.x, images.y, network, limit=columns)
    rows = {"sample": images.x[made.sources], "neighbour": images.x[made.neighbours], "half way": made.x}
    with canvas.figure((0.35 + 0.72 * len(made.x), 2.5), path) as figure:
        grid = figure.subplots(3, len(made.x), squeeze=False)
        for axes_row, (name, shown) in zip(grid, rows.items(), strict=True):
            for axes, image in zip(axes_row, shown, strict=True):
                axes.imshow(image if image.shape[-1] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=1)
                axes.set(xticks=[], yticks=[])
                axes.grid(False)
            axes_row[0].set_ylabel(name, fontsize=8)
        return figure


def space(features, path=None, *, title=""):
    """Features of several kinds of samples, by name, in the three directions in which all together spread most."""
    from sklearn.decomposition import PCA

    directions = PCA(3, random_state=0).fit(np.concatenate(list(features.values())))
    with canvas.figure((4.4, 3.8), path) as figure:
        axes = figure.add_subplot(projection="3d")
        for (name, values), colour in zip(features.items(), plots.PALETTE, strict=False):
            axes.scatter(*directions.transform(values).T, s=6, color=colour, label=name, depthshade=False)
        axes.set(xticklabels=[], yticklabels=[], zticklabels=[], title=title)
        axes.legend(loc="upper left", markerscale=2)
        return figure
