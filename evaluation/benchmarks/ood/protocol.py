"""The OOD board: near and far images of no class against every detector score, as they are and when each score is attacked.

On one trained network every post-hoc score, the systems of the five papers as far as they fit to it, and joined scores are fitted,
and calibrated to reject the same share of known samples. First images are told from known samples as they are: AUROC, FPR at 95 %
TPR, and the share rejected. Then OOD images are perturbed until a score accepts them, and known ones until it rejects them. On
CIFAR-10 about an hour of CPU time, on Imagenette about two.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from evaluation.benchmarks.ood.settings import MAX_REJECTED, SETUPS

DATASETS = tuple(SETUPS)


def run(
    context,
    *,
    only: Annotated[str | None, typer.Option(help="One system, by its name.")] = None,
    network: Annotated[Path | None, typer.Option(help="A Keras file in place of the data set's own network.")] = None,
    steps: Annotated[int | None, typer.Option(help="Of each search.", min=1)] = None,
):
    from evaluation.benchmarks.ood import measure, search, systems
    from evaluation.benchmarks.ood.study import Study
    from evaluation.runner import results
    from evaluation.runner.networks import named

    context.refuse_a_part(only)
    if network and context.output.resolve() == results.RESULTS:
        raise ValueError(
            "A result is of the data set's own network. Name another folder with `--output`, or leave `--network` out."
        )
    setup = SETUPS[context.dataset]
    setup = setup.quick() if context.quick else setup
    setup = dataclasses.replace(setup, attacked=context.samples_or(setup.attacked, 8), steps=steps or setup.steps)
    path = network or trained(context, setup)
    study = Study(context, setup, path)
    chosen = systems.entries(study.network, setup, context.quick, only)
    context.settings.update(
        network=named(path),
        near=", ".join(setup.near),
        far=", ".join(setup.far),
        samples=f"{setup.tested} known ones, at most {setup.each} of each OOD set; {setup.attacked} of both are attacked",
        fitted=f"{setup.fitted} samples that the network has seen; kernels {setup.few}; the branch sees {setup.shown}",
        calibrated=f"{setup.calibrates} others, {MAX_REJECTED} of them rejected",
        dustbin=f"trained on the last hidden layer with {setup.exposed}",
        detectors=f"of adversarial samples: fitted on attacks of linf {setup.crafted:.3g}",
        neighbour=setup.k,
        searches=f"{len(search.SEARCHES)} of {setup.steps} steps and one more from the best point; images of "
        f"{' and '.join(systems.LEADERS)} tried on all; {setup.checked} samples searched {search.LONGER} times as long",
        interval="of samples drawn with replacement; of shares Wilson's",
    )
    prepare(study)
    parts = {f"clean, {system.name}": (measure.clean, study, system.name) for system in chosen}
    # Those first whose images the others wait for.
    order = sorted(chosen, key=lambda system: system.name not in systems.LEADERS)
    parts |= {f"attacked, {system.name}": (measure.under_attack, study, system.name) for system in order}
    done = context.parts(parts)
    found = {(kind, system.name): done[f"{kind}, {system.name}"] for system in chosen for kind in ("clean", "attacked")}
    measure.add_rows(context, setup, chosen, found, measure.network(study))


def trained(context, setup):
    """The file of the network: a recipe's, or that of photos with a head that is fitted here."""
    if setup.recipe is not None:
        return context.network(setup.recipe, **setup.settings)
    from evaluation.benchmarks import zoo_photos
    from tfdefense import _cache, data
    from tfdefense.zoo import imagenet

    imagenet.weights_file()  # Whoever lacks the package is told at once.
    images = data.load(context.dataset, "train", data_dir=context.data_dir).take(slice(setup.seen))
    folder = f"imagenette_lite0-{_cache.content(images.x, images.y)}"

    def write(new):
        zoo_photos.network(context, images, plain=True).save(new)

    return _cache.entry(context.cache.parent / "networks" / folder / "model.keras", write)


def prepare(study):
    """Features of all images, before several processes want them."""
    for x in (study.fitted.x, study.held_out.x, study.test.x, *map(study.ood, study.setup.sets), study.exposed()):
        study.features(x)
