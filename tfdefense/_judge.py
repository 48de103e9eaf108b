"""The numbers of `tfdefense evaluate`: each row stands beside its control."""

import dataclasses
import functools
import json
from dataclasses import dataclass

import numpy as np

from tfdefense import __version__, attacks, metrics
from tfdefense._files import write_text
from tfdefense._progress import steps
from tfdefense._validation import check_number
from tfdefense.attacks.norms import norm_named
from tfdefense.attacks.suites.standard import SEARCHES
from tfdefense.cli._attacks import starts_named
from tfdefense.cli._options import numbers
from tfdefense.view import View


@dataclass(frozen=True)
class Settings:
    """Size, norm and length of the attacks; `source` is the undefended model where it can't be reached inside.

    `kept` is a directory for finished batches, as for an attack. `starts` are where searches that know of the defense begin.
    """

    epsilon: float
    norm: str
    steps: int
    seed: int = 0
    source: object = None
    kept: str | None = None
    starts: tuple | str = ("sample",)

    def __post_init__(self):
        norm_named(self.norm)
        check_number("epsilon", self.epsilon, above=True)

    def pgd(self, **options):
        return attacks.PGD(**self._ball | {"starts": self.starts} | options)

    def orthogonal(self, form):
        return attacks.OrthogonalPGD(**self._ball, form=form, starts=self.starts)

    @property
    def _ball(self):
        return {"epsilon": self.epsilon, "norm": self.norm, "steps": self.steps, "seed": self.seed}


def rows(model, images, settings):
    """Pairs of a name and `Outcomes`: clean, harmless changes, attacks; a pair with None separates them."""
    parts = [*_harmless(images, settings), ("", None), *_attacks(model, images, settings)]
    with steps(len(parts) + 1) as begin:
        begin("clean")
        found = [("clean", metrics.evaluate(model, images.x, images.y)), ("", None)]
        for name, samples in parts:
            begin(name)
            found.append((name, samples and metrics.evaluate(model, samples(), images.y, adversarial=True)))
    attacked = [outcomes for name, outcomes in found[-len(parts) :] if outcomes and not name.startswith("harmless")]
    return [*found, ("strongest of these attacks", _strongest(attacked))]


def _strongest(attacked):
    """For each sample the outcome of an attack that fooled the model, if there is one; else of the last."""
    best = attacked[-1]
    for outcomes in attacked[:-1]:
        stronger = outcomes.wrong & ~best.wrong
        label = np.where(stronger, outcomes.label, best.label)
        suspicion = None if best.suspicion is None else np.where(stronger, outcomes.suspicion, best.suspicion)
        best = metrics.Outcomes.of(label, best.y, suspicion, adversarial=True)
    return best


def _harmless(images, settings):
    # Under l1 no control has the attack's own size: a random direction of that l2 length would be no small change.
    same_size = {"linf": "sign", "l2": "direction"}.get(settings.norm)
    changes = [(f"harmless: random, {settings.norm} {settings.epsilon:g}", same_size, settings.epsilon)] if same_size else []
    changes.append(("harmless: dimmed to 0.7", "dim", 0.3))
    if images.x.ndim == 4:
        changes.append(("harmless: shifted by a pixel", "shift", 1))
    for name, kind, size in changes:
        yield name, functools.partial(metrics.harmless, images.x, size, kind, images.bounds, settings.seed)


def _attacks(model, images, settings):
    view = View.of(model, images.bounds)
    view.expect(images.x)
    run = functools.partial(_run, model, images, settings.kept)
    if not view.rejects:
        yield "FGSM", run(attacks.FGSM(settings.epsilon, norm=settings.norm))
        yield "PGD", run(settings.pgd())
        yield "PGD, all starts", run(settings.pgd(starts=_starts(model, images, settings)))
        return
    if _base_is_known(model, settings):
        for name, attack in (("FGSM", attacks.FGSM(settings.epsilon, norm=settings.norm)), ("PGD", settings.pgd())):
            yield f"unaware: {name}", run(attacks.Transfer(attack, settings.source))
    yield "aware: PGD, from the sample", run(settings.pgd())
    for name, attack in aware(model, images, settings).items():
        yield f"aware: {name}, all starts", run(attack)


def aware(model, images, settings):
    """Attacks that know of the defense, by name. None of them is the strongest on every defense, so all are run."""
    import keras

    from tfdefense.attacks.surrogate import can_be_smoothed, has_steps

    settings = dataclasses.replace(settings, starts=_starts(model, images, settings))
    found = {name: make(settings) for name, make in SEARCHES.items()}
    if not isinstance(model, keras.Model) or not can_be_smoothed(model):
        return found
    if has_steps(model):
        # Discrete codes have no slope but that of a surrogate. All but the last keep the real decision in sight.
        sighted = {f"{name} through a surrogate": attacks.Through(made, straight_through=True) for name, made in found.items()}
        return sighted | {"PGD through a smooth copy": attacks.Through(settings.pgd())}
    # Narrow kernels have next to none: a second opinion.
    selective = attacks.Through(settings.orthogonal("selective"), straight_through=True)
    return found | {"selective PGD through a surrogate": selective}


def _run(model, images, kept, attack):
    return lambda: attack(model, images.x, images.y, bounds=images.bounds, cache=kept)


def _starts(model, images, settings):
    return starts_named("all", model, images.y, settings.source)


def _base_is_known(model, settings):
    import keras

    return settings.source is not None or isinstance(model, keras.Model)


def sizes(text, epsilon):
    """Sizes from a list with commas; by default six up to twice epsilon."""
    if text is None:
        return [round(2 * epsilon * step / 5, 10) for step in range(6)]
    found = list(numbers("--sizes", text))
    if not (found[0] >= 0 and found[-1] < np.inf and all(np.diff(found) > 0)):
        raise ValueError(f"--sizes must be growing numbers of at least 0, such as 0,0.1,0.2. Received: {text!r}.")
    return found


def curves(model, images, settings, points):
    """Security evaluation curves: the attacker who does not know of the defense, and the one who does."""
    view = View.of(model, images.bounds)
    view.expect(images.x)

    def strongest(size, seed):
        known = aware(model, images, dataclasses.replace(settings, epsilon=size))
        return attacks.WorstCase(list(known.values()) if view.rejects else [known["PGD"]], until_success=True)

    kinds = {"aware" if view.rejects else "PGD": strongest}
    if view.rejects and _base_is_known(model, settings):
        kinds["unaware"] = lambda size, seed: attacks.Transfer(settings.pgd(epsilon=size), settings.source)
    found = {}
    with steps(len(kinds)) as begin:
        for name, make in kinds.items():
            begin(f"curve, {name}")
            found[name] = metrics.security_curve(model, _bounded(make, images.bounds, settings.kept), images.x, images.y, points)
    return found


def _bounded(make, bounds, kept):
    def factory(size, seed):
        return functools.partial(make(size, seed), bounds=bounds, cache=kept)

    return factory


def write(path, about, settings, rows, curves):
    """All numbers as JSON, in shares of 1."""
    left_out = ("source", "kept", "starts")
    chosen = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings) if field.name not in left_out}
    table = [
        {
            "what": name,
            "right": outcomes.accuracy,
            "rejected": outcomes.rejection,
            "wrong": outcomes.error,
            "right_or_rejected": outcomes.robust_accuracy,
        }
        for name, outcomes in rows
        if outcomes is not None
    ]
    series = [
        {"what": name, "sizes": np.asarray(c.sizes).tolist(), "accuracy": c.accuracy.tolist(), "rejection": c.rejection.tolist()}
        for name, c in curves.items()
    ]
    content = {"tfdefense": __version__, **about, "settings": chosen, "rows": table, "curves": series}
    write_text(path, json.dumps(content, indent=2) + "\n")
