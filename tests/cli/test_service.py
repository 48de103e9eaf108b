"""From a classifier and folders of pictures to a service that is watched, as a user types it."""

import csv
import json
import os
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

import tfdefense as td
from tests.cli.test_commands import fails, run

NAMES = ["nought", *"one two three four five six seven eight nine".split()]


@pytest.fixture(scope="module")
def here(classifier, held_out, tmp_path_factory):
    """A folder with a classifier of pixels from 0 to 255, held-out pictures by class, and new ones."""
    folder = tmp_path_factory.mktemp("service")
    inputs = keras.Input((8, 8, 1))
    x = inputs / 255.0
    for layer in classifier.layers[1:]:
        x = layer(x)
    keras.Model(inputs, x).save(folder / "model.keras")
    # Classes of folders are numbered by the alphabet.
    names = [f"{number}-{name}" for number, name in enumerate(NAMES)]
    for place, image in enumerate((held_out.x[..., 0] * 255).round().astype("uint8")):
        path = folder / ("held_out" if place < 200 else "new") / names[held_out.y[place]] / f"{place}.png"
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(image).save(path)
        if place >= 200:  # as they come in service, not sorted by class
            (folder / "arrived").mkdir(exist_ok=True)
            Image.fromarray(image).save(folder / "arrived" / f"{place}.png")
    for place, image in enumerate(td.data.load("letters8", "test", limit=150, dtype="uint8").x[..., 0]):
        path = folder / "letters" / f"{place}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


@pytest.fixture(scope="module")
def attached(here):
    options = ["--held-out", here / "held_out", "--bounds", 0, 255, "--output", here / "defended.keras"]
    text = run("attach", here / "model.keras", "--defense", "energy", *options, "--reference", here / "reference.json").stdout
    return here / "defended.keras", " ".join(text.split())


def rows(path):
    with open(path) as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_attach_writes_a_finished_model_that_knows_its_classes(attached, here, held_out):
    path, text = attached
    defended = td.load(path)
    assert td.contract.unready(defended) is None and td.contract.bounds_of(defended) == (0, 255)
    assert td.contract.class_names(defended)[0] == "0-nought"
    rejected = td.evaluate(defended, (held_out.x[:200] * 255).round(), held_out.y[:200]).rejection
    assert 0 < rejected <= 0.05 and f"energy, rejects {rejected:.1%} of 200" in text and "on average at most 5 %" in text
    assert json.loads((here / "reference.json").read_text())["samples"] == 200


@pytest.mark.slow
def test_attach_doubts_the_bounds_of_a_model_that_is_right_by_chance(here, tmp_path):
    options = ["--defense", "energy", "--held-out", here / "held_out", "--output", tmp_path / "d.keras"]
    done = run("attach", here / "model.keras", *options)
    assert "hardly more than by chance" in done.stderr and "--bounds 0 255" in done.stderr
    assert "chance" not in run("attach", here / "model.keras", *options, "--bounds", 0, 255).stderr


@pytest.mark.slow
def test_attach_adapts_where_a_defense_learns(here, tmp_path):
    options = ["--held-out", here / "held_out", "--bounds", 0, 255, "--output", tmp_path / "d.keras", "--max-rejected", 0.1]
    done = run("attach", here / "model.keras", "--defense", "knn", "--option", "k=3", *options)
    assert "learns from 100 of the held-out samples" in done.stderr
    found = td.load(tmp_path / "d.keras")
    assert td.contract.unready(found) is None and any(getattr(layer, "k", None) == 3 for layer in found.layers)
    done = run("attach", here / "model.keras", "--defense", "mahalanobis", "--train", here / "new", *options)
    assert "learns from" not in done.stderr and "of 200 samples" in " ".join(done.stdout.split())


@pytest.mark.slow
def test_predict_labels_folders_patterns_and_says_what_it_could_not_read(attached, here, tmp_path):
    path, _ = attached
    (here / "odd").mkdir()
    (here / "odd" / "broken.png").write_bytes(b"no picture")
    Image.new("L", (9, 9)).save(here / "odd" / "large.png")
    done = run("predict", path, here / "new", "--output", tmp_path / "labels.csv")
    found = rows(tmp_path / "labels.csv")
    right = np.mean([row["class"] == os.path.basename(os.path.dirname(row["file"])) for row in found])
    assert len(found) == 197 and right > 0.85 and "197 pictures" in done.stdout
    done = run("predict", path, here / "new" / "3-three", here / "odd" / "*.png", code=3)
    shown = list(csv.DictReader(done.stdout.splitlines()))
    assert [row["reason"].split(":")[0] for row in shown[-2:]] == ["unreadable"] * 2 and shown[0]["reason"] == "accepted"
    assert "pictures can't be read; the column" in done.stderr
    run("predict", path, here / "odd" / "large.png", "--resize")
    # A file that is not there is a row as well: the others are labelled.
    assert "There is no file" in run("predict", path, here / "gone.png", here / "new", code=3).stdout


def test_predict_takes_plain_models_and_names_for_their_classes(here):
    options = ["--bounds", 0, 255, "--classes", ",".join(NAMES)]
    shown = list(csv.DictReader(run("predict", here / "model.keras", here / "new" / "0-nought", *options).stdout.splitlines()))
    assert {row["suspicion"] for row in shown} == {""} and sum(row["class"] == "nought" for row in shown) > 0.8 * len(shown)


@pytest.mark.slow
def test_monitor_goes_on_and_rings(attached, here, tmp_path):
    path, _ = attached
    for name in ("arrived", "letters"):
        run("predict", path, here / name, "--output", tmp_path / f"{name}.csv")
    outputs = ["--output", tmp_path / "monitor.json", "--prometheus", tmp_path / "m.prom", "--picture", tmp_path / "m.png"]
    text = run("monitor", here / "reference.json", tmp_path / "arrived.csv", *outputs).stdout
    assert "197 samples" in text and "no alarm" in text
    done = run("monitor", tmp_path / "monitor.json", tmp_path / "letters.csv", *outputs, code=1)
    assert "347 samples" in done.stdout and "ALARM: " in done.stdout
    assert 'tfdefense_alarm{test="drift"} 1' in (tmp_path / "m.prom").read_text()
    assert (tmp_path / "m.png").read_bytes()[1:4] == b"PNG"


@pytest.mark.slow
def test_info_says_what_a_defense_can_watch_and_it_can(here, classifier, tmp_path):
    long = "a_layer_whose_name_is_so_long_that_a_table_of_eighty_columns_would_cut_it_off"
    inputs = keras.Input((8, 8, 1))
    inner = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, name=long)], name="inner")
    shared = keras.layers.Dense(7, name="twice")
    x = keras.layers.Flatten(name="flat")(inner(inputs))
    x = shared(keras.layers.Dense(7, name="once")(shared(x[:, :7])))
    model = keras.Model(inputs, keras.layers.Dense(3, name="scores")(x))
    model.save(tmp_path / "model.keras")
    text = run("info", tmp_path / "model.keras").stdout
    cells = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert re.search(r"144 maps", cells[f"inner/{long}"]) and "144 features" in cells["flat"]
    assert "3 features" in cells["scores"] and "features" not in cells["twice"]
    shapes = td.defenses.watchable(model)
    assert set(shapes) == {"inner", f"inner/{long}", "flat", "once", "scores"} | {
        layer.name for layer in model.layers if type(layer).__name__ == "GetItem"
    } & set(shapes)
    for name, shape in shapes.items():
        td.NeuralRejection(name).attach(model)
        if len(shape) == 3:
            td.AdversaryDetector(name, width=2).attach(model)
    with pytest.raises(ValueError, match="is called 2 times"):
        td.NeuralRejection("twice").attach(model)
    # Layers of a defense are none to watch.
    assert "to watch" not in run("info", here / "defended.keras").stdout


@pytest.mark.slow
def test_export_quantises_and_says_what_it_changed(attached, here, tmp_path):
    options = ["--quantize", here / "held_out", "--split", "all", "--max-changed", 0.1]
    text = run("export", attached[0], tmp_path / "m.tflite", *options).stdout
    assert "the label differs on " in text and (tmp_path / "m.tflite").exists()
    assert "belongs to --quantize" in fails("export", attached[0], tmp_path / "n.tflite", "--recalibrate", 0.05)


MISTAKES = {
    "defense": (["attach", "{h}/model.keras", "--defense", "enrgy"], "Did you mean `energy`"),
    "trained": (["attach", "{h}/model.keras", "--defense", "detector"], "trained by gradient"),
    "no layer": (["attach", "{h}/model.keras", "--defense", "dnr"], "needs --layer"),
    "option": (["attach", "{h}/model.keras", "--defense", "knn", "--option", "k"], "NAME=VALUE"),
    "unknown option": (["attach", "{h}/model.keras", "--defense", "density", "--option", "k=3"], "has no option 'k'"),
    "two layers": (["attach", "{h}/model.keras", "--defense", "knn", "--layer", "a", "--layer", "b"], "watches one layer"),
    "twice": (["attach", "{h}/defended.keras"], "has a defense already"),
    "learns nothing": (["attach", "{h}/model.keras", "--train", "digits"], "learns nothing from samples"),
    "nothing there": (["predict", "{h}/defended.keras", "{t}"], "No pictures in"),
    "table": (["predict", "{h}/defended.keras", "{h}/new", "--output", "{t}/x.txt"], "ends in .csv or .parquet"),
    "reference": (["monitor", "{h}/model.keras", "{t}/x.csv"], "can't be read as JSON"),
    "columns": (["monitor", "{h}/reference.json", "{t}/other.csv"], "lacks the column suspicion"),
    "plain": (["monitor", "{h}/reference.json", "{t}/plain.csv"], "model rejects nothing"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_line(mistake, attached, here, tmp_path):
    arguments, expected = MISTAKES[mistake]
    (tmp_path / "other.csv").write_text("file,label\na.png,1\n")
    (tmp_path / "plain.csv").write_text("suspicion,reason\n,accepted\n")
    arguments = [argument.format(h=here, t=tmp_path) for argument in arguments]
    if arguments[0] == "attach":
        arguments += ["--held-out", here / "held_out", "--bounds", 0, 255, "--output", tmp_path / "x.keras"]
    assert re.search(expected, fails(*arguments))
    assert not (tmp_path / "x.keras").exists()


def test_calibrate_writes_a_reference_too(here, attached, tmp_path):
    options = ["--data", here / "held_out", "--split", "all", "--max-rejected", 0.1, "--output", tmp_path / "d.keras"]
    run("calibrate", attached[0], *options, "--reference", tmp_path / "r.json")
    content = json.loads((tmp_path / "r.json").read_text())
    assert (content["samples"], content["max_rejected"]) == (200, 0.1) and 0.05 < content["rejected"] / 200 <= 0.1


def test_python_can_run_the_program_as_a_module():
    done = subprocess.run([sys.executable, "-m", "tfdefense", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, f"tfdefense {td.__version__}")


def test_pictures_without_classes_set_a_rejection_rate(here, tmp_path):
    """They lie in one folder: for a threshold, and as out-of-distribution images, nobody needs their classes."""
    options = ["--bounds", 0, 255, "--output", tmp_path / "d.keras"]
    done = run("attach", here / "model.keras", "--held-out", here / "arrived", *options)
    assert "of 197 samples" in " ".join(done.stdout.split()) and "chance" not in done.stderr
    done = run("calibrate", tmp_path / "d.keras", "--data", here / "arrived", "--output", tmp_path / "again.keras")
    assert "of 197 samples" in " ".join(done.stdout.split()), "all of a folder that has no parts"
    message = fails("attach", here / "model.keras", "--defense", "knn", "--held-out", here / "arrived", *options)
    assert "have none" in message and "--train" in message
