"""A real Chromium without a window, for tests and for pictures of pages."""

import contextlib
import shutil

import pytest


@contextlib.contextmanager
def chromium():
    """A driver; skips the test where there is none."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (browser and driver):
        pytest.skip("no Chromium with its driver on this machine: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    # A machine that is busy takes its time.
    opened.set_page_load_timeout(120)
    opened.set_script_timeout(120)
    try:
        yield opened
    finally:
        opened.quit()


def look(browser, page, width, scheme, height=900):
    """Opens the page as on a screen of that width, in the light or the dark look, without a network."""
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd(
        "Network.emulateNetworkConditions", {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    )
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    browser.get(page.as_uri())


def settled(browser, seconds=120):
    """Waits until the page of docs/live has loaded and answers nothing any more."""
    from selenium.webdriver.support.ui import WebDriverWait

    done = "return window.Live && Live.shown && !Live.shown.busy && document.getElementById('state').textContent !== arguments[0]"
    WebDriverWait(browser, seconds).until(lambda opened: opened.execute_script(done, "Loading the model ..."))
