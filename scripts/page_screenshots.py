"""Take the README's pictures of the live page: its first scene at three operating points.

    python scripts/page_screenshots.py --out docs/pictures

Needs the extras ``ui`` and ``dev``, and Chromium with its driver.
"""

from __future__ import annotations

import argparse
import base64
import io
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.keys import Keys

from fpcodec.child_process import child_command, child_environment
from fpcodec.files import replacing

WIDTH = 1120
COLOURS = 256
"""Of the picture's palette: what keeps a file below 250 kB."""

LAST_PART = "fpc-bytes"
"""The lowest part of the page that is shown."""

POINTS = {
    "high": ("Quality", "0.9"),
    "middle": ("Quality", "0.5"),
    "budget": ("Byte budget", "1000"),
}
"""Name of the picture to the control that is set, and its value."""


@contextmanager
def opened_page() -> Iterator[Any]:
    """The page in a browser, with its first scene drawn."""
    driver, binary = shutil.which("chromedriver"), shutil.which("chromium")
    if driver is None or binary is None:
        sys.exit("error: needs chromium and chromedriver; install them")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--hide-scrollbars",
        f"--window-size={WIDTH},900",
    ):
        options.add_argument(flag)
    command = child_command("ui", "--port", "0", "--no-open")
    with subprocess.Popen(  # noqa: S603 (this interpreter and fixed arguments)
        command, stdout=subprocess.PIPE, text=True, env=child_environment()
    ) as process:
        window = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            window.get(process.stdout.readline().split()[1] if process.stdout else "")
            wait(lambda: "bytes at quality" in text_of(window, "fpc-message"))
            wait(lambda: "AVIF" in text_of(window, "fpc-bytes"))
            yield window
        finally:
            window.quit()
            process.terminate()


def take(window: Any, control: str, value: str) -> Image.Image:
    """Set a control and take a picture from the page's top down to LAST_PART."""
    click_named(window, "label", control)
    field = f"input[type=number][aria-label*='{control}']"
    wait(lambda: window.find_element("css selector", field).is_displayed())
    number = window.find_element("css selector", field)
    number.send_keys(Keys.CONTROL, "a")
    number.send_keys(value, Keys.ENTER)
    wait(lambda: is_drawn(window, control, value))
    window.execute_script("document.activeElement.blur()")
    time.sleep(1)  # to leave the field has the page look at its value once more
    part = window.find_element("id", LAST_PART)
    height = window.execute_script(
        "return arguments[0].getBoundingClientRect().bottom + window.scrollY", part
    )
    clip = {"x": 0, "y": 0, "width": WIDTH, "height": round(height) + 16, "scale": 1}
    data = window.execute_cdp_cmd(
        "Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip}
    )["data"]
    return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")


def is_drawn(window: Any, control: str, value: str) -> bool:
    """Whether the page shows what was asked for."""
    words = text_of(window, "fpc-message")
    if control == "Quality":
        return f"quality {float(value):.2f};" in words
    found = re.search(r"([\d,]+) bytes", words)
    return found is not None and int(found[1].replace(",", "")) <= int(value)


def text_of(window: Any, name: str) -> str:
    """What stands in a part of the page."""
    return str(window.find_element("id", name).text)


def click_named(window: Any, selector: str, words: str) -> bool:
    """Click the element with these words; False where there is none."""
    for element in window.find_elements("css selector", selector):
        if element.text.strip() == words:
            element.click()
            return True
    return False


def wait(condition: Callable[[], Any], seconds: float = 60) -> None:
    """Until something is true.

    Raises:
        TimeoutError: It never was.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if condition():
                return
        except WebDriverException:
            pass  # the element was just drawn anew
        time.sleep(0.1)
    raise TimeoutError("the page does not show what was asked for")


def main() -> None:
    """Read the flags, take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    options = parser.parse_args()
    with opened_page() as window:
        for name, (control, value) in POINTS.items():
            path = options.out / f"page-{name}.png"
            # Every colour of the few lines and marks counts, not only those of large areas.
            picture = take(window, control, value).quantize(
                COLOURS, method=Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE
            )
            with replacing(path) as temporary:
                picture.save(temporary, optimize=True)
            print(f"{path}: {picture.width}x{picture.height}, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
