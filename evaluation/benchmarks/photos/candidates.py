"""What could be the zoo's model of photos: a head, what it was shown, and a defense on it. Measured on features alone."""

from typing import NamedTuple

import numpy as np

from evaluation.benchmarks.photos import heads, material

PROMISE = {"max_rejected": 0.05, "confidence": 0.95}
# What the model is for, and so what candidates are chosen by: the worst of the differences from these.
LEAST = {"right": 0.93, "NYU rooms": 0.95, "NotMNIST": 0.95, "noise": 0.95, "CIFAR-100": 0.88}
MOST = {"rejected": 0.05}
ENERGY, VIM, KNN, DUSTBIN = "energy", "ViM", "KNN", "dustbin"


class Candidate(NamedTuple):
    """A kind of head, names of what it is shown, scores of which any rejects, and the inverse strength of the head's penalty.

    A strength of None is the one by which a plain head predicts best.
    """

    head: str
    shown: tuple
    scores: tuple
    strength: float | None = None

    @property
    def name(self):
        strength = "" if self.strength is None else f", strength {self.strength:g}"
        return f"{self.head} ({' + '.join(self.shown) or 'nothing'} shown{strength}): {' or '.join(self.scores)}"

    def seen(self, tested):
        """Whether a set that is tested is of the kind of something that was shown."""
        return any(tested in material.SHOWN[name] for name in self.shown)


_TINY = ("textures", "CIFAR-10")
CANDIDATES = (
    *(Candidate("plain", (), scores) for scores in ((ENERGY,), (VIM,), (KNN,), ("Mahalanobis",), (ENERGY, VIM), (ENERGY, KNN),
                                                    (ENERGY, VIM, KNN))),
    *(Candidate("exposure", shown, (ENERGY,)) for shown in (("textures",), ("textures", "shuffled"), _TINY)),
    Candidate("exposure", ("textures",), (ENERGY, VIM)),
    *(Candidate("dustbin", shown, (DUSTBIN,)) for shown in (("textures",), ("textures", "shuffled"), _TINY)),
    Candidate("dustbin", ("textures",), (DUSTBIN, ENERGY)),
    Candidate("dustbin", ("textures",), (DUSTBIN, KNN)),
    *(Candidate("ImageNet dustbin", shown, (DUSTBIN,)) for shown in ((), ("textures",), ("textures", "shuffled"), _TINY,
                                                                    (*_TINY, "rooms"))),
    Candidate("ImageNet dustbin", ("textures",), (DUSTBIN, ENERGY)),
    *(Candidate("ImageNet dustbin", ("textures",), (DUSTBIN,), strength) for strength in (1e-2, 1e-3)),
)  # fmt: skip


def defense(scores):
    """The defense of these scores, with little to store: ViM looks at the last 280 components, KNN has a byte a number."""
    import tfdefense as td

    made = {
        ENERGY: lambda: td.ThresholdDefense("energy"),
        VIM: lambda: td.ThresholdDefense("vim", components=1000),
        KNN: lambda: td.ThresholdDefense("knn", k=5, layer="features", components=128, storage="int8"),
        "Mahalanobis": lambda: td.ThresholdDefense("mahalanobis"),
        DUSTBIN: lambda: td.DustbinDefense(threshold=None),
    }
    each = [made[name]() for name in scores]
    return each[0] if len(each) == 1 else td.AnyOf(*each)


def defended(candidate, head, fit, calibrate):
    """The model of a candidate from features to a decision."""
    import keras

    import tfdefense as td

    keras.utils.set_random_seed(0)
    features = keras.Input(fit[0].shape[1:], name="features")
    model = defense(candidate.scores).attach(heads.on(keras.Model(features, features), features, head), bounds=None)
    if any(isinstance(layer, td.layers.AdaptableLayer) for layer in model.layers):
        td.adapt(model, *fit, max_rejected=None)
    td.calibrate(model, calibrate[0], **PROMISE)
    return model


def measured(model, part, y):
    """Shares of right and rejected ones of the ten, as they are and made small, and of what is rejected of each other set."""
    import tfdefense as td

    # One call for all sets: tracing costs more than the decisions.
    sizes = np.cumsum([len(x) for x in part.values()])[:-1]
    label = np.asarray(td.view.decide(model, np.concatenate(list(part.values()))).label)
    found = dict(zip(part, np.split(label, sizes), strict=True))
    ten, small = found.pop("ten"), found.pop("small")
    shares = {"right": float((ten == y).mean()), "rejected": float((ten < 0).mean()), "small rejected": float((small < 0).mean())}
    return shares | {name: float((label < 0).mean()) for name, label in found.items()}


def margin(shares):
    """How far the worst share is beyond its goal; below 0 where it falls short."""
    return min(*(shares[name] - least for name, least in LEAST.items()), *(most - shares[name] for name, most in MOST.items()))


def study(features, thousand, own, candidates=CANDIDATES):
    """Shares of each candidate by name, on the part that chooses and on the part that is reported.

    Args:
        features: Dict with `fit`, `calibrate`, `choose` and `report`: of the first two pairs of features and classes, of the others
            dicts of features with `y`; and `shown`, a dict of features by name.
        thousand, own: See `heads.fitted`.
    """
    strength, made, found = heads.best_strength(*features["fit"]), {}, {}
    for candidate in candidates:
        key = (candidate.head, candidate.shown, candidate.strength)
        if key not in made:
            others = np.concatenate([features["shown"][name] for name in candidate.shown]) if candidate.shown else None
            made[key] = heads.fitted(candidate.head, *features["fit"], others, thousand, own, candidate.strength or strength)
        model = defended(candidate, made[key], features["fit"], features["calibrate"])
        parts = {part: dict(features[part]) for part in ("choose", "report")}
        labels = {part: x.pop("y") for part, x in parts.items()}
        found[candidate.name] = {part: measured(model, x, labels[part]) for part, x in parts.items()}
    return {"strength": strength, "shares": found}


def best(found, candidates=CANDIDATES):
    """The candidate with the largest margin on the part that chooses, of those shown nothing of the kind of what is tested."""
    allowed = [one for one in candidates if not any(map(one.seen, material.TESTED))]
    return max(allowed, key=lambda one: margin(found[one.name]["choose"]))
