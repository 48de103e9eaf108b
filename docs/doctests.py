"""Shows the examples of docstrings as code in the API reference: they stand at the margin, as doctest wants them."""

import re

import griffe

_EXAMPLE = re.compile(r"^(?P<margin> *)>>> .*?(?=\n\s*\n|\Z)", re.MULTILINE | re.DOTALL)
_DIRECTIVE = re.compile(r"  # doctest: .*$", re.MULTILINE)


def fenced(docstring):
    """The docstring with a fence around each example."""
    return _EXAMPLE.sub(lambda found: f"{found['margin']}```pycon\n{_DIRECTIVE.sub('', found[0])}\n{found['margin']}```", docstring)


class Doctests(griffe.Extension):
    def on_object(self, *, obj, **_):
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)
