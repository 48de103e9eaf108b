"""The commands, as a user types them."""

import json
import re
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

import tfdefense as td
from tfdefense import cli
from tfdefense.cli._app import guarded


@pytest.fixture(scope="module")
def files(classifier, defended, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    classifier.save(folder / "plain.keras")
    defended.save(folder / "defended.keras")
    td.ThresholdDefense().attach(classifier).save(folder / "raw.keras")
    td.export.saved_model(defended, folder / "saved")
    return folder


def run(*arguments, code=0):
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments], terminal_width=200)
    assert result.exit_code == code, f"{result.output}\n{result.stderr}\n{result.exception!r}"
    return result


def fails(*arguments):
    """The one line on stderr of a command that exits with 2."""
    result = run(*arguments, code=2)
    assert not result.stdout and result.stderr.count("\n") == 1 and result.stderr.startswith("error: "), result.output
    return result.stderr


def cells(output, row):
    line = next(line for line in output.splitlines() if line.strip().startswith(f"{row}  "))
    return [float(cell.rstrip("%")) / 100 for cell in line.split() if cell.endswith("%")]


def test_help_answers_without_tensorflow(tmp_path):
    script = "import sys; sys.argv = ['tfdefense', *sys.argv[1:]]; import tfdefense.cli as c\n" + (
        "try: c.main()\nfinally: print(sorted({'tensorflow', 'keras', 'sklearn', 'matplotlib', 'numpy'} & set(sys.modules)))"
    )
    for arguments in (["--help"], ["attack", "--help"], ["--version"], []):
        done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "[]"
        assert td.__version__ in done.stdout or "Usage: tfdefense" in done.stdout


def test_every_option_has_a_help_text_and_every_command_an_example():
    import typer.main

    commands = typer.main.get_command(cli.app).commands
    assert set(commands) == {
        *("info", "attach", "attack", "evaluate", "compare", "calibrate", "predict", "monitor", "check-scene", "export", "zoo")
    }
    for name, command in commands.items():
        assert command.help and f"tfdefense {name} " in command.epilog
        assert all(getattr(parameter, "help", True) for parameter in command.params), name


@pytest.mark.parametrize("arguments", [["info", "gone.keras"], ["attack"], ["atack"], ["export", "--colour", "x"]])
def test_a_mistake_is_one_line_and_no_traceback(arguments):
    script = "import sys; sys.argv = ['tfdefense', *sys.argv[1:]]; import tfdefense.cli as c; c.main()"
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: ") and "Traceback" not in done.stderr


def test_info_tells_what_to_type(files):
    text = run("info", files / "defended.keras").stdout
    for expected in ("defended classifier", "any x 8 x 8 x 1", "0 to 1", "finished", "conv_1", "any x 32", "rejects above -"):
        assert expected in text
    assert "not calibrated" in run("info", files / "raw.keras").stdout
    assert "plain classifier" in run("info", files / "plain.keras").stdout
    saved = run("info", files / "saved").stdout
    assert "SavedModel of a defended classifier" in saved and "classes 10" in " ".join(saved.split())


def test_info_names_layers_of_submodels_as_defenses_take_them(tmp_path, classifier):
    inner = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(7, name="deep")], name="inner")
    model = keras.Sequential([keras.Input((8, 8, 1)), inner, keras.layers.Dense(3)])
    model.save(tmp_path / "nested.keras")
    assert "inner/deep" in run("info", tmp_path / "nested.keras").stdout


def test_attack_writes_samples_that_load_reads_back(files, held_out, tmp_path):
    output, picture = tmp_path / "sub" / "adv.npz", tmp_path / "examples.png"
    arguments = ["--data", "digits", "--epsilon", 0.2, "--steps", 10, "--samples", 40, "--output", output, "--picture", picture]
    text = run("attack", files / "plain.keras", *arguments).stdout
    images = td.data.load(output, "all")
    with np.load(output) as arrays:
        found = dict(arrays)
    clean = td.data.load("digits", "test", limit=40)
    np.testing.assert_array_equal(found["x_clean"], clean.x)
    np.testing.assert_array_equal(images.y, clean.y)
    assert images.classes == tuple("0123456789")
    assert 0.19 < np.abs(images.x - clean.x).max() <= 0.2 + 1e-6
    outcomes = td.evaluate(keras.models.load_model(files / "plain.keras"), images.x, images.y)
    assert outcomes.error > 0.5
    np.testing.assert_allclose(cells(text, "adversarial")[1], outcomes.error, atol=6e-4)
    np.testing.assert_array_equal(found["label"], outcomes.label)
    np.testing.assert_array_equal(found["success"], outcomes.wrong)
    assert picture.read_bytes()[1:4] == b"PNG"


def test_attack_goes_on_from_the_cache(files, tmp_path, monkeypatch):
    arguments = ["--data", "digits", "--epsilon", 0.2, "--steps", 2, "--samples", 20, "--cache", tmp_path / "cache"]
    first = run("attack", files / "plain.keras", *arguments).stdout
    monkeypatch.setattr(td.attacks.PGD, "perturb", lambda *_: pytest.fail("attacked again"))
    assert run("attack", files / "plain.keras", *arguments).stdout == first
    monkeypatch.undo()
    assert "can't be read. Expected a Keras model" in fails("attack", files / "saved", *arguments)


def test_oblivious_attack_is_the_transfer_from_the_base(files, defended, tmp_path):
    arguments = [
        "--data",
        "digits",
        "--epsilon",
        0.15,
        "--steps",
        10,
        "--samples",
        40,
        "--oblivious",
        "--output",
        tmp_path / "a.npz",
    ]
    run("attack", files / "defended.keras", *arguments)
    images = td.data.load("digits", "test", limit=40)
    expected = td.attacks.Transfer(td.attacks.PGD(0.15, steps=10))(defended, images.x, images.y)
    np.testing.assert_allclose(td.data.load(tmp_path / "a.npz", "all").x, expected.x_adv, atol=1e-6)
    # A SavedModel has no base to reach: it is given.
    run("attack", files / "saved", *arguments[:-1], tmp_path / "b.npz", "--source", files / "plain.keras")
    np.testing.assert_allclose(td.data.load(tmp_path / "b.npz", "all").x, expected.x_adv, atol=1e-6)
    assert "--source" in fails("attack", files / "saved", *arguments)
    assert "no defense to be oblivious of" in fails("attack", files / "plain.keras", *arguments)


def test_attack_on_a_target_leaves_its_own_samples_out(files, tmp_path):
    arguments = [
        "--data",
        "digits",
        "--epsilon",
        0.4,
        "--steps",
        10,
        "--samples",
        40,
        "--target",
        3,
        "--output",
        tmp_path / "a.npz",
    ]
    assert "classified as the target" in run("attack", files / "plain.keras", *arguments).stdout
    with np.load(tmp_path / "a.npz") as found:
        assert len(found["y"]) == 36 and (found["label"] == 3).mean() > 0.5
        np.testing.assert_array_equal(found["success"], found["label"] == 3)


@pytest.mark.long
def test_attack_goes_through_a_surrogate_or_by_labels_alone(classifier, digits, files, tmp_path):
    x, y = digits.x[:200], digits.y[:200]
    coded = td.SafetyNet(["features"], threshold=0.0).attach(classifier)
    td.adapt(coded, x, y, adversarial=td.attacks.BIM(0.2)(classifier, x, y).x_adv, max_rejected=None)
    coded.save(tmp_path / "coded.keras")
    images = td.data.load("digits", "test", limit=20)
    pgd = td.attacks.PGD(0.2, steps=5, starts=("sample",))
    surrogates = {name: td.attacks.BPDA(pgd, exact_forward=name == "bpda") for name in ("smooth", "bpda")}
    arguments = ["attack", tmp_path / "coded.keras", "--data", "digits", "--samples", 20, "--output", tmp_path / "adv.npz"]
    for name, attack in surrogates.items():
        run(*arguments, "--epsilon", 0.2, "--steps", 5, "--starts", "sample", "--surrogate", name)
        np.testing.assert_allclose(td.data.load(tmp_path / "adv.npz", "all").x, attack(coded, images.x, images.y).x_adv, atol=1e-5)
    run(*arguments, "--attack", "hop-skip-jump", "--norm", "linf", "--queries", 300)
    expected = td.attacks.HopSkipJump("linf", queries=300)(coded, images.x, images.y)
    np.testing.assert_allclose(td.data.load(tmp_path / "adv.npz", "all").x, expected.x_adv, atol=1e-5)
    assert "Did you mean `smooth`" in fails(*arguments, "--epsilon", 0.2, "--surrogate", "smoothed")
    told = run("evaluate", tmp_path / "coded.keras", "--data", "digits", "--samples", 8, "--epsilon", 0.2, "--steps", 2).output
    searches = ("maximum confidence", "log-sum-exp", "PGD, differentiable surrogate")
    assert all(f"adaptive: {name}" in told for name in searches)


def test_attack_by_the_dynamic_adversary_has_its_sigma(files, defended, tmp_path):
    arguments = ["--data", "digits", "--samples", 20, "--epsilon", 0.2, "--sigma", 0.8, "--output", tmp_path / "adv.npz"]
    run("attack", files / "defended.keras", "--attack", "dynamic", *arguments)
    images = td.data.load("digits", "test", limit=20)
    expected = td.attacks.DynamicAdversary(0.2, sigma=0.8)(defended, images.x, images.y)
    np.testing.assert_allclose(td.data.load(tmp_path / "adv.npz", "all").x, expected.x_adv, atol=1e-5)
    assert "The attack 'pgd' has no --sigma" in fails("attack", files / "defended.keras", *arguments)


def test_attack_knows_all_starts_of_a_saved_model(files):
    arguments = ["--data", "digits", "--epsilon", 0.15, "--steps", 5, "--samples", 20, "--starts", "all"]
    # A long path breaks the line anywhere.
    assert "20 samples" in " ".join(run("attack", files / "saved", *arguments).stdout.split())


def test_attack_moves_the_data_into_the_bounds(tmp_path, classifier):
    inputs = keras.Input((8, 8, 1))
    keras.Model(inputs, classifier(inputs / 255.0)).save(tmp_path / "bytes.keras")
    arguments = ["--data", "digits", "--samples", 40, "--steps", 5, "--output", tmp_path / "a.npz"]
    text = run("attack", tmp_path / "bytes.keras", *arguments, "--epsilon", 25.5, "--bounds", 0, 255).stdout
    assert cells(text, "clean")[0] > 0.9
    clean, images = td.data.load("digits", "test", limit=40), td.data.load(tmp_path / "a.npz", "all")
    assert 0.09 < np.abs(images.x - clean.x).max() <= 0.1 + 1e-6


def test_evaluate_puts_controls_beside_attacks(files, tmp_path):
    curve, out = tmp_path / "curve.png", tmp_path / "out.json"
    arguments = ["--data", "digits", "--samples", 40, "--steps", 5, "--curve", curve, "--sizes", "0,0.2", "--json", out]
    text = run("evaluate", files / "defended.keras", *arguments, "--epsilon", 0.15).stdout
    content = json.loads(out.read_text())
    rows = {row["what"]: row for row in content["rows"]}
    assert content["settings"] == {"epsilon": 0.15, "norm": "linf", "steps": 5, "seed": 0} and content["samples"] == 40
    assert sum(name.startswith("benign") for name in rows) == 4
    assert {"oblivious: FGSM", "adaptive: PGD from the sample"} <= set(rows)
    for name, row in rows.items():
        assert row["right"] + row["rejected"] + row["wrong"] == pytest.approx(1)
        np.testing.assert_allclose(
            cells(text, name), [row[k] for k in ("right", "rejected", "wrong", "robust_accuracy")], atol=6e-4
        )
    images = td.data.load("digits", "test", limit=40)
    model = td.load(files / "defended.keras")
    assert rows["clean"]["right"] == td.evaluate(model, images.x, images.y).accuracy
    attacked = [row["wrong"] for name, row in rows.items() if ": " in name and "benign" not in name]
    assert rows["worst case over attacks"]["wrong"] >= max(attacked) > rows["clean"]["wrong"] + 0.2
    assert rows["oblivious: PGD"]["wrong"] != rows["adaptive: PGD from the sample"]["wrong"]
    series = {entry["what"]: entry for entry in content["curves"]}
    assert set(series) == {"adaptive", "oblivious"} and series["adaptive"]["sizes"] == [0, 0.2]
    assert series["adaptive"]["accuracy"][0] == rows["clean"]["right"] and series["adaptive"]["accuracy"][1] < 0.5
    assert curve.read_bytes()[1:4] == b"PNG"


def test_evaluate_writes_a_report_and_says_what_it_found(files, tmp_path):
    folder = tmp_path / "report"
    sizes = ["--linf-sizes", "0.1,0.5", "--l2-sizes", "0.5,3"]
    arguments = ["--data", "digits", "--report", folder, "--quick", "--samples", 5, "--steps", 1, *sizes]
    text = run("evaluate", files / "plain.keras", *arguments).stdout
    content = json.loads((folder / "report.json").read_text())
    assert content["verdict"]["line"] in text and "This model cannot reject" in text and str(folder / "index.html") in text
    assert all(name in text for name in content["verdict"]["failed"])
    about = content["about"]
    assert (about["model"], about["data"], about["quick"], about["rejects"]) == ("plain.keras", "digits", True, False)
    assert about["plan"]["linf"] == [0.1, 0.5] and (about["plan"]["samples"], about["plan"]["steps"]) == (5, 1)
    page = (folder / "index.html").read_text()
    assert "plain.keras" in page and content["roc"] == [] and "This model cannot reject" in page


def test_evaluate_takes_plain_and_saved_models(files):
    plain = run("evaluate", files / "plain.keras", "--data", "digits", "--samples", 20, "--steps", 3).stdout
    assert "cross-entropy" in plain and "adaptive" not in plain and " - " in plain
    saved = run("evaluate", files / "saved", "--data", "digits", "--samples", 20, "--steps", 3, "--norm", "l2").stdout
    assert "adaptive: PGD from the sample" in saved and "oblivious" not in saved and "l2 0.1" in saved


def test_calibrate_writes_a_finished_model(files, tmp_path):
    output = tmp_path / "finished.keras"
    text = run("calibrate", files / "raw.keras", "--data", "digits", "--max-rejected", 0.1, "--output", output).stdout
    assert "Judge it on others" in " ".join(text.split())
    images = td.data.load("digits", "test")
    rejected = td.evaluate(td.load(output), images.x, images.y).rejection
    assert 0.09 < rejected <= 0.1 and f"rejects {rejected:.1%} of 397" in text
    assert "on average at most 10 % of fresh clean samples are rejected" in " ".join(text.split())
    sure = ("--data", "digits", "--confidence", 0.95, "--output", output)
    text = " ".join(run("calibrate", files / "raw.keras", *sure).stdout.split())
    # The 13th largest of 397 scores is the threshold.
    assert "rejects 3.0% of 397" in text and "with 95 % confidence at most 5 % of fresh clean samples" in text
    too_few = fails("calibrate", files / "raw.keras", *sure, "--samples", 58)
    assert "58 samples are too few" in too_few and "at least 59" in too_few
    assert "no threshold yet" in fails("attack", files / "raw.keras", "--data", "digits", "--epsilon", 0.1)


def test_export_goes_by_suffix_or_format(files, tmp_path):
    assert "KiB" in run("export", files / "defended.keras", tmp_path / "serving" / "1").stdout
    assert (tmp_path / "serving" / "1" / "saved_model.pb").exists()
    run("export", files / "plain.keras", tmp_path / "model.bin", "--format", "litert")
    assert (tmp_path / "model.bin").read_bytes()[4:8] == b"TFL3"
    assert "no threshold yet" in fails("export", files / "raw.keras", tmp_path / "raw.onnx")
    assert "can't be exported any more" in fails("export", files / "saved", tmp_path / "again.onnx")


ATTACK = ["attack", "{m}/plain.keras", "--data", "digits"]
EVALUATE = ["evaluate", "{m}/plain.keras", "--data", "digits"]
MISTAKES = {
    "no file": (["attack", "{m}/plane.keras", "--data", "digits"], "There is no model .*Did you mean .*plain.keras"),
    "no model": (["info", "{t}"], "no saved_model.pb"),
    "no weights": (["info", "{t}/broken.keras"], "broken.keras is damaged, or no Keras file"),
    "no set": (["attack", "{m}/plain.keras", "--data", "dgits", "--epsilon", "1"], "Did you mean `digits`"),
    "no npz": (["evaluate", "{m}/plain.keras", "--data", "{t}/gone.npz"], "no file or folder"),
    "no attack": ([*ATTACK, "--attack", "pgdd"], "Did you mean `pgd`"),
    "no objective": ([*ATTACK, "--objective", "evad"], "Did you mean `evade`"),
    "no start": ([*ATTACK, "--epsilon", ".1", "--starts", "top"], "`starts` must be among"),
    "no epsilon": (ATTACK, "needs --epsilon"),
    "bad epsilon": ([*ATTACK, "--epsilon", "-1"], "`epsilon` must be"),
    "no surrogate": ([*ATTACK, "--epsilon", ".1", "--surrogate", "smooth"], "no layer that offers `smooth"),
    "strange option": ([*ATTACK, "--attack", "jsma", "--norm", "l2"], "has no --norm. It has"),
    "shape": (["attack", "{m}/plain.keras", "--data", "letters", "--epsilon", "1"], "Expected samples of shape"),
    "target": ([*ATTACK, "--epsilon", "1", "--target", "cat"], "--target must be"),
    "high target": ([*ATTACK, "--epsilon", "1", "--target", "12"], "`target` must lie in 0 to 9"),
    "sizes": ([*EVALUATE, "--sizes", "0;1"], "--sizes must be numbers"),
    "order of sizes": ([*EVALUATE, "--sizes", "0.2,0.1", "--json", "{t}/x.json"], "--sizes must be growing numbers"),
    "norm": ([*EVALUATE, "--norm", "l3"], "`norm` must be"),
    "table and report": ([*EVALUATE, "--report", "{t}/r", "--epsilon", "1"], "--epsilon belongs to the short table"),
    "rate of a table": ([*EVALUATE, "--max-rejected", "0.1"], "--max-rejected belongs to a report. Add --report"),
    "quick table": ([*EVALUATE, "--quick"], "--quick belongs to a report. Add --report"),
    "thorough table": ([*EVALUATE, "--thorough"], "--thorough belongs to a report. Add --report"),
    "sizes of a report": ([*EVALUATE, "--report", "{t}/r", "--l2-sizes", "1;2"], "--l2-sizes must be numbers with commas"),
    "report in a file": ([*EVALUATE, "--report", "{t}/broken.keras"], "is a file. Expected a folder"),
    "suffix": ([*EVALUATE, "--json", "{t}/x.txt"], "ends in .json"),
    "no defense": (["calibrate", "{m}/plain.keras", "--data", "digits", "--output", "{t}/x.keras"], "Attach a defense first"),
    "share": (["calibrate", "{m}/raw.keras", "--data", "digits", "--output", "{t}/x.keras", "--max-rejected", "5"], "share in"),
    "format": (["export", "{m}/plain.keras", "{t}/x", "--format", "torch"], "`format` must be one of"),
    "bounds": (["attack", "{m}/defended.keras", *ATTACK[2:], "--epsilon", "1", "--bounds", "0", "255"], "its bounds"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_bad_input_is_one_line(mistake, files, tmp_path):
    arguments, expected = MISTAKES[mistake]
    (tmp_path / "broken.keras").write_bytes(b"no zip")
    line = fails(*(argument.format(m=files, t=tmp_path) for argument in arguments))
    assert re.search(expected, line), line
    assert not (tmp_path / "x.keras").exists()


def test_ctrl_c_is_no_mistake(files, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(td.data.loading, "load", interrupted)
    monkeypatch.setattr(td.data, "load", interrupted)
    result = run("attack", files / "plain.keras", "--data", "digits", "--epsilon", 0.1, code=130)
    assert result.stderr.startswith("Stopped.") and result.stderr.count("\n") == 1


def test_warnings_of_the_library_are_lines_others_are_not_shown(capsys):
    @guarded
    def warn():
        warnings.warn("PGD: the gradient was\nall zeros", UserWarning, stacklevel=1)
        warnings.warn("old API", DeprecationWarning, stacklevel=1)

    warn()
    assert capsys.readouterr().err == "warning: PGD: the gradient was all zeros\n"


def test_compare_writes_the_winner_its_picture_and_its_numbers(files, tmp_path):
    paths = [tmp_path / name for name in ("winner.keras", "picture.png", "found.json")]
    options = ["--candidates", "confidence,energy", "--attack", "none", "--ood", "letters8", "--samples", 200]
    outputs = ["--output", paths[0], "--picture", paths[1], "--json", paths[2]]
    text = run("compare", files / "plain.keras", "--data", "digits", *options, *outputs).stdout
    assert "letters8" in text and "that was chosen too: on average at most 5 %" in text and all(path.exists() for path in paths)
    found = json.loads(paths[2].read_text())
    assert f"{found['chosen']} *" in text and found["settings"]["reported"] == 66
    assert not td.contract.unready(td.load(paths[0]))
    options = ["--candidates", "knn", "--train", "digits", "--attack", "none", "--samples", 60, "--json", paths[2]]
    run("compare", files / "plain.keras", "--data", "digits", *options)
    assert json.loads(paths[2].read_text())["settings"]["adapted_on"] == 1_400
    assert "Did you mean `energy`" in fails("compare", files / "plain.keras", "--data", "digits", "--candidates", "enrgy")


def test_evaluate_says_how_many_of_the_accepted_are_wrong(files, held_out, tmp_path):
    found = tmp_path / "found.json"
    options = ["--data", "digits", "--samples", 100, "--epsilon", 0.05, "--steps", 1, "--json", found]
    text = run("evaluate", files / "defended.keras", *options).stdout
    clean = json.loads(found.read_text())["rows"][0]
    assert f"of the clean samples accepted {clean['risk']:.2%} are wrong" in text and f"curve {clean['aurc']:.4f}" in text
    accepted = 1 - clean["rejected"]
    assert clean["risk"] == pytest.approx(clean["wrong"] / accepted, abs=1e-6)


def test_calibrate_takes_a_risk(files, tmp_path):
    output = tmp_path / "careful.keras"
    options = ["--data", "digits", "--output", output, "--risk", 0.05, "--confidence", 0.9]
    text = run("calibrate", files / "raw.keras", *options).stdout
    assert "with 90 % confidence at most 5 % of the accepted samples are wrong" in text and output.exists()
    assert "one promise" in fails("calibrate", files / "raw.keras", *options, "--max-rejected", 0.1)
