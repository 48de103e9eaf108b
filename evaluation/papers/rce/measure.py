"""Networks with their detectors, and what is measured on them: parts of a run, each by whichever process comes to it."""

import dataclasses
import functools
import json
from types import SimpleNamespace

import numpy as np

import tfdefense as td
from evaluation.runner.benign import perturbed
from evaluation.runner.context import Context
from tfdefense import _cache

LOSSES = ("ce", "rce")
SYSTEMS = {"ce": "CE", "rce": "RCE", "ls": "label smoothing"}
# The paper has none for label smoothing: it is cross-entropy with other targets.
SIGMA = {"ce": (1 / 0.26) ** 0.5, "rce": (0.1 / 0.26) ** 0.5, "ls": (1 / 0.26) ** 0.5}
EPSILON = {"mnist": 0.2, "cifar10": 0.03, "digits": 0.2}
SUITE = "rce-2"
# Of Carlini-Wagner the paper has one of high confidence; its own kappa asks each network for its own.
CARLINI = ("Carlini-Wagner", "C&W-hc", "C&W-hc own kappa")
# The paper's text does not say at which class its attacks aim. The authors' code draws one for Carlini-Wagner, and takes the least
# likely and single pixels for JSMA.
RANDOM, LEAST = "random", "least likely"
JSMAS = ("JSMA", f"JSMA, {LEAST}")
MEDIAN_OF = 10_000  # training samples
BENIGN = (("sign", 0.1), ("gaussian", 0.1), ("dim", 0.3), ("shift", 1))


@functools.cache
def _data(dataset, data_dir, limit, number, held_out):
    train = td.data.load(dataset, "train", data_dir=data_dir, limit=limit)
    test = td.data.load(dataset, "test", data_dir=data_dir)
    attacked, rest = test.divide(number)
    held_out, rest = rest.divide(min(held_out, len(rest) // 2)) if held_out else (None, rest)
    return SimpleNamespace(train=train, test=test, attacked=attacked, held_out=held_out, calibration=rest.take(slice(2000)))


@dataclasses.dataclass(frozen=True)
class Network:
    """A classifier by how it is trained, and the bandwidth of its K-density; `about` are fields of rows on it.

    Whoever measures something on it loads its models and samples; equal ones share them within a process.
    """

    context: Context = dataclasses.field(compare=False, repr=False)
    about: dict = dataclasses.field(compare=False, repr=False)
    loss: str
    training: tuple
    sigma: float
    schedule: str = ""

    def __str__(self):
        return f"{self.trained_as}, sigma {self.sigma:.6g}"

    @property
    def trained_as(self):
        """The network without what is fitted on it."""
        return ", ".join([self.system + self.schedule, *(f"{name} {value}" for name, value in self.training)])

    @property
    def system(self):
        return SYSTEMS[self.loss]

    @property
    def seed(self):
        return dict(self.training).get("seed", 0)

    @property
    def path(self):
        return self.context.network(f"{self.context.dataset}_resnet_{self.loss}{self.schedule}", **dict(self.training))

    @property
    def data(self):
        """Training and test set, and parts of the second: to attack, to choose a bandwidth on, and to set thresholds on."""
        context, settings = self.context, self.context.settings
        limit = 5000 if context.quick and context.dataset != "digits" else None
        return _data(context.dataset, context.data_dir, limit, settings["samples"], settings.get("samples to choose on"))

    @property
    def models(self):
        return models_of(self)

    def attacked(self, count=None):
        return self.data.attacked.x[:count], self.data.attacked.y[:count]

    def right(self, count=None):
        """Samples that the network has right: an attack can succeed on these alone. Their numbers come last."""
        x, y = self.attacked(count)
        rows = np.flatnonzero(td.evaluate(self.models.base, x, y).label == y)
        return x[rows], y[rows], rows

    def outputs(self, x):
        """Features in the last hidden layer, and scores."""
        import keras

        hidden = keras.Model(self.models.base.inputs[0], [self.models.base.get_layer("pool").output, self.models.base.outputs[0]])
        features, scores = hidden.predict(x, batch_size=256, verbose=0)
        return features.reshape(len(x), -1), scores


# Networks of five seeds, with all that is compiled for them, would not stay in memory together.
@functools.lru_cache(6)
def models_of(network):
    """The classifier alone, with each detector, and with K-density as C&W-wb attacks it: rejecting at eta."""
    density, white_box = _cached(network, _density), _cached(network, _at_eta)
    base = td.base_model(density)
    detectors = {name: td.ThresholdDefense(name.lower(), threshold=0.0).attach(base) for name in ("confidence", "non-ME")}
    return SimpleNamespace(base=base, detectors=detectors | {"K-density": density}, white_box=white_box)


def _cached(network, make):
    return network.context.model(f"{make.__name__.strip('_')} {network}", make, network)


def _density(network):
    """The exact K-density of the training set, its threshold at 5 % of held-out samples."""
    import keras

    train, base = network.data.train, keras.models.load_model(network.path, compile=False)
    defended = td.DensityDefense(network.sigma, max_points=len(train)).attach(base)
    return td.adapt(defended, train.x, train.y, calibration=network.data.calibration.x, max_rejected=0.05)


def _at_eta(network):
    """The same, rejecting at the median of the training set; that of so many is it to within a percent of the samples."""
    model = _cached(network, _density)
    td.calibrate(model, network.data.train.take(slice(MEDIAN_OF)).x, max_rejected=0.5)
    return model


def trained(network):
    """A part that trains the network, where it is not there; what it is comes from `fingerprint`, which looks each time."""
    return bool(network.path)


def fingerprint(network):
    """Of architecture and weights: the key of a recipe stays the same where it is trained anew, and the weights do not."""
    import keras

    return _cache.content(keras.models.load_model(network.path, compile=False))


def recorded(network):
    """Test error and seconds of a training, as it has recorded them."""
    found = json.loads((network.path.parent / "config.json").read_text())
    return {"error": 1 - found["test_accuracy"], "seconds": found.get("seconds")}


def errors(network):
    """Which test samples are wrong."""
    return (td.evaluate(network.models.base, network.data.test.x, network.data.test.y).label != network.data.test.y).tolist()


def scored(network, rows, y, **samples):
    """Each detector's scores of the samples that were right and are wrong now, and their numbers.

    `samples` are the same ones "clean", "attacked", and in any other form; `rows` their numbers.
    """
    found = {}
    for name, model in network.models.detectors.items():
        outcomes = {kind: td.evaluate(model, x, y, adversarial=kind != "clean") for kind, x in samples.items()}
        pairs = td.metrics.successful_pairs(outcomes["clean"], outcomes["attacked"])
        found["rows"] = rows[pairs].tolist()
        for kind, one in outcomes.items():
            found.setdefault(kind, {})[name] = one.suspicion[pairs].tolist()
    return found


def own_kappa(model, x, y):
    """1.3 x the median lead of the true class on clean samples: what is high confidence for this network."""
    scores, own = td.view.decide(model, x).scores, np.arange(10) == y[:, None]
    lead = scores[own] - np.where(own, -np.inf, scores).max(1)
    return round(1.3 * float(np.median(lead[lead > 0])), 3)


def search(quick, **options):
    """C&W of the length that these protocols give it."""
    length = {"steps": 60, "binary_search_steps": 3} if quick else {"steps": 200, "binary_search_steps": 5}
    return td.attacks.CarliniWagner(**length, **options)


def random_targets(y, classes=10):
    """A wrong class for each sample, the same in every run and for every network."""
    return (y + np.random.default_rng(0).integers(1, classes, len(y))) % classes


def oblivious_attack(network, name):
    """An attack on the classifier alone, on how many samples, and what is to be said of it; a name is ATTACK or ATTACK, TARGET."""
    name, _, target = name.partition(", ")
    if name == "JSMA" and target:
        return td.attacks.JSMA(pixels=1), None, "single pixels, saliency of the logits; "
    if name == "JSMA":
        return td.attacks.JSMA(), None, "towards the likeliest wrong class; pairs of pixels, saliency of the logits; "
    if name not in CARLINI:
        return getattr(td.attacks, name)(EPSILON[network.context.dataset]), None, ""
    own = own_kappa(network.models.base, *network.attacked())
    each = (
        ({}, ""),
        ({"kappa": 10.0}, f"kappa 10, {10 / own:.2f} of the own one; "),
        ({"kappa": own}, f"kappa {own}, 1.3 x the median clean margin; "),
    )
    kappa, about = each[CARLINI.index(name)]
    return search(network.context.quick, **kappa), network.context.settings["C&W samples"], about


def aimed_at(name, y):
    """The `target` of a call of the attack."""
    target = name.partition(", ")[2]
    return {RANDOM: random_targets(y), LEAST: "least_likely", "": None}[target]


def oblivious(network, name):
    """An attack on the network without its detectors: success, distortion, scores of clean, attacked and noisy samples."""
    attack, count, about = oblivious_attack(network, name)
    x, y, rows = network.right(count)
    # Targets are drawn for all samples, so that a sample has the same one for every network.
    target = aimed_at(name, network.attacked(count)[1])
    result = attack(network.models.base, x, y, target[rows] if isinstance(target, np.ndarray) else target)
    lengths = td.metrics.distortion(x, result).rms[result.success]
    lost = {"lost": rows[result.success].tolist(), "rms": lengths.tolist()}
    found = scored(network, rows, y, clean=x, attacked=result.x_adv, noisy=noisy(x, EPSILON[network.context.dataset]))
    return lost | found | {"note": f"{about}{result.success.mean():.3f} succeed"}


def noisy(x, size):
    """Uniform noise of up to this size, as the authors' code has it."""
    return np.clip(x + np.random.default_rng(0).uniform(-size, size, x.shape), 0, 1).astype("float32")


def accuracy_curve(network, name, sizes, count):
    """Which samples are right under the attack of each size."""
    x, y = network.attacked(count)

    def attacked(size):
        if not size:
            return x
        kind, _, target = name.partition(", ")
        jsma = {"theta": size} | ({"pixels": 1} if target else {})
        attack = td.attacks.JSMA(**jsma) if kind == "JSMA" else getattr(td.attacks, kind)(size)
        return attack(network.models.base, x, y, aimed_at(name, y)).x_adv

    return [(td.evaluate(network.models.base, attacked(size), y).label == y).tolist() for size in sizes]


def white_box(network, start, cw, count, target=""):
    """C&W-wb, without a target or towards random ones; a sample that is wrong already is no success.

    The examples are returned: the transfer and the figure need them. Where it fails, a search from the C&W example leaves that
    example, one from the sample the sample itself.
    """
    x, y = network.attacked(count)
    attack = dataclasses.replace(cw, objective=td.attacks.Penalty(), starts=(start,))
    aim = random_targets(y) if target == RANDOM else None
    result, right = attack(network.models.white_box, x, y, aim), td.evaluate(network.models.base, x, y).label == y
    return {
        "right": right.tolist(),
        "success": (result.success & right).tolist(),
        "rms": td.metrics.distortion(x, result).rms.tolist(),
        "x_adv": result.x_adv.tolist(),
        "label": result.label.tolist(),
    }


def above_eta(network):
    """A training sample counts itself in its density, so that eta may be out of reach for honest new samples too."""
    x, y, rows = network.right(network.context.settings["C&W-wb samples"])
    return {"rows": rows.tolist(), "above": (td.evaluate(network.models.white_box, x, y).suspicion > 0).tolist()}


def better(first, second):
    """Of two results of `white_box` the better for each sample: success, then the smaller distortion; of equals the second."""
    cost = [np.where(found["success"], found["rms"], np.inf) for found in (first, second)]
    rows = cost[1] <= cost[0]
    return {name: [(second if row else first)[name][i] for i, row in enumerate(rows)] for name in first}


def transfer(network, x_adv):
    x, y = network.attacked(len(x_adv))
    return scored(network, np.arange(len(x)), y, clean=x, attacked=np.array(x_adv, "float32"))


def adaptive(network, norm, sizes, starts, steps):
    """Robust accuracy and rejection rate at each size; from all starts in the worst case over the suite, else under its first."""
    model, samples, suite = network.models.detectors["K-density"], network.attacked(), td.attacks.suites.get(SUITE)

    def make(size, seed):
        situation = suite.situation(model, samples, norm, size, steps=steps, starts=starts, seed=seed)
        return suite.worst_case(situation, without=() if starts == "all" else ("selective PGD", "log-sum-exp"))

    curve = td.metrics.security_curve(model, make, *samples, sizes)
    return {"accuracy": curve.accuracy.tolist(), "rejection": curve.rejection.tolist()}


def capping(network, points):
    """What storing only so many points does: the median change of the log density, and the AUROC under BIM beside that of all."""
    (x, y, _), train = network.right(), network.data.train
    both = np.concatenate([x, td.attacks.BIM(EPSILON[network.context.dataset])(network.models.base, x, y).x_adv])
    (stored, _), (probes, scores) = network.outputs(train.x), network.outputs(both)
    layer = td.layers.KernelDensity(network.sigma, max_points=points)
    layer.adapt(stored, train.y)
    change = layer.capping_error(stored, train.y, probes, scores.argmax(1))
    capped = np.asarray(layer(probes, scores))
    aurocs = {k: td.metrics.auc(v[: len(x)], v[len(x) :]) for k, v in {"capped": capped, "exact": capped + change}.items()}
    return {"change": float(np.nanmedian(np.abs(change))), "n": len(probes), **aurocs}


def benign(network):
    """Rejections and errors of the detector on samples that nobody attacked, by kind and size."""
    x, y = network.attacked()
    found = [(*about, td.evaluate(network.models.detectors["K-density"], made, y)) for *about, made in perturbed(x, BENIGN)]
    return [(kind, size, outcomes.rejection, outcomes.error) for kind, size, outcomes in found]


def tsne(network, count):
    """The plane, and the share of samples whose nearest neighbour there has their class."""
    from sklearn.manifold import TSNE
    from sklearn.neighbors import NearestNeighbors

    x, y = network.data.test.x[:count], network.data.test.y[:count]
    plane = TSNE(random_state=0, perplexity=min(30, len(x) // 4)).fit_transform(network.outputs(x)[0])
    nearest = NearestNeighbors(n_neighbors=2).fit(plane).kneighbors(plane, return_distance=False)[:, 1]
    return {"plane": plane.tolist(), "same_class": float((y[nearest] == y).mean())}
