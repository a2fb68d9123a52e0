"""A person's hands on the page: what the tests of the page do in Chromium."""

import base64
import pathlib
import shutil

from rbjax.demo_page.settings import MAX_IMAGES, MAX_STEPS

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
WAIT = 300_000  # milliseconds at most; the first image is compiled


def open_page(tab, address) -> None:
    tab.goto(address)
    tab.wait_for_selector(".rb-slot")
    tab.wait_for_selector(".rb-mark")


def remove_all(tab) -> None:
    while tab.locator(".rb-slot").count():
        tab.locator(".rb-slot button", has_text="Remove").first.click()


def upload(tab, path: str, concept: str) -> None:
    count = tab.locator(".rb-slot").count()
    tab.check(f"input[name=rb-type][value={concept}]")
    tab.set_input_files(".rb-upload", path)
    tab.locator(".rb-slot").nth(count).locator(".rb-crop img[src]").wait_for()


def drop(tab, place: str, path: pathlib.Path) -> None:
    """Drops a PNG on a part of the page."""
    data = tab.evaluate_handle(
        """([name, data]) => {
          const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
          const transfer = new DataTransfer();
          transfer.items.add(new File([bytes], name, { type: "image/png" }));
          return transfer;
        }""",
        [path.name, base64.b64encode(path.read_bytes()).decode()],
    )
    tab.dispatch_event(place, "drop", {"dataTransfer": data})


def choose(tab, label: str, value: str) -> None:
    """Chooses an entry of a list."""
    tab.click(f"input[aria-label='{label}']")
    tab.click(f"[role=option][aria-label='{value}']")


def draw_box(tab, slot: int) -> None:
    """Drags over the middle of the picture, half of it in each direction."""
    picture = tab.locator(".rb-slot").nth(slot).locator(".rb-area img")
    picture.scroll_into_view_if_needed()
    area = picture.bounding_box()
    corner = lambda share: (area["x"] + share * area["width"], area["y"] + share * area["height"])  # noqa: E731
    tab.mouse.move(*corner(0.25))
    tab.mouse.down()
    tab.mouse.move(*corner(0.5), steps=3)
    tab.mouse.move(*corner(0.75))
    tab.mouse.up()


def numbers(tab, slot: int) -> list[int]:
    fields = tab.locator(".rb-slot").nth(slot).locator(".rb-numbers input")
    return [int(fields.nth(i).input_value()) for i in range(4)]


def generate(tab, images: int = 2) -> None:
    tab.click("#generate")
    tab.wait_for_selector(f"#results .rb-image >> nth={images - 1}")
    tab.wait_for_function(
        f"document.querySelector('#status').innerText.includes('Image {images} of')"
    )


def fill_slow(tab) -> None:
    """Asks for as many images as can be, and slow ones."""
    for name, value in (("Images", MAX_IMAGES), ("Steps", MAX_STEPS)):
        tab.fill(f"input[aria-label='number input for {name}']", str(value))
        tab.keyboard.press("Tab")
