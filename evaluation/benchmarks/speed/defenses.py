"""What the defenses cost: their training beside stock Keras `fit`, a step of dynamic training, a decision with 10,000 codes,
and what oneDNN spares.

Each is a ratio of CPU times, all threads of the process included, to a yardstick of the same process, measured in turns with
it but for the detector step, whose parts follow each other:
throughput to that of stock `fit` on the same network (by wall time too), a detector step to a pass of the classifier (one
compiled forward and backward run), a decision to the classifier's own, work with oneDNN to the same without.
"""

from evaluation.benchmarks.speed import codes as speed_codes
from evaluation.benchmarks.speed import detector as speed_detector
from evaluation.benchmarks.speed import fit as speed_fit
from evaluation.benchmarks.speed import onednn as speed_onednn
from evaluation.benchmarks.speed.protocol import RECIPES

DATASETS = ("mnist", "digits")
HEADINGS = {
    "row": "of",
    "what": "library",
    "ours": "cost",
    "throughput": "throughput by CPU time",
    "wall throughput": "by wall time",
}


def run(context):
    context.headings.update(HEADINGS)
    place = (context.network(RECIPES[context.dataset]), context.dataset, context.data_dir)
    batches, turns = (4, 2) if context.quick else (speed_fit.BATCHES, speed_fit.TURNS)
    context.settings["fit"] = f"{turns} turns of {batches} batches of {speed_fit.BATCH}; throughput 1 is that of stock Keras fit"
    full = not context.quick and context.dataset == "mnist"
    speed_fit.add_rows(context, context.part("fit", speed_fit.measure, *place, batches, turns), full)
    speed_detector.add_row(context, context.part("detector step", speed_detector.measure, *place))
    speed_codes.add_row(context, context.part("codes", speed_codes.measure, *place))
    speed_onednn.add_rows(context, context.part("oneDNN", speed_onednn.measure, *place, 1 if context.quick else speed_onednn.TURNS))
