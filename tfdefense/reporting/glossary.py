"""The words of a report and what they mean, from the glossary of the documentation: a wheel brings a copy of that page."""

import functools
import re
from pathlib import Path

NAME = "glossary.md"
# In a wheel, and in a clone.
PLACES = (Path(__file__).parent / "template" / NAME, Path(__file__).parents[2] / "docs" / NAME)
_ROW = re.compile(r"^\| (?P<words>.+?) \| (?P<meaning>.+?) \|$", re.MULTILINE)


@functools.cache
def glossary():
    """A dict from each word to its meaning as plain text; words that share a row share it."""
    text = next(place for place in PLACES if place.exists()).read_text()
    rows = [(row["words"], row["meaning"]) for row in _ROW.finditer(text)][2:]
    return {word: re.sub(r"[*`]", "", meaning) for words, meaning in rows for word in words.split(", ")}


class Terms:
    """Marks words in a page, and knows those that it marked.

    A word is followed by its meaning, which style shows while the word is hovered over, touched or focused: no script is needed.
    """

    def __init__(self):
        self.used = {}
        self._count = 0

    def __call__(self, word, shown=None):
        from markupsafe import Markup

        meaning = self.used[word] = glossary()[word]
        self._count += 1
        name = f"term-{self._count}"
        return Markup(
            '<span class="gloss"><span class="term" tabindex="0" aria-describedby="{}">{}</span>'
            '<span class="meaning" role="tooltip" id="{}"><b>{}</b>: {}</span></span>'
        ).format(name, shown or word, name, word, meaning)
