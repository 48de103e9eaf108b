"""Which protocols there are."""

import ast
import functools
from pathlib import Path

_PACKAGES = (Path(__file__).parents[1] / "papers", Path(__file__).parents[1] / "benchmarks")


@functools.cache
def protocols():
    """Module and first line of help by name: every module that has a `run`, read without importing it.

    `protocol.py` is named as its folder, another file of a folder FOLDER_FILE, and a file outside a folder as itself.
    """
    found = {}
    for package in _PACKAGES:
        for path in sorted(package.rglob("*.py")):
            tree = ast.parse(path.read_text())
            if any(isinstance(node, ast.FunctionDef) and node.name == "run" for node in tree.body):
                *folder, file = path.relative_to(package).with_suffix("").parts
                name = "_".join([*folder, *([] if file == "protocol" else [file])])
                module = ".".join(("evaluation", package.name, *folder, file))
                found[name] = module, unwrapped(ast.get_docstring(tree) or "").split("\n\n")[0]
    return found


def unwrapped(text):
    """Help is wrapped to the terminal: line ends inside a paragraph would stay."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
