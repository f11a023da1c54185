"""The report in a real browser: from disk, without network, without a word on the console."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import report
from tests.pipeline.report_fixture import SCRIPT, build

BROWSER, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (BROWSER.exists() and DRIVER.exists()),
        reason=f"needs Debian's chromium and chromium-driver at {BROWSER} and {DRIVER}",
    ),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    config = build(tmp_path_factory.mktemp("run"))
    report.run(config)
    moved = tmp_path_factory.mktemp("elsewhere") / "page.html"  # it stands alone
    shutil.move(config.data.artifacts / "report.html", moved)
    return moved.as_uri()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for option in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()


def open_at(browser: Any, address: str, width: int, scheme: str = "light") -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(address)


def requested(browser: Any) -> list[str]:
    messages = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    return [
        message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"
    ]


def test_it_opens_from_disk_alone_and_in_silence(browser: Any, address: str) -> None:
    browser.get_log("performance")
    open_at(browser, address, 1200)
    urls = [url for url in requested(browser) if not url.startswith("data:")]
    assert urls == [address]
    assert browser.get_log("browser") == []


def test_a_script_in_a_headline_is_shown_and_not_run(browser: Any, address: str) -> None:
    open_at(browser, address, 1200)
    assert browser.title.startswith("Tradewind report")
    assert SCRIPT in browser.find_element("tag name", "body").text
    assert browser.find_elements("tag name", "script") == []


@pytest.mark.parametrize("width", [1200, 400])
def test_every_chart_is_drawn_at_a_readable_size(browser: Any, address: str, width: int) -> None:
    open_at(browser, address, width)
    charts = browser.execute_script(
        """return [...document.querySelectorAll('figure.chart')].map(chart => {
             const all = [...chart.querySelectorAll('svg')];
             const shown = all.filter(svg => svg.getBoundingClientRect().width > 0);
             const sizes = [...shown[0].querySelectorAll('text')].map(t => t.getBoundingClientRect().height);
             return {name: chart.id, shown: shown.length, width: shown[0].getBoundingClientRect().width,
                     height: shown[0].getBoundingClientRect().height,
                     marks: shown[0].querySelectorAll('path,use').length,
                     text: Math.min(...sizes.filter(size => size > 0))};
           })"""
    )
    assert len(charts) == 15
    for chart in charts:
        assert chart["shown"] == 1, chart
        assert chart["width"] > 0.75 * width, chart
        assert chart["height"] > 120, chart  # three families of features are three bars
        assert chart["marks"] > 10, chart
        assert chart["text"] >= 10, chart


@pytest.mark.parametrize("width", [1200, 400])
def test_the_page_never_scrolls_sideways(browser: Any, address: str, width: int) -> None:
    open_at(browser, address, width)
    browser.execute_script("document.querySelectorAll('details').forEach(it => it.open = true)")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_no_text_of_a_chart_is_cut_off(browser: Any, address: str) -> None:
    for width in (1200, 400):
        open_at(browser, address, width)
        cut = browser.execute_script(
            """return [...document.querySelectorAll('figure.chart svg')].flatMap(svg => {
                 const frame = svg.getBoundingClientRect();
                 return [...svg.querySelectorAll('text')].filter(text => {
                   const box = text.getBoundingClientRect();
                   return frame.width > 0 && (box.left < frame.left - 4 || box.right > frame.right + 4);
                 }).map(text => text.textContent);
               })"""
        )
        assert cut == []


def test_charts_follow_the_dark_theme(browser: Any, address: str) -> None:
    shades = []
    for scheme in ("light", "dark"):
        open_at(browser, address, 1200, scheme)
        shades.append(
            browser.execute_script(
                """const text = document.querySelector('#chart-wealth svg text');
                   return [getComputedStyle(text).fill, getComputedStyle(document.body).backgroundColor]"""
            )
        )
    assert shades[0][0] != shades[1][0]
    assert shades[0][1] != shades[1][1]
