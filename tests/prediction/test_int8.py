"""A quantised LiteRT file decides as the model does, or is not written."""

import numpy as np
import pytest

import tfdefense as td

litert = pytest.importorskip("ai_edge_litert.interpreter", reason="pip install tfdefense[export]")


@pytest.fixture(scope="module")
def joined(classifier, held_out):
    model = td.AnyOf(td.ThresholdDefense("confidence"), td.ThresholdDefense("energy")).attach(classifier)
    td.calibrate(model, held_out.x[:200], max_rejected=0.05)
    return model


@pytest.fixture(scope="module")
def file(joined, held_out, tmp_path_factory):
    path = tmp_path_factory.mktemp("int8") / "int8.tflite"
    return td.export.export(joined, path, quantize=held_out.x[:200], max_changed=0.05)


def runner(path):
    return litert.Interpreter(model_path=str(path)).get_signature_runner("serving_default")


@pytest.mark.slow
def test_labels_stay_and_the_file_is_smaller(file, joined, held_out, tmp_path):
    whole = td.export.export(joined, tmp_path / "float.tflite")
    assert file.stat().st_size < 0.6 * whole.stat().st_size
    x = held_out.x[200:]
    found, expected = runner(file)(image=x), joined(x)
    assert (found["label"] != expected["label"].numpy()).mean() < 0.05
    assert not np.array_equal(found["scores"], runner(whole)(image=x)["scores"]), "nothing was quantised"
    kinds = {tensor["dtype"] for tensor in litert.Interpreter(model_path=str(file)).get_tensor_details()}
    assert np.int8 in kinds


@pytest.mark.slow
def test_the_guard_computes_in_floats(file, held_out):
    x = held_out.x[:8].copy()
    x[0], x[1, 2, 2], x[2, 3, 3], x[3, 0, 0], x[4, 7, 7] = np.nan, np.inf, -np.inf, 1.001, -0.001
    found = runner(file)(image=x)
    assert (found["reason"][:5] == 2).all() and (found["label"][:5] == -1).all() and np.isposinf(found["suspicion"][:5]).all()
    assert (found["reason"][5:] < 2).all()


@pytest.mark.slow
def test_a_model_that_answers_otherwise_is_not_written(classifier, tmp_path):
    # Of noise the network is least sure.
    noise = np.random.default_rng(0).uniform(size=(600, 8, 8, 1)).astype("float32")
    with pytest.raises(ValueError, match=r"was not written: int8: the label differs on .* At most 0.00% may differ"):
        td.export.export(classifier, tmp_path / "m.tflite", quantize=noise, max_changed=0.0)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_threshold_is_set_anew_for_the_file_alone(defended, held_out, tmp_path, capsys):
    (threshold,) = [layer for layer in defended.layers if isinstance(layer, td.layers.Threshold)]
    own = float(threshold.value.numpy())
    options = {"quantize": held_out.x, "max_changed": 1.0}
    path = td.export.export(defended, tmp_path / "m.tflite", recalibrate=0.3, **options)
    assert "the label differs on " in capsys.readouterr().out
    assert float(threshold.value.numpy()) == own
    rejected = (runner(path)(image=held_out.x)["label"] == -1).mean()
    assert 0.2 < rejected < 0.4
    with pytest.raises(ValueError, match="Leave `recalibrate` out"):
        several = td.AnyOf(td.ThresholdDefense(threshold=0.0), td.ThresholdDefense("energy", threshold=0.0))
        td.export.export(several.attach(td.base_model(defended)), tmp_path / "n.tflite", recalibrate=0.3, **options)


def test_what_is_wrong_is_one_sentence(defended, held_out, tmp_path):
    wrong = [
        ({"quantize": held_out.x[:39]}, "at least 40"),
        ({"recalibrate": 0.05}, "belong to `quantize`"),
        ({"decode": True}, "'litert' has no option `decode`"),
    ]
    for options, expected in wrong:
        with pytest.raises(ValueError, match=expected):
            td.export.export(defended, tmp_path / "m.tflite", **options)
