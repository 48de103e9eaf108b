"""The JSON that every protocol writes."""

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path

from evaluation.runner.rows import Results
from tfdefense import _cache
from tfdefense._files import plain, write_text

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "evaluation" / "results"
PAGES = ROOT / "docs" / "results"
UNTRACKED = ROOT / "evaluation" / "runs"
_KEYS = {"protocol", "dataset", "commit", "seconds", "machine", "versions", "settings", "rows"}


def _git(*arguments):
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def commit():
    """The commit of the code; `+changes` and their digest where a tracked file differs from it, the results themselves left out."""
    name = _git("rev-parse", "--short=10", "HEAD")
    if not name:
        return "unknown"
    # What runs write, cards and weights of the zoo included: a run that is stopped must go on under the same name.
    own = [f":!{path.relative_to(ROOT)}" for path in (RESULTS, PAGES)]
    own += [":!tfdefense/zoo/*.json", ":!tfdefense/zoo/*.keras", ":!README.md"]
    changes = _git("diff", "HEAD", "--", ".", *own)
    # A module that git does not know yet is code as well.
    new = (_git("ls-files", "--others", "--exclude-standard", "--", "*.py") or "").splitlines()
    changes += "".join(f"{file}\n{(ROOT / file).read_text()}" for file in new)
    # Named by what they are: parts of a run that was stopped before another change are not of this code.
    return name + (f"+changes.{hashlib.sha256(changes.encode()).hexdigest()[:6]}" if changes else "")


def machine():
    """What decides how fast it is: processors and memory, and nothing that names the machine."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (OSError, ValueError):
        return f"{os.cpu_count()} CPUs, {model}"
    return f"{os.cpu_count()} CPUs, {model}, {memory:.0f} GiB memory"


def versions():
    from tfdefense import __version__

    found = {"python": platform.python_version(), "tfdefense": __version__}
    for name in ("tensorflow", "keras", "numpy", "scikit-learn"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def check(content, name):
    """Fails on a result that no page could show: a key is missing, a row is wrong, or two rows are of the same thing."""
    missing = _KEYS - set(content)
    if missing:
        raise ValueError(f"{name} must have the keys {sorted(_KEYS)}. Missing: {sorted(missing)}. Run its protocol again.")
    seen = {}
    for row in Results(content, name).rows:
        if row.key() in seen:
            raise ValueError(f"Two rows of {name} are of the same thing: {row.about()}. Give them another field or setting.")
        seen[row.key()] = row


def _place(context, directory):
    return directory / f"{context.protocol}-{context.dataset}.json"


def earlier(context):
    """What the last run of this protocol wrote to the same place, or nothing."""
    try:
        return json.loads(_place(context, context.output).read_text())
    except (OSError, json.JSONDecodeError):
        return {}


def write(context, seconds, directory):
    """Writes what a protocol has found as NAME-SET.json and returns the path."""
    content = {
        "protocol": context.protocol,
        "dataset": context.dataset,
        "commit": context.commit,
        "seconds": round(seconds),
        "machine": machine(),
        "versions": versions(),
        "settings": {"quick": context.quick, **context.settings},
        "code": context.code | _cache.imported(),
        "rows": [row.plain() for row in context.rows],
    }
    for name, value in {
        "curves": context.curves,
        "each": context.each,
        "options": context.options,
        "parts": context.seconds,
    }.items():
        if value:
            content[name] = value
    path = _place(context, directory)
    content = plain(content)
    check(content, path.name)
    write_text(path, as_text(content))
    return path


def as_text(content):
    """The JSON, a row on each line: a difference of two results then reads as one of rows."""

    def lines(value):
        dump = functools.partial(json.dumps, ensure_ascii=False)
        if isinstance(value, dict):
            return "{\n" + ",\n".join(f"  {dump(key)}: {dump(each)}" for key, each in value.items()) + "\n }" if value else "{}"
        return "[\n" + ",\n".join(f"  {dump(each)}" for each in value) + "\n ]" if isinstance(value, list) else dump(value)

    return "{\n" + ",\n".join(f" {json.dumps(key)}: {lines(value)}" for key, value in content.items()) + "\n}\n"
