"""What a recipe is, where it is found, and the key that its result is cached under."""

import ast
import dataclasses
import functools
import hashlib
import importlib
import json
from pathlib import Path
from typing import NamedTuple

from tfdefense._renamed import renamed_keywords
from tfdefense._suggest import did_you_mean


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that decides what a trained network is; plain values, so that its key needs no Keras.

    Args:
        dataset: Name for `tfdefense.data.load`.
        model: `file:function` in `models/`.
        optimizer: Name of a class in `keras.optimizers`, with its arguments in `optimizer_options`.
        warmup_steps: Steps in which the learning rate rises from 0; large rates diverge without.
        decay: Let the learning rate fall to 0 over the run, as half a cosine.
        drops: Shares of the run after which the learning rate falls to a tenth, in place of `decay`.
        loss: One of `training.loop.LOSSES`, with its arguments in `loss_options`.
        augment: Mirror images and move them by up to 4 pixels, anew in each epoch.
        train_samples: Only so many training samples, the first ones; the rest stay unseen for what comes after. None: all.
        attack: Arguments of `td.attacks.PGD`: train against it, on the network of that step.
        attack_share: Share of each batch that is attacked.
        dustbin: Where samples of one class more come from, that of none of these: any of `{"set": name}`, the training images
            of a set (with `limit`), and `{"interpolated": recipe}`, samples between the classes, whose neighbours are sought
            in the features of that recipe's network (with `alpha`, `per_class`, `limit`, `seed` of `data.interpolate`).
        benign: Half of each batch is perturbed in one of these ways, kinds of `metrics.benign_perturbation`, by up to this size.
        task: What is learned: the "classes" of the set; or, of pictures with depth, taken by scene, the "depth" or whether a pair
            is "real".
        predictor: Name of the recipe that guesses depth for forged pairs. It is trained for at most four times the epochs of this
            one, and on no more than half of its scenes.
        watched: Train a detector branch, and nothing else: `{"recipe": name, "layer": name}` are the network that it sits on and
            where, `width` its first feature maps, `depth` its convolutions, `settings` what is changed in that recipe. `attack` are
            then arguments of `td.attacks.DynamicAdversary`, and half of the clean samples get one of `benign`.
        mixed_precision: Compute in 16 bits, with weights in 32.
        noise: Standard deviation of Gaussian noise on every training sample, drawn anew in each epoch and not clipped, as
            randomised smoothing wants it.
        rejection: How attacked samples teach the network to reject: "ccat" (`td.ConfidenceCalibratedTraining`) or "rectified"
            (`td.RectifiedTraining`). Other arguments of these, and `layer` and `width` of the rectifier, are `rejection_options`.
    """

    dataset: str
    model: str
    epochs: int
    batch_size: int = 128
    optimizer: str = "Adam"
    optimizer_options: dict = dataclasses.field(default_factory=dict)
    model_options: dict = dataclasses.field(default_factory=dict)
    warmup_steps: int = 0
    seed: int = 0
    decay: bool = False
    loss: str = "cross_entropy"
    loss_options: dict = dataclasses.field(default_factory=dict)
    augment: bool = False
    train_samples: int | None = None
    attack: dict | None = None
    attack_share: float = 1.0
    dustbin: tuple = ()
    benign: dict = dataclasses.field(default_factory=dict)
    task: str = "classes"
    predictor: str | None = None
    watched: dict | None = None
    mixed_precision: bool = False
    drops: tuple = ()
    noise: float = 0.0
    rejection: str | None = None
    rejection_options: dict = dataclasses.field(default_factory=dict)

    @renamed_keywords(harmless="benign")
    def changed(self, **settings):
        """The same recipe with those settings that are not None.

        A network that gives features for the dustbin is changed in `dataset`, `epochs` and `train_samples` as well.
        """
        settings = {name: value for name, value in settings.items() if value is not None}
        for name in ("epochs", "batch_size", "train_samples"):
            if name in settings and (not isinstance(settings[name], int) or settings[name] < 1):
                raise ValueError(f"`{name}` must be a whole number of at least 1. Received {settings[name]!r}.")
        shared = ("dataset", "epochs", "train_samples")
        passed_on = {name: settings[name] for name in shared if settings.get(name, getattr(self, name)) != getattr(self, name)}
        if self.dustbin or "dustbin" in settings:
            settings["dustbin"] = tuple(_checked(part, passed_on) for part in settings.get("dustbin", self.dustbin))
        if settings.get("optimizer", self.optimizer) != self.optimizer:
            settings.setdefault("optimizer_options", {})  # those of another optimizer mean nothing to it
        rate = settings.pop("learning_rate", None)
        if rate is not None:
            if not rate > 0:
                raise ValueError(f"`learning_rate` must be above 0. Received {rate!r}.")
            options = settings.get("optimizer_options", self.optimizer_options)
            settings["optimizer_options"] = options | {"learning_rate": rate}
        model = settings.get("model", self.model)
        known = parameters(model)
        if model != self.model:
            settings.setdefault("model_options", {})  # as of the optimizer
        for name, kind in (("depth", "residual networks"), ("width", "networks of any width")):
            value = settings.pop(name, None)
            if value is None:
                continue
            if name not in known:
                raise ValueError(f"`{name}` is a setting of {kind}. Received {value!r} for the model '{model}'.")
            settings["model_options"] = settings.get("model_options", self.model_options) | {name: value}
        try:
            return dataclasses.replace(self, **settings)
        except TypeError:
            known = [field.name for field in dataclasses.fields(self)]
            wrong = [name for name in settings if name not in known]
            raise ValueError(f"A recipe has the settings {known}. Received {wrong}.") from None

    def key(self):
        """Changes with any setting and with the code of the architecture, not with its comments or layout."""
        file = Path(__file__).parents[1] / "models" / f"{self.model.split(':')[0]}.py"
        content = [_counted(self), ast.dump(ast.parse(file.read_text()))]
        content += [source(part).recipe.key() for part in self.dustbin if "interpolated" in part]
        content += [predictor(self).key()] if self.predictor else []
        content += [find(self.watched["recipe"]).changed(**self.watched.get("settings", {})).key()] if self.watched else []
        if self.task != "classes":
            # What is forged, and how, is code and no setting.
            root = file.parents[1]
            content += [
                ast.dump(ast.parse((root / name).read_text())) for name in ("tfdefense/data/scenes.py", "training/tasks/pairs.py")
            ]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def parameters(name):
    """Of a network of models/, FILE:FUNCTION, read without importing it."""
    folder = Path(__file__).parents[1] / "models"
    known = {}
    for path in sorted(folder.glob("[a-z]*.py")):
        functions = (node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef))
        known |= {f"{path.stem}:{node.name}": [each.arg for each in node.args.args] for node in functions if node.name[0] != "_"}
    if name not in known:
        hint = did_you_mean(name, known)
        raise ValueError(f"`model` must be FILE:FUNCTION of models/, one of {', '.join(known)}. Received {name!r}.{hint}")
    return known[name]


_LATER = ("decay", "loss", "loss_options", "augment", "train_samples", "attack", "attack_share", "dustbin", "benign")
_LATER += ("task", "predictor", "watched", "mixed_precision", "drops", "noise", "rejection", "rejection_options")
# Settings whose name in the key is an earlier one: networks trained before keep their place.
_IN_KEY = {"benign": "harmless"}
_OPTIONS = {"set": {"limit", "seed"}, "interpolated": {"alpha", "per_class", "limit", "seed", "settings"}}


class Source(NamedTuple):
    """The recipe of the network that gives features, as it is trained."""

    name: str
    recipe: Recipe


def source(part):
    """Of an interpolated part of a dustbin."""
    return Source(part["interpolated"], find(part["interpolated"]).changed(**part.get("settings", {})))


def predictor(recipe):
    """The recipe that guesses depth for this one, as it is trained."""
    return find(recipe.predictor).changed(**predictor_settings(recipe))


def predictor_settings(recipe):
    """What is changed in the recipe that guesses depth."""
    own = find(recipe.predictor)
    samples = own.train_samples if recipe.train_samples is None else min(own.train_samples, recipe.train_samples // 2)
    length = {"epochs": min(own.epochs, 4 * recipe.epochs), "batch_size": min(own.batch_size, samples)}
    return length | {"dataset": recipe.dataset, "train_samples": samples}


def _checked(part, settings):
    """A part of a dustbin, its network changed as the recipe is."""
    kind = next((kind for kind in _OPTIONS if isinstance(part, dict) and kind in part), None)
    if kind is None or set(part) - {kind} - _OPTIONS[kind]:
        known = " or ".join(f"{{'{kind}': ..., {', '.join(sorted(options))}}}" for kind, options in _OPTIONS.items())
        raise ValueError(f"A part of `dustbin` must be {known}. Received {part!r}.")
    if kind == "set" or not settings:
        return part
    return {**part, "settings": part.get("settings", {}) | settings}


def _counted(recipe):
    """The settings in the key. What came later counts only where it is used: networks trained before keep their place."""
    unused = Recipe(recipe.dataset, recipe.model, recipe.epochs)
    settings = dataclasses.asdict(recipe)
    used = {name: value for name, value in settings.items() if name not in _LATER or value != getattr(unused, name)}
    if recipe.watched:
        # Branches trained before had this depth and did not say so; since then none is the paper's.
        own = {"depth": None} | recipe.watched
        used["watched"] = {name: value for name, value in own.items() if (name, value) != ("depth", 4)}
    return {_IN_KEY.get(name, name): value for name, value in used.items()}


@functools.cache
def _all():
    """Every recipe that a file of training/recipes gives a name to."""
    files = sorted(Path(__file__).with_name("recipes").glob("[a-z]*.py"))
    modules = [vars(importlib.import_module(f"training.recipes.{file.stem}")) for file in files]
    return {name: value for module in modules for name, value in sorted(module.items()) if isinstance(value, Recipe)}


def names():
    return sorted(_all())


def find(name):
    """The recipe of that name; an unknown one suggests the nearest."""
    if name not in _all():
        raise ValueError(f"A recipe is one of {', '.join(names())}. Received {name!r}.{did_you_mean(name, names())}")
    return _all()[name]
