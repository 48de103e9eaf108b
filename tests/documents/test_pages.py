"""What the pages of docs/ show, runs: each goes on from the quick start."""

import json
import re
import shlex
from pathlib import Path

import keras
import numpy as np
import pytest

import tfdefense as td

DOCS = Path(__file__).parents[2] / "docs"
START = "start.md"
ALONE = {"certified.md", "consistency.md", "photos.md", "scores.md", "serving.md"}  # have tests of their own
PAGES = sorted(
    str(path.relative_to(DOCS))
    for path in (*DOCS.glob("*.md"), *DOCS.glob("defenses/*.md"))
    if path.name not in ALONE | {START} and "```python" in path.read_text()
)


def code(page):
    return "\n".join(re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.S))


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """The names that the quick start leaves, and the folder that it wrote to."""
    folder = tmp_path_factory.mktemp("start")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        names = {}
        exec(code(START), names)
    return names, folder


@pytest.mark.slow
def test_the_quick_start(start):
    names, folder = start
    label = names["out"]["label"].numpy()
    assert (label[label >= 0] == names["test"].y[label >= 0]).mean() > 0.9
    assert (folder / "serving/1/saved_model.pb").exists() and td.load(folder / "defended.keras") is not None
    assert (names["defended"](names["held_out"].x)["label"].numpy() == -1).mean() <= 0.05
    foreign = td.view.decide(names["defended"], names["letters"].x).label
    assert (foreign == -1).mean() > 0.2, "letters are rejected more often than digits"


def rejected(names, defended="defended"):
    return (names[defended](names["held_out"].x)["label"].numpy() == -1).mean()


def of_dustbin(names):
    assert rejected(names) <= 0.05
    assert (td.view.decide(names["defended"], names["letters"].x).label == -1).mean() > 0.8


def of_density(names):
    right = names["dense"](names["held_out"].x)["scores"].numpy().argmax(-1) == names["held_out"].y
    assert right.mean() > 0.9 and len(names["white_box"]) == 10


def of_dnr(names):
    assert rejected(names, "rejecting") <= 0.05
    assert (names["rejecting"](names["held_out"].x)["label"].numpy() == names["held_out"].y).mean() > 0.85


def of_safetynet(names):
    open_box = names["open_box"]
    np.testing.assert_array_equal(open_box.label, names["coded"](open_box.x_adv)["label"], "judged by the surrogate")
    assert names["black_box"].success.any()


def of_training(names):
    robust = [row["robust_accuracy"] for row in names["attacked"] if row["norm"] == "linf"]
    assert len(robust) > 1 and robust == sorted(robust, reverse=True) and td.contract.is_defended(names["ready"])


def of_combining(names):
    assert rejected(names, "both") <= 0.05 and rejected(names, "each") <= 0.1 and rejected(names, "honest") <= 0.05


LOOK = {
    "defenses/dustbin.md": of_dustbin,
    "defenses/density.md": of_density,
    "defenses/dnr.md": of_dnr,
    "defenses/detector.md": lambda names: None if rejected(names) <= 0.05 else pytest.fail("not calibrated"),
    "defenses/safetynet.md": of_safetynet,
    "defenses/combining.md": of_combining,
    "training.md": of_training,
}


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_page(page, start, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names, _ = start
    # A page may calibrate or train the model: each has its own.
    copy = keras.models.clone_model(names["model"])
    copy.set_weights(names["model"].get_weights())
    copy.compile("adam", loss="sparse_categorical_crossentropy")
    defended = td.ThresholdDefense("energy").attach(copy)
    td.calibrate(defended, names["held_out"].x, max_rejected=0.05)
    names = names | {"model": copy, "defended": defended}
    exec(code(page), names)
    LOOK.get(page, lambda names: None)(names)


def of_own_score(names):
    assert rejected(names) <= 0.05 and min(names["auroc"].values()) > 0.7 and min(names["success"].values()) > 0


def of_mnist(names):
    assert names["oblivious"].success.mean() <= names["adaptive"].success.mean() <= names["plain"].success.mean()
    assert (np.diff(names["curve"].robust_accuracy) <= 0).all()


def of_adversary(names):
    assert names["found"]["adversarially trained"] > names["found"]["clean"]


TUTORIALS = {"own_score": of_own_score, "mnist": of_mnist, "adversary": of_adversary}


@pytest.mark.slow
@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial(name, tmp_path, monkeypatch, capsys):
    """On the embedded digits, which are smaller."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "tutorial"}
    exec(code(f"tutorials/{name}.md").replace('"mnist"', '"digits"').replace("[:100]", "[:30]"), names)
    TUTORIALS[name](names)


@pytest.mark.parametrize("page", ["photos.md", *(f"tutorials/{name}.md" for name in TUTORIALS)])
def test_a_notebook_is_its_page(page):
    """When this fails, run `make notebooks` and commit what it wrote."""
    text = (DOCS / page).read_text()
    cells = json.loads((DOCS / page).with_suffix(".ipynb").read_text())["cells"]
    assert ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"] == [
        "%%sh\n" * (kind == "sh") + block.strip() for kind, block in re.findall(r"```(python|sh)\n(.*?)```", text, re.S)
    ]
    prose = " ".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert prose.split() == re.sub(r"```(?:python|sh)\n.*?```", "", text, flags=re.S).split()


def test_every_tutorial_is_run():
    assert {path.stem for path in DOCS.glob("tutorials/*.md")} == set(TUTORIALS)


def test_pages_with_a_look_are_there():
    assert set(LOOK) <= set(PAGES)


def test_every_attack_named_is_there():
    page = (DOCS / "attacks.md").read_text()
    table = page.split("## List")[1].split("## Suites")[0]
    named = set(re.findall(r"^\| `(\w+)", table, re.M)) | {"Transfer"}
    assert all(hasattr(td.attacks, name) for name in re.findall(r"`([A-Z]\w+)", table))
    public = {name: getattr(td.attacks, name) for name in td.attacks.__all__}
    attacks = {name for name, kind in public.items() if isinstance(kind, type) and issubclass(kind, td.attacks.Attack)}
    assert attacks - {"Attack"} <= named, "the table of attacks lacks some"


def test_every_page_of_a_defense_says_when_it_breaks():
    for path in DOCS.glob("defenses/*.md"):
        assert re.search(r"When it breaks", path.read_text()), path.name


def typed():
    """Every command that a page, the README included, shows in a block of its own: (page, words)."""
    for path in (DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))):
        if path.parent.name != "contributing":  # followed by a test of their own
            for kind, block in re.findall(r"^```(\w*)\n(.*?)^```", path.read_text(), re.M | re.S):
                lines = block.splitlines() if kind in ("", "sh") else ()
                yield from ((path.name, shlex.split(line, comments=True)) for line in lines)


def test_commands_shown_are_there_with_their_options():
    import typer
    from typer.main import get_command

    from evaluation.runner.command import _command
    from tfdefense.cli import app
    from training import __main__ as training
    from training import recipe

    cli, seen = get_command(app), 0
    for page, words in typed():
        if words[:1] == ["tfdefense"]:
            command, rest = cli.commands[words[1]], words[2:]
        elif words[:3] == ["python", "-m", "evaluation"]:
            alone = typer.Typer()
            alone.command()(_command(words[3]))
            command, rest = get_command(alone), words[4:]
        elif words[:3] == ["python", "-m", "training"]:
            alone = typer.Typer()
            alone.command()(training.command)
            command, rest = get_command(alone), words[3:]
            assert rest[0] in recipe.names(), f"{page}: {rest[0]}"
        else:
            continue
        command.make_context("shown", list(rest), resilient_parsing=False)
        seen += 1
    assert seen > 20
