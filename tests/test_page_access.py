"""The live page for everybody: by keyboard, with a screen reader, colour-blind, on a phone, on paper."""

import base64
import re
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from longtail.conf.palette import GROUP_COLOURS, NEUTRAL
from longtail.streaming.dashboard.style import RUN_COLOURS, head_tail_colour, text_colour
from tests.axe import complaints_of_axe
from tests.browser import LAPTOP, PHONE, Page, wait_until
from tests.colours import ciede2000, smallest_difference
from tests.live_page import page_of
from tests.many_runs import write_thirty_runs

MOST_BYTES = 1_600_000
LOADED_AFTER_PAINT = """performance.getEntriesByType('resource').find(it => it.name.endsWith('plotly.min.js')).startTime
    - performance.getEntriesByName('first-contentful-paint')[0].startTime"""
SMALL_TARGETS = """[...document.querySelectorAll('a[href], button, input, summary')]
    .filter(element => element.offsetParent && !element.closest('[hidden]'))
    .filter(element => {
        const { width, height } = element.getBoundingClientRect();
        return width && (width < 24 || height < 24);
    }).map(element => element.outerHTML)"""


def test_the_distance_of_colours_is_that_of_the_paper() -> None:
    """Pairs of the test data of Sharma et al. (2005)."""
    assert ciede2000(np.array([50, 2.6772, -79.7751]), np.array([50, 0, -82.7485])) == pytest.approx(2.0425, abs=1e-4)
    assert ciede2000(np.array([50, 2.5, 0]), np.array([73, 25, -18])) == pytest.approx(27.1492, abs=1e-4)


def test_colour_blind_readers_can_tell_the_colours_apart() -> None:
    assert smallest_difference([NEUTRAL, *GROUP_COLOURS.values()]) > 20
    assert smallest_difference(list(RUN_COLOURS)) > 20
    assert [head_tail_colour(at) for at in (0, 0.5, 1)] == list(GROUP_COLOURS.values())


@pytest.mark.parametrize(("share", "colour"), [(0.0, "#ffffff"), (0.4, "#ffffff"), (0.7, "#000000"), (1.0, "#000000")])
def test_numbers_on_a_heat_map_are_black_or_white(share: float, colour: str) -> None:
    assert text_colour(share) == colour


@pytest.mark.long
def test_everybody_can_use_the_page(tmp_path: Path) -> None:
    names = write_thirty_runs(tmp_path)
    with page_of(tmp_path) as page:
        page.open()
        wait_until(lambda: page.chart("group_lines"))
        assert complaints_of_axe(page) == []
        assert page.weight() < MOST_BYTES
        assert page.run_script(LOADED_AFTER_PAINT) > -20, "the chart library is no part of the first paint"
        works_by_keyboard(page)
        has_tables(page)
        assert 1 < pages_on_paper(page) < 12
        page.darken()
        chosen = [("run", names[0]), *(("compare", other) for other in names[1:8])]
        for address in ("", "?" + urlencode(chosen), "?view=runs&choose=1"):
            page.resize(LAPTOP)
            page.open(address)
            wait_until(lambda: page.run_script("document.querySelectorAll('#table h1, [data-figure=loss] svg').length"))
            assert complaints_of_axe(page) == []
            page.resize(PHONE)
            wait_until(lambda: page.overflow() == 0)
            assert page.run_script(SMALL_TARGETS) == [], address
        assert page.complaints() == []


def works_by_keyboard(page: Page) -> None:
    """The first key leads past the list, in which the arrow keys work."""

    def press(*keys: str) -> None:
        ActionChains(page.driver).send_keys(*keys).perform()

    def focused() -> str:
        return page.run_script("document.activeElement.textContent.trim()")

    press(Keys.TAB)
    assert focused() == "skip to the content"
    press(Keys.ENTER)
    assert page.run_script("document.activeElement.id") == "main"
    page.run_script("document.querySelector('.run.shown a').focus()")
    titles = page.run_script("[...document.querySelectorAll('.run-title')].map(title => title.textContent)")
    assert page.run_script("document.querySelectorAll('#runs [tabindex=\"0\"]').length") == 1
    press(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_UP)
    assert focused().startswith(titles[1])
    press(Keys.ARROW_RIGHT)
    assert focused() == "+ compare"
    press(Keys.ARROW_LEFT, Keys.END)
    assert focused().startswith(titles[-1])
    press(Keys.HOME, Keys.ARROW_DOWN, Keys.ENTER)
    wait_until(lambda: rows_of(page, "h1") == [titles[1]])
    assert focused().startswith(titles[1])
    assert page.run_script("document.querySelectorAll('#runs [tabindex=\"0\"]').length") == 1


def has_tables(page: Page) -> None:
    """Each chart has a label, and its numbers as a table."""
    assert page.run_script("[...document.querySelectorAll('.chart')].every(it => it.role && it.ariaLabel)")
    page.run_script("document.querySelector('#panel-group_lines summary').click()")
    head, *rows = wait_until(lambda: rows_of(page, "#panel-group_lines tr"))
    assert head == "epoch all classes many-shot medium-shot few-shot" and len(rows) == 10
    assert re.fullmatch(r"1( \d+\.\d %){4}", rows[0])
    page.run_script("document.querySelector('#panel-accuracy_map summary').click()")
    wait_until(lambda: len(rows_of(page, "#panel-accuracy_map tr")) == 11)


def rows_of(page: Page, selector: str) -> list[str]:
    """Texts of elements, read at once: an update may replace them at any moment."""
    texts = page.run_script(f"[...document.querySelectorAll('{selector}')].map(element => element.innerText)")
    return [" ".join(text.split()) for text in texts]


def pages_on_paper(page: Page) -> int:
    """Of a PDF of the page, which has the charts and not the list of runs."""
    pdf = page.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    return base64.b64decode(pdf["data"]).count(b"/Type /Page\n")
