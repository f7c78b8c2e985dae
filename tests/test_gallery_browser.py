"""The live page in a real headless Chromium over real trainings of digits: the images behind its numbers, the log, and
what it says of FixMatch and of a contrastive pre-training. `--screenshots DIR` keeps pictures."""

import io
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pyspark.sql import SparkSession
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from longtail.conf.arguments import resolve_options
from longtail.conf.options.prepare import PrepareOptions
from longtail.conf.options.pretraining import PretrainSimclrOptions
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.vocabulary import TEST, UNLABELED
from longtail.data.contract import CONFIDENCE, ID, PREDICTED
from longtail.data.kept_predictions import of_classes, read_kept
from longtail.data.loader import load_hidden_labels, load_split
from longtail.data.manifest import read_manifest
from longtail.spark_jobs.steps.prepare import prepare
from longtail.spark_jobs.steps.run_images import images_of_runs
from longtail.spark_jobs.steps.run_logs import logs_of_runs
from longtail.streaming.dashboard.server import address, dashboard_page, listening_socket, serving
from longtail.streaming.dashboard.table_reader import TableReader
from longtail.streaming.live.query import start_live_query
from longtail.training.run import run_training
from longtail.training.run_log import RunLog
from tests.axe import complaints_of_axe
from tests.browser import PHONE, Page, browser, wait_until
from tests.tiny_set import ALONE, paths_of

pytestmark = pytest.mark.long

SHOWN = """[...document.querySelectorAll('#gallery figure')].map(figure => ({
    alt: figure.querySelector('img').alt, src: figure.querySelector('img').src, caption: figure.innerText,
    heading: figure.closest('ul').previousElementSibling.previousElementSibling.innerText,
    wide: figure.querySelector('img').naturalWidth}))"""
PRE = "(document.querySelector('#log pre'))"
LOG = f"{PRE}?.textContent ?? ''"
SUREST_FIRST = [(CONFIDENCE, "descending"), (ID, "ascending")]


@pytest.fixture(scope="module")
def root(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with prepared digits (sets/), a SimCLR and a FixMatch training of them (runs/) and live tables."""
    root = tmp_path_factory.mktemp("gallery")
    digits = {"dataset": "digits", "imb_factor": 0.05, "imb_factor_unlabel": 1.0, "data_dir": root / "sets"}
    set_dir = prepare(spark, resolve_options(PrepareOptions, digits))
    options = resolve_options(
        TrainSemiOptions,
        {**digits, "semi_method": "fixmatch", "epochs": 4, "arch": "resnet20", "confidence_threshold": (0.6,),
         "runs_dir": root / "runs"},
    )  # fmt: skip
    assert isinstance(set_dir, Path)
    of_views = {**digits, "epochs": 3, "arch": "resnet20", "batch_size": 64, "runs_dir": root / "runs"}
    pretraining = resolve_options(PretrainSimclrOptions, of_views)
    run_training(pretraining, paths_of(set_dir, root / "runs" / "simclr"), ALONE, attempt=1)
    run_training(options, paths_of(set_dir, root / "runs" / "digits"), ALONE, attempt=1)
    query = start_live_query(spark, root / "runs" / "events", tables_dir=root / "runs" / "analytics", trigger=None)
    query.awaitTermination()
    return root


@contextmanager
def page_of(root: Path) -> Iterator[Page]:
    tables = TableReader(root / "runs" / "analytics")
    listening = listening_socket("127.0.0.1", 0)
    app = dashboard_page(
        tables.read, tables.version, host="127.0.0.1", notes=tables.notes, images=images_of_runs(root / "runs"),
        log=logs_of_runs(root / "runs"),
    )  # fmt: skip
    with serving(app, listening), browser(address(listening)) as page:
        yield page


def shown(page: Page) -> list[dict[str, Any]]:
    return wait_until(lambda: (found := page.run_script(SHOWN)) and all(one["wide"] for one in found) and found)


def key_of(image: dict[str, Any]) -> int:
    return int(image["alt"].split()[1])


def pixels_of(image: dict[str, Any]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(b64decode(image["src"].partition(";base64,")[2]))))


def is_closed(page: Page) -> bool:
    return not page.run_script("document.getElementById('gallery').open")


def click_on(page: Page, chart: str, point: str) -> None:
    """With the mouse, at the point of a chart that the script gives as [x, y] in its data."""
    place = page.driver.execute_script(
        f"""const chart = document.querySelector('[data-figure={chart}]');
        chart.scrollIntoView({{block: 'center'}});
        const [x, y] = ({point})(chart), {{xaxis, yaxis}} = chart._fullLayout, box = chart.getBoundingClientRect();
        return [box.x + xaxis._offset + xaxis.d2p(x), box.y + yaxis._offset + yaxis.d2p(y)]"""
    )
    actions = ActionChains(page.driver)
    actions.w3c_actions.pointer_action.move_to_location(*(round(number) for number in place))
    actions.pause(0.3).click().perform()


def test_a_click_shows_the_images_behind_a_number(root: Path, request: pytest.FixtureRequest) -> None:
    run_dir = root / "runs" / "digits"
    kept, unlabeled = read_kept(run_dir, TEST), read_kept(run_dir, UNLABELED)
    assert kept is not None and unlabeled is not None and len(unlabeled.rows)
    set_dir = Path(kept.set_dir)
    manifest = read_manifest(set_dir)
    names = manifest.class_names
    images = load_split(set_dir, TEST, manifest)
    content = dict(zip(images.ids.tolist(), images.images, strict=True))
    truth = dict(zip(*(part.tolist() for part in load_hidden_labels(set_dir)), strict=True))
    with page_of(root) as page:
        page.open()
        wait_until(lambda: page.chart("confusion_matrix"))

        # A cell: the button of the largest confusion, and a click on the same cell of the chart.
        button = page.element("#note-confusion_matrix [data-images]")
        query = dict(part.split("=") for part in str(button.get_attribute("data-images")).split("&"))
        cell = of_classes(kept.rows, labels=[int(query["truth"])], predicted=[int(query["predicted"])])
        page.driver.execute_script("arguments[0].focus()", button)
        ActionChains(page.driver).send_keys(Keys.ENTER).perform()
        found = shown(page)
        expected = cell.sort_by(SUREST_FIRST)[ID].to_pylist()[:18]
        assert [key_of(image) for image in found] == expected and found[0]["heading"].startswith("Mistakes")
        for image in found:
            assert np.array_equal(pixels_of(image), content[key_of(image)][:, :, 0])
            assert f"class {names[int(query['truth'])]}, predicted as {names[int(query['predicted'])]} " in image["alt"]
        assert page.run_script("document.activeElement.closest('#gallery') !== null")
        ActionChains(page.driver).send_keys(Keys.ESCAPE).perform()
        wait_until(lambda: is_closed(page))
        focused = page.driver.switch_to.active_element.get_attribute("data-images")
        assert focused == button.get_attribute("data-images"), "the focus returns to what opened the gallery"

        counts = np.array(manifest.counts["train"])
        rows = np.argsort(-counts, kind="stable").tolist()
        row, column = rows.index(int(query["truth"])), rows.index(int(query["predicted"]))
        click_on(page, "confusion_matrix", f"chart => [{column}, {row}]")
        assert [key_of(image) for image in shown(page)] == expected
        directory = request.config.getoption("--screenshots")
        if directory:
            directory.mkdir(parents=True, exist_ok=True)
            page.picture(directory / "gallery.png", top="#panel-confusion_matrix")
        page.element("[data-close-gallery]").click()
        wait_until(lambda: is_closed(page))
        assert page.driver.switch_to.active_element.get_attribute("data-figure") == "confusion_matrix"

        # A class, of a chart and of the panel for those without a mouse.
        tail = rows[-1]
        click_on(page, "class_accuracy", f"chart => [chart._fullData[0].x[{len(rows) - 1}], {len(rows) - 1}]")
        of_chart = shown(page)
        assert page.text("#gallery h2") == names[tail]
        ActionChains(page.driver).send_keys(Keys.ESCAPE).perform()
        wait_until(lambda: is_closed(page))
        page.element("#note-images [data-images]").send_keys(Keys.SPACE)
        assert [image["alt"] for image in shown(page)] == [image["alt"] for image in of_chart]
        mistakes = of_classes(kept.rows, labels=[tail], is_right=False)
        headings = page.run_script("[...document.querySelectorAll('#gallery h3')].map(h => h.innerText)")
        assert f"Taken for another class ({len(mistakes)})" in headings
        page.element("[data-close-gallery]").click()

        # A bar of pseudo-labels: what was predicted as the class, and what it is.
        head = int(np.bincount(unlabeled.rows[PREDICTED].to_numpy(), minlength=10).argmax())
        row = rows.index(head)
        click_on(page, "pseudo_labels", f"chart => [chart._fullData[1].x[{row}] / 2, {row} + 0.2]")
        found = shown(page)
        of_class = of_classes(unlabeled.rows, predicted=[head]).sort_by(
            [("confidence", "descending"), (ID, "ascending")]
        )
        assert page.text("#gallery h2") == f"Unlabeled images predicted as {names[head]}"
        first = [image for image in found if image["heading"] == found[0]["heading"]][: min(18, len(of_class))]
        assert [key_of(image) for image in first] == of_class[ID].to_pylist()[: len(first)]
        assert all(
            f"of the class {names[truth[key_of(image)]]}, predicted as {names[head]}" in image["alt"] for image in found
        )
        page.resize(PHONE)
        assert page.overflow() == 0
        assert page.run_script("(g => g.scrollWidth - g.clientWidth)(document.getElementById('gallery'))") <= 0
        assert page.complaints() == []


def test_a_set_that_is_gone_is_one_sentence(root: Path) -> None:
    (root / "sets").rename(root / "elsewhere")
    try:
        with page_of(root) as page:
            page.open()
            wait_until(lambda: page.chart("confusion_matrix"))
            page.element("#note-images [data-images]").send_keys(Keys.ENTER)
            assert "is not a prepared data set" in wait_until(lambda: page.text("#gallery .message"))
            assert page.complaints() == []
    finally:
        (root / "elsewhere").rename(root / "sets")


def test_a_log_is_followed_and_the_checkpoint_s_path_copied(root: Path) -> None:
    with page_of(root) as page:
        page.open("?run=digits")
        page.driver.execute_cdp_cmd(
            "Browser.grantPermissions",
            {"origin": page.address, "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]},
        )
        button = wait_until(lambda: page.run_script("document.querySelector('[data-log]')"))
        button.click()
        lines = wait_until(lambda: (found := page.run_script(LOG)) and found.splitlines())
        assert lines[-1].endswith("  finished") and "epoch 4/4: train loss " in lines[-2]
        assert complaints_of_axe(page) == []
        RunLog(root / "runs" / "digits", attempt=2).add("another attempt <i>")
        wait_until(lambda: "another attempt <i>" in page.run_script(LOG))
        assert page.run_script("(pre => pre.scrollTop + pre.clientHeight >= pre.scrollHeight - 4)" + PRE)
        ActionChains(page.driver).send_keys(Keys.ESCAPE).perform()
        wait_until(lambda: not page.run_script("document.getElementById('log').open"))
        assert page.driver.switch_to.active_element.get_attribute("data-log") == "digits"

        page.element("#overview summary").click()
        page.element("[aria-label='copy the path of the last checkpoint']").click()
        wait_until(lambda: "copied" in page.text("#overview .command"))
        copied = page.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
        assert copied == f"{root}/runs/digits/ckpt.pth.tar"
        # As for a page that is no secure context, whose clipboard is undefined.
        page.run_script("Object.defineProperty(navigator, 'clipboard', {value: undefined}) && 0")
        page.element("[aria-label='copy the command']").click()
        wait_until(lambda: "the browser refuses: copy the selected text" in page.text("#overview .command"))
        assert page.run_script("getSelection().toString()").startswith("longtail train_semi --dataset digits ")
        assert page.complaints() == []


def test_fixmatch_and_a_contrastive_pretraining_are_what_the_page_says(
    root: Path, request: pytest.FixtureRequest
) -> None:
    directory = request.config.getoption("--screenshots")
    with page_of(root) as page:
        page.resize((1280, 1200))
        for run, drawn, top in (
            ("simclr", "positive_rank", "body"),
            ("digits", "pseudo_label_classes", "#panel-pseudo_labels"),
        ):
            page.open(f"?run={run}")
            wait_until(lambda drawn=drawn: page.chart(drawn))
            if directory:
                page.picture(directory / f"{'contrastive' if run == 'simclr' else 'fixmatch'}.png", top=top)
            told = page.text("main")
            if run == "simclr":
                assert page.text("h1") == "digits, pre-training, SimCLR"
                assert "views recognised" in told and "rank of the same image" in told
                assert "many-shot" not in told and "label bias" not in told.lower() and "inf" not in told.split()
            else:
                assert page.text("h1") == "digits, FixMatch"
                assert "Epoch 4: number of labelled images (grey), and of the pseudo-labels" in told
                assert "neither makes nor uses pseudo-labels" not in told
        assert page.complaints() == []
