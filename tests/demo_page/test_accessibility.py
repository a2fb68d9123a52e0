"""The page can be read and used by everybody: names, roles, contrast (axe-core), the keyboard."""

import os

import pytest

from tests.helpers.page_in_browser import WAIT, generate, open_page, remove_all

SETTLED = """() => document.getAnimations().every(
    x => x.playState === "finished" || x.effect.getComputedTiming().endTime === Infinity)"""


def violations(tab) -> list[str]:
    """What axe-core finds: its rules of WCAG and of good practice."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python"
    )
    tab.wait_for_function(SETTLED)  # what fades in has little contrast until it is there
    found = axe.Axe().run(tab).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:150]}: {[check['message'] for check in node['any']]}"
        for rule in found
        for node in rule["nodes"]
    ]


SCREENS = [(1280, "light"), (390, "light"), (1280, "dark")]


@pytest.fixture(params=SCREENS, ids=str)
def shown(request, browser, address):
    """The page, as wide and as bright as its users have it."""
    width, scheme = request.param
    tab = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    tab.set_default_timeout(WAIT)
    open_page(tab, address)
    yield tab
    tab.close()


def test_axe_finds_nothing_and_nothing_is_cut_off(shown):
    found = {}
    shown.fill("#rb-prompt-input", "smile, blue hair, zorgle")
    shown.wait_for_selector(".rb-decided")
    generate(shown)
    overflow = [shown.evaluate("document.documentElement.scrollWidth - window.innerWidth")]
    if folder := os.environ.get("RBJAX_SCREENSHOTS"):
        width = shown.viewport_size["width"]
        shown.screenshot(path=f"{folder}/page_{width}.png", full_page=True)
    shown.fill("#rb-prompt-input", "smile, blue hair, zorgle, green b")
    shown.wait_for_selector("#rb-suggestions li")
    shown.keyboard.press("ArrowDown")
    found["with images, while a tag is chosen"] = violations(shown)
    shown.keyboard.press("Escape")
    shown.click("input[aria-label='Size in pixels']")
    shown.wait_for_selector("[role=option]:visible")
    found["while a size is chosen"] = violations(shown)
    shown.keyboard.press("Escape")
    remove_all(shown)
    shown.fill("#rb-prompt-input", "")
    shown.click("#generate")
    shown.wait_for_selector("#status .rb-error")
    found["without references, with an error"] = violations(shown)
    overflow.append(shown.evaluate("document.documentElement.scrollWidth - window.innerWidth"))
    assert {state: rules for state, rules in found.items() if rules} == {}
    assert max(overflow) <= 0


@pytest.mark.parametrize("shown", SCREENS[1:2], indirect=True, ids=str)
def test_axe_finds_nothing_in_the_other_tabs(shown):
    shown.click("role=tab[name=Compare]")
    shown.click("#compare")
    shown.wait_for_selector("#compare-second .rb-image >> nth=1")
    found = violations(shown)
    shown.click("role=tab[name=Training]")
    shown.wait_for_selector("#run-report img")
    assert found + violations(shown) == []


def focused(tab) -> str:
    return tab.evaluate("document.activeElement.ariaLabel || document.activeElement.value")


def test_the_keyboard_composes_and_stays_where_it_is(tab):
    tab.focus("[aria-label='Move reference 2 up']")
    tab.keyboard.press("Enter")
    assert focused(tab) == "Move reference 1 down"  # the first one cannot go up
    tab.keyboard.press("Enter")
    assert focused(tab) == "Move reference 2 up"  # with the reference
    tab.focus(".rb-slot >> nth=0 >> select")
    tab.keyboard.press("ArrowDown")
    assert focused(tab) == "clothes"
    tab.focus("[aria-label='Remove reference 2']")
    tab.keyboard.press("Enter")
    assert focused(tab) == "Remove reference 1"
    tab.focus(".rb-slot .rb-numbers input >> nth=0")
    for value in ("4", "6", "30", "40"):
        tab.keyboard.press("ControlOrMeta+A")
        tab.keyboard.type(value)
        tab.keyboard.press("Tab")
    tab.wait_for_function(
        "document.querySelector('.rb-slot .rb-box').style.left === `${100 * 4 / 128}%`"
    )
    tab.focus("#rb-prompt-input")
    tab.keyboard.press("End")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#results .rb-image >> nth=1")
