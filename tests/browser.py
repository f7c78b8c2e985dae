"""A real headless Chromium (Debian's chromium and chromium-driver) for tests of the live page."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

LAPTOP, PHONE = (1280, 800), (390, 844)
PATIENCE_SECONDS = 240  # a loaded machine takes long


class Page:
    """The live page in a browser, as its reader uses it."""

    def __init__(self, driver: webdriver.Chrome, address: str) -> None:
        self.driver, self.address = driver, address

    def open(self, search: str = "") -> None:
        self.driver.get(self.address + search)

    def resize(self, size: tuple[int, int]) -> None:
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def darken(self) -> None:
        dark = [{"name": "prefers-color-scheme", "value": "dark"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": dark})

    def run_script(self, script: str) -> Any:
        return self.driver.execute_script(f"return {script}")

    def text(self, selector: str = "body") -> str:
        return self.element(selector).text

    def element(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def click(self, link_text: str) -> None:
        """An update of the page may replace the link between its being found and clicked."""

        def is_clicked() -> bool:
            try:
                self.driver.find_element(By.LINK_TEXT, link_text).click()
            except StaleElementReferenceException:
                return False
            return True

        wait_until(is_clicked)

    def chart(self, name: str) -> Any:
        """Type, numbers of columns and rows of the chart's first trace; None if it is not drawn."""
        return self.run_script(
            f"""(chart => chart._fullData && !chart.hidden && chart.querySelector('.main-svg') ?
            {{type: chart._fullData[0].type, columns: chart._fullData[0].x.length,
              rows: chart._fullData[0].z ? chart._fullData[0].z.length : chart._fullData.length}} : null)
            (document.querySelector('[data-figure={name}]'))"""
        )

    def horizontal_range(self, name: str) -> list[float]:
        return self.run_script(f"document.querySelector('[data-figure={name}]')._fullLayout.xaxis.range")

    def drag_across(self, name: str) -> None:
        """Zoom into the middle of a chart with the mouse."""
        area = self.element(f"[data-figure={name}] .nsewdrag")
        half = area.size["width"] // 4
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", area)
        ActionChains(self.driver).move_to_element_with_offset(area, -half, 0).click_and_hold().move_by_offset(
            half, 3
        ).move_by_offset(half, 3).release().perform()

    def overflow(self) -> int:
        """Pixels by which the page is wider than the window."""
        return self.run_script("document.documentElement.scrollWidth - document.documentElement.clientWidth")

    def weight(self) -> int:
        """Bytes of everything that the browser loaded, as they were sent."""
        return self.run_script(
            """[...performance.getEntriesByType('resource'), ...performance.getEntriesByType('navigation')]
            .reduce((sum, entry) => sum + entry.transferSize, 0)"""
        )

    def asked_hosts(self) -> set[str]:
        """Where everything came from that the page loaded."""
        return set(self.run_script("performance.getEntriesByType('resource').map(entry => new URL(entry.name).origin)"))

    def complaints(self) -> list[str]:
        """What the browser itself had to complain about since it was asked last: failed requests, script errors."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]

    def picture(self, file: Path, *, top: str = "body") -> None:
        """A PNG of what the window shows with this element at its top."""
        self.driver.execute_script("arguments[0].scrollIntoView()", self.element(top))
        time.sleep(0.5)
        assert self.driver.save_screenshot(str(file))
        with Image.open(file) as picture:  # a third of the bytes
            # Rare colours stay what they are, beside a heat map too.
            picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE).save(file, optimize=True)


def wait_until(condition: Callable[[], Any]) -> Any:
    """What the condition gives as soon as it is not empty, and the page has the elements that it looks at."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        # An element may not be there yet, or just be replaced.
        with suppress(NoSuchElementException, StaleElementReferenceException):
            if found := condition():
                return found
        assert time.monotonic() < deadline, "what the page should show did not come"
        time.sleep(0.1)


@contextmanager
def browser(address: str) -> Iterator[Page]:
    options = webdriver.ChromeOptions()
    # No sandbox: tests run as root in containers; what is opened is the project's own page.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    program = shutil.which("chromedriver")
    assert program, "these tests need Chromium: apt-get install chromium chromium-driver"
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(program))
    try:
        page = Page(driver, address)
        page.resize(LAPTOP)
        yield page
    finally:
        driver.quit()
