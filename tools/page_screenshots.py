"""Draw the pictures of the page in docs/: python tools/page_screenshots.py [folder]

Needs Debian's chromium and chromium-driver, and `pip install selenium`.
"""

import os
import shutil
import sys
import tempfile

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

import rtfast
from rtfast.page import write_page

FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
         "--disable-background-networking", "--disable-component-update", "--disable-sync")
TEXT = "the red house"

QUERY = "{name: 'encoder.layers.0.self_attention.query', h: 1, i: 1, j: 3}"
#: file, width, height, colours, what is done on the page first
PICTURES = [
    ("page_walk.png", 1280, 860, "light", ""),
    ("page_explanation.png", 1360, 900, "light", f"rtfast.reveal({QUERY}); rtfast.panel.open({QUERY})"),
    ("page_words.png", 1280, 1240, "dark", "document.getElementById('cross').scrollIntoView();"
     "const step = document.getElementById('step'); step.value = 1; step.dispatchEvent(new Event('input'))"),
]


def browser(profile):
    options = Options()
    options.binary_location = shutil.which("chromium")
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=Service(executable_path=shutil.which("chromedriver")))


def main(folder):
    model = rtfast.load()
    with tempfile.TemporaryDirectory() as scratch:
        page = os.path.join(scratch, "page.html")
        print(f"{write_page(model, model.trace(TEXT), page):,} bytes")
        driver = browser(os.path.join(scratch, "profile"))
        try:
            for name, width, height, scheme, script in PICTURES:
                draw(driver, page, os.path.join(folder, name), width, height, scheme, script)
        finally:
            driver.quit()


def draw(driver, page, path, width, height, scheme, script):
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                           {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [
        {"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"}]})
    driver.get(f"file://{page}")
    if script:
        driver.execute_script(script)
    driver.execute_async_script("setTimeout(arguments[0], 300)")
    driver.save_screenshot(path)
    for entry in driver.get_log("browser"):
        print(name_of(path), entry["message"])


def name_of(path):
    return os.path.basename(path)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "..", "docs"))
