"""The page, read as text and opened in a browser as a person would."""

import html.parser
import json
import re

import pytest

import tfdefense as td
from tests.browsers import chromium, look


@pytest.fixture(scope="module")
def report(defended):
    """The protocol on a model that rejects by confidence; as short as it can be."""
    settings = {"samples": 12, "clean": 200, "steps": 3, "linf": (), "l2": (1.0, 3.0), "refine": (5, 1), "queries": 10}
    return td.report(defended, "digits", substitute=(1, 1000), shown=4, **settings)


@pytest.fixture(scope="module")
def page(report, tmp_path_factory):
    return report.save(tmp_path_factory.mktemp("page"))


def test_a_certified_curve_is_drawn_and_explained(report):
    from tfdefense.reporting.page import render

    assert "The certified share is a lower bound" not in render(report.content)
    curves = report.content["curves"]
    certified = {"sizes": curves["l2"]["adaptive"]["sizes"], "robust_accuracy": [0.25, 0.0], "start": 0.5}
    text = render(report.content | {"curves": curves | {"l2": curves["l2"] | {"certified": certified}}})
    assert "The certified share is a lower bound" in text and text.count("<td>certified</td>") == 1 and ">25.0 %</td>" in text


class Reader(html.parser.HTMLParser):
    """Tags with their attributes, and the text of the page without scripts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "img", "br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.words.append(data)


def test_page_is_whole_and_needs_nothing_else(page):
    text = page.read_text()
    reader = Reader(text)
    assert reader.open == []
    for tag, attributes in reader.tags:
        for name in ("src", "href"):
            target = attributes.get(name) or "#"
            assert target.startswith(("#", "data:")), f"<{tag} {name}={target[:60]}> is not in the page"
    assert "@import" not in text and "url(" not in text and len(text) < 600_000


def test_page_shows_what_was_found(report, page):
    words = " ".join(" ".join(Reader(page.read_text()).words).split())
    content = report.content
    assert report.verdict in words
    for check in content["checks"]:
        assert check["name"] in words and check["limit"] in words
    for entry in content["attacks"]:
        assert entry["name"] in words
    for version in content["about"]["versions"].values():
        assert version in words
    assert f"{100 * content['clean']['right']:.1f} %" in words


def test_what_rejection_may_cost_is_shown(report, page):
    (row,) = report.content["cost"]
    assert row["norm"] == "l2" and row["sizes"][-2:] == [1.0, 3.0] and row["alphas"][0] == 0 and row["alphas"][-1] == 1
    for curve in (row["forced"], row["stratified"]):
        assert all(one <= other for one, other in zip(curve, curve[1:], strict=False)) and 0 <= curve[0] <= curve[-1] <= 1
    # Within the compared size: wrong and accepted, or clean and rejected.
    broken = 1 - report.content["curves"]["l2"]["adaptive"]["robust_accuracy"][0]
    assert row["stratified"][0] >= broken - 1e-9
    words = " ".join(" ".join(Reader(page.read_text()).words).split())
    assert "What rejection may cost" in words and row["claim"] in words
    from tfdefense.reporting.page import render

    assert "What rejection may cost" not in render({name: value for name, value in report.content.items() if name != "cost"})


def test_everything_that_the_protocol_promises_is_there(report):
    content = report.content
    found = {(entry["knowledge"], entry["name"]) for entry in content["attacks"]}
    oblivious = {("oblivious", name) for name in ("FGSM", "PGD", "DeepFool", "Carlini-Wagner")}
    adaptive = {("adaptive", name) for name in ("PGD", "selective PGD", "log-sum-exp", "minimum norm")}
    assert oblivious | adaptive | {("black box", "PGD on a substitute network"), ("black box", "HopSkipJump")} <= found
    for name in ("adaptive", "oblivious", "undefended"):
        assert content["curves"]["l2"][name]["sizes"] == [1.0, 3.0] and len(content["curves"]["l2"][name]["robust_accuracy"]) == 2
    # The worst case counts: no attack of the table is beyond the curve.
    assert content["curves"]["l2"]["adaptive"]["robust_accuracy"][0] <= min(
        entry["robust_accuracy"] for entry in content["attacks"]
    )
    assert {row["what"] for row in content["ood"]} == {"letters8", "uniform noise", "two classes blended"}
    assert len(content["benign"]) == 4 and content["clean"]["samples"] == 200
    assert [group["what"] for group in content["map"]["groups"]][0] == "clean" and len(content["gallery"]) == 4
    assert content["map"]["layer"] == "the last hidden layer"


def test_shares_are_those_of_the_model(report, defended):
    images = td.data.load("digits", "test", limit=200)
    outcomes = td.evaluate(defended, images.x, images.y)
    clean = report.content["clean"]
    assert (clean["right"], clean["rejected"]) == pytest.approx((outcomes.accuracy, outcomes.rejection), abs=1e-5)
    for row in [clean, *report.content["attacks"], *report.content["benign"]]:
        assert row["right"] + row["rejected"] + row["wrong"] == pytest.approx(1, abs=1e-4)


def test_failed_checks_are_red_and_named_at_the_top(report):
    from tfdefense.reporting.page import render

    content = json.loads(json.dumps(report.content))
    content["checks"] = [dict(check, passed=i != 1) for i, check in enumerate(content["checks"])]
    content["verdict"] |= {"failed": [content["checks"][1]["name"]], "notes": ["1 of many checks failed."]}
    text = render(content)
    assert text.count('<li class="red">') == 1 and "✗" in text
    failed = text.split('<li class="red">')[1].split("</li>")[0]
    assert content["checks"][1]["name"] in failed and content["checks"][1]["text"] in failed
    assert re.search(r'<p class="note bad">1 of many checks failed', text)


def rendered(report, **changes):
    from tfdefense.reporting.page import render

    return render(json.loads(json.dumps(report.content)) | changes)


def test_each_check_has_a_sentence_for_passed_and_one_for_failed(report):
    from tfdefense.reporting.sentences import CHECKS

    kinds = {check["kind"] for check in report.content["checks"]}
    assert kinds == set(CHECKS), "a check has another name now"
    assert len({sentence for both in CHECKS.values() for sentence in both}) == 2 * len(CHECKS)
    for passed in (True, False):
        checks = [dict(check, passed=passed, measured=check["measured"] or 0.0) for check in report.content["checks"]]
        text = rendered(report, checks=checks)
        for kind, both in CHECKS.items():
            assert both[not passed] in text and both[passed] not in text, kind
    unknown = [dict(report.content["checks"][0], kind="of old", text="It meant this.", passed=False, measured=1.0)]
    assert "It meant this." in rendered(report, checks=unknown)
    unmeasured = [dict(report.content["checks"][0], passed=False, measured=None)]
    assert "nothing is proved, so the check counts as failed" in rendered(report, checks=unmeasured)


def test_sizes_stand_in_grey_levels_too(report):
    from tfdefense.reporting.sentences import grey_levels, levelled

    assert grey_levels("linf", 0.1, (0.0, 1.0)) == grey_levels("linf", 25.5, (0, 255)) == "25.5 of 255 grey levels"
    assert grey_levels("linf", 2.0, (-1.0, 1.0)) == "255 of 255 grey levels"
    assert grey_levels("l2", 1.0, (0, 1)) == grey_levels("linf", 0.0, (0, 1)) == ""
    expected = "Holds to linf = 0.1 (25.5 of 255 grey levels) and l2 = 1"
    assert levelled("Holds to linf = 0.1 and l2 = 1", (0, 1)) == expected
    assert levelled("one step, linf 1e-05", (0, 1)) == "one step, linf 1e-05 (0 of 255 grey levels)"
    assert levelled("falls, linf 25.5", (0, 255)) == "falls, linf 25.5 of 255 grey levels"
    content = json.loads(json.dumps(report.content))
    content["verdict"]["holds"]["linf"] = 0.1 * (content["about"]["bounds"][1] - content["about"]["bounds"][0])
    assert "<small>25.5 of 255 grey levels</small>" in rendered(report, verdict=content["verdict"])


def test_chart_of_linf_has_a_second_row_of_ticks():
    from tfdefense.reporting import page

    content = {"about": {"rejects": False, "bounds": [0, 1], "plan": {"compared": {"linf": 0.1}}}, "clean": {"wrong": 0}}
    curves = {"adaptive": {"sizes": [0.1, 0.4], "robust_accuracy": [1, 0]}}
    drawn = page._curves("linf", curves, content)
    assert re.findall(r'class="second".*?>(.*?)<', drawn) == ["0", "25.5", "51", "76.5", "102"]
    assert "adaptive attacker: 0.0% at 0.4 (102 of 255 grey levels)" in drawn and "grey levels of 255" in drawn
    assert 'class="second"' not in page._curves("linf", curves, {**content, "about": content["about"] | {"bounds": [0, 255]}})


def about(rejects=True, samples=100, shape=(10, 10, 1), bounds=(0, 255), **compared):
    plan = {"samples": samples, "compared": compared}
    return {"rejects": rejects, "shape": shape, "bounds": bounds, "plan": plan}


def told(about, robust, passing=0.03, failed=(), what="letters", of=1000):
    from tfdefense.reporting.sentences import headline

    curves = {
        norm: {"adaptive": {"sizes": [size], "robust_accuracy": [robust]}} for norm, size in about["plan"]["compared"].items()
    }
    ood = [{"what": what, "rejected": 1 - passing, "samples": of}]
    return headline({"about": about, "ood": ood, "curves": curves, "verdict": {"failed": list(failed)}})


def test_headline_needs_no_paper():
    assert told(about(linf=25), 0.38) == (
        "Of 100 images that it does not know (letters) it lets 3 pass. "
        "An attacker who may change each pixel by 25 of 255 grey levels gets 62 of 100 accepted with a wrong class."
    )
    # A length of 10 over 100 pixels is 1 of each on average; of few samples no hundred is made.
    small = told(about(samples=8, l2=10), 0.75, 1.0, what="uniform noise", of=8)
    assert small == (
        "Of 8 images of pure noise it lets all 8 pass. "
        "An attacker who may change the pixels by 1 of 255 grey levels on average gets 2 of 8 accepted with a wrong class."
    )
    plain = told(about(False, linf=25), 0.38)
    assert plain.startswith("This model cannot reject") and plain.endswith("gets 62 of 100 named wrong.")
    assert told(about(shape=(4,), linf=25), 1.0, 0.0).endswith(
        "may change a sample by linf 25 gets none of 100 accepted with a wrong class."
    )


def test_headline_rounds_nothing_away():
    assert "gets at least 62 of 100 accepted" in told(about(linf=25), 0.38, failed=["steps gain"])
    assert "gets fewer than 1 of 100 accepted" in told(about(samples=1000, linf=25), 0.999)
    assert "gets more than 99 of 100 accepted" in told(about(samples=1000, linf=25), 0.001, failed=["steps gain"])
    assert "gets all 100 accepted" in told(about(linf=25), 0.0) and "it lets none pass" in told(about(linf=25), 0.0, 0.0)


def test_what_the_model_does_not_know_comes_first_and_attackers_last(report, page):
    text = page.read_text()
    places = [text.index(f'<section id="{name}">') for name in ("ood", "broken", "outcomes", "curves", "checks", "cost")]
    assert places == sorted(places)
    assert text.index("Images of letters8") < text.index("Attacked images, l2")
    invalid = report.content["invalid"]
    assert [row["rejected"] for row in invalid] == [1, 1, 1] and all(row["what"] in text for row in invalid)
    from tfdefense.reporting.page import render

    # Reports of older versions do not say, and know less of the clean samples.
    old = {name: value for name, value in report.content.items() if name not in ("invalid", "cost")}
    old["clean"] = {name: value for name, value in old["clean"].items() if name not in ("risk", "aurc", "risk_coverage")}
    curve = report.content["clean"]["risk_coverage"]
    assert curve["coverage"][-1] == 1 and curve["risk"][-1] == pytest.approx(1 - report.content["clean"]["before_rejection"])
    assert 'id="risk"' in text and 'id="risk"' not in render(old)
    assert "Images with an invalid value" in text and "Images with an invalid value" not in render(old)


def test_only_a_quick_run_has_a_badge(report):
    assert 'class="badge"' not in rendered(report)
    quick = rendered(report, about=report.content["about"] | {"quick": True})
    assert '<span class="badge">quick run</span> A first look: 12 attacked images' in quick


def test_words_are_explained_from_the_glossary_alone(page):
    from tfdefense.reporting.glossary import glossary

    text = page.read_text()
    meaning = glossary()["robust accuracy"]
    assert glossary()["l2"] == glossary()["linf"] and "*" not in glossary()["suspicion"] and len(glossary()) > 40
    described = re.findall(r'class="term" tabindex="0" aria-describedby="(.*?)"', text)
    names = re.findall(r'class="meaning" role="tooltip" id="(.*?)"', text)
    assert described == names and len(set(names)) == len(names) > 10
    assert f"<dt>robust accuracy</dt><dd>{meaning}</dd>" in text


def test_a_name_is_text_and_no_markup(report):
    from tfdefense.reporting.page import render

    content = json.loads(json.dumps(report.content))
    content["about"] |= {"model": "<script>alert(1)</script>", "classes": ["</script><b>"] * 10}
    text = render(content)
    assert "<script>alert(1)" not in text and "</script><b>" not in text


def test_missing_jinja_is_told_before_the_work(defended, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ImportError, match="pip install jinja2"):
        td.report(defended, "digits", tmp_path / "report")
    assert not (tmp_path / "report").exists()


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


def brightness(colour):
    return sum(int(number) for number in re.findall(r"\d+", colour)[:3]) / 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_a_browser_shows_it(browser, page, report, width, scheme):
    look(browser, page, width, scheme)
    run = browser.execute_script
    assert run("return document.getElementById('verdict').textContent") == report.verdict
    assert run("return document.documentElement.scrollWidth") <= width, "the page is wider than the screen"
    paper = brightness(run("return getComputedStyle(document.body).backgroundColor"))
    ink = brightness(run("return getComputedStyle(document.body).color"))
    assert (paper > 200 and ink < 60) if scheme == "light" else (paper < 60 and ink > 200)
    assert run("return [...document.images].every(image => image.complete && image.naturalWidth > 0)")
    charts = run("return [...document.querySelectorAll('.charts svg')].map(svg => svg.getBoundingClientRect().width)")
    wanted = len(report.content["curves"]) + bool(report.content["roc"]) + 1 + len(report.content["cost"])
    assert len(charts) == wanted and min(charts) > 250
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_the_map_turns_with_the_mouse_and_takes_colours(browser, page):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    look(browser, page, 1280, "light")
    canvas = browser.find_element(By.ID, "map-canvas")
    browser.execute_script(
        "document.documentElement.style.scrollBehavior = 'auto'; arguments[0].scrollIntoView({block: 'center'})", canvas
    )
    drawn = (
        "const c = arguments[0]; return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].filter(v => v).length"
    )
    assert browser.execute_script(drawn, canvas) > 2000
    before = canvas.get_attribute("data-turn")
    ActionChains(browser).move_to_element(canvas).click_and_hold().move_by_offset(80, 20).release().perform()
    assert float(canvas.get_attribute("data-turn")) == pytest.approx(float(before) + 0.8, abs=0.05)
    legend = browser.find_element(By.ID, "map-legend").text
    choose = "arguments[0].value = 'class'; arguments[0].dispatchEvent(new Event('change'))"
    browser.execute_script(choose, browser.find_element(By.ID, "map-colour"))
    assert browser.find_element(By.ID, "map-legend").text != legend
    boxes = browser.find_elements(By.CSS_SELECTOR, "#map-groups input")
    shown = browser.execute_script(drawn, canvas)
    boxes[0].click()
    assert browser.execute_script(drawn, canvas) < shown


def test_a_touch_shows_the_number(browser, page):
    look(browser, page, 360, "light")
    tip = browser.execute_script(
        "const bar = document.querySelector('.bar'); const box = bar.getBoundingClientRect();"
        "bar.dispatchEvent(new PointerEvent('pointerdown', {bubbles: true, clientX: box.x + 5, clientY: box.y + 5}));"
        "const tip = document.getElementById('tip'); return tip.hidden ? '' : tip.textContent"
    )
    assert "rejected" in tip


@pytest.mark.parametrize("width", [360, 1280])
def test_a_word_says_what_it_means_without_a_script(browser, page, width):
    look(browser, page, width, "light")
    hidden, shown, wide = browser.execute_script(
        "const term = document.querySelector('#ood .term'), meaning = term.nextElementSibling;"
        "const see = () => getComputedStyle(meaning).display; const before = see(); term.focus();"
        "const box = meaning.getBoundingClientRect();"
        "return [before, see(), box.left >= 0 && box.right <= innerWidth && box.top >= 0 && box.bottom <= innerHeight]"
    )
    assert (hidden, shown) == ("none", "block") and wide


def test_a_row_of_images_fades_where_it_goes_on(browser, page):
    look(browser, page, 360, "light")
    fade, hint = browser.execute_script(
        "const shelf = document.querySelector('.shelf');"
        "return [getComputedStyle(shelf, '::after').position, getComputedStyle(document.querySelector('.swipe')).display]"
    )
    assert (fade, hint) == ("sticky", "block")
