"""The page in a real headless Chromium: sort, filter, open, keyboard, theme, and what must never happen."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from _board_rows import M, cell, done, tiny_board, write

from bench.board import write_board

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--disable-dev-shm-usage",
)
SEAL = "0" * 16

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver (chromium-driver)"
    ),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A page of two boards: the tiny one with curves, a sweep and example users, and an embedded one."""
    home = tmp_path_factory.mktemp("page")
    rows = tiny_board(home / "rows")
    for tau, ranks in ((0.5, [0, M, M, M, M, M]), (1.0, [0, 0, M, M, M, M])):
        row, packed = done(
            ranks, cell("bigrec", loss="msl_tau", config={"loss_options": {"tau": tau}})
        )
        facts = {**row.facts, "valid_ndcg@5_by_epoch": [0.1, 0.2, 0.15]}
        path = write(rows, replace(row, facts=facts), packed)
    write(rows, *done([0] * 6, cell("sasrec", scale="embedded")))
    seal = path.with_suffix(".npz").read_bytes()[-64:-48].decode()
    (home / "examples").mkdir()
    stored = {
        "shown": {"3": {"history": [1], "target": 2}},
        "titles": {"1": "First <i>title</i>", "2": '</script><script>alert("no")</script>'},
        "lists": {seal: {"3": [1, 2]}},
    }
    (home / "examples" / "office-0123456789ab.json").write_text(json.dumps(stored))
    write_board(rows, home)
    return (home / "index.html").as_uri()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """One browser for the file, ended with it; it fetches no driver and keeps nothing."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium, address):
    """The page as it opens at 1400 px, and no word on the console after the test."""
    resize(chromium, 1400)
    chromium.get_log("browser")
    chromium.get_log("performance")
    chromium.get(address)
    yield chromium
    assert chromium.get_log("browser") == []


def resize(driver, width):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def all_of(browser, selector):
    return browser.find_elements("css selector", selector)


def one(browser, selector):
    return browser.find_element("css selector", selector)


def names(browser):
    return [found.text for found in all_of(browser, "#lines .name b")]


def titles(browser):
    return [found.get_attribute("title").lower() for found in all_of(browser, "#lines .name")]


def press(browser, *keys):
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


def pick(browser, selector):
    browser.execute_script("arguments[0].click()", one(browser, selector))


def test_it_opens_with_findings_and_never_with_the_embedded_board(browser):
    assert one(browser, "main h2").text == "Findings"
    assert len(all_of(browser, ".findings li")) >= 4
    assert one(browser, "#boards option:checked").text == "small-corrected-protocol1"
    heads = [head.text for head in all_of(browser, "#lines thead th")]
    assert heads == ["Rank", "Method", "NDCG@10, 95 %", "Hit@10", "Cold NDCG@10", "Cost"]
    assert one(browser, "#count").text == "6 lines"
    heights = {row.rect["height"] for row in all_of(browser, "#lines tr.line")}
    assert max(heights) < 45, "a row is one line of text"


def test_heads_sort_both_ways_and_say_so(browser):
    pick(browser, "[data-key=name]")
    assert titles(browser) == sorted(titles(browser))
    head = one(browser, "#lines th:nth-child(2)")
    assert head.get_attribute("aria-sort") == "ascending"
    pick(browser, "[data-key=name]")
    assert titles(browser) == sorted(titles(browser), reverse=True)
    assert one(browser, "#lines th:nth-child(2)").get_attribute("aria-sort") == "descending"
    pick(browser, "[data-key=hit]")
    assert names(browser)[0].startswith("bigrec")
    assert names(browser)[-1].startswith("LLaRA"), "lines without numbers stand last"


def test_family_seeds_dataset_and_text_filter(browser):
    pick(browser, "[name=family][value=llm]")
    assert sorted(names(browser)) == ["popularity", "sasrec"]
    assert one(browser, "#count").text == "2 of 6 lines"
    one(browser, "#seeds [value='2']").click()
    assert names(browser) == ["sasrec"]
    pick(browser, "[name=family][value=llm]")
    one(browser, "#seeds [value='0']").click()
    one(browser, "#text").send_keys("msl_tau")
    assert len(names(browser)) == 2
    one(browser, "#text").send_keys(" nowhere")
    assert names(browser) == []


def test_another_board_is_chosen(browser):
    one(browser, "#boards option:not(:checked)").click()
    assert names(browser) == ["sasrec"]
    assert one(browser, "#datasets :checked").get_attribute("value") == "office"


def test_a_line_opens_to_all_that_is_known_of_it(browser):
    index = next(i for i, name in enumerate(names(browser)) if "tau=1.0" in name)
    button = all_of(browser, "#lines .name")[index]
    assert button.get_attribute("aria-expanded") == "false"
    button.click()
    assert button.get_attribute("aria-expanded") == "true"
    card = one(browser, f"#{button.get_attribute('aria-controls')} .card")
    heads = [head.text for head in card.find_elements("css selector", "h3")]
    wanted = ["Numbers", "Strata", "Seeds", "By epoch, first seed", "Config", "Example users"]
    assert [head for head in heads if head in wanted] == wanted
    assert 'Then </script><script>alert("no")</script>, at place 2:' in card.text
    assert "First <i>title</i>" in card.text
    button.click()
    assert all_of(browser, ".card") == []


def test_the_keyboard_does_what_the_mouse_does(browser):
    from selenium.webdriver.common.keys import Keys

    first = one(browser, "#lines .name")
    browser.execute_script("arguments[0].focus()", first)
    press(browser, Keys.ENTER)
    assert first.get_attribute("aria-expanded") == "true"
    press(browser, Keys.SPACE)
    assert first.get_attribute("aria-expanded") == "false"
    press(browser, Keys.ARROW_DOWN)
    assert browser.switch_to.active_element == all_of(browser, "#lines .name")[1]
    style = "return getComputedStyle(document.activeElement).outlineStyle"
    assert browser.execute_script(style) == "solid", "where the focus is can be seen"


def test_every_control_has_a_name(browser):
    script = """
        const controls = document.querySelectorAll("button, select, input, [role=img], [role=region]");
        const named = e => e.labels?.length || e.textContent.trim() || e.getAttribute("aria-label")
            || e.getAttribute("aria-labelledby");
        return [...controls].filter(e => !named(e)).map(e => e.outerHTML)"""
    assert browser.execute_script(script) == []
    assert all_of(browser, "#lines th[scope=row]")
    assert all_of(browser, "#lines th[scope=col][aria-sort]")


def test_plots_follow_the_filters_and_open_lines(browser):
    captions = [c.text.splitlines()[0] for c in all_of(browser, "figcaption")]
    wanted = ["Accuracy against cost", "Warm against cold targets", "Learning curves"]
    assert captions == [*wanted, "Temperature sweep"]
    before = len(all_of(browser, "#plots figure:first-child .mark"))
    pick(browser, "[name=family][value=floor]")
    assert len(all_of(browser, "#plots figure:first-child .mark")) == before - 1
    event = "arguments[0].dispatchEvent(new MouseEvent('click'))"
    browser.execute_script(event, one(browser, "#plots .mark"))
    assert len(all_of(browser, ".card")) == 1


def test_light_and_dark_follow_the_system_until_one_is_chosen(browser):
    back = "return getComputedStyle(document.body).backgroundColor"
    seen = []
    for theme in ("light", "dark"):
        media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        seen.append(browser.execute_script(back))
    assert seen[0] != seen[1]
    one(browser, "#theme").click()
    assert browser.execute_script(back) == seen[0]
    browser.refresh()
    assert browser.execute_script(back) == seen[0], "the choice outlives the visit"
    one(browser, "#theme").click()
    browser.execute_script("localStorage.clear()")


def test_a_telephone_scrolls_the_table_and_not_the_page(browser, address):
    resize(browser, 390)
    browser.get(address)
    wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(wide) == 0
    one(browser, "#lines .name").click()
    assert browser.execute_script(wide) == 0
    region = one(browser, "#board .wide")
    browser.execute_script("arguments[0].scrollLeft = 9999", region)
    assert browser.execute_script("return arguments[0].scrollLeft", region) > 0
    name, card = one(browser, "#lines tbody th"), one(browser, ".card")
    assert name.rect["x"] == pytest.approx(region.rect["x"], abs=1), "the name stays in sight"
    assert card.rect["width"] <= 390


def test_nothing_is_asked_of_any_other_place(browser, address):
    pick(browser, "#lines .name")
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {
        m["params"]["request"]["url"] for m in sent if m["method"] == "Network.requestWillBeSent"
    }
    assert asked <= {address}
    assert Path(address.removeprefix("file://")).exists()
