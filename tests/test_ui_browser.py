"""The live page in a real browser, by keyboard; torch is hidden from it, which is quicker."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser_kit import browser, hosts_asked, page_process, require_page, until

SLIDER = "input[type=range][aria-label*=Quality]"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The page, opened, with its first scene drawn."""
    require_page()
    hidden = tmp_path_factory.mktemp("hidden")
    (hidden / "torch.py").write_text("raise ImportError('hidden by a test')\n")
    with browser() as window, page_process(without=hidden) as address:
        window.address = address
        window.get(address)
        assert until(lambda: "bytes at quality" in message(window), 60), window.page_source[:2000]
        yield window


def message(window: Any) -> str:
    return str(window.find_element("id", "fpc-message").text)


def sent_bytes(window: Any) -> int:
    found = re.search(r"([\d,]+) bytes at", message(window))
    return int(found[1].replace(",", "")) if found else 0


def open_tab(window: Any, title: str) -> None:
    for tab in window.find_elements("css selector", "button[role=tab]"):
        if tab.text == title:
            tab.send_keys(keys().ENTER)


def keys() -> Any:
    from selenium.webdriver.common.keys import Keys

    return Keys


def test_the_rate_follows_the_keyboard_and_is_read_out(page: Any) -> None:
    before = sent_bytes(page)
    page.find_element("css selector", SLIDER).send_keys(keys().ARROW_RIGHT * 20)
    assert until(lambda: "quality 0.70" in message(page)), message(page)
    assert sent_bytes(page) > before
    live = page.find_element("css selector", "[role=status].fpc-live")
    assert live.get_attribute("textContent").strip() == message(page)
    assert f"{sent_bytes(page):,} bytes went over the link" in page.page_source


def test_the_controls_stay_in_sight(page: Any) -> None:
    page.set_window_size(1280, 900)
    page.execute_script("window.scrollTo(0, 900)")
    top = "return document.querySelector('.fpc-side').getBoundingClientRect().top"
    assert until(lambda: 0 <= page.execute_script(top) < 50)
    page.execute_script("window.scrollTo(0, 0)")


def test_a_box_is_chosen_by_keyboard_and_a_missing_extra_is_named(page: Any) -> None:
    page.find_element("css selector", "button.box[data-side=split]").send_keys(keys().ENTER)
    reasons = page.find_element("id", "fpc-reasons")
    assert until(lambda: "fpcodec[torch]" in reasons.text), reasons.text
    assert "MissingDependency" in reasons.text
    assert "drise" not in reasons.text
    chosen = page.find_elements("css selector", "button.box.chosen")
    assert [x.get_attribute("data-side") for x in chosen] == ["split"]
    live = page.find_element("css selector", "[role=status].fpc-live")
    assert until(lambda: live.get_attribute("textContent").startswith("Explanation below:"))
    top = "return document.getElementById('reasons-title').getBoundingClientRect().top"
    assert until(lambda: 0 <= page.execute_script(top) < 900), page.execute_script(top)


def test_the_last_number_that_was_typed_counts(page: Any) -> None:
    for label in page.find_elements("css selector", "label"):
        if label.text.strip() == "Byte budget":
            label.click()
            break
    field = "input[type=number][aria-label*='Byte budget']"
    assert until(lambda: page.find_element("css selector", field).is_displayed())
    for value in (4, 600, 1200):
        number = page.find_element("css selector", field)
        number.send_keys(keys().CONTROL, "a")
        number.send_keys(keys().DELETE)
        number.send_keys(str(value), keys().ENTER)
    assert until(lambda: 1000 < sent_bytes(page) <= 1200), message(page)
    assert "Error" not in message(page)
    assert page.find_elements("css selector", ".toast-wrap .toast-body") == []


def test_bad_files_are_one_line_and_the_page_goes_on(page: Any, tmp_path: Path) -> None:
    from PIL import Image

    from fpcodec.data import generate_scene

    bad, good = tmp_path / "bad.jpg", tmp_path / "good.png"
    bad.write_text("this is no picture")
    Image.fromarray(generate_scene(12).image).save(good)
    open_tab(page, "File")
    chooser = "#fpc-file input[type=file]"
    until(lambda: page.find_elements("css selector", chooser))
    page.find_element("css selector", chooser).send_keys(str(bad))
    assert until(lambda: "InputError" in message(page)), message(page)
    assert message(page) == (
        "InputError: bad.jpg: not an image file; use JPEG, PNG or WebP. "
        "Below is still Generated scene 1."
    )
    assert "Traceback" not in page.page_source
    until(lambda: page.find_elements("css selector", chooser))
    page.find_element("css selector", chooser).send_keys(str(good))
    assert until(lambda: "good.png" in message(page)), message(page)
    assert sent_bytes(page) > 0
    shown = page.find_element("id", "fpc-summary").text
    assert "Shown: good.png" in shown
    assert "mean nothing" in shown
    assert until(lambda: "Shown: good.png" in page.find_element("id", "fpc-file").text)
    open_tab(page, "Scene")
    assert until(lambda: "Shown: Generated scene 1" in page.find_element("id", "fpc-shown").text)


def test_everything_has_a_name_and_no_other_host_is_asked(page: Any) -> None:
    assert until(lambda: "WebP" in page.find_element("id", "fpc-bytes").text)
    pictures = page.find_elements("css selector", ".fpc img")
    assert len(pictures) > 8
    assert all(picture.get_attribute("alt") for picture in pictures)
    # Gradio measures its tabs on hidden copies, which no key reaches.
    chosen = "input:not([type=file]), button:not([tabindex='-1']), [role=listbox]"
    controls = page.find_elements("css selector", chosen)
    nameless = [x for x in controls if x.is_displayed() and not x.accessible_name]
    assert [x.get_attribute("outerHTML")[:200] for x in nameless] == []
    assert hosts_asked(page) == {page.address.split("/")[2]}
    errors = [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"]
    assert errors == []
