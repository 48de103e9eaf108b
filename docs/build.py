"""The pages and the API reference as a site, which needs no network: `make docs` writes it to build/site.

Pages are gathered in build/pages first: those of docs/, those of the root, and one for each public module. Links to what is no
page are made to work: pictures are copied, Python files become pages. A link that leads nowhere ends the build, here and in the
finished site, its anchors too. Addresses of the web are not asked.
"""

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
DOCS, PAGES, SITE = ROOT / "docs", ROOT / "build" / "pages", ROOT / "build" / "site"
# The page that runs a model; as people write it, and as `make live` has made it.
LIVE, MADE = DOCS / "live", ROOT / "build" / "live"
# Pages outside docs/, and where they are in the site.
ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing/index.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "training/WORKERS.md": "workers.md",
}
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r'(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^()\s]+)\)|(?P<src>src=")(?P<path>[^"]+)"')


def placed():
    """Every page that people write, and its place in the site."""
    places = {ROOT / name: Path(place) for name, place in ELSEWHERE.items()}
    for path in sorted(DOCS.rglob("*.md")):
        place = path.relative_to(DOCS)
        places[path] = place.with_name("index.md") if place.name == "README.md" else place
    return places


class Links:
    """Rewrites the links of pages; what they ask for beside pages is in `files`, what is not there in `broken`."""

    def __init__(self, places):
        self.places, self.files, self.broken = places, {}, []

    def rewritten(self, source):
        """The text of a page with links that lead from its place to those of others."""
        parts = _FENCE.split(source.read_text())
        return "".join(part if part.startswith("```") else self._of_text(part, source) for part in parts)

    def _of_text(self, text, source):
        return _LINK.sub(lambda link: self._of_link(link, source), text)

    def _of_link(self, link, source):
        target = link["target"] or link["path"]
        if urlsplit(target).scheme or target.startswith("#"):
            return link[0]
        name, hash_, anchor = target.partition("#")
        path = Path(os.path.normpath(source.parent / unquote(name)))
        if not path.exists():
            self.broken.append(f"{source.relative_to(ROOT)}: {target}")
            return link[0]
        if path.is_dir():
            return link["text"] or link[0]
        place = self.places.get(path) or self._beside(path)
        there = os.path.relpath(place, self.places[source].parent) + hash_ + anchor
        return f'{link["src"]}{there}"' if link["src"] else f"{link['image']}[{link['text']}]({there})"

    def _beside(self, path):
        if path.parent == LIVE and path.suffix == ".html":
            return path.relative_to(DOCS)  # `gather` puts the whole folder there
        place = Path("files") / path.relative_to(ROOT)
        place = place.with_suffix(".md") if path.suffix == ".py" else place
        self.files[path] = place
        return place


def public():
    """The public names of each module, as a dict of name to full path; read from the source, so that no TensorFlow is needed."""
    import griffe

    import tfdefense

    package = griffe.load("tfdefense", search_paths=[ROOT], allow_inspection=False)
    modules = [name for name in tfdefense.__all__ if name in package.modules]
    found = {"tfdefense": {name: f"tfdefense.{name}" for name in tfdefense.__all__ if name not in modules}}
    return found | {f"tfdefense.{name}": dict(_names(package.modules[name])) for name in modules}


def _names(module):
    """Names of its `__all__`, those of modules in there too; else what it defines, or hands on from its own parts."""
    for name in sorted(module.exports or [name for name, x in module.members.items() if name[0] != "_" and _own(module, x)]):
        inner = module.modules.get(name)
        if inner is None:
            yield name, f"{module.path}.{name}"
        elif name in inner.members:  # a function with the name of its module
            yield name, f"{inner.path}.{name}"
        else:
            yield from ((f"{name}.{own}", path) for own, path in _names(inner))


def _own(module, member):
    if member.is_alias:
        return member.target_path.startswith(f"{module.path}.") and member.name[0].isupper() and not member.name.isupper()
    return member.is_class or member.is_function


def references():
    """The pages of the API reference, by their places."""
    lines = ["# API reference", "", "`import tfdefense as td`. What is used most is in the first of these modules.", ""]
    for module, names in public().items():
        short, place = module.replace("tfdefense", "td"), f"{module.removeprefix('tfdefense.')}.md"
        lines.append(f"- [`{short}`]({place}): " + ", ".join(f"[`{name}`]({place}#{path})" for name, path in names.items()))
        blocks = "\n\n".join(f"::: {path}" for path in names.values())
        yield Path("api") / place, f"# {short}\n\n{blocks}\n"
    yield Path("api/index.md"), "\n".join(lines) + "\n"


def gather():
    """Writes all pages to build/pages and returns the links that lead nowhere."""
    shutil.rmtree(PAGES, ignore_errors=True)
    links = Links(placed())
    pages = {place: links.rewritten(source) for source, place in links.places.items()} | dict(references())
    for path, place in links.files.items():
        if path.suffix == ".py":
            pages[place] = f"# {path.relative_to(ROOT)}\n\n```python\n{path.read_text()}```\n"
        else:
            (PAGES / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, PAGES / place)
    for path in [*sorted(MADE.glob("*.*")), *sorted(LIVE.glob("*.*"))]:
        if path.suffix != ".py":
            (PAGES / "live").mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, PAGES / "live" / path.name)
    for place, text in pages.items():
        (PAGES / place).parent.mkdir(parents=True, exist_ok=True)
        (PAGES / place).write_text(text)
    return links.broken


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self.anchors, self.fetched = [], set(), []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors |= {found[name] for name in ("id", "name") if found.get(name)}
        self.links += [found[name] for name in ("href", "src") if found.get(name)]
        if tag != "a":
            self.fetched += [
                link for name in ("href", "src") if (link := found.get(name, "")).startswith(("http:", "https:", "//"))
            ]


def dangling(site=SITE):
    """Links of a finished site whose file or anchor is not in it, and what it would fetch from elsewhere."""
    pages = {}
    for path in sorted(site.rglob("*.html")):
        pages[path] = _Page()
        pages[path].feed(path.read_text())
    wrong = []
    for path, page in pages.items():
        if path.name == "404.html":
            continue  # its links are those of the root
        wrong += [f"{path.relative_to(site)} fetches {link}" for link in page.fetched]
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or link.startswith("//"):
                continue
            target = Path(os.path.normpath(path.parent / unquote(parts.path))) if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            lost = not target.exists() or (
                parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors
            )
            if lost:
                wrong.append(f"{path.relative_to(site)}: {link}")
    return wrong


def build():
    """Returns what is wrong; nothing if all is well."""
    if broken := gather():
        return broken
    shutil.rmtree(SITE, ignore_errors=True)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", str(ROOT / "mkdocs.yml")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        return [done.stdout + done.stderr]
    return dangling()


if __name__ == "__main__":
    if wrong := build():
        sys.exit("\n".join(["These links lead nowhere, or the build failed:", *wrong]))
    print(SITE / "index.html")
