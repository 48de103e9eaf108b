"""Every row of the papers is told of; the README shows the board that was measured and no other."""

import json
import xml.etree.ElementTree

import pytest

from evaluation.runner import headline, results, sentences, worth
from evaluation.runner import paper_rows as rows
from evaluation.runner.pages import render

COUNTS = {"N": 8, "R": 9, "S": 9, "O": 9, "M": 9}


def test_every_row_of_the_papers_has_a_number_or_a_reason():
    page = render(results.RESULTS)
    lines = [
        line.split(" | ") for line in page.split("## Rows of the papers")[1].split("\n## ")[0].splitlines() if line.startswith("| ")
    ]
    told = {line[0].strip("| "): line[-1].strip("| ") for line in lines}
    for letter, count in COUNTS.items():
        for number in range(1, count + 1):
            assert len(told[f"{letter}{number}"]) > 10, f"{letter}{number} has neither a number nor a reason"


def test_a_row_without_protocol_says_why():
    for name, row in rows.ROWS.items():
        assert row.protocols or row.reason, name


def test_numbers_are_counted_where_they_are():
    content = {
        "protocol": "dnr",
        "dataset": "mnist",
        "rows": [{"row": "N5"}, {"row": "N1"}, {"row": "N5"}],
        "series": [{"row": "N5"}],
    }
    assert rows.told("N5", [content]) == "3 in dnr, mnist"
    assert rows.told("N6", [content]).startswith("a part of the system")
    assert "python -m evaluation rce" in rows.told("R5", [content])
    assert rows.told("R5", [content | {"protocol": "rce", "rows": [{"row": "R5"}]}]) == "1 in rce, mnist"


def test_ids_that_protocols_use_are_rows_of_the_papers():
    """A number under a misspelt id would be missing from the table."""
    for path in results.RESULTS.glob("*.json"):
        content = json.loads(path.read_text())
        if content["protocol"] not in ("calibration", "speed", "speed_defenses", "zoo", "ranking", "report"):
            assert {row["row"] for row in content["rows"]} <= set(rows.ROWS), path.name


def row(name, base, rank, half, note=""):
    return {
        "row": "ranking", "what": name, "ours": half, "paper": None, "samples": 50, "note": note, "rank": rank, "base": base,
        "between": "1.2 to 1.8",
        "clean right": 0.95, "clean rejected": 0.05, "not fooled at l2 1.5": 0.4, "most harmless rejected": 0.25,
    }  # fmt: skip


@pytest.fixture
def content():
    names = [(f"system {i}", "plain", i, 3.0 - i / 10) for i in range(1, 12)] + [("no defense", "plain", 12, 1.0)]
    table = [row(*names[0], "checks that failed: gradients are there"), *(row(*each) for each in names[1:])]
    table.append(row("never beaten", "plain", None, None))
    series = [{"row": "ranking", "what": f"{name}, {base}", "x": [0, 1, 2], "y": [1, 0.5, 0.1]} for name, base, _, _ in names]
    return {"rows": table, "series": series}


def test_readme_shows_the_results():
    """When this fails, run `python -m evaluation results` and commit the README with the results."""
    readme = (results.ROOT / "README.md").read_text()
    assert headline.rendered(readme, results.RESULTS) == readme
    content = headline.board(results.RESULTS)
    if content is not None:
        assert (results.ROOT / headline.CURVE).read_text() == headline.curve(content)


def test_worth_is_told_of_each_defense_that_was_measured(tmp_path):
    what = "not fooled, {}, linf 0.2, static".format
    values = {what("the paper's dynamic adversary"): 0.9996, what("strongest of all"): 0.25}
    values |= {f"rejected, {change}, threshold at 5 %, static": share for change, share in (("unchanged", 0.0), ("sign 0.1", 1.0))}
    values |= {name.replace("static", "dynamic"): share / 2 for name, share in values.items()}
    content = {"dataset": "mnist", "rows": [{"what": name, "ours": value} for name, value in values.items()]}
    (tmp_path / "detector-mnist.json").write_text(json.dumps(content))
    _, _, *lines = worth.table(tmp_path).splitlines()
    assert [line.split(" | ")[3::2] for line in lines] == [
        ["> 99.9 %", "25 %", "100 % of sign 0.1 |"],
        ["50 %", "12 %", "50 % of sign 0.1 |"],
    ]
    assert len(worth.table(results.RESULTS).splitlines()) == 2 + len(worth.LINES), "a defense of the README has no results"


def test_sentences_take_their_numbers_from_the_results(tmp_path):
    before = sentences.bullets(results.RESULTS)
    assert "(one for all:" in " ".join(before.split()) and "Of held-back letters" in before
    assert all(len(line) <= sentences.WIDTH and not line.lstrip().startswith("%") for line in before.splitlines())
    content = json.loads((results.RESULTS / "detector-mnist.json").read_text())
    content["rows"] += [{"what": "least detectability of adversaries that take accuracy under 0.3", "ours": 0.98799}]
    (tmp_path / "detector-mnist.json").write_text(json.dumps(content))
    after = sentences.bullets(tmp_path)
    assert "is 98.7 % or more" in " ".join(after.split()), "a bound is not rounded up"
    assert "held-back letters" not in after and "smooth surrogate" in after, "without results there are words alone"
    assert sentences.paragraph("scenes", tmp_path) == ""


def test_worth_of_a_dustbin_is_that_of_the_worse_form_of_an_attack(tmp_path):
    of = worth.Found(json.loads((results.RESULTS / "dustbin-mnist.json").read_text()))
    found = {line.noise(of): line for line in worth.LINES if line.results == "dustbin-mnist"}
    for name, shares in (("naive", found[1.0].paper(of)), ("+out-distribution +interpolated", found[1.0].paper(of)[::-1])):
        forms = [of(f"average error over the attacks, {form}, {name}") for form in ("DeepFool", "DeepFool, longer")]
        assert shares[1] == 1 - max(forms)
    assert found[1.0].clean(of) == 0.0 and len(found) == 2


def test_table_has_the_first_and_the_undefended(content):
    table = headline.table(content)
    # An upper limit where the attack failed a check.
    assert "| 1 | system 1 | plain | ≤ 2.90 | 1.2 to 1.8 | 40 % | 95 % | 5 % | 25 % |" in table
    assert "| 2 | system 2 | plain | 2.80 |" in table and "never beaten" not in table, "which is no rank"
    assert "| 12 | no defense |" in table and "system 9" not in table
    assert "failed for 1 of 12" in table and "1 more have no rank" in table
    unranked = {"rows": [row("never beaten", "plain", None, None)], "series": []}
    assert "no system has a rank" in headline.table(unranked)


def test_curve_is_a_picture_with_its_names(content):
    picture = headline.curve(content)
    root = xml.etree.ElementTree.fromstring(picture)
    texts = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert {"system 1, plain", "no defense, plain"} <= set(texts) and "system 7, plain" not in texts
    assert sum(element.tag.endswith("polyline") for element in root.iter()) == 10


def test_results_elsewhere_leave_the_readme_alone(content, tmp_path):
    before = (results.ROOT / "README.md").read_text()
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "ranking-mnist.json").write_text(json.dumps(content))
    headline.write(tmp_path / "results")
    assert (results.ROOT / "README.md").read_text() == before and headline.board(tmp_path / "results") == content
    clone = tmp_path / "clone"
    (clone / "evaluation" / "results").mkdir(parents=True)
    (clone / "evaluation" / "results" / "ranking-mnist.json").write_text(json.dumps(content))
    marked = ["\nof before\n".join(headline.marks(name)) for name in ("ranking", "worth", *sentences.PARAGRAPHS)]
    (clone / "README.md").write_text("\n".join(["before", *marked, "after\n"]))
    headline.write(clone / "evaluation" / "results")
    text = (clone / "README.md").read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "system 1" in text and "of before" not in text
    assert (clone / headline.CURVE).exists()
    # Without a rank there is no curve to draw.
    unranked = content | {"rows": [row | {"rank": None} for row in content["rows"]]}
    (clone / "evaluation" / "results" / "ranking-mnist.json").write_text(json.dumps(unranked))
    headline.write(clone / "evaluation" / "results")
    assert "no system has a rank" in (clone / "README.md").read_text()
