"""The site builds without a warning, every link of it leads somewhere, and every public name has its entry."""

import importlib
import importlib.util
import sys
from pathlib import Path

import pytest

import tfdefense as td
from tests.library.test_types import public

ROOT = Path(__file__).parents[2]
TOOLS = ("griffe", "mkdocstrings", "mkdocstrings_handlers", "zensical")
MISSING = [name for name in TOOLS if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f'not installed: {MISSING}; pip install ".[docs]"')


@pytest.fixture
def build(monkeypatch, tmp_path):
    """The script, which gathers its pages in a folder of its own."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    monkeypatch.delitem(sys.modules, "build", raising=False)
    module = importlib.import_module("build")
    monkeypatch.setattr(module, "PAGES", tmp_path / "pages")
    return module


def test_pictures_of_ideas_are_those_of_their_script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    ideas = importlib.import_module("ideas")
    for name, draw in ideas.PICTURES.items():
        assert (ideas.FOLDER / f"{name}.svg").read_text() == draw(), f"docs/pictures/{name}.svg is old: python docs/ideas.py"
        assert "prefers-color-scheme: dark" in draw()
        pages = (*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "defenses").glob("*.md"))
        assert any(f"pictures/{name}.svg)" in page.read_text() for page in pages), f"{name}.svg stands on no page"


@pytest.mark.slow
def test_the_site_builds(build, monkeypatch):
    monkeypatch.undo()
    assert build.build() == []
    assert (build.SITE / "index.html").read_text().count("<h2") > 4
    (build.SITE / "lost.html").write_text(
        '<a href="start.html#nowhere">a</a><a href="none.html">b</a><script src="https://a.b/c.js"></script>'
    )
    assert [line.removeprefix("lost.html") for line in build.dangling()] == [
        " fetches https://a.b/c.js",
        ": start.html#nowhere",
        ": none.html",
    ]
    (build.SITE / "lost.html").unlink()


@pytest.mark.slow
def test_every_page_is_in_the_navigation(build):
    navigation = (ROOT / "mkdocs.yml").read_text().split("nav:")[1]
    for place in build.placed().values():
        assert f" {place.as_posix()}\n" in navigation, f"mkdocs.yml does not list {place}"
    for place, _ in build.references():
        assert f" {place.as_posix()}\n" in navigation, f"mkdocs.yml does not list {place}"


@pytest.mark.slow
def test_every_public_name_is_in_the_reference(build):
    names = {f"{module}.{name}" for module, names in build.public().items() for name in names}
    missing = {name for name, _ in public(td)} - names
    assert not missing


def test_a_link_that_leads_nowhere_ends_the_build(build, monkeypatch, tmp_path):
    page, other = tmp_path / "a.md", tmp_path / "b" / "c.md"
    other.parent.mkdir()
    page.write_text(
        '[one](b/c.md#x) [`two`](gone.md) ![three](d.png) <img src="d.png"> [four](b) [five](https://a.b)\n```\n[six](no.md)\n```\n'
    )
    other.write_text("[back](../a.md)")
    (tmp_path / "d.png").write_bytes(b"")
    monkeypatch.setattr(build, "ROOT", tmp_path)
    links = build.Links({page: Path("x/a.md"), other: Path("c.md")})
    assert links.rewritten(page) == (
        '[one](../c.md#x) [`two`](gone.md) ![three](../files/d.png) <img src="../files/d.png"> four [five](https://a.b)\n'
        "```\n[six](no.md)\n```\n"
    )
    assert links.rewritten(other) == "[back](x/a.md)"
    assert links.broken == ["a.md: gone.md"] and list(links.files.values()) == [Path("files/d.png")]


def test_examples_of_docstrings_become_code(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    from doctests import fenced

    docstring = "One.\n\nExample:\n\n>>> a  # doctest: +SKIP\n[1, 2]\n>>> b\n\nReference: c."
    assert fenced(docstring) == "One.\n\nExample:\n\n```pycon\n>>> a\n[1, 2]\n>>> b\n```\n\nReference: c."
