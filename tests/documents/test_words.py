"""Home-made words are seen in prose, and nowhere else."""

import pytest

from tests import words


def lines(tmp_path, suffix, text):
    path = tmp_path / f"a{suffix}"
    path.write_text(text)
    return [line.split(" ==> ")[0] for line in words.found(path, "a")]


@pytest.mark.parametrize(
    "text",
    [
        "It fools the model.",
        "a Harmless change",
        "unaware\nof it",
        "out-distribution samples",
        "two attacked bases".replace("bases", "base"),
    ],
)
def test_a_word_is_seen_in_prose(tmp_path, text):
    assert len(lines(tmp_path, ".md", text)) == 1
    assert len(lines(tmp_path, ".py", f'"""{text}"""\n')) == 1
    assert len(lines(tmp_path, ".py", f"x = 1  # {text.splitlines()[0]}\n")) == 1


@pytest.mark.parametrize(
    "text",
    [
        "`harmless=` was its name",
        "```\nfooled\n```",
        "<!-- begin a: b -->\n| clean rejected |\n<!-- end -->",
        "[it](twins.md)",
        "*out-distribution learning*",
        "foreigners",
    ],
)
def test_code_tables_links_and_names_are_left_alone(tmp_path, text):
    assert lines(tmp_path, ".md", text) == []


def test_code_is_left_alone_and_lines_are_right(tmp_path):
    assert lines(tmp_path, ".py", "harmless = twins('fooled')\n") == []
    assert lines(tmp_path, ".py", 'x = 1\ndef f():\n    """One.\n\n    It fools."""\n') == ["a:5: 'fools'"]
    assert lines(tmp_path, ".md", "```\na\n```\n\nunaware\n") == ["a:5: 'unaware'"]


def test_exceptions_are_needed(monkeypatch):
    allowed = [key for key in words.ALLOWED if key[1]]
    monkeypatch.setattr(words, "ALLOWED", {})
    for name, word in allowed:
        assert any(repr(word) in line.lower() for line in words.found(words.ROOT / name, name)), f"{name} has no {word!r} any more"
