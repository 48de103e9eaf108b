"""The lowest versions that requirements.txt and setup.py allow, and the record that the fast tests passed with them.

`make test-lowest` uses all three commands, with any Python and nothing installed:

    python -m tests.lowest constraints    the lowest versions, as pip takes them
    python -m tests.lowest record         writes what is installed into tests/lowest.txt
    python -m tests.lowest check          fails where a requirement changed since then
"""

import ast
import importlib.metadata
import platform
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
RECORD = ROOT / "tests" / "lowest.txt"
_HEAD = """\
# The fast tests passed with these requirements, each at its lowest version. Written by `make test-lowest`: not to be edited.
"""


def requirements():
    """All direct requirements, of the library and of its extras, sorted."""
    lines = (line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines())
    calls = (node for node in ast.walk(ast.parse((ROOT / "setup.py").read_text())) if isinstance(node, ast.Call))
    extras = next(word.value for call in calls for word in call.keywords if word.arg == "extras_require")
    return sorted({_plain(line) for line in {*filter(None, lines)}.union(*ast.literal_eval(extras).values())})


def _plain(name):
    """A project's name in one spelling: its own may differ from that of those who require it."""
    return name.lower().replace("_", "-")


def constraints(wanted):
    """The same requirements with `==` for `>=`: pip can't install them if a bound is no version or they don't go together."""
    for requirement in wanted:
        if requirement.count(">=") != 1 or "," in requirement:
            raise ValueError(f"Expected a requirement with one bound, such as 'numpy>=1.26'. Received: {requirement!r}.")
    return [requirement.replace(">=", "==") for requirement in wanted]


def record():
    """What is installed here, under the requirements of today."""
    installed = sorted({f"{_plain(found.name)}=={found.version}" for found in importlib.metadata.distributions()})
    return "\n".join([_HEAD, *requirements(), "", f"# Installed, on Python {platform.python_version()}:", *installed, ""])


def recorded():
    """The requirements that the record speaks of, and the versions that were installed."""
    lines = [line for line in RECORD.read_text().splitlines() if line and not line.startswith("#")]
    return [line for line in lines if ">=" in line], dict(line.split("==") for line in lines if "==" in line)


def main(command):
    if command == "constraints":
        print("\n".join(constraints(requirements())))
    elif command == "record":
        RECORD.write_text(record())
    elif command == "check" and recorded()[0] != requirements():
        sys.exit("A requirement changed since tests/lowest.txt was written: make test-lowest")


if __name__ == "__main__":
    main(*sys.argv[1:])
