"""Tasks on pictures with depth: guess the depth, or tell real pairs from forged ones that are made anew in each epoch."""

import keras
import numpy as np

from tfdefense.data import scenes
from training.batches import ShuffledBatches
from training.recipe import predictor_settings


class DepthBatches(ShuffledBatches):
    """Pictures and their depth, mirrored, cropped and brightened at random."""

    def __getitem__(self, index):
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        pairs = [scenes.vary_pair(self.x[row], np.random.default_rng([self.seed, self.epoch, row])) for row in rows]
        return _divided(np.stack(pairs))


class ForgedBatches(ShuffledBatches):
    """Real pairs, each beside a forgery. Depth is predicted where the network that does it has not learned from the pair."""

    def __init__(self, pairs, predicted, learned, batch_size, seed):
        super().__init__(pairs, None, batch_size // 2, seed)
        self.predicted, self.learned = predicted, learned

    def __getitem__(self, index):
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        rng = np.random.default_rng([self.seed, self.epoch, index])
        # Inserted twice as often: it is the hardest kind.
        others = [*(kind for kind in scenes.FAMILIAR if kind != "predicted"), "inserted"]
        # Twice as often where it can be at all, so that the others are about as frequent.
        kinds = np.where(rows < self.learned, rng.choice(others, len(rows)), rng.choice([*others, *2 * ["predicted"]], len(rows)))
        return scenes.twins(self.x, rows, kinds, predicted=self.predicted, seed=(self.seed, self.epoch), vary=True)


def prepared(recipe, train, test, trained):
    """Batches for the recipe's task, and what it is validated on."""
    if recipe.task not in ("depth", "real"):
        raise ValueError(f"`task` must be 'classes', 'depth' or 'real'. Received {recipe.task!r}.")
    # Real and guessed depth alike: see `spread`.
    train, test = scenes.spread(train), scenes.spread(test, seed=1)
    if recipe.task == "depth":
        return DepthBatches(train, None, recipe.batch_size, recipe.seed), _divided(test)
    settings = predictor_settings(recipe)
    network = keras.models.load_model(trained(recipe.predictor, **settings) / "model.keras", compile=False)
    learned = settings["train_samples"]
    predicted = [network.predict(_divided(pairs)[0], batch_size=64, verbose=0) for pairs in (train, test)]
    predicted = [scenes.spread(each, seed=2 + number) for number, each in enumerate(predicted)]
    judged = scenes.real_and_forged(test, predicted=predicted[1], seed=recipe.seed)
    return ForgedBatches(train, predicted[0], learned, recipe.batch_size, recipe.seed), (judged.x, judged.y)


def _divided(pairs):
    """Picture and depth, in [0, 1]."""
    return pairs[..., : scenes.DEPTH], pairs[..., scenes.DEPTH :]
