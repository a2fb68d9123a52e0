"""Several users at once, and what is cancelled."""

from rbjax.demo_page.settings import MAX_IMAGES
from tests.helpers.page_in_browser import WAIT, fill_slow, open_page


def test_two_users_at_once_both_get_their_images(browser, address, tab):
    other = browser.new_page()
    other.set_default_timeout(WAIT)
    open_page(other, address)
    for page, prompt in ((tab, "smile"), (other, "frown")):
        page.fill("#rb-prompt-input", prompt)
        page.click("#generate")
    for page, prompt in ((tab, "smile"), (other, "frown")):
        page.wait_for_selector("#results .rb-image >> nth=1")
        assert page.get_attribute(".rb-made >> nth=0", "alt").endswith(prompt)
    other.close()


def expect_cancelled(tab, place: str) -> int:
    """Returns the number of images; that it was cancelled stays told."""
    tab.wait_for_selector(f"#{place}status >> text=Cancelled.")
    tab.wait_for_timeout(500)  # the image that was being made may still come, and be told
    assert "Cancelled." in tab.inner_text(f"#{place}status")
    return tab.locator(".rb-image:visible").count()


def test_what_is_cancelled_ends_and_can_be_asked_for_again(tab):
    fill_slow(tab)
    tab.click("#generate")
    tab.wait_for_selector("#results .rb-image")
    tab.click("#cancel")
    assert expect_cancelled(tab, "") < MAX_IMAGES
    tab.fill("#rb-prompt-input", "frown")
    tab.click("#generate")
    tab.wait_for_function("document.querySelector('.rb-made').alt.endsWith('frown')")
    assert "Cancelled." not in tab.inner_text("#status")
    tab.fill("input[aria-label='number input for Images']", "1")
    tab.keyboard.press("Tab")
    tab.fill("#rb-prompt-input", "smile")
    tab.click("#generate")  # ends the former
    tab.wait_for_function("document.querySelector('#status').innerText.includes('Image 1 of 1,')")


def test_who_cancels_does_not_end_the_other_s_images(browser, address, tab):
    other = browser.new_page()
    other.set_default_timeout(WAIT)
    open_page(other, address)
    fill_slow(tab)
    tab.click("#generate")
    tab.wait_for_selector("#results .rb-image")
    fill_slow(other)
    other.click("#generate")
    other.click("#cancel")
    before = tab.locator(".rb-image").count()
    assert expect_cancelled(other, "") < MAX_IMAGES
    tab.wait_for_selector(f"#results .rb-image >> nth={before}")  # goes on
    tab.click("#cancel")
    assert expect_cancelled(tab, "") < MAX_IMAGES
    other.close()


def test_a_comparison_can_be_cancelled(tab):
    fill_slow(tab)
    tab.click("role=tab[name=Compare]")
    tab.click("#compare")
    tab.wait_for_selector("#compare-second .rb-image")
    tab.click("#compare-cancel")
    assert expect_cancelled(tab, "compare-") < 2 * MAX_IMAGES
