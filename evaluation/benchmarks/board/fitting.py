"""Fits an attached defense with what each kind of its layers needs: samples, codes, a detector branch."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Fitting:
    """How to fit.

    Args:
        attacked: Size in linf of the attacks that detectors are trained on.
        shown: So many samples a branch is trained on, counted each time that it sees one.
        rate: The learning rate of that, which falls to 0 on the way; 0 leaves the trainer's own.
        vectors: Compress SVMs to so many support vectors; 0 leaves them. Where there are `others`, by these: what SVMs
            say of samples that they were fitted on is more than they say of new ones.
        points: Samples of which codes learn the adversarial side.
        max_rejected: Share of clean held-out samples that the whole may reject.
        confidence: How sure that must be, as in `td.calibrate`.
    """

    attacked: float = 0.15
    shown: int = 40_000
    rate: float = 0.0
    vectors: int = 0
    points: int = 2_000
    max_rejected: float = 0.05
    confidence: float | None = None

    def fit(self, defended, samples, held_out, others=None):
        """Fits on samples, calibrates the whole on held-out ones; random draws follow from a seed of their own."""
        import keras

        import tfdefense as td

        keras.utils.set_random_seed(0)
        kinds = {type(layer).__name__ for layer in defended.layers}
        if "DetectorBranch" in kinds:
            self._train_branch(td, defended, samples)
        coded = kinds & {"DetectorSVM", "ClasswiseDetectorSVM"}
        if coded or any(isinstance(layer, td.layers.AdaptableLayer) for layer in defended.layers):
            options = {}
            if coded:
                some = samples.take(slice(0, self.points))
                options["adversarial"] = td.attacks.BIM(self.attacked)(td.base_model(defended), some.x, some.y).x_adv
                options["sources"] = np.arange(len(some.x))
            # A radius goes by the rate that the whole is calibrated to, which sets the thresholds afterwards.
            td.adapt(defended, samples.x, samples.y, max_rejected=None, **options)
            svms = [layer.name for layer in defended.layers if type(layer).__name__ == "RBFSVM"]
            if svms and self.vectors:
                # Those alone: the SVMs on codes match what they have stored.
                td.compress(defended, self.vectors, (others or samples).x, layers=svms)
        td.calibrate(defended, held_out.x, max_rejected=self.max_rejected, confidence=self.confidence)
        return defended

    def _train_branch(self, td, defended, samples):
        # Benign perturbations are labelled clean: a branch that never saw any takes every one of them for an attack.
        adversary = td.attacks.DynamicAdversary(self.attacked, steps=5, schedule="fixed")
        trainer = td.DetectorTraining(defended, adversary, benign=[("sign", self.attacked), ("gaussian", 0.1)])
        epochs = max(1, self.shown // len(samples.x))
        trainer.compile(self._optimizer(epochs * -(-len(samples.x) // 64)) if self.rate else None)
        trainer.fit(samples.x, samples.y, batch_size=64, epochs=epochs, verbose=0)

    def _optimizer(self, steps):
        import keras

        return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(self.rate, steps))
