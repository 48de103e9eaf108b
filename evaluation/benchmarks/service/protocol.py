"""What a defense costs in service: a decision beside that of the bare network, scoring of many, and the fit on many samples.

Each decision is a ratio of CPU times, all threads included, to the bare network in the same runtime and process, in turns with it:
compiled by TensorFlow, in ONNX Runtime and in LiteRT. Fits stand beside compiled passes forward, or in CPU seconds of a process
of their own, whose peak memory counts from where the network is loaded.

Command: python -m evaluation service --dataset mnist
Cost: about 12 minutes of CPU time, an estimate.
"""

from evaluation.benchmarks.service import decisions, fits
from evaluation.benchmarks.speed.alone import alone
from evaluation.benchmarks.speed.protocol import RECIPES

DATASETS = ("mnist", "digits")
TURNS = 7


def run(context):
    place = [str(context.network(RECIPES[context.dataset])), context.dataset, str(context.data_dir) if context.data_dir else None]
    stored, turns = context.samples_or(10_000, 100), 1 if context.quick else TURNS
    context.settings.update({"points stored": stored, "turns": turns})
    decisions.add_rows(context, context.part("decisions", alone, decisions.measure, *place, stored, turns))
    if not context.quick:
        decisions.add_rows(context, context.part("a photo network", alone, decisions.measure_photos, turns))
    many = context.samples_or(50_000, 400)
    for name, how in fits.FITS.items():
        count = stored if how.few else many
        fits.add_row(context, how, count, context.part(name, alone, fits.measure, *place, name, count))
