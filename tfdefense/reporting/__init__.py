"""One evaluation for every model: a fixed protocol, checks on the attacks themselves, and a page that shows all of it."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from tfdefense._files import write_text
from tfdefense._renamed import renamed_keywords
from tfdefense._validation import AnyModel, Bounds, PathLike

if TYPE_CHECKING:
    from tfdefense.attacks.suites import Suite
    from tfdefense.data import Images


__all__ = ["Report", "report"]


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """The result of `td.report`.

    Attributes:
        content: All numbers and pictures, as they stand in the JSON file.
    """

    content: dict

    @property
    def headline(self) -> str:
        """The result in sentences for people who know none of the words."""
        from tfdefense.reporting.sentences import headline

        return headline(self.content)

    @property
    def verdict(self) -> str:
        """The result in one line, in the field's words."""
        return self.content["verdict"]["line"]

    @property
    def failed(self) -> list[str]:
        """Names of the checks that failed: the attack may have been too weak to say much."""
        return self.content["verdict"]["failed"]

    def __repr__(self):
        failed = f"; {len(self.failed)} of {len(self.content['checks'])} checks failed" if self.content["checks"] else ""
        return f"Report({self.verdict!r}{failed})"

    def save(self, directory: PathLike) -> Path:
        """Writes the page `index.html`, which needs no other file, and its numbers `report.json`.

        Args:
            directory: Where to. It is made if it is not there.

        Returns:
            The path of the page.
        """
        from tfdefense.reporting.page import render

        directory = Path(directory)
        page = render(self.content)
        write_text(directory / "report.json", json.dumps(self.content, indent=1) + "\n")
        write_text(directory / "index.html", page)
        return directory / "index.html"


@renamed_keywords(kept="cache", foreign="ood", held="holds_from")
def report(
    model: AnyModel,
    data: str | Images | tuple[ArrayLike, ArrayLike],
    path: PathLike | None = None,
    *,
    split: str = "test",
    quick: bool = False,
    train: Images | tuple[ArrayLike, ArrayLike] | None = None,
    ood: Any = None,
    source: AnyModel = None,
    bounds: Bounds = None,
    classes: Sequence[str] | None = None,
    max_rejected: float = 0.05,
    seed: int = 0,
    data_dir: PathLike | None = None,
    download: bool = False,
    progress: bool = False,
    name: str | None = None,
    suite: str | Suite = "standard-1",
    cache: PathLike | None = None,
    thorough: bool = False,
    ray: Any = None,
    **settings: Any,
) -> Report:
    """Evaluates a model by the fixed protocol: benign perturbations, out-of-distribution images, oblivious, adaptive and
    black-box attacks, and checks on these attacks.

    Args:
        model: A defended model, a plain Keras classifier, or a loaded SavedModel.
        data: Name of a data set, `Images`, or a pair of samples, in the bounds of the model, and their classes.
        path: A directory for the page and its JSON; None writes nothing.
        split: Which part of a data set by name.
        quick: A short run, for a first look.
        train: Training data of the network that attacks are transferred from, as `data` is; by default those of a data set by name.
        ood: Out-of-distribution samples, which are none of the classes: a dict from a name to an array in the bounds of the model
            or to `Images`; by default those that go with the data set.
        source: The undefended model where it can't be reached inside, as in a SavedModel.
        bounds: Lowest and highest pixel value of a plain model; by default (0, 1). The data is moved there.
        classes: Names of the model's classes in the order of its scores, where it does not know them.
        max_rejected: The share of fresh clean samples that calibration promised to reject at most.
        seed: Of the choice of samples and of everything random: equal seeds give equal pages, but for the times.
        data_dir, download: Where data sets are looked for first, and whether one that is not there is fetched.
        progress: Whether to show how far it is.
        name: Of the model, for the page.
        suite: The attacks: a suite of `td.attacks.suites`, or its name.
        cache: A directory for finished batches of the attacks: a report that was stopped goes on, and several processes share one.
        thorough: Whether searches of the checks that find over 2 points more go on, twice as hard each time (up to 32 times), until
            they find no more: slow where a suite was too weak.
        ray: Address of a Ray cluster, such as "auto", or `td.attacks.workers(address)`: its nodes share the attacks, 32 samples a
            task. Needs a Keras model and `pip install tfdefense[cluster]`. Without a cluster numbers are the same but for
            rounding and the count of iterations.
        settings: `samples`, `steps`, `restarts`, sizes `linf` and `l2` in units of the range of the pixels, and other fields
            of `td.reporting.plan.Plan`.

    Example:

    >>> import tfdefense as td
    >>> found = td.report(defended, "digits", "report/", quick=True)  # doctest: +SKIP
    >>> found.headline  # doctest: +SKIP
    'Of 100 images that it does not know (letters8) it lets 48 pass. An attacker who may change each pixel by 25.5 ...'
    >>> found.verdict  # doctest: +SKIP
    'Holds to linf = 0.05 and l2 = 0.25; weakest against log-sum-exp (adaptive, linf).'
    """
    from tfdefense._cluster import check_keras
    from tfdefense._files import plain
    from tfdefense._progress import estimate
    from tfdefense._validation import range_of
    from tfdefense.attacks import workers
    from tfdefense.attacks.arguments import check
    from tfdefense.reporting import page
    from tfdefense.reporting.plan import plan_for
    from tfdefense.reporting.protocol import Protocol, run
    from tfdefense.view import View

    if path is not None:
        # Told before the work and not after it.
        page.environment()
    begun = time.perf_counter()
    view = View.of(model, bounds)
    range_of(view.bounds, "A report")
    if ray is not None:
        for one in (view.model,) if source is None else (view.model, source):
            check_keras(one)
    options = {"classes": classes, "data_dir": data_dir, "download": download}
    images, known = _images(view, data, split, options)
    plan = plan_for(known, images.x.shape[1:], quick=quick, **settings)
    images = _chosen(images, max(plan.clean, plan.samples), seed).moved(view.bounds)
    plan = dataclasses.replace(plan, samples=min(plan.samples, len(images)), clean=len(images))
    check(view, images.x[: plan.samples], images.y[: plan.samples], None)
    if train is not None:
        train, _ = _images(view, train, "train", options, "train")
    if ood is not None:
        ood = _given(view, ood)
    if known is not None:
        train = _training(view, known, split, options) if train is None else train
        ood = _ood(plan, images, data_dir, seed) if ood is None else ood
    times: list[dict[str, Any]] = []
    with workers(ray) as spread, estimate(progress) as begin:
        protocol = Protocol(
            view.model,
            images,
            plan.scaled(view.bounds[1] - view.bounds[0]),
            train=None if train is None else train.moved(view.bounds),
            ood=ood,
            source=source,
            max_rejected=max_rejected,
            seed=seed,
            suite=suite,
            cache=cache,
            thorough=thorough,
            ray=spread,
        )
        findings = run(protocol, begin, times)
    content = {"about": _about(view, images, protocol, known, split, quick, name)} | findings
    content["times"] = {
        "total": time.perf_counter() - begun,
        "jobs": times,
        "finished": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }
    found = Report(plain(content))
    if path is not None:
        found.save(path)
    return found


def _images(view, data, split, options, called="data"):
    """Samples as `Images`, and the name of the set where it has one; a pair of arrays is in the bounds of the model."""
    import numpy as np

    from tfdefense.data import Images
    from tfdefense.data.for_model import load_for, names_for, numbered_for

    if isinstance(data, str | Path):
        return load_for(view.model, data, split, **options), str(data)
    if isinstance(data, Images):
        return numbered_for(view.model, data, options["classes"]), None
    if isinstance(data, tuple) and len(data) == 2:
        x, y = np.asarray(data[0]), np.asarray(data[1])
        if len(x) == len(y):
            names = names_for(view.model, options["classes"]) or ()
            return Images(x, y.reshape(-1).astype("int32"), names, "samples given", split, view.bounds), None
    raise ValueError(
        f"`{called}` must be the name of a data set, `td.data.load(...)`, or a pair of samples and classes. "
        f"Received: {type(data).__name__}."
    )


def _chosen(images, number, seed):
    from tfdefense.data.images import balanced_order

    chosen = images.take(balanced_order(images.y, seed)[:number])
    return dataclasses.replace(chosen, x=chosen.x.astype("float32"))


def _training(view, name, split, options):
    from tfdefense.data.for_model import load_for

    return load_for(view.model, name, "train", **options | {"download": False}) if split == "test" else None


def _ood(plan, images, data_dir, seed):
    from tfdefense.data import available, load

    for name in plan.ood:
        if available(name, data_dir):
            found = load(name, "test", data_dir=data_dir, limit=plan.clean, seed=seed).moved(images.bounds)
            if found.x.shape[1:] == images.x.shape[1:]:
                return {name: found.x}
    return {}


def _given(view, ood):
    """Checked: a defended model rejects whatever lies outside its bounds, and that would pass for merit."""
    from tfdefense.attacks.arguments import check_samples
    from tfdefense.data import Images

    if not isinstance(ood, dict):
        raise ValueError(f"`ood` must be a dict from a name to samples. Received: {type(ood).__name__}. Pass {{'letters': x}}.")
    found = {name: x.moved(view.bounds).x if isinstance(x, Images) else x for name, x in ood.items()}
    return {name: check_samples(view, x, f"ood[{name!r}]") for name, x in found.items()}


def _about(view, images, protocol, known, split, quick, name):
    import importlib.metadata
    import platform

    from tfdefense import __version__

    versions = {"tfdefense": __version__, "python": platform.python_version()}
    for package in ("tensorflow", "keras", "numpy"):
        versions[package] = importlib.metadata.version(package)
    kinds = {}
    for layer in getattr(view.model, "layers", ()):
        if type(layer).__module__.startswith("tfdefense"):
            kinds[type(layer).__name__] = kinds.get(type(layer).__name__, 0) + 1
    count = getattr(view.model, "count_params", lambda: None)()
    return {
        "model": name or getattr(view.model, "name", type(view.model).__name__),
        "rejects": view.rejects,
        "layers": kinds,
        "weights": count,
        "data": known or images.name,
        "split": split,
        "classes": list(images.classes),
        "shape": list(images.x.shape[1:]),
        "bounds": list(view.bounds),
        "quick": quick,
        "thorough": protocol.thorough,
        "seed": protocol.seed,
        "suite": protocol.suite.name,
        "max_rejected": protocol.max_rejected,
        "plan": dataclasses.asdict(protocol.plan),
        "versions": versions,
    }
