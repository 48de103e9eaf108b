"""For `evaluation/rce.py` and `rce_bandwidth.py`: a network with its detectors, and what is measured on it."""

SIGMA = {"ce": (1 / 0.26) ** 0.5, "rce": (0.1 / 0.26) ** 0.5}
MEDIAN_OF = 10_000  # training samples
HARMLESS = (("sign", 0.1), ("gaussian", 0.1), ("dim", 0.3), ("shift", 1))


class Network:
    """A trained classifier with its detectors; `white_box` rejects at eta, the median of the training set.

    The bandwidth is the paper's for the loss that it was trained with, or `sigma`.
    """

    def __init__(self, context, loss, path, train, held_out, sigma=None):
        import json

        import keras

        import tfdefense as td
        import tfdefense.layers  # the network may end in one of them

        self.config = json.loads((path.parent / "config.json").read_text())
        base = keras.models.load_model(path, compile=False)
        sigma = sigma or SIGMA[loss]
        defended = context.model(f"density {path.parent.name} {sigma:.4g}", with_density, base, sigma, train, held_out)
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

    from tfdefense.view import decide

    scores = decide(model, x).scores.copy()
    own = scores[np.arange(len(y)), y].copy()
    scores[np.arange(len(y)), y] = -np.inf
    return round(1.3 * float(np.median((own - scores.max(1))[own > scores.max(1)])), 3)


def search(quick, **options):
    """C&W of the length that this protocol gives it."""
    from tfdefense.attacks import CarliniWagner

    length = {"steps": 60, "binary_search_steps": 3} if quick else {"steps": 200, "binary_search_steps": 5}
    return CarliniWagner(**length, **options)


def oblivious(network, attack, x, y):
    """An attack on the network without its detectors: success, distortion, AUCs."""
    from tfdefense.metrics import distortion

    x, y = x[network.right(x, y)], y[network.right(x, y)]
    result = attack(network.base, x, y)
    measured = distortion(x, result)
    rms = measured.mean_rms if measured.success.any() else None
    return {"success": measured.success_rate, "rms": rms, "right": len(x), **aucs(network, x, result.x_adv, y)}


def accuracy_curve(network, make, x, y, sizes):
    from tfdefense.metrics import security_curve

    curve = security_curve(network.base, lambda size, seed: make(size), x, y, sizes, cumulative=False)
    return curve.accuracy.tolist()


def white_box(network, start, cw, x, y):
    """C&W-wb; a sample that is wrong already is no success. The examples are kept: the transfer and the figure need them.

    Where it fails, a search from the C&W example leaves that example, one from the sample the sample itself.
    """
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


def failing(found):
    """The share of samples that `white_box` did not take, of those that were right, and how many these are."""
    import numpy as np

    right, success = np.array(found["right"]), np.array(found["success"])
    return float(1 - success[right].mean()), int(right.sum())


def above_median(network, x, y):
    """A training sample counts itself in its density, so that eta may be out of reach for honest new samples too."""
    import tfdefense as td

    return float((td.evaluate(network.white_box, x, y).suspicion[network.right(x, y)] > 0).mean())


def better(first, second):
    """Of two results of `white_box` the better for each sample: success, then the smaller distortion; of equals the second."""
    import numpy as np

    cost = [np.where(found["success"], found["rms"], np.inf) for found in (first, second)]
    rows = cost[1] <= cost[0]
    return {name: [(second if row else first)[name][i] for i, row in enumerate(rows)] for name in first}


def adaptive(network, norm, sizes, starts, steps, x, y):
    """The share that is not fooled (right or rejected) at each size; from all starts the strongest of three searches counts."""
    from tfdefense.attacks import PGD, Evade, LogSumExp, OrthogonalPGD, Strongest
    from tfdefense.metrics import security_curve

    def make(size, seed):
        ball = {"epsilon": size, "norm": norm, "steps": steps, "starts": starts, "seed": seed}
        first = PGD(**ball, objective=Evade(), early_stop=True)
        if starts != "all":
            return first
        return Strongest([first, OrthogonalPGD(**ball), PGD(**ball, objective=LogSumExp(), early_stop=True)], until_success=True)

    curve = security_curve(network.detectors["density"], make, x, y, sizes)
    return {"accuracy": curve.accuracy.tolist(), "rejection": curve.rejection.tolist()}


def both_lose(found):
    """Mean distortions of the two networks over the samples that both of them lose, how many these are, and their ratio."""
    import numpy as np

    lost = np.logical_and(*(np.array(one["success"]) for one in found.values()))
    means = {loss: float(np.array(one["rms"])[lost].mean()) if lost.any() else None for loss, one in found.items()}
    return means | {"samples": int(lost.sum()), "ratio": means["rce"] / means["ce"] if lost.any() else None}


def capping(network, train, x, y, points, epsilon):
    """What storing only so many points does: the median change of the log density, and the AUC under BIM beside that of all."""
    import numpy as np

    import tfdefense as td
    from tfdefense.attacks import BIM
    from tfdefense.metrics import auc
    from tfdefense.view import decide

    x, y = x[network.right(x, y)], y[network.right(x, y)]
    x_adv = BIM(epsilon)(network.base, x, y).x_adv
    exact = next(layer for layer in network.detectors["density"].layers if isinstance(layer, td.layers.KernelDensity))
    layer = td.layers.KernelDensity(exact.sigma, max_points=points)
    features, probes = network.features(train.x), network.features(np.concatenate([x, x_adv]))
    layer.adapt(features, train.y)
    scores = decide(network.base, np.concatenate([x, x_adv])).scores
    change = layer.capping_error(features, train.y, probes, scores.argmax(1))
    doubt = np.asarray(layer(probes, scores))
    found = {"capped": doubt, "exact": doubt + change}
    aucs = {name: auc(values[: len(x)], values[len(x) :]) for name, values in found.items()}
    return {"change": float(np.nanmedian(np.abs(change))), "samples": len(probes), **aucs}


def control(network, x, y):
    """Rejections and errors of the detector on samples that nobody attacked."""
    import tfdefense as td
    from evaluation.runner.benign import changed

    found = {name: td.evaluate(network.detectors["density"], made, y) for name, made in changed(x, HARMLESS).items()}
    return {name: {"rejected": outcomes.rejection, "error": outcomes.error} for name, outcomes in found.items()}


def tsne(network, x, y):
    """The plane, and the share of samples whose nearest neighbour there has their class."""
    from sklearn.manifold import TSNE
    from sklearn.neighbors import NearestNeighbors

    plane = TSNE(random_state=0, perplexity=min(30, len(x) // 4)).fit_transform(network.features(x))
    nearest = NearestNeighbors(n_neighbors=2).fit(plane).kneighbors(plane, return_distance=False)[:, 1]
    return {"plane": plane.tolist(), "same_class": float((y[nearest] == y).mean())}
