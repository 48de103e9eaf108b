"""What the board's defenses are fitted on."""

import numpy as np
import pytest

import tfdefense as td
from evaluation.benchmarks.board.fitting import Fitting


@pytest.mark.parametrize("unseen", [True, False])
def test_machines_are_compressed_by_samples_that_they_were_not_fitted_on(unseen, classifier, digits, held_out):
    samples, others = (digits.take(slice(i, i + 200)) for i in (0, 200))

    def made():
        return td.NeuralRejection("features").attach(classifier)

    def by_hand(x):
        return td.compress(td.adapt(made(), samples.x, samples.y, max_rejected=None), 20, x)(held_out.x)["scores"]

    found = Fitting(vectors=20).fit(made(), samples, held_out, others if unseen else None)(held_out.x)["scores"]
    right, wrong = (by_hand(part.x) for part in ((others, samples) if unseen else (samples, others)))
    np.testing.assert_allclose(found, right, atol=1e-4)
    assert np.abs(found - wrong).max() > 0.1
