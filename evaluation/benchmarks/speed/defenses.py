"""What the defenses cost: their training beside stock Keras `fit`, a step of dynamic training, a decision with 10,000 codes
or with a search around the sample, and what oneDNN spares.

Each is a ratio of CPU times, all threads of the process included, to a yardstick of the same process, measured in turns with
it but for the detector step, whose parts follow each other:
throughput to that of stock `fit` on the same network (by wall time too), a detector step to a pass of the classifier (one
compiled forward and backward run), a decision to the classifier's own, work with oneDNN to the same without.
"""

from evaluation.benchmarks.speed import codes, detector, fit, onednn
from evaluation.benchmarks.speed.protocol import RECIPES

DATASETS = ("mnist", "digits")


def run(context):
    place = (context.network(RECIPES[context.dataset]), context.dataset, context.data_dir)
    batches, turns = (4, 2) if context.quick else (fit.BATCHES, fit.TURNS)
    context.settings["fit"] = f"{turns} turns of {batches} batches of {fit.BATCH}; throughput 1 is that of stock Keras fit"
    fit.add_rows(context, context.part("fit", fit.measure, *place, batches, turns))
    detector.add_rows(context, context.part("detector step", detector.measure, *place))
    codes.add_row(context, context.part("codes", codes.measure, *place))
    codes.add_rows_around(context, context.part("around the sample", codes.measure_around, *place))
    onednn.add_rows(context, context.part("oneDNN", onednn.measure, *place, 1 if context.quick else onednn.TURNS))
