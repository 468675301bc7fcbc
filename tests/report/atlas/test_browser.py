"""The atlas in a real browser, read from files: its numbers and differences are Python's, and people can use it."""

from __future__ import annotations

import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from peftref.analyse.count import count
from peftref.analyse.diff import diff
from peftref.analyse.typology import typology
from peftref.core.problem import PeftrefError
from peftref.design.load import load, techniques
from peftref.design.technique import Technique

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("atlas")]  # the atlas is written once

CATALOG = techniques()
HOSTS = ("bert-base", "t5-base", "llama-3.1-8b", "gpt2", "vit-base", "qwen3-8b", "distilbert-base")
LOAD_ALL = """
const [names, done] = arguments;
peftref.names ??= {titles: Object.fromEntries(names.map(name => [name, name]))};
Promise.all(names.map(name => peftref.load(name))).then(() => done(true), error => done(String(error)));
"""
COUNT = """
return arguments[0].map(([name, settings, host]) => {
  try {
    const found = peftref.count(peftref.techniques.get(name).count, settings, host);
    return [String(found.trained), String(found.stored), String(found.inference)];
  } catch (error) {
    return ["error", error.message];
  }
});
"""


@pytest.fixture
def wide(browser: Any) -> Any:
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    browser.set_window_size(1300, 900)
    return browser


def visit(browser: Any, site: Path, page: str) -> None:
    browser.get("about:blank")  # a change of the hash alone would not load the page again
    browser.get(f"{site.as_uri()}/{page}")


def narrow(browser: Any) -> None:
    metrics = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def prefers(browser: Any, scheme: str) -> None:
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def python_count(technique: Technique, settings: dict[str, int], host: str) -> list[str] | None:
    try:
        found = count(technique.with_settings(**settings), host)
    except PeftrefError:
        return None
    return [str(found.trained), str(found.stored), str(found.inference)]


def asked() -> list[tuple[str, dict[str, int], str]]:
    """Every technique on hosts of every kind as it is, and with settings drawn at random, wrong ones among them."""
    draw = random.Random(20261)
    found = []
    for technique in CATALOG:
        found += [(technique.name, {}, host) for host in draw.sample(HOSTS, 3)]
        for _ in range(3 if technique.size_settings() else 0):
            settings = {name: draw.choice((1, 2, 3, 4, 6, 8, 16, 24, 64, 100)) for name in technique.size_settings()}
            found.append((technique.name, settings, draw.choice(HOSTS)))
    return found


def test_the_calculator_counts_as_python_does(wide: Any, site: Path) -> None:
    visit(wide, site, "techniques/lora.html")
    assert wide.execute_async_script(LOAD_ALL, [each.name for each in CATALOG]) is True
    cases = asked()
    answers = wide.execute_script(COUNT, [list(case) for case in cases])
    by_name = {each.name: each for each in CATALOG}
    wrong, counted = [], 0
    for (name, settings, host), answer in zip(cases, answers, strict=True):
        wanted = python_count(by_name[name], settings, host)
        counted += wanted is not None
        if (answer if answer[0] != "error" else None) != wanted:
            wrong.append((name, settings, host, wanted, answer))
    assert not wrong
    assert counted > 300


def test_the_calculator_follows_its_fields(wide: Any, site: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    visit(wide, site, "techniques/lora.html")
    output = wide.find_element(By.ID, "counts")
    assert output.get_dom_attribute("aria-live") == "polite"
    assert output.get_dom_attribute("data-trained") == str(count("lora", "bert-base").trained)
    Select(wide.find_element(By.NAME, "host")).select_by_visible_text("llama-3.1-8b")
    field = wide.find_element(By.NAME, "set-r")
    field.clear()
    field.send_keys("5")
    wanted = count(load("lora", r=5), "llama-3.1-8b").trained
    assert output.get_dom_attribute("data-trained") == str(wanted)
    assert f"{wanted:,} trained" in output.text
    field.clear()
    field.send_keys("0")
    assert "whole number of at least 1" in output.text
    Select(wide.find_element(By.NAME, "host")).select_by_visible_text("vit-base")
    visit(wide, site, "techniques/houlsby.html")
    Select(wide.find_element(By.NAME, "host")).select_by_visible_text("t5-base")
    assert wide.find_element(By.ID, "counts").get_dom_attribute("data-trained") == str(
        count("houlsby", "t5-base").trained
    )


def test_differences_are_those_of_python(wide: Any, site: Path) -> None:
    draw = random.Random(20262)
    pairs = [draw.sample([each.name for each in CATALOG], 2) for _ in range(120)]
    pairs += [[name, name] for name in ("lora", "prefix_mlp")] + [["houlsby", "pfeiffer"], ["lora", "rslora"]]
    visit(wide, site, "compare.html")
    assert wide.execute_async_script(LOAD_ALL, [each.name for each in CATALOG]) is True
    script = "return arguments[0].map(([a, b]) => peftref.diff(peftref.techniques.get(a), peftref.techniques.get(b)));"
    for (one, other), found in zip(pairs, wide.execute_script(script, pairs), strict=True):
        wanted = asdict(diff(one, other))
        for kind, rows in found.items():
            assert rows == list(wanted[kind]), (one, other, kind)


def test_two_techniques_side_by_side_under_one_address(wide: Any, site: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select, WebDriverWait

    visit(wide, site, "compare.html#a=lora&b=ia3")
    WebDriverWait(wide, 20).until(lambda found: len(found.find_elements(By.CSS_SELECTOR, ".side svg.diagram")) == 2)
    assert [each.text for each in wide.find_elements(By.CSS_SELECTOR, ".side h2")] == ["LoRA", "(IA)³"]
    assert len(wide.find_elements(By.CSS_SELECTOR, ".side math")) >= 2
    Select(wide.find_element(By.NAME, "b")).select_by_value("houlsby")
    WebDriverWait(wide, 20).until(lambda found: "Houlsby" in found.find_element(By.ID, "said").text)
    assert wide.current_url.endswith("#a=lora&b=houlsby")
    wide.find_element(By.ID, "swap").click()
    WebDriverWait(wide, 20).until(lambda found: found.find_element(By.ID, "said").text.startswith("Houlsby"))
    rows = wide.find_elements(By.CSS_SELECTOR, "tr.differs th")
    differing = {each.what for each in diff("houlsby", "lora").properties}
    assert len([row for row in rows if row.text]) >= len(differing)
    visit(wide, site, "compare.html#a=../../evil&b=toString")
    assert wide.find_element(By.NAME, "a").get_property("value") == CATALOG[0].name


def test_the_table_is_filtered_and_sorted_and_the_address_keeps_it(wide: Any, site: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import Select

    def shown() -> list[str]:
        script = (
            "return [...document.querySelectorAll('#techniques tbody tr:not([hidden])')].map(row => row.dataset.name)"
        )
        return list(wide.execute_script(script))

    rows = {row.name: row for row in typology(CATALOG)}
    visit(wide, site, "index.html")
    assert len(shown()) == len(CATALOG)
    wide.find_element(By.CSS_SELECTOR, "summary").click()
    for key in ("adapted", "integration", "workspace"):
        select = Select(wide.find_element(By.NAME, key))
        for option in [each.text for each in select.options][1:4]:
            select.select_by_visible_text(option)
            wanted = {
                each.name
                for each in CATALOG
                if option
                in (
                    [word for insert in each.insert for word in insert.at]
                    if key == "workspace"
                    else rows[each.name][key].split("; ")
                )
            }
            found = set(shown())
            assert found == wanted
            assert found
        select.select_by_index(0)
    Select(wide.find_element(By.NAME, "integration")).select_by_visible_text("rescaling")
    wide.find_element(By.NAME, "q").send_keys("attention key")
    left = shown()
    assert "ia3" in left
    assert len(left) < len(CATALOG)
    assert wide.find_element(By.ID, "shown").text == f"{len(left)} of {len(CATALOG)} techniques"
    year = wide.find_element(By.CSS_SELECTOR, "th[data-key=year] button")
    year.send_keys(Keys.ENTER)
    assert wide.find_element(By.CSS_SELECTOR, "th[data-key=year]").get_dom_attribute("aria-sort") == "ascending"
    years = [rows[name].year or 0 for name in shown()]
    assert years == sorted(years)
    address, before = wide.current_url, shown()
    wide.get("about:blank")
    wide.get(address)
    assert shown() == before
    wide.find_element(By.CSS_SELECTOR, "button[type=reset]").click()
    assert len(shown()) == len(CATALOG)
    assert "#" not in wide.current_url


def every_page() -> list[str]:
    return ["index.html", "compare.html#a=s4&b=compacter", *(f"techniques/{each.name}.html" for each in CATALOG)]


def test_no_page_is_wider_than_a_phone_and_none_complains(wide: Any, site: Path) -> None:
    wide.get_log("browser")
    narrow(wide)
    for page in every_page():
        visit(wide, site, page)
        found = wide.execute_script(
            "return [document.documentElement.scrollWidth, innerWidth, document.body.innerText.length]"
        )
        assert found[0] <= found[1] == 360, page
        assert found[2] > 300
    complaints = [entry for entry in wide.get_log("browser") if entry["level"] == "SEVERE"]
    assert not complaints


CONTRAST = """
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const ground = (element) => {
  for (let each = element; each; each = each.parentElement) {
    const colour = parse(getComputedStyle(each).backgroundColor);
    if (colour.length === 3 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
};
const low = [];
for (const element of document.querySelectorAll("body *:not(svg *)")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!own || !element.checkVisibility()) continue;
  const [a, b] = [parse(getComputedStyle(element).color), ground(element)].map(light).sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) low.push([element.tagName, element.textContent.slice(0, 40), ratio]);
}
return [low, ground(document.body)];
"""


def test_texts_stand_out_in_light_and_in_dark(wide: Any, site: Path) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        prefers(wide, scheme)
        for page in ("index.html", "techniques/s4.html", "techniques/full.html", "compare.html#a=lora&b=houlsby"):
            visit(wide, site, page)
            low, ground = wide.execute_script(CONTRAST)
            assert not low, (scheme, page)
        grounds.append(sum(ground[:3]))
    assert grounds[0] > 600 > 150 > grounds[1]


def test_the_colours_can_be_chosen_and_are_remembered(wide: Any, site: Path) -> None:
    from selenium.webdriver.common.by import By

    prefers(wide, "light")
    visit(wide, site, "index.html")
    wide.execute_script("localStorage.clear()")
    visit(wide, site, "index.html")
    for name in ("light", "dark"):
        wide.find_element(By.ID, "scheme").click()
        assert wide.find_element(By.ID, "scheme").get_dom_attribute("aria-label") == f"Colours: {name}"
    colour = "return getComputedStyle(document.body).backgroundColor"
    dark = wide.execute_script(colour)
    visit(wide, site, "techniques/lora.html")
    assert wide.execute_script(colour) == dark
    fill = "return getComputedStyle(document.querySelector('svg .module')).fill"
    shown = wide.execute_script(fill)
    wide.find_element(By.ID, "scheme").click()
    assert wide.execute_script(colour) != dark
    assert wide.execute_script(fill) != shown


def test_everything_is_reached_by_keys(wide: Any, site: Path) -> None:
    """The first stop leads past the head; Tab goes through every control in its order, and each shows that it has the focus."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    visit(wide, site, "techniques/compacter.html")
    focus = "return document.activeElement"
    body = wide.find_element(By.TAG_NAME, "body")
    body.send_keys(Keys.TAB)
    assert wide.execute_script(focus).get_dom_attribute("class") == "skip"
    assert wide.execute_script("return document.activeElement.getBoundingClientRect().left") >= 0
    wide.execute_script(focus).send_keys(Keys.ENTER)
    assert wide.execute_script(focus).get_dom_attribute("id") == "main"
    visit(wide, site, "techniques/compacter.html")
    wanted = wide.execute_script(
        "return [...document.querySelectorAll('a[href], button, input, select, summary, [tabindex=\"0\"]')]"
        ".filter(each => each.checkVisibility({contentVisibilityAuto: true}) && each.tabIndex >= 0 && each.getClientRects().length).length"
    )
    seen: dict[str, None] = {}
    for _ in range(wanted):
        wide.switch_to.active_element.send_keys(Keys.TAB)
        element = wide.execute_script(focus)
        seen[element.id] = None
        style = wide.execute_script(
            "const s = getComputedStyle(document.activeElement); return [s.outlineStyle, s.outlineWidth]"
        )
        assert style[0] != "none"
        assert float(style[1].removesuffix("px")) >= 2
    assert len(seen) == wanted
