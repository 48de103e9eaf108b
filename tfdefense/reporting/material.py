"""Benign perturbations and out-of-distribution samples for the protocol, and what the page shows."""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfdefense import metrics
from tfdefense.attacks.suites import standard
from tfdefense.attacks.suites.situation import OBLIVIOUS
from tfdefense.reporting.sentences import BLENDED, NOISE
from tfdefense.view import decide


def thresholds_are_calibrated(model):
    """Whether every threshold was set from data: one that was given promises no rate."""
    from tfdefense.layers import Threshold

    found = [layer for layer in getattr(model, "layers", ()) if isinstance(layer, Threshold)]
    return bool(found) and all(layer.threshold is None for layer in found)


@dataclass(frozen=True)
class Perturbed:
    about: dict
    x: np.ndarray


def benign(images, plan, seed):
    """Benign perturbations; those of a norm are as large as the attacks that are compared."""
    span = images.bounds[1] - images.bounds[0]
    of_norms = [("random signs", "sign", "linf"), ("random direction", "direction", "l2")]
    kinds: list[Any] = [(what, kind, norm, plan.compared[norm]) for what, kind, norm in of_norms if norm in plan.norms]
    kinds += [("Gaussian noise", "gaussian", None, 0.05 * span), ("dimmed to 0.7", "dim", None, 0.3)]
    if images.x.ndim == 4:
        kinds.append(("shifted by a pixel", "shift", None, 1))
    for what, kind, norm, size in kinds:
        x = metrics.benign_perturbation(images.x, size, kind, images.bounds, seed)
        yield Perturbed({"what": what, "norm": norm, "size": size}, x)


def risk_coverage(curve, points=50):
    """At most so many points of the curve, its right end among them, from a twentieth on: of few samples a risk says little."""
    shares = np.linspace(0.05, 1.0, points)
    rows = np.unique(np.rint(shares * len(curve.risk)).astype(int).clip(1)) - 1
    return {"coverage": curve.coverage[rows].tolist(), "risk": curve.risk[rows].tolist()}


def invalid(view, x, number=16):
    """What becomes of samples with one value that no sample may have: a defended model rejects them."""
    if not view.rejects:
        return []
    low, high = view.bounds
    found = []
    for what, value in (("not a number (NaN)", np.nan), ("infinite", np.inf), ("out of bounds", 2 * high - low)):
        broken = x[:number].copy()
        broken.reshape(len(broken), -1)[:, 0] = value
        label = decide(view, broken).label
        found.append({"what": f"one value is {what}", "rejected": float((label == -1).mean()), "samples": len(label)})
    return found


def ood(images, given, bounds, seed):
    """Out-of-distribution images by name: those given, noise, and two samples of different classes at once."""
    low, high = bounds
    rng = np.random.default_rng(seed)
    x = images.x
    found = dict(given) | {NOISE: rng.uniform(low, high, x.shape).astype("float32")}
    other = rng.permutation(len(x))
    differ = images.y != images.y[other]
    if differ.any():
        found[BLENDED] = ((x + x[other]) / 2)[differ].astype("float32")
    return found


def rocs(judged, rejects, points=80):
    """ROC curves of the suspicion, over adversarial samples that the classifier gets wrong, as the papers draw them."""
    if not rejects:
        return []
    clean = judged["clean"].suspicion
    found = []
    for key, outcomes in judged.items():
        if not isinstance(key, tuple) or not (key[0] in ("worst case", OBLIVIOUS) or key[1] == standard.TRANSFERRED):
            continue
        succeeded = outcomes.suspicion[outcomes.guess != outcomes.y]
        if len(succeeded) < 10:
            continue
        curve = metrics.roc(clean, succeeded)
        rows = np.unique(np.linspace(0, len(curve.fpr) - 1, points).round().astype(int))
        name = f"worst case, {key[1]}" if key[0] == "worst case" else f"{key[0]}: {key[1]}, {key[2]}"
        found.append(
            {
                "what": name,
                "auc": curve.auc,
                "samples": len(succeeded),
                "fpr": curve.fpr[rows].tolist(),
                "tpr": curve.tpr[rows].tolist(),
            }
        )
    return found


def gallery(protocol):
    """Examples in each norm: those that evade first. Pictures are PNGs in the page itself."""
    x = protocol.x
    if x.ndim != 4 or x.shape[-1] not in (1, 3):
        return []
    found = []
    for norm in protocol.plan.norms:
        size = protocol.plan.compared[norm]
        succeeded = protocol.evidence.succeeded(norm, size) & (protocol.evidence.nearest[norm] > 0)
        rows = np.argsort(~succeeded, kind="stable")[: protocol.plan.shown]
        adversarial = protocol.evidence.worst(norm, size)[rows]
        labels = protocol.judged(adversarial, True, protocol.y[rows]).label
        distances = protocol.evidence.distance(norm, adversarial, rows)
        found.append(
            _pictures(protocol.view.bounds, x[rows], adversarial, protocol.y[rows], labels, distances)
            | {"norm": norm, "size": size}
        )
    for name, (images, decided) in protocol.outcomes.get("ood", {}).items():
        rows = np.argsort(decided.rejected, kind="stable")[: protocol.plan.shown]
        items = [{"adversarial": _png(_unit(images[row], protocol.view.bounds)), "label": int(decided.label[row])} for row in rows]
        found.append({"ood": name, "items": items})
    return found


def _pictures(bounds, x, x_adv, y, labels, distances):
    from tfdefense.plots.drawings import round_factor

    clean, adversarial = _unit(x, bounds), _unit(x_adv, bounds)
    change = adversarial - clean
    # The few largest values may be clipped: in l2 they would leave the others invisible.
    magnify = round_factor(max(float(np.quantile(np.abs(change), 0.98)), 1e-3))
    items = [
        {
            "clean": _png(clean[row]),
            "change": _png(_diverging(magnify * change[row])),
            "adversarial": _png(adversarial[row]),
            "y": int(y[row]),
            "label": int(labels[row]),
            "distance": float(distances[row]),
        }
        for row in range(len(x))
    ]
    return {"magnify": magnify, "items": items}


def _unit(x, bounds):
    low, high = bounds
    return (np.asarray(x, "float64") - low) / (high - low)


def _diverging(change):
    """Grey images: brighter is orange, darker is blue, nothing is white. Colour images: around middle grey."""
    if change.shape[-1] == 3:
        return 0.5 + 0.5 * change
    amount = np.clip(np.abs(change), 0, 1)
    ink = np.where(change > 0, np.array([0.84, 0.37, 0.0]), np.array([0.0, 0.45, 0.70]))
    return 1 - amount * (1 - ink)


def _png(image):
    from PIL import Image

    pixels = np.rint(255 * np.clip(image, 0, 1)).astype("uint8")
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def feature_map(protocol):
    """All kinds of samples in three principal directions of the clean ones' hidden features."""
    from sklearn.decomposition import PCA

    features, layer = _features(protocol)
    plan, number = protocol.plan, min(protocol.plan.mapped, len(protocol.x))
    x, y = protocol.x[:number], protocol.y[:number]
    groups = [("clean", x, y)]
    for norm in plan.norms:
        size = plan.compared[norm]
        groups.append((f"attacked, {norm} {size:g}", protocol.evidence.worst(norm, size)[:number], y))
    for change in benign(protocol.images.take(slice(0, number)), plan, protocol.seed):
        if change.about["norm"]:
            groups.append((f"{change.about['what']}, {change.about['norm']} {change.about['size']:g}", change.x, y))
    for name, (images, _) in list(protocol.outcomes.get("ood", {}).items())[:1]:
        groups.append((name, images[:number], np.full(min(number, len(images)), -1)))
    values = [features(images) for _, images, _ in groups]
    # This solver alone gives the same axes, with the same sign, in every run and on every machine.
    with np.errstate(invalid="ignore"):  # of features that do not vary
        axes = PCA(min(3, *values[0].shape), svd_solver="full").fit(values[0])
    points = [np.pad(axes.transform(value), [(0, 0), (0, 3 - axes.n_components_)]) for value in values]
    reach = max(float(np.quantile(np.abs(np.concatenate(points)), 0.99)), 1e-9)
    found = []
    for (name, images, true), at in zip(groups, points, strict=True):
        label = protocol.judged(images, y=np.maximum(true, 0)).label
        at = np.clip(at / reach, -1.6, 1.6).round(3)
        found.append({"what": name, "points": at.tolist(), "y": true.tolist(), "label": label.tolist()})
    explained = float(np.nan_to_num(axes.explained_variance_ratio_).sum())
    return {"layer": layer, "explained": explained, "groups": found}


def _features(protocol):
    """A function from samples to what the last Dense layer of the undefended model takes; else to the class scores."""
    import keras

    from tfdefense.graph import before_last_dense, expose

    view = protocol.base or protocol.view
    try:
        if not view.is_keras:
            raise ValueError
        exposed = expose(view.model)
        inner, _ = before_last_dense(exposed.logits)
        if inner is None:
            raise ValueError
        model, layer = keras.Model(exposed.input, inner), "the last hidden layer"
    except ValueError:
        model, layer = None, "the class scores"

    def features(x, batch_size=256):
        parts = [x[i : i + batch_size].astype("float32") for i in range(0, len(x), batch_size)]
        outputs = [np.asarray(view.run(part)[0] if model is None else model(part, training=False)) for part in parts]
        return np.concatenate(outputs).reshape(len(x), -1).astype("float64")

    return features, layer
