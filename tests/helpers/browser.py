"""A report in a browser, as a reader opens it: the first page, every category, every entry."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from debian import install_or_skip
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = ("--no-sandbox", "--disable-quic", "--no-first-run", "--disable-sync")
QUIET += ("--disable-background-networking", "--disable-component-update")
# WebGL without a graphics card, in place of --disable-gpu.
SOFTWARE_GL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")
# A picture, drawn small, has more than one colour; pictures of no size and those that don't load have none.
COLOURS = """async image => {
  try { await image.decode() } catch { return 0 }
  const canvas = document.createElement("canvas")
  canvas.width = canvas.height = 100
  const pen = canvas.getContext("2d")
  pen.drawImage(image, 0, 0, 100, 100)
  return new Set(new Uint32Array(pen.getImageData(0, 0, 100, 100).data.buffer)).size
}"""


def chromium_or_skip() -> str:
    """Path of a Chromium, installed from Debian where there is none; skips the test where it can't be had."""
    if not any(map(shutil.which, NAMES)):
        install_or_skip("Chromium", "chromium")
    return next(filter(None, map(shutil.which, NAMES)))


# Whether a scroll to the upper left corner of what is shown brings the corner of the picture onto the page.
CORNER = """image => {
  const room = image.closest(".overflow-auto")
  room.scrollTo(0, 0)
  const [inner, outer] = [image, room].map(element => element.getBoundingClientRect())
  return inner.top >= outer.top && inner.left >= outer.left
}"""


class Reader:
    """A page of the browser and what went wrong on it: errors, blank or cut pictures, requests beyond the file."""

    def __init__(self, page: Page, report: Path):
        self.page = page
        self.faults: list[str] = []
        self._place = "first page"
        page.on("console", lambda message: message.type == "error" and self._fault(message.text))
        page.on("pageerror", lambda error: self._fault(str(error)))
        page.on("requestfailed", lambda request: self._fault(f"{request.url[:80]} did not load"))
        page.on("request", lambda request: self._external(request.url, report.as_uri()))
        page.goto(report.as_uri())
        page.wait_for_selector("#app a")
        self._look()

    def read_all(self) -> list[str]:
        """Open every category and every entry; the paths of the entries."""
        entries = []
        for category, subcategories in self.page.evaluate("categories").items():
            self._place = category
            # By way of the menu, as a reader goes: a category keeps its list while it is on the page.
            self.page.evaluate("app.setView({navbarMode: 'menu'})")
            self.page.get_by_text(category, exact=True).first.click()
            for path in (path for paths in subcategories.values() for path in paths):
                self._place = path
                self.page.evaluate("path => app.showResultInfo(path)", path)
                self.page.get_by_text("Description").wait_for()
                if not self.page.inner_text("#app .prose-invert").strip():
                    self._fault("no caption")
                if "JOB PARAMETERS" in self.text():
                    self._fault("job parameters are shown")
                self.page.evaluate("path => new ToggleViewManager(app).handleSelectedResult(path)", path)
                # What is shown takes the place of what was: wait until the page has it.
                self.page.wait_for_function(
                    "uri => [...document.querySelectorAll('#app img, #app iframe')].some(each => each.src === uri)",
                    arg=self.page.evaluate("path => results[path].data_uri", path),
                )
                for image in self.page.query_selector_all("#app > div > div > .p-3 > img"):
                    if not image.evaluate(CORNER):
                        self._fault("its upper left corner can't be reached")
                self._look()
                entries.append(path)
        return entries

    def text(self) -> str:
        """What stands on the page now."""
        return self.page.inner_text("#app")

    def _look(self) -> None:
        for frame in self.page.frames:
            frame.wait_for_load_state()
            if not frame.inner_text("body").strip() and not frame.query_selector("img"):
                self._fault("blank")
            for image in frame.query_selector_all("img"):
                if image.evaluate("image => image.naturalWidth") == 0 or image.evaluate(COLOURS) < 2:
                    self._fault("a picture is missing or blank")

    def _external(self, url: str, own: str) -> None:
        if not url.startswith(("data:", "blob:", "about:", own)):
            self._fault(f"asks for {url}")

    def _fault(self, text: str) -> None:
        self.faults.append(f"{self._place}: {text}")


@contextmanager
def launched(*flags: str) -> Iterator[Browser]:
    """A browser with a profile of its own, which is gone afterwards."""
    path = chromium_or_skip()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*QUIET, *flags])
        yield browser
        browser.close()


@contextmanager
def opened(report: Path) -> Iterator[Reader]:
    """A report in a browser of its own."""
    with launched("--disable-gpu") as browser:
        yield Reader(browser.new_page(viewport={"width": 1500, "height": 950}), report.resolve())
