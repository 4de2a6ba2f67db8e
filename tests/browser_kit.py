"""A headless browser and a page process, for tests that look at the live page."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fpcodec.child_process import child_command, child_environment

START_S = 90.0
ANSWER_S = 30.0


def require_page() -> None:
    """Skip where gradio is not installed."""
    if importlib.util.find_spec("gradio") is None:
        pytest.skip("needs gradio, of the extra ui")


@contextmanager
def page_process(*arguments: str, without: Path | None = None) -> Iterator[str]:
    """``fpcodec ui`` as a user runs it; gives its address.

    Args:
        arguments: Of the command.
        without: A folder whose modules come before the installed ones.
    """
    environment = child_environment()
    if without is not None:
        environment["PYTHONPATH"] = f"{without}:{environment['PYTHONPATH']}"
    command = child_command("ui", "--port", "0", "--no-open", "--threads", "1", *arguments)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            words = process.stdout.readline().split()
            assert words[:1] == ["ready"], words
            yield words[1]
        finally:
            process.terminate()
            assert process.wait(15) == 0


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium without a window; skips where it or its driver is missing."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium, of the extra dev")
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu",
                 "--window-size=1280,1000"):  # fmt: skip
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield window
    finally:
        window.quit()


def until(condition: Callable[[], Any], seconds: float = ANSWER_S) -> Any:
    """Wait for something true; the last answer where it never comes."""
    from selenium.common.exceptions import WebDriverException

    end, found = time.monotonic() + seconds, None
    while time.monotonic() < end:
        try:
            found = condition()
        except WebDriverException:
            found = None  # the element was just drawn anew
        if found:
            return found
        time.sleep(0.05)
    return found


def hosts_asked(window: Any) -> set[str]:
    """Hosts, with ports, of every request that the browser sent."""
    addresses = (json.loads(entry["message"])["message"] for entry in window.get_log("performance"))
    urls = [
        entry["params"]["request"]["url"]
        for entry in addresses
        if entry["method"] == "Network.requestWillBeSent"
    ]
    return {url.split("/")[2] for url in urls if not url.startswith(("data:", "blob:"))}
