"""Names of the classes: kept with a model, and data numbered by them."""

import re

import keras
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import tfdefense as td
from tfdefense import cli
from tfdefense.data.for_model import load_for

# In the order of the scores, which is not that of the alphabet.
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.fixture(scope="module")
def named(classifier, held_out):
    model = td.ThresholdDefense().attach(classifier, class_names=WORDS)
    td.calibrate(model, held_out.x, max_rejected=0.05)
    return model


@pytest.fixture(scope="module")
def folders(held_out, tmp_path_factory):
    """Twenty held-out digits each of two classes, whose folders the alphabet would number 0 and 1."""
    root = tmp_path_factory.mktemp("images")
    for label in (3, 7):
        (root / WORDS[label]).mkdir()
        for number, image in enumerate(held_out.x[held_out.y == label][:20, ..., 0]):
            Image.fromarray(np.rint(image * 255).astype("uint8")).save(root / WORDS[label] / f"{number:02}.png")
    return root


def test_names_are_kept_in_the_file(named, tmp_path):
    named.save(tmp_path / "named.keras")
    assert td.contract.class_names(td.load(tmp_path / "named.keras")) == WORDS


def test_joined_defenses_and_models_built_by_hand_are_named_too(dustbin):
    joined = td.AnyOf(td.DustbinDefense(), td.ThresholdDefense()).attach(dustbin, class_names=np.array(WORDS))
    assert td.contract.class_names(joined) == WORDS, "the dustbin is no class"
    image = keras.Input((4,))
    scores = keras.layers.Dense(3)(image)
    built = td.defend(image, scores, td.layers.Threshold(0.0)(td.layers.Confidence()(scores)), class_names=["a", "b", "c"])
    assert td.contract.class_names(built) == ("a", "b", "c")


def test_a_model_without_names_says_so_and_can_be_given_some(classifier, tmp_path):
    model = td.ThresholdDefense(threshold=0.0).attach(classifier)
    assert td.contract.class_names(model) is None and td.contract.class_names(classifier) is None
    td.contract.name_classes(model, WORDS)
    model.save(tmp_path / "named.keras")
    assert td.contract.class_names(td.load(tmp_path / "named.keras")) == WORDS


@pytest.mark.parametrize(
    "names, message",
    [
        (WORDS[:9], "Expected one name for each of 10 classes. Received 9: zero, one"),
        (WORDS[:9] + ("zero",), "each class name once. Received 'zero'"),
        (range(10), "must be strings"),
        ("0123456789", "must be strings"),
        ([], "must be strings"),
    ],
)
def test_wrong_names_are_one_sentence(classifier, names, message):
    with pytest.raises(ValueError, match=message):
        td.ThresholdDefense().attach(classifier, class_names=names)


def test_some_of_the_class_folders_are_numbered_by_the_names(named, folders):
    images = td.data.load(folders, "all", classes=td.contract.class_names(named))
    assert sorted(set(images.y.tolist())) == [3, 7] and images.classes == WORDS
    assert np.mean(named(images.x)["scores"].numpy().argmax(-1) == images.y) > 0.9
    assert set(td.data.load(folders, "all").y.tolist()) == {0, 1}, "without names the alphabet numbers them"


def test_a_folder_that_is_no_class_is_named_with_the_nearest(folders, tmp_path):
    (tmp_path / "thre").mkdir()
    Image.fromarray(np.zeros((8, 8), "uint8")).save(tmp_path / "thre" / "0.png")
    with pytest.raises(
        ValueError, match=r"has the class 'thre', which is none of the 10 classes.*Nearest: 'three'.*--classes a,b,c"
    ):
        td.data.load(tmp_path, "all", classes=WORDS)
    # Numbers are names as well.
    (tmp_path / "thre").rename(tmp_path / "0")
    with pytest.raises(ValueError, match="has the class '0'"):
        td.data.load(tmp_path, "all", classes=WORDS)


def test_npz_is_numbered_by_its_names_where_it_has_some(tmp_path):
    x = np.zeros((4, 2, 2), "uint8")
    np.savez(tmp_path / "words.npz", x=x, y=np.array(["two", "nine", "two", "one"]))
    assert td.data.load(tmp_path / "words.npz", "all", classes=WORDS).y.tolist() == [2, 9, 2, 1]
    np.savez(tmp_path / "listed.npz", x=x, y=[0, 1, 1, 0], classes=["nine", "two"])
    assert td.data.load(tmp_path / "listed.npz", "all", classes=WORDS).y.tolist() == [9, 2, 2, 9]
    np.savez(tmp_path / "numbers.npz", x=x, y=[0, 5, 5, 0])
    numbers = td.data.load(tmp_path / "numbers.npz", "all", classes=WORDS)
    assert numbers.y.tolist() == [0, 5, 5, 0] and numbers.classes == WORDS
    with pytest.raises(ValueError, match="has a class 5, counted from 0. The model has 3"):
        td.data.load(tmp_path / "numbers.npz", "all", classes=WORDS[:3])


def test_sets_by_name_are_numbered_by_the_names_or_refused():
    plain, turned = (td.data.load("digits", "test", classes=names) for names in (None, list("9876543210")))
    np.testing.assert_array_equal(turned.y, 9 - plain.y)
    with pytest.raises(ValueError, match="letters8 has the class 'A', which is none of"):
        td.data.load("letters8", "test", classes=list("0123456789"))


@pytest.mark.parametrize("name", td.zoo.list())
def test_models_of_the_zoo_know_the_names_of_their_set(name):
    card = td.zoo.card(name)
    assert len(card.classes) == len(card.golden["scores"][0])
    if td.data.available(card.data):
        assert tuple(card.classes) == td.data.load(card.data, "test", limit=10).classes


def test_a_model_of_the_zoo_is_named_and_its_file_keeps_the_names(tmp_path):
    model = td.zoo.load("digits_cnn.dnr")
    model.save(tmp_path / "again.keras")
    assert td.contract.class_names(model) == td.contract.class_names(td.load(tmp_path / "again.keras")) == tuple("0123456789")
    shown = CliRunner().invoke(cli.app, ["zoo", "digits_cnn.dnr"], terminal_width=200).output
    assert "10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9" in shown


def typed(*arguments):
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments], terminal_width=200)
    return result.exit_code, " ".join(result.output.split()), " ".join(result.stderr.split())


@pytest.fixture(scope="module")
def files(named, classifier, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    named.save(folder / "named.keras")
    classifier.save(folder / "plain.keras")
    td.export.saved_model(named, folder / "saved")
    return folder


def right(text):
    return float(re.search(r"clean ([\d.]+)%", text)[1]) / 100


def test_commands_number_folders_by_the_classes_of_the_model(files, folders):
    arguments = ["--data", folders, "--split", "all", "--epsilon", 0.1, "--attack", "fgsm"]
    code, text, _ = typed("attack", files / "named.keras", *arguments)
    assert code == 0 and right(text) > 0.85
    for model in ("plain.keras", "saved"):
        code, text, _ = typed("attack", files / model, *arguments, "--classes", ",".join(WORDS))
        assert code == 0 and right(text) > 0.85
        code, _, told = typed("attack", files / model, *arguments)
        assert code == 2 and "has 2 classes and the model 10" in told and "--classes a,b,c" in told
    assert (
        "Expected one name for each of 10 classes. Received 2"
        in typed("attack", files / "saved", *arguments, "--classes", "a,b")[2]
    )


@pytest.mark.parametrize("command", ["evaluate", "calibrate", "report"])
def test_no_command_takes_the_folders_of_another_problem(command, files, tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8), "uint8")).save(tmp_path / "pets" / name / "0.png")
    more = {"calibrate": ["--output", tmp_path / "x.keras"], "report": ["--report", tmp_path / "r", "--quick"]}.get(command, [])
    command = "evaluate" if command == "report" else command
    code, _, told = typed(command, files / "named.keras", "--data", tmp_path / "pets", "--split", "all", *more)
    assert code == 2 and "has the class 'cat', which is none of the 10 classes of the model" in told


def test_info_shows_the_names(files):
    assert "10: zero, one, two" in typed("info", files / "named.keras")[1]


def test_a_report_numbers_what_it_is_given(named, folders):
    from tfdefense.reporting import _images
    from tfdefense.view import View

    view, options = View.of(named), {"classes": None, "data_dir": None, "download": False}
    for data in (folders, td.data.load(folders, "all")):
        images, _ = _images(view, data, "all", options)
        assert sorted(set(images.y.tolist())) == [3, 7] and images.classes == WORDS
    pair, _ = _images(view, (images.x, images.y), "all", options)
    assert pair.classes == WORDS, "the page names them"


def test_folders_in_the_number_of_the_classes_are_taken_as_before(classifier, held_out, tmp_path):
    for label in range(10):
        (tmp_path / str(label)).mkdir()
        Image.fromarray(np.rint(held_out.x[held_out.y == label][0, ..., 0] * 255).astype("uint8")).save(
            tmp_path / str(label) / "0.png"
        )
    assert load_for(classifier, tmp_path, "all").y.tolist() == list(range(10))
