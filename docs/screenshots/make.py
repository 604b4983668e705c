# ruff: noqa: INP001 - a program, not a module
"""Make the README's pictures from the running demo: python docs/screenshots/make.py, or script/pictures.

Starts ThreatLens with its demo and three more machines (fleet.py) in a folder of its own, makes the first account,
waits until the attack has got in, and looks at the pages as a person does. What is there before is overwritten.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import fleet
from PIL import Image
from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PASSWORD = "pictures of a demo"  # noqa: S105 - of an account that lives for a minute
#: Shown on the pictures; made anew and removed.
DATA, LOGS = Path("/tmp/threatlens"), Path("/tmp/fleet")  # noqa: S108
STORY_S = 240  # the longest that the demo's attack takes
CHARTS_S = 330  # until charts of minutes have something to show
FIRST_LINES_S = 6
FRAMES = 30
FRAME_MS = 400
SIZE = {"width": 1280, "height": 800}


def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("Chromium is needed: apt install chromium")
    for folder in (DATA, LOGS):
        folder.mkdir(mode=0o700)  # fails where it is there: it is somebody else's
    end = threading.Event()
    try:
        (DATA / "threatlens.yaml").write_text(fleet.configuration(LOGS))
        for name in fleet.NAMES:
            (LOGS / f"{name}.log").touch()
        threading.Thread(target=fleet.write, args=(LOGS, 7, end.wait), daemon=True).start()
        server = subprocess.Popen(
            [sys.executable, "-m", "threatlens", "serve", "--demo", "--port", "8791"],
            cwd=ROOT,
            env={"THREATLENS_DATA": str(DATA), "PATH": "/usr/bin:/bin"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=OPTIONS)
                take(browser, setup_address(server))
                browser.close()
        finally:
            server.terminate()
            server.wait(20)
    finally:
        end.set()
        shutil.rmtree(DATA)
        shutil.rmtree(LOGS)


def setup_address(server: subprocess.Popen[str]) -> str:
    """The link that makes the first account, as the server prints it."""
    assert server.stdout is not None  # noqa: S101
    for line in server.stdout:
        found = re.search(r"http://\S+/setup\?code=\S+", line)
        if found:
            return found[0]
    sys.exit("The server did not start.")


def take(browser: Any, setup: str) -> None:
    base = setup.partition("/setup")[0]
    context = browser.new_context(viewport=SIZE, color_scheme="light", timezone_id="UTC", device_scale_factor=1)
    tab = context.new_page()
    tab.goto(setup)
    tab.fill("input[name=name]", "anna")
    for field in tab.locator("input[type=password]").all():
        field.fill(PASSWORD)
    tab.click("main button, form button")
    begun_s = time.monotonic()
    tab.wait_for_timeout(FIRST_LINES_S * 1_000)  # a list without events has nothing to narrow down
    tab.goto(base + "/events")
    film(tab, HERE / "live.webp")
    tab.goto(base + "/incidents")
    until_s = time.monotonic() + STORY_S
    while "got in" not in tab.inner_text("main") and time.monotonic() < until_s:
        tab.wait_for_timeout(2_000)
    tab.wait_for_timeout(max(0.0, 1000 * (begun_s + CHARTS_S - time.monotonic())))
    tab.reload()
    incident = tab.locator("a[href*='/incidents/']", has_text="guessed").first.get_attribute("href")
    pages = {"dashboard": "/", "incident": incident, "events": "/events?range=15m", "sources": "/sources"}
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        for name, path in pages.items():
            tab.goto(base + str(path))
            tab.wait_for_timeout(1_500)
            for button in tab.locator("[data-dismiss]").all():
                button.click()
            picture = Image.open(io.BytesIO(tab.screenshot()))
            picture.quantize(256, Image.Quantize.MAXCOVERAGE, 1, dither=Image.Dither.NONE).save(
                HERE / f"{name}-{scheme}.png", optimize=True
            )
    context.close()


def film(tab: Any, path: Path) -> None:
    """Lines as they arrive, as an animated picture."""
    tab.wait_for_timeout(3_000)
    frames = []
    for _ in range(FRAMES):
        frames.append(Image.open(io.BytesIO(tab.screenshot())).convert("RGB").resize((960, 600)))
        tab.wait_for_timeout(FRAME_MS)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0, quality=60, method=4)


if __name__ == "__main__":
    main()
