"""The page of docs/live in a real Chromium, opened from a folder, without a network."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tfdefense as td
from tests.browsers import chromium, look, settled

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "docs" / "live"


def script():
    """docs/live/make.py as a module."""
    spec = importlib.util.spec_from_file_location("live_make", SOURCE / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The page as it is written now, with the runtime and the model that `make live` has made."""
    there = ROOT / "build" / "live"
    if not (there / "model.js").exists():
        pytest.skip("ONNX Runtime Web and the model were not made for the page: make live")
    folder = tmp_path_factory.mktemp("live")
    shutil.copytree(there, folder, dirs_exist_ok=True)
    script().write_static(folder)
    return folder / "index.html"


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def opened(browser, made):
    """The page with its model; tests go on from where the one before left it."""
    look(browser, made, 1000, "light")
    settled(browser)
    assert text(browser, "state") == ""
    return browser


@pytest.fixture(scope="module")
def model():
    return td.zoo.load(script().MODEL)


def text(page, name):
    return page.execute_script("return document.getElementById(arguments[0]).textContent", name)


def press(page, name):
    page.execute_script("document.getElementById(arguments[0]).click()", name)
    settled(page)


def shown(page, path):
    return page.execute_script(f"const shown = Live.shown; return {path}")


def pixels(page, path="shown.pixels"):
    return np.array(shown(page, f"Array.from({path})"), "float32").reshape(1, 28, 28, 1)


def says_what_the_model_says(answer, model, x):
    """The answer of the page, beside that of Keras for the same pixels."""
    out = {name: value[0] for name, value in model.predict(x, verbose=0).items()}
    assert answer["label"] == out["label"]
    np.testing.assert_allclose(answer["scores"], out["scores"], atol=2e-3, rtol=1e-3)
    np.testing.assert_allclose(answer["suspicion"], out["suspicion"], atol=2e-3, rtol=1e-3)
    np.testing.assert_allclose(answer["confidence"], np.exp(out["scores"]).max() / np.exp(out["scores"]).sum(), rtol=1e-2)
    assert answer["reason"] == (0 if out["label"] >= 0 else 1)


@pytest.mark.long
def test_a_digit_that_is_drawn_gets_its_class(opened, model):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    press(opened, "clear")
    paper = opened.find_element(By.ID, "paper")
    # A 7: along the top, and down to the left.
    pen = ActionChains(opened, duration=50).move_to_element_with_offset(paper, -60, -90).click_and_hold()
    for dx, dy in [(30, 0)] * 4 + [(-16, 44)] * 4:
        pen.move_by_offset(dx, dy)
    pen.release().perform()
    settled(opened)
    assert text(opened, "class") == "7" and "Confidence" in text(opened, "sure") and "accepted" in text(opened, "why")
    x = pixels(opened)
    assert 0 == x.min() and x.max() > 0.9 and np.array_equal(np.round(x * 255), (x * 255).round(3))
    mass = x[0, ..., 0] / x.sum()
    assert abs((mass.sum(0) * np.arange(28)).sum() - 13.5) <= 0.6 and abs((mass.sum(1) * np.arange(28)).sum() - 13.5) <= 3.6
    says_what_the_model_says(shown(opened, "shown.answer"), model, x)
    press(opened, "clear")
    assert text(opened, "class") == "Draw something" and shown(opened, "shown.pixels") is None


@pytest.mark.long
@pytest.mark.parametrize("kind", ["digit", "letter", "shape", "noise"])
def test_examples_are_what_the_model_says(kind, opened, model):
    for _ in range(2):
        press(opened, kind)
        says_what_the_model_says(shown(opened, "shown.answer"), model, pixels(opened))
        assert (text(opened, "class") == "None of these") == (kind != "digit")
        assert ("above 0" in text(opened, "why") and "rejected" in text(opened, "why")) == (kind != "digit")


@pytest.mark.long
def test_a_picture_of_its_size_is_taken_as_it_is(opened, model, tmp_path):
    from selenium.webdriver.common.by import By

    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (28, 28), "uint8")
    Image.fromarray(grey).save(tmp_path / "x.png")
    opened.find_element(By.ID, "file").send_keys(str(tmp_path / "x.png"))
    opened.execute_async_script("setTimeout(arguments[0], 500)")
    settled(opened)
    x = pixels(opened)
    np.testing.assert_allclose(x[0, ..., 0], grey / np.float32(255), atol=1e-6)
    says_what_the_model_says(shown(opened, "shown.answer"), model, x)
    (tmp_path / "y.png").write_text("no picture")
    opened.find_element(By.ID, "file").send_keys(str(tmp_path / "y.png"))
    opened.execute_async_script("setTimeout(arguments[0], 500)")
    assert text(opened, "class") == "No picture" and "y.png can't be read" in text(opened, "why")


@pytest.mark.long
def test_an_attack_stays_within_the_slider_and_says_what_came_of_it(opened, model):
    def attack(size):
        opened.execute_script(
            "const slider = document.getElementById('size'); slider.value = arguments[0];slider.dispatchEvent(new Event('input'))",
            size,
        )
        press(opened, "attack")
        x, x_adv, found = pixels(opened), pixels(opened, "shown.attacked.pixels"), shown(opened, "shown.attacked")
        assert abs(x_adv - x).max() == pytest.approx(found["linf"]) and found["linf"] <= size + 1e-6
        assert np.linalg.norm(x_adv - x) == pytest.approx(found["l2"], rel=1e-4) and x_adv.min() >= 0 and x_adv.max() <= 1
        out = model.predict(np.concatenate([x, x_adv]), verbose=0)
        before, after = out["label"]
        assert found["answer"]["label"] == after and found["success"] == (after >= 0 and after != before)
        assert f"{round(found['linf'] * 255)} of 255 grey levels" in text(opened, "found")
        assert text(opened, "outcome").startswith("The attack succeeded" if found["success"] else "The attack found nothing")
        return found

    press(opened, "letter")
    assert attack(0)["success"] is False and text(opened, "size-text") == "0.00 = 0 of 255 grey levels"
    found = attack(0.3)
    assert found["success"], "of a letter some digit is found at that size"
    assert text(opened, "outcome").startswith("The attack succeeded: none of these became")
    # A new picture takes the old attack away.
    press(opened, "digit")
    assert shown(opened, "shown.attacked") is None
    assert opened.execute_script("return document.getElementById('attacked').hidden")


@pytest.mark.long
def test_objectives_and_gradients_are_those_of_the_library(opened, model):
    import tensorflow as tf

    press(opened, "letter")
    for name, objective in (("log-sum-exp", td.attacks.LogSumExp()), ("maximum confidence", td.attacks.MaximumConfidence())):
        for own in (3, shown(opened, "shown.answer.nearest")):
            value, found = opened.execute_async_script(
                "const [name, own, done] = arguments, {pixels, answer} = Live.shown;"
                "const {value, toScores, toSuspicion} = Live.objectives[name](answer.scores, answer.suspicion, own);"
                "Live.slope(pixels, toScores, toSuspicion).then((slope) => done([value, Array.from(slope)]))",
                name,
                own,
            )
            x = tf.constant(pixels(opened))
            with tf.GradientTape() as tape:
                tape.watch(x)
                out = model(x)
                expected = objective.value(
                    out["scores"], out["suspicion"], tf.constant([own]), None, objective.units(None, None, None)
                )
            slope = tape.gradient(expected, x).numpy().ravel()
            assert value == pytest.approx(float(expected[0]), abs=5e-3)
            np.testing.assert_allclose(found, slope, atol=2e-2 * abs(slope).max())


@pytest.mark.long
@pytest.mark.parametrize("value", ["NaN", "Infinity", "-0.5", "1.5"])
def test_invalid_pixels_get_no_answer(value, opened):
    press(opened, "digit")
    opened.execute_script(f"const bad = Live.shown.pixels.slice(); bad[400] = {value}; Live.show(bad)")
    settled(opened)
    assert text(opened, "class") == "No answer" and "Invalid input" in text(opened, "sure")
    answer = shown(opened, "[shown.answer.label, shown.answer.reason, shown.answer.nearest]")
    assert answer == [-1, 2, -1]
    assert opened.execute_script("return document.getElementById('attack').disabled")


@pytest.mark.long
def test_it_fits_a_phone_and_the_dark_and_logs_nothing(browser, made):
    look(browser, made, 360, "dark")
    settled(browser)
    press(browser, "digit")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    colours = browser.execute_script(
        "const style = getComputedStyle(document.body); return [style.backgroundColor, style.color].map((text) => "
        "text.match(/\\d+/g).slice(0, 3).reduce((total, one) => total + Number(one), 0) / 3)"
    )
    assert colours[0] < 60 and colours[1] > 200
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


@pytest.mark.long
def test_a_model_that_fails_to_load_is_said(browser, made, tmp_path):
    shutil.copytree(made.parent, tmp_path, dirs_exist_ok=True)
    for content in (None, "window.Live.model = {classes: []};", 'window.Live.model = {model: "H4sIAAAAAAAA"};'):
        (tmp_path / "model.js").unlink(missing_ok=True)
        if content is not None:
            (tmp_path / "model.js").write_text(content)
        look(browser, tmp_path / "index.html", 800, "light")
        settled(browser)
        assert text(browser, "state").startswith("The model failed, so there are no answers"), content
        assert text(browser, "class") == "No answer"
        browser.execute_script("document.getElementById('digit').click()")
        assert text(browser, "class") == "No answer" and shown(browser, "shown.answer") is None


def test_what_npm_gives_is_checked(monkeypatch, tmp_path):
    live = script()
    monkeypatch.setattr(live, "FETCHED", tmp_path)
    (tmp_path / f"{live.PACKAGE}-{live.VERSION}.tgz").write_bytes(b"another")
    with pytest.raises(OSError, match="Expected .* with the sha256 d2228df7e461"):
        live.fetched()


def test_only_the_site_has_the_page_that_a_link_leads_to(tmp_path):
    index = (SOURCE / "index.html").read_text()
    assert 'href="../live.html"' in index and "../live.html" not in script().alone(index)
    assert script().alone(index).count("<p>") == index.count("<p>")


def test_scripts_are_small_and_name_no_address():
    for path in sorted(SOURCE.iterdir()):
        content = path.read_text() if path.suffix != ".pyc" and path.is_file() else ""
        assert len(content.splitlines()) < 400 and "http:" not in content and "https:" not in content, path.name
