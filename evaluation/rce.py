"""Reverse cross-entropy and the thresholding test strategy, beside cross-entropy on the same network.

Rows R3 to R9: attacks that know of no detector (accuracy, distortion, AUC of three metrics), the white-box C&W-wb from two
starts, transfer to a deeper network, t-SNE, the adaptive attack on the K-density detector, and its control: what it says of
harmless changes. Networks are trained when they are not in the cache, both losses by the same settings.
"""

from typing import Annotated

import typer

from evaluation import rce_paper as paper

DATASETS = ("mnist", "cifar10", "digits")
LOSSES = ("ce", "rce")
TITLES = {"ce": "CE", "rce": "RCE", "confidence": "confidence", "non-me": "non-ME", "density": "K-density"}
SIGMA = {"ce": (1 / 0.26) ** 0.5, "rce": (0.1 / 0.26) ** 0.5}
EPSILON = {"mnist": 0.2, "cifar10": 0.03, "digits": 0.2}
SIZES = {
    "mnist": (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3),
    "cifar10": (0.0, 0.01, 0.02, 0.03, 0.04, 0.05),
    "digits": (0.0, 0.1, 0.2, 0.3),
}
# JSMA's size is what a chosen pixel gains in a step.
THETAS = {"mnist": (0.0, 0.25, 0.5, 1.0), "cifar10": (0.0, 0.1, 0.25, 0.5, 1.0), "digits": (0.0, 0.5, 1.0)}
ADAPTIVE = {
    "mnist": {"l2": (0.5, 1.0, 1.5, 2.0), "linf": (0.05, 0.1, 0.2)},
    "cifar10": {"l2": (0.1, 0.25, 0.5), "linf": (0.005, 0.01, 0.02)},
    "digits": {"l2": (0.5, 1.0), "linf": (0.1, 0.2)},
}
MEDIAN_OF = 10_000  # training samples
HARMLESS = (("sign", 0.1), ("gaussian", 0.1), ("dim", 0.3), ("shift", 1))


class Network:
    """A trained classifier with its detectors; `white_box` rejects at eta, the median of the training set."""

    def __init__(self, context, loss, path, train, held_out):
        import keras

        import tfdefense as td
        import tfdefense.layers  # the network may end in one of them

        base = keras.models.load_model(path, compile=False)
        name = f"density {path.parent.name} {loss}"
        defended = context.model(name, with_density, base, SIGMA[loss], train, held_out)
        self.base = td.base_model(defended)
        self.white_box = keras.models.clone_model(defended)
        self.white_box.set_weights(defended.get_weights())
        # The median of so many is that of all, to within a percent of the samples, at a sixth of the time.
        td.calibrate(self.white_box, train.take(slice(MEDIAN_OF)).x, max_rejected=0.5)
        self.detectors = {m: td.ThresholdDefense(m, threshold=0.0).attach(self.base) for m in ("confidence", "non-me")}
        self.detectors["density"] = defended

    def features(self, x):
        import keras

        hidden = keras.Model(self.base.inputs[0], self.base.get_layer("pool").output)
        return hidden.predict(x, batch_size=256, verbose=0).reshape(len(x), -1)

    def right(self, x, y):
        """Samples that the network has right: only these can be misled."""
        import tfdefense as td

        return td.evaluate(self.base, x, y).label == y


def with_density(base, sigma, train, held_out):
    """The exact K-density of the training set, its threshold at 5 % of held-out samples."""
    import tfdefense as td

    defended = td.DensityDefense(sigma, max_points=len(train.x)).attach(base)
    return td.adapt(defended, train.x, train.y, calibration=held_out.x, max_rejected=0.05)


def aucs(network, clean_x, x_adv, y):
    """AUC of each metric over the samples that were right and are wrong now, and how many these are."""
    import tfdefense as td
    from tfdefense.metrics import auc, successful_pairs

    found = {}
    for metric, model in network.detectors.items():
        clean, perturbed = td.evaluate(model, clean_x, y), td.evaluate(model, x_adv, y, adversarial=True)
        pairs = successful_pairs(clean, perturbed)
        found["pairs"] = int(pairs.sum())
        found[metric] = auc(clean.suspicion[pairs], perturbed.suspicion[pairs]) if pairs.any() else None
    return found


def own_kappa(model, x, y):
    """1.3 x the median lead of the true class on clean samples: what is high confidence for this network."""
    import numpy as np

    from tfdefense.decisions import decide

    scores = decide(model, x).scores.copy()
    own = scores[np.arange(len(y)), y].copy()
    scores[np.arange(len(y)), y] = -np.inf
    return round(1.3 * float(np.median((own - scores.max(1))[own > scores.max(1)])), 3)


def oblivious(network, attack, x, y):
    """An attack on the network without its detectors: success, distortion, AUCs."""
    from tfdefense.metrics import distortion

    x, y = x[network.right(x, y)], y[network.right(x, y)]
    result = attack(network.base, x, y)
    measured = distortion(x, result)
    rms = measured.mean_rms if measured.success.any() else None
    return {"success": measured.success_rate, "rms": rms, **aucs(network, x, result.x_adv, y)}


def accuracy_curve(network, make, x, y, sizes):
    from tfdefense.metrics import security_curve

    curve = security_curve(network.base, lambda size, seed: make(size), x, y, sizes, cumulative=False)
    return curve.accuracy.tolist()


def white_box(network, start, cw, x, y):
    """C&W-wb; a sample that is wrong already is no success. The examples are kept: the transfer and the figure need them."""
    import dataclasses

    from tfdefense.attacks import Penalty
    from tfdefense.metrics import distortion

    result = dataclasses.replace(cw, objective=Penalty(), starts=(start,))(network.white_box, x, y)
    right = network.right(x, y)
    return {
        "right": right.tolist(),
        "success": (result.success & right).tolist(),
        "rms": distortion(x, result).rms.tolist(),
        "x_adv": result.x_adv.tolist(),
        "label": result.label.tolist(),
    }


def better(first, second):
    """Of two results of `white_box` the better for each sample: success, then the smaller distortion."""
    import numpy as np

    cost = [np.where(found["success"], found["rms"], np.inf) for found in (first, second)]
    rows = cost[1] < cost[0]
    return {name: [(second if row else first)[name][i] for i, row in enumerate(rows)] for name in first}


def adaptive(network, norm, sizes, starts, steps, x, y):
    """The share that is not fooled (right or rejected) at each size."""
    from tfdefense.attacks import PGD, Evade
    from tfdefense.metrics import security_curve

    def make(size, seed):
        return PGD(size, norm=norm, steps=steps, objective=Evade(), starts=starts, early_stop=True, seed=seed)

    curve = security_curve(network.detectors["density"], make, x, y, sizes)
    return {"accuracy": curve.accuracy.tolist(), "rejection": curve.rejection.tolist()}


def control(network, x, y):
    """Rejections and errors of the detector on samples that nobody attacked."""
    import tfdefense as td
    from tfdefense.metrics import harmless

    changes = {"unchanged": x} | {f"{kind} {size}": harmless(x, size, kind) for kind, size in HARMLESS}
    found = {name: td.evaluate(network.detectors["density"], changed, y) for name, changed in changes.items()}
    return {name: {"rejected": outcomes.rejection, "error": outcomes.error} for name, outcomes in found.items()}


def tsne(network, x, y):
    """The plane, and the share of samples whose nearest neighbour there has their class."""
    from sklearn.manifold import TSNE
    from sklearn.neighbors import NearestNeighbors

    plane = TSNE(random_state=0, perplexity=min(30, len(x) // 4)).fit_transform(network.features(x))
    nearest = NearestNeighbors(n_neighbors=2).fit(plane).kneighbors(plane, return_distance=False)[:, 1]
    return {"plane": plane.tolist(), "same_class": float((y[nearest] == y).mean())}


def trained_pair(context, train, held_out, options):
    names = {loss: f"{context.dataset}_resnet_{loss}" for loss in LOSSES}
    paths = {loss: context.network(names[loss], **options) for loss in context.turn(LOSSES)}
    return {loss: Network(context, loss, path, train, held_out) for loss, path in paths.items()}


def run(
    context,
    *,
    depth: Annotated[int | None, typer.Option(help="Depth of the networks, 6n + 2; else the recipe's.")] = None,
    target_depth: Annotated[int | None, typer.Option(help="Depth of the target of the transfer; else 6 more.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of training; else the recipe's.")] = None,
    target_epochs: Annotated[int | None, typer.Option(help="Epochs of the target of the transfer; else as many.")] = None,
    cw_samples: Annotated[int | None, typer.Option(help="Samples for C&W and its variants.", min=2)] = None,
):
    from tfdefense import data

    quick, dataset = context.quick, context.dataset
    small = quick and dataset != "digits"
    depth = depth or (8 if quick or dataset == "digits" else 14)
    target_depth = target_depth or depth + 6
    epochs = epochs or (1 if small else None)
    target_epochs = target_epochs or epochs
    number = context.samples_or(500, 60)
    few = min(number, cw_samples or (30 if quick else 100))
    train = data.load(dataset, "train", data_dir=context.data_dir, limit=5000 if small else None)
    test = data.load(dataset, "test", data_dir=context.data_dir)
    number = min(number, len(test.x) // 2)
    few = min(few, number)
    attacked, rest = test.divide(number)
    x, y, held_out = attacked.x, attacked.y, rest.take(slice(2000))
    lengths = {"epochs": epochs or "the recipe's", "target epochs": target_epochs or "the recipe's"}
    context.settings.update({"depth": depth, "target depth": target_depth, **lengths, "samples": number, "C&W samples": few})
    networks = trained_pair(context, train, held_out, {"depth": depth, "epochs": epochs})
    where = f"ResNet-{depth}; the paper's is ResNet-32"
    for loss, network in networks.items():
        error = context.part(f"error {loss}", _error, network, test)
        known = paper.of(paper.TEST_ERROR, dataset, loss)
        context.row("R8", f"test error, {TITLES[loss]}", error, paper=known, samples=len(test.x), note=where)
    _training_rows(context)
    plots = context.output / f"rce-{dataset}"
    plots.mkdir(parents=True, exist_ok=True)
    _oblivious_rows(context, networks, x, y, few, where, plots)
    crafted = _white_box_rows(context, networks, x[:few], y[:few], where, plots)
    _adaptive_rows(context, networks, x, y, plots)
    _tsne_rows(context, networks, test.x[:1000], test.y[:1000], plots)
    targets = trained_pair(context, train, held_out, {"depth": target_depth, "epochs": target_epochs})
    _transfer_rows(context, targets, crafted, x[:few], y[:few], f"from ResNet-{depth} to ResNet-{target_depth}")


def _training_rows(context):
    """The gradients of reverse cross-entropy are classes - 1 times smaller: what plain SGD makes of that."""
    import json

    budget = {"depth": 8, "epochs": 1 if context.quick else 3, "train_samples": 1000 if context.quick else 10_000}
    note = f"ResNet-8, {budget['epochs']} epochs of {budget['train_samples']} samples; the networks above are trained by AdamW"
    for loss in context.turn(LOSSES):
        for rate in (0.01, 0.1, 0.9):
            options = {"optimizer": "SGD", "learning_rate": rate} | budget
            path = context.network(f"{context.dataset}_resnet_{loss}", **options)
            error = 1 - json.loads((path.parent / "config.json").read_text())["test_accuracy"]
            context.row("R1", f"test error, SGD with a learning rate of {rate}, {TITLES[loss]}", error, note=note)


def _error(network, test):
    import tfdefense as td

    return 1 - td.evaluate(network.base, test.x, test.y).accuracy


def _cw(context, **options):
    from tfdefense.attacks import CarliniWagner

    length = {"steps": 60, "binary_search_steps": 3} if context.quick else {"steps": 200, "binary_search_steps": 5}
    return CarliniWagner(**length, **options)


def _oblivious_rows(context, networks, x, y, few, where, plots):
    from tfdefense import attacks
    from tfdefense.metrics import SecurityCurve
    from tfdefense.plots import security_curve

    epsilon = EPSILON[context.dataset]
    own = {loss: own_kappa(network.base, x, y) for loss, network in networks.items()}
    swept = {
        "FGSM": (attacks.FGSM, SIZES),
        "BIM": (attacks.BIM, SIZES),
        "ILCM": (attacks.ILCM, SIZES),
        "JSMA": (lambda size: attacks.JSMA(theta=size), THETAS),
    }
    for name, (make, sizes) in swept.items():
        sizes, curves = sizes[context.dataset], {}
        # The pixel pairs of JSMA cost as much as C&W does.
        count = few if name == "JSMA" else len(x)
        for loss, network in networks.items():
            part = f"accuracy {name} {loss}"
            accuracy = context.part(part, accuracy_curve, network, make, x[:count], y[:count], sizes)
            context.curve("R4", f"accuracy under {name}, {TITLES[loss]}, detector off", sizes, accuracy)
            row = [accuracy]
            curves[TITLES[loss]] = SecurityCurve(sizes, row, [[0.0] * len(sizes)], [[1 - a for a in accuracy]])
        security_curve(curves, plots / f"{name.lower()}.png", xlabel="theta" if name == "JSMA" else "epsilon", rejection=False)
    for loss, network in networks.items():
        table = {
            "FGSM": (attacks.FGSM(epsilon), len(x), f"epsilon {epsilon}"),
            "BIM": (attacks.BIM(epsilon), len(x), f"epsilon {epsilon}"),
            "ILCM": (attacks.ILCM(epsilon), len(x), f"epsilon {epsilon}"),
            "JSMA": (attacks.JSMA(), few, "towards the likeliest wrong class"),
            "C&W": (_cw(context), few, ""),
            "C&W-hc": (_cw(context, kappa=10.0), few, "kappa 10"),
            "C&W-hc own kappa": (_cw(context, kappa=own[loss]), few, f"kappa {own[loss]}, 1.3 x the median clean margin"),
        }
        for name, (attack, count, note) in table.items():
            found = context.part(f"oblivious {name} {loss}", oblivious, network, attack, x[:count], y[:count])
            note = "; ".join(filter(None, [where, note, f"{found['success']:.3f} succeed"]))
            for metric in paper.METRICS:
                known = paper.auc(context.dataset, name, loss, metric)
                what = f"AUC, {name}, {TITLES[loss]}, {TITLES[metric]}"
                context.row("R5", what, found[metric], paper=known, samples=found["pairs"], note=note)
            if name.startswith("C&W"):
                context.row("R4", f"distortion of 255, {name}, {TITLES[loss]}", found["rms"], samples=count, note=note)


def _white_box_rows(context, networks, x, y, where, plots):
    import numpy as np

    from tfdefense.plots import examples

    crafted = {}
    for loss, network in networks.items():
        ratio, distance = paper.of(paper.WHITE_BOX, context.dataset, loss) or (None, None)
        by_start = {}
        for start, title in (("sample", "from x"), ("base", "from the C&W example")):
            by_start[title] = context.part(f"white box {start} {loss}", white_box, network, start, _cw(context), x, y)
        clean = context.part(f"white box clean {loss}", _above_median, network, x, y)
        about = f"f2 > 0, clean test samples that are right, {TITLES[loss]}"
        context.row(
            "R6", about, clean, samples=int(network.right(x, y).sum()), note="what the shares below are to be compared with"
        )
        crafted[loss] = better(*by_start.values())
        by_start["the better for each sample"] = crafted[loss]
        for title, found in by_start.items():
            right, success = np.array(found["right"]), np.array(found["success"])
            known = title == "from x"
            mean = float(np.array(found["rms"])[success].mean()) if success.any() else None
            note = f"{where}; failures count as f2 > 0 and are left out of the distortion"
            about, share = f"C&W-wb {title}, {TITLES[loss]}", float(1 - success[right].mean())
            more = {"samples": int(right.sum()), "note": note}
            context.row("R6", f"f2 > 0, {about}", share, paper=ratio if known else None, **more)
            context.row("R6", f"distortion of 255, {about}", mean, paper=distance if known else None, **more)
        shown = np.flatnonzero(crafted[loss]["success"])[:8]
        if len(shown):
            x_adv, label = np.array(crafted[loss]["x_adv"], "float32"), np.array(crafted[loss]["label"])
            examples(x[shown], x_adv[shown], y[shown], label[shown], plots / f"white-box-{loss}.png")
    return crafted


def _above_median(network, x, y):
    """A training sample counts itself in its density, so that eta may be out of reach for honest new samples too."""
    import tfdefense as td

    return float((td.evaluate(network.white_box, x, y).suspicion[network.right(x, y)] > 0).mean())


def _transfer_rows(context, targets, crafted, x, y, where):
    import numpy as np

    for source, found in crafted.items():
        x_adv = np.array(found["x_adv"], "float32")
        for loss, target in targets.items():
            measured = context.part(f"transfer {source} {loss}", aucs, target, x, x_adv, y)
            known = paper.of(paper.TRANSFER, context.dataset, (source, loss))
            what = f"AUC, C&W-wb on {TITLES[source]}, tested on {TITLES[loss]}, K-density"
            note = f"{where}; {measured['pairs']} of {len(x)} mislead the target"
            context.row("R7", what, measured["density"], paper=known, samples=measured["pairs"], note=note)


def _adaptive_rows(context, networks, x, y, plots):
    from tfdefense.metrics import SecurityCurve
    from tfdefense.plots import security_curve

    steps = 40 if context.quick else 100
    for loss, network in networks.items():
        for change, found in context.part(f"control {loss}", control, network, x, y).items():
            context.row("R3", f"rejected, {change}, {TITLES[loss]}", found["rejected"], samples=len(x), note="threshold at 5 %")
            context.row("R3", f"wrong, not rejected, {change}, {TITLES[loss]}", found["error"], samples=len(x))
    for norm, sizes in ADAPTIVE[context.dataset].items():
        curves = {}
        for loss, network in networks.items():
            for starts, title in ((("sample",), "from x"), ("all", "all starts")):
                part = f"adaptive {norm} {title} {loss}"
                found = context.part(part, adaptive, network, norm, sizes, starts, steps, x, y)
                for size, accuracy, rejection in zip(sizes, found["accuracy"], found["rejection"], strict=True):
                    note = f"{steps} steps on max(margin, suspicion), threshold at 5 %; {rejection:.3f} rejected"
                    what = f"not fooled, {norm} {size:g}, {title}, {TITLES[loss]}"
                    context.row("R3", what, accuracy, samples=len(x), note=note)
                error = [1 - a for a in found["accuracy"]]
                curves[f"{TITLES[loss]}, {title}"] = SecurityCurve(sizes, [found["accuracy"]], [found["rejection"]], [error])
        security_curve(curves, plots / f"adaptive-{norm}.png", xlabel=norm, rejection=False)


def _tsne_rows(context, networks, x, y, plots):
    from tfdefense.plots import embedding

    for loss, network in networks.items():
        found = context.part(f"t-SNE {loss}", tsne, network, x, y)
        what = f"nearest neighbour in the t-SNE plane of the same class, {TITLES[loss]}"
        context.row("R9", what, found["same_class"], samples=len(x))
        embedding(found["plane"], y, plots / f"tsne-{loss}.png")
