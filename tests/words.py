"""`python -m tests.words`: home-made words that must not come back into pages, docstrings and comments. `make lint` asks.

They were once used for what the field has a word for. What is between the marks of a generated table, in code or in the CHANGELOG
is left alone; names in code that are old on purpose, too.
"""

import ast
import io
import re
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).parents[1]
PARTS = ("docs", "tfdefense", "models", "training", "evaluation", "tests")
# What is matched without regard to case, and the field's own word.
WORDS = {
    r"half fooled at": "median minimal perturbation",
    r"fooled|fools": "the attack succeeds; success rate",
    r"misled": "the attack succeeded",
    r"unaware": "oblivious",
    r"harmless": "benign",
    r"twins": "clean / adversarial pairs",
    r"(?:attacked|joined) base": "adversarially trained, jointly trained",
    r"foreign (?:images?|samples?|sets?|data)": "out-of-distribution (OOD)",
    r"out-distribution(?! learning| deep)": "out-of-distribution (OOD); not so in the name of a paper's method",
    r"reference vectors?": "support vectors",
    r"straight-through|smooth copy|smooth copies": "BPDA, differentiable surrogate",
    r"strongest of all": "worst case over attacks, for each sample",
    r"clean rejected": "false-positive rate",
}
# File and word: why it may.
ALLOWED = {
    ("tests/words.py", ""): "the list itself",
    ("tests/documents/test_words.py", ""): "tests of the list",
    ("docs/results/safetynet.md", "harmless"): "quotes pictures that were drawn before",
}
_NOT_PROSE = re.compile(r"<!-- begin .*?<!-- end -->|^```.*?^```$|``.*?``|`[^`\n]*`|\]\([^)]*\)", re.MULTILINE | re.DOTALL)


def prose(path):
    """Pairs (line, text) of what a person reads in a file."""
    text = path.read_text()
    if path.suffix == ".md":
        # What is left out leaves its lines behind, so that numbers are right.
        text = _NOT_PROSE.sub(lambda found: "\n" * found[0].count("\n"), text)
        yield from enumerate(text.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            # Names in code and in examples are left alone.
            words = re.sub(
                r"`[^`]*`|^ *>>> .*$", lambda found: "\n" * found[0].count("\n"), node.body[0].value.value, flags=re.MULTILINE
            )
            yield from enumerate(words.splitlines(), node.body[0].lineno)


def found(path, name):
    """Sentences on the home-made words of a file."""
    for number, text in sorted(prose(path)):
        for word, better in WORDS.items():
            for hit in re.findall(rf"\b(?:{word})\b", text, re.IGNORECASE):
                if not {(name, ""), (name, hit.lower())} & set(ALLOWED):
                    yield f"{name}:{number}: {hit!r} ==> {better}"


def files():
    """The paths of all pages and Python files."""
    pages = [path for path in ROOT.glob("*.md") if path.name != "CHANGELOG.md"]
    return [*pages, *(path for part in PARTS for kind in ("*.md", "*.py") for path in sorted((ROOT / part).rglob(kind)))]


if __name__ == "__main__":
    wrong = [line for path in files() for line in found(path, path.relative_to(ROOT).as_posix())]
    sys.exit("\n".join(wrong) if wrong else 0)
