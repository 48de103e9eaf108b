"""The picture of the page in docs/live.md: `make live`, then `python docs/live/picture.py`. It needs Chromium and its driver."""

import io
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
WIDTH, HEIGHT = 1000, 860


def take(path):
    """The page after an attack on a drawn digit."""
    from PIL import Image

    from tests.browsers import chromium, look, settled

    with chromium() as browser:
        look(browser, ROOT / "build" / "live" / "index.html", WIDTH, "light", HEIGHT)
        settled(browser)
        for button in ("digit", "attack"):
            browser.execute_script(f"document.getElementById('{button}').click()")
            settled(browser)
        picture = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    # Few colours: a third of the size.
    picture.quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    take(ROOT / "docs" / "pictures" / "live.png")
