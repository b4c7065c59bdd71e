"""The explorer in a browser: what a reader does on it, and the colours that it shows."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import numpy as np
from PIL import Image
from playwright.sync_api import Browser

THREE_FRAMES = """() => new Promise(
  done => requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(done)))
)"""


class ExplorerPage:
    """The explorer on a page, and what went wrong on it."""

    def __init__(self, chromium: Browser, folder: Path, address: str = "", width: int = 1400, **options):
        self.page = chromium.new_page(viewport={"width": width, "height": 900}, **options)
        self.faults: list[str] = []
        self.page.on("console", lambda message: message.type == "error" and self.faults.append(message.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self._request(request.url, folder))
        self.page.goto((folder / "index.html").as_uri() + address)
        self.page.wait_for_selector("body[data-drawn]")

    def _request(self, url: str, folder: Path) -> None:
        if not unquote(url).startswith((folder.as_uri(), "data:", "blob:")):
            self.faults.append(f"asks for {url}")

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """What is done here draws anew; wait for that."""
        before = self.drawn()
        yield
        self.page.wait_for_function("before => +document.body.dataset.drawn > before", arg=before)

    def drawn(self) -> int:
        return int(self.page.get_attribute("body", "data-drawn"))

    def pixels(self, panel: int) -> np.ndarray:
        """Colours (height x width x 3) of a panel on white; 0: the UMAP, then the slices."""
        packed = self.page.evaluate(
            """panel => {
              const canvas = document.querySelectorAll(".panel canvas")[panel];
              const {width, height} = canvas;
              const copy = Object.assign(document.createElement("canvas"), {width, height});
              const pen = copy.getContext("2d");
              pen.fillStyle = "white";
              pen.fillRect(0, 0, width, height);
              pen.drawImage(canvas, 0, 0);
              return copy.toDataURL("image/png").split(",")[1];
            }""",
            panel,
        )
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(packed))).convert("RGB")).astype(int)

    def colours(self, panel: int, places: np.ndarray) -> np.ndarray:
        """Colours at places of the panel, from -1 to 1 with y downwards."""
        pixels = self.pixels(panel)
        at = np.floor((np.asarray(places) + 1) / 2 * pixels.shape[0]).astype(int).clip(0, pixels.shape[0] - 1)
        return pixels[at[:, 1], at[:, 0]]

    def find(self, name: str) -> None:
        """Colour by a feature that the search finds, by the keyboard alone."""
        with self.drawing():
            self.page.focus("#search input")
            self.page.keyboard.insert_text(name)
            self.page.keyboard.press("Enter")

    def lasso(self, panel: int, low: tuple, high: tuple) -> None:
        """Draw a rectangle in a panel, between places from -1 to 1."""
        self.page.locator("canvas").nth(panel).scroll_into_view_if_needed()
        box = self.page.locator("canvas").nth(panel).bounding_box()
        corners = [low, (high[0], low[1]), high, (low[0], high[1])]
        at = [(box["x"] + (x + 1) / 2 * box["width"], box["y"] + (y + 1) / 2 * box["height"]) for x, y in corners]
        with self.drawing():
            self.page.mouse.move(*at[0])
            self.page.keyboard.down("Shift")
            self.page.mouse.down()
            # The lasso begins where the mouse has moved a little.
            for corner in ((at[0][0] + 4, at[0][1]), *at[1:]):
                self.page.mouse.move(*corner, steps=4)
                self.page.wait_for_timeout(30)  # the lasso takes no corners faster than a hand moves
            self.page.mouse.up()
            self.page.keyboard.up("Shift")

    def touch(self, *fingers: list[tuple[float, float]]) -> None:
        """Put fingers, each with its way, on the screen, move them together, and lift them."""
        session = self.page.context.new_cdp_session(self.page)
        for step, places in enumerate(zip(*fingers, strict=True)):
            points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
            kind = "touchMove" if step else "touchStart"
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
            self.page.evaluate(THREE_FRAMES)
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
