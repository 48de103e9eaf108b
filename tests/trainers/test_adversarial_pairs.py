"""Clean / adversarial pairs for a detector: cached, resumed, and how far they are."""

import keras
import numpy as np
import pytest

import tfdefense as td

A = td.attacks


def test_pairs_are_cached_by_content(classifier, held_out, tmp_path, monkeypatch):
    x, y = held_out.x[:10], held_out.y[:10]
    calls = []
    original = A.FGSM.perturb
    monkeypatch.setattr(A.FGSM, "perturb", lambda *rest: calls.append(1) or original(*rest))
    samples, is_adversarial = td.adversarial_pairs(classifier, A.FGSM(0.2), x, y, cache=tmp_path)
    np.testing.assert_array_equal(samples, np.concatenate([x, A.FGSM(0.2)(classifier, x, y, regardless=True).x_adv]))
    assert is_adversarial.tolist() == [0] * 10 + [1] * 10
    calls.clear()
    np.testing.assert_array_equal(td.adversarial_pairs(classifier, A.FGSM(0.2), x, y, cache=tmp_path)[0], samples)
    assert not calls
    other = keras.models.clone_model(classifier)
    other.set_weights([1.01 * weight for weight in classifier.get_weights()])
    for changed in ((classifier, A.FGSM(0.1), x), (classifier, A.FGSM(0.2), x * 0.9), (other, A.FGSM(0.2), x)):
        td.adversarial_pairs(*changed, y, cache=tmp_path)
    assert len(calls) == 3 and len(list(tmp_path.iterdir())) == 4
    with pytest.raises(ValueError, match="`cache` needs a Keras model"):
        td.adversarial_pairs(lambda x: x, A.FGSM(0.1), x, y, cache=tmp_path)


def test_stopped_pairs_go_on_and_show_how_far_they_are(classifier, held_out, tmp_path, monkeypatch, capsys):
    x, y = held_out.x[:30], held_out.y[:30]
    calls, original = [], A.FGSM.perturb

    def stopping(*rest):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*rest)

    monkeypatch.setattr(A.FGSM, "perturb", stopping)
    options = {"batch_size": 10, "cache": tmp_path, "progress": True}
    with pytest.raises(KeyboardInterrupt):
        td.adversarial_pairs(classifier, A.FGSM(0.2), x, y, **options)
    samples, _ = td.adversarial_pairs(classifier, A.FGSM(0.2), x, y, **options)
    assert len(calls) == 4, "two batches before it was stopped, one after"
    np.testing.assert_array_equal(samples[30:], A.FGSM(0.2)(classifier, x, y, regardless=True).x_adv)
    assert "10/30" in "".join(capsys.readouterr())
