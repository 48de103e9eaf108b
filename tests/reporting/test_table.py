"""The short table and its curves on a line, where every attack's result is known."""

import json

import numpy as np
import pytest
import tensorflow as tf

import tfdefense as td
from tfdefense.data import Images
from tfdefense.reporting.table import WORST, Settings, table

FIRST = np.linspace(0.2, 0.8, 30)  # none lies at a distance that is attacked


def guarded(x):
    """Class 1 above one half; rejects what lies within 0.05 of it."""
    lead = x[:, 0] - 0.5
    suspicion = 0.05 - tf.abs(lead)
    label = tf.where(suspicion > 0, -1, tf.cast(lead > 0, tf.int32))
    return {"scores": tf.stack([-lead, lead], -1), "suspicion": suspicion, "label": label}


def plain(x):
    return tf.stack([0.5 - x[:, 0], x[:, 0] - 0.5], -1)


@pytest.fixture(scope="module")
def images():
    x = np.full((30, 4), 0.5, "float32")
    x[:, 0] = FIRST
    return Images(x, (FIRST > 0.5).astype("int32"), (), "points", "test", (0.0, 1.0))


def test_the_worst_case_and_the_curve_are_known_on_a_line(images, tmp_path):
    """A sample evades where it gets across the middle and out of the band of rejection."""
    found = table(guarded, images, Settings(0.2, steps=20, sizes=(0, 0.1, 0.3)))
    needed = np.abs(FIRST - 0.5) + 0.05
    rows = dict(pair for pair in found.rows if pair[1] is not None)
    assert rows["clean"].rejection == pytest.approx((needed < 0.1).mean()) and rows["clean"].error == 0
    np.testing.assert_array_equal(rows[WORST].wrong, needed < 0.2)
    assert all(name.startswith(("clean", "benign: ", "adaptive: ", WORST)) for name in rows)
    curve = found.curves["adaptive"]
    assert curve.accuracy.tolist() == pytest.approx([rows["clean"].accuracy, (needed >= 0.1).mean(), (needed >= 0.3).mean()])
    assert set(found.curves) == {"adaptive"} and not found.left_out
    found.write_json(tmp_path / "table.json", {"model": "guarded"})
    content = json.loads((tmp_path / "table.json").read_text())
    assert content["settings"] == {"epsilon": 0.2, "norm": "linf", "steps": 20, "seed": 0} and content["model"] == "guarded"
    worst = next(row for row in content["rows"] if row["what"] == WORST)
    assert worst["wrong"] == pytest.approx((needed < 0.2).mean()) == pytest.approx(1 - worst["robust_accuracy"])
    assert content["curves"][0]["sizes"] == [0, 0.1, 0.3]


def test_a_plain_model_is_searched_in_l1_too(images):
    """One pixel decides: in l1 it can be moved by the whole size."""
    found = table(plain, images, Settings(0.25, "l1", steps=20))
    rows = dict(pair for pair in found.rows if pair[1] is not None)
    np.testing.assert_array_equal(rows[WORST].wrong, np.abs(FIRST - 0.5) < 0.25)
    assert {"one step", "PGD from the sample", "cross-entropy", "margin"} < set(rows) and not found.curves


def test_a_model_without_a_gradient_is_told_and_no_crash(images):
    def steps(x):
        return plain(tf.round(2 * x) / 2)

    found = table(steps, images, Settings(0.2, steps=2))
    assert {entry["name"] for entry in found.left_out} >= {"margin", "one step"}
    assert dict(found.rows)[WORST].error == td.evaluate(steps, images.x, images.y).error


def test_sizes_and_norms_that_make_no_sense_are_told():
    for settings, expected in (((0.1, "l3"), "`norm` must be one of"), ((0.0,), "above 0")):
        with pytest.raises(ValueError, match=expected):
            Settings(*settings)
