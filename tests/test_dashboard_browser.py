"""The live page in a real headless Chromium: over a real training, without any, with 1000 and with 8,142 classes.

`--screenshots DIR` keeps the pictures that the README shows.
"""

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from selenium.webdriver.common.action_chains import ActionChains

from longtail.conf.arguments import resolve_options
from longtail.conf.options.live import DashboardOptions
from longtail.spark_jobs.steps.live_page import page_actions
from longtail.streaming.events.schema import (
    ClassEvent,
    ConfusionEvent,
    Event,
    PredictionEvent,
    PseudoLabelEvent,
    RunEvent,
)
from longtail.streaming.events.writer import EventWriter, write_prediction_events, write_pseudo_label_events
from longtail.streaming.live.own_alerts import OwnAlerts
from longtail.streaming.live.query import start_live_query
from longtail.streaming.runs.descriptions import read_description
from longtail.streaming.tables.descriptions import RunDescription
from longtail.streaming.tables.manifest import RunManifest
from longtail.streaming.tables.writing import write_run
from tests.browser import LAPTOP, PHONE, Page, browser, wait_until
from tests.cluster import python_path
from tests.conftest import REPOSITORY, SCRIPTS
from tests.events import events_in
from tests.live_page import page_of
from tests.many_runs import write_thirty_runs
from tests.result_rows import class_rows, table, write_base

pytestmark = pytest.mark.long

MORE_EPOCHS_THAN_ANYBODY_WAITS_FOR = 2000


@contextmanager
def job(root: Path, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """`longtail ARGS` in a directory, ended with the block."""
    process = subprocess.Popen(
        [SCRIPTS / "longtail", *map(str, arguments)],
        cwd=root, env={**os.environ, "PYTHONPATH": python_path(REPOSITORY)}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        try:
            process.communicate(timeout=180)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture
def pictures(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where pictures go; without --screenshots nobody keeps them."""
    directory = request.config.getoption("--screenshots") or tmp_path / "pictures"
    directory.mkdir(parents=True, exist_ok=True)
    return directory.absolute()


def test_a_training_is_seen_while_it_runs(tmp_path: Path, pictures: Path) -> None:
    """Empty at first; fills by itself; keeps the reader's zoom, choice and place over updates and a reload."""
    with job(tmp_path, "dashboard", "--port", 0, "--master", "local[1]") as server:
        said = server.stdout.readline()
        (url,) = re.findall(r"dashboard: (http://127\.0\.0\.1:\d+/) ", said)
        with browser(url) as page:
            page.open()
            assert "No training has reported yet" in page.text()
            page.picture(pictures / "empty.png")
            page.run_script("window.neverReloaded = true")

            long = ("--epochs", MORE_EPOCHS_THAN_ANYBODY_WAITS_FOR, "--lr", 0.02, "-a", "tests.slow_network:slow")
            with job(tmp_path, "train", *long, "--threads", 1, "--master", "local[1]"):
                watch(page, pictures)
            shows_what_was_measured(page, tmp_path / "runs" / "events")
            assert page.asked_hosts() == {url.rstrip("/")}  # nothing from anywhere else
            assert page.complaints() == []


def watch(page: Page, pictures: Path) -> None:
    """What a reader does while the training runs."""
    first = wait_until(lambda: page.chart("accuracy_map"))
    assert first["type"] == "heatmap" and first["rows"] == 10

    more = wait_until(lambda: (found := page.chart("accuracy_map"))["columns"] > max(3, first["columns"]) and found)
    page.drag_across("accuracy_map")
    zoomed = page.horizontal_range("accuracy_map")
    assert zoomed[1] - zoomed[0] < 0.8 * more["columns"]
    page.click("few")
    wait_until(lambda: page.chart("accuracy_map")["rows"] == 3)
    assert "group=few" in page.driver.current_url
    page.drag_across("accuracy_lines")
    zoomed = page.horizontal_range("accuracy_lines")
    before = page.chart("accuracy_lines")["columns"]
    wait_until(lambda: page.chart("accuracy_lines")["columns"] > before)
    assert page.horizontal_range("accuracy_lines") == zoomed
    assert page.run_script("window.neverReloaded") is True

    page.driver.refresh()
    wait_until(lambda: (found := page.chart("accuracy_map")) and found["rows"] == 3)
    assert page.run_script("window.neverReloaded") is None
    assert page.element("#overview .choice [aria-current]:not([href*=split])").text in ("test", "few")
    page.click("all classes")
    wait_until(lambda: page.chart("accuracy_map")["rows"] == 10)
    wait_until(lambda: page.chart("confusion_matrix"))
    page.picture(pictures / "training.png")

    fits_a_phone(page)
    page.picture(pictures / "phone.png", top="#find")
    page.resize(LAPTOP)


def shows_what_was_measured(page: Page, events_dir: Path) -> None:
    """The map's last column against the event file of its epoch."""
    epoch, shown = page.run_script(
        """(trace => [trace.x.at(-1), Array.from(trace.z, row => row.at(-1))])
        (document.querySelector('[data-figure=accuracy_map]')._fullData[0])"""
    )
    (file,) = events_dir.glob(f"*-epoch{epoch:05d}.parquet")
    events = events_in(file)
    test = [event for event in events if event["kind"] == "class" and event["split"] == "test"]
    assert shown == [event["correct"] / event["support"] for event in sorted(test, key=lambda e: e["class_id"])]


def fits_a_phone(page: Page) -> None:
    sizes = """[...document.querySelectorAll('.chart:not([hidden]) .main-svg:first-child')]
        .map(svg => [svg.clientWidth, svg.clientHeight, svg.closest('.chart').clientHeight])"""
    page.resize(PHONE)
    wait_until(lambda: all(width < PHONE[0] for width, _, _ in page.run_script(sizes)))
    assert all(height > 150 and of_place == height for _, height, of_place in page.run_script(sizes))
    assert page.overflow() == 0


def events_of_run(
    run: str, phase: str, *, num_classes: int, epochs: int, gain: float, pseudo: int, generator: np.random.Generator
) -> list[list[Event]]:
    """Made-up metric events of a run on a long tail, a list an epoch: the rarer a class, the worse it is learned."""
    rank = np.linspace(0, 1, num_classes)
    counts = np.maximum(1, 1280 * 0.01**rank).round().astype(int)
    groups = ["many" if count > 100 else "few" if count < 20 else "medium" for count in counts]
    common = {"run": run, "attempt": 1, "phase": phase, "emitted_at": time.time()}
    best = 0.95 - 0.8 * rank**1.5 + gain * rank + generator.normal(0, 0.05, num_classes)
    support = 50
    found = []
    for epoch in range(1, epochs + 1):
        noise = generator.normal(0, 0.02, num_classes)
        correct = (np.clip(best * (1 - np.exp(-epoch / (3 + 5 * rank))) + noise, 0, 1) * support).astype(int)
        # For another class, mostly one nearer to the head.
        taken_for = (np.arange(num_classes) * generator.uniform(0.2, 0.95, num_classes)).astype(int)
        taken_for[0] = 1
        wrong = support - correct
        predicted = correct + np.bincount(taken_for, weights=wrong, minlength=num_classes).astype(int)
        events: list[Event] = [
            ClassEvent(
                **common, epoch=epoch, num_epochs=epochs, split="test", class_id=i, class_name=f"species {i}",
                shot_group=groups[i], train_count=int(counts[i]) + pseudo, pseudo_label_count=pseudo, support=support,
                correct=int(correct[i]), predicted=int(predicted[i]), loss_sum=float(wrong[i]),
                confidence_sum=0.8 * support, epoch_seconds=60.0, images_per_second=1500.0,
            )
            for i in range(num_classes)
        ]  # fmt: skip
        cells = Counter({(i, i): int(correct[i]) for i in range(num_classes)})
        cells.update({(i, int(taken_for[i])): int(wrong[i]) for i in range(num_classes)})
        events += [
            ConfusionEvent(**common, epoch=epoch, split="test", true_class=true, predicted_class=guess, count=count)
            for (true, guess), count in cells.items()
            if count
        ]
        found.append(events)
    return found


def predictions_of(run: str, window: int) -> list[PredictionEvent]:
    """A window of a stream whose class mix is that of the training and, from the seventh window on, even; one
    class has gone then."""
    is_before, start = window < 6, 1_900_000_200 + 600 * window
    train = [int(1280 * 0.01 ** (i / 9)) for i in range(10)]
    reference = [count // 2 for count in train]
    counts = [count // 6 for count in train] if is_before else [60 + 3 * (i % 4) if i != 5 else 0 for i in range(10)]
    confidence = 0.9 if is_before else 0.78
    return [
        PredictionEvent(
            run=run, attempt=1, phase="predict", emitted_at=start + 700.0, stream="/data/predictions",
            window_start=float(start), window_seconds=600, class_id=i, class_name=f"species {i}", train_count=train[i],
            predicted=counts[i], novel=counts[i] // (100 if is_before else 12), confidence_sum=confidence * counts[i],
            confidence_squares=(confidence**2 + 0.01) * counts[i], estimated_share=counts[i] / sum(counts),
            share_low=0.8 * counts[i] / sum(counts), share_high=1.25 * counts[i] / sum(counts),
            reference_predicted=reference[i], reference_novel=reference[i] // 100,
            reference_confidence_sum=0.9 * reference[i], reference_confidence_squares=0.82 * reference[i],
        )
        for i in range(10)
    ]  # fmt: skip


def write_events(events_dir: Path, run: str, phase: str, epochs: list[list[Event]]) -> None:
    writer = EventWriter(events_dir, run=run, attempt=1)
    configuration = json.dumps({"dataset": "folder", "arch": "resnet50", "loss_type": "CE", "train_rule": "None"})
    run_event = partial(
        RunEvent, run=run, attempt=1, phase=phase, configuration=configuration, message="", num_epochs=len(epochs)
    )
    writer.write_run(run_event(state="started", epoch=0, emitted_at=time.time() - 60))
    for number, events in enumerate(epochs, start=1):
        writer.write_epoch(number, events)
    writer.write_run(run_event(state="finished", epoch=len(epochs), emitted_at=time.time() + 1))


def test_tables_that_a_monitor_keeps_are_shown_without_spark(tmp_path: Path) -> None:
    write_base(tmp_path / "tables")
    with job(tmp_path, "dashboard", "--port", 0, "--tables_dir", tmp_path / "tables") as server:
        (url,) = re.findall(r"dashboard: (http://127\.0\.0\.1:\d+/) ", server.stdout.readline())
        with urllib.request.urlopen(url, timeout=60) as reply:
            assert "digits, labels alone" in reply.read().decode()
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text()
        assert children == ""  # no Java
        os.killpg(server.pid, signal.SIGINT)
        assert server.wait(timeout=60) == 130


@contextmanager
def page_over(spark: SparkSession, root: Path) -> Iterator[Page]:
    """The page over all events in a directory."""
    query = start_live_query(spark, root / "events", tables_dir=root / "tables", trigger=None)
    query.awaitTermination()
    with page_of(root / "tables") as page:
        yield page


def test_thirty_runs_are_told_apart_found_compared_and_changed(tmp_path: Path, pictures: Path) -> None:
    names = write_thirty_runs(tmp_path / "analytics", began=time.time() - 30 * 1800)
    options = resolve_options(DashboardOptions, {"runs_dir": tmp_path})
    act = page_actions(options, tmp_path / "analytics", is_private=True)
    with page_of(tmp_path / "analytics", act) as page:

        def titles() -> list[str]:
            return page.run_script(
                "[...document.querySelectorAll('.run-table th[scope=row] a')].map(a => a.textContent)"
            )

        page.open()
        assert page.element("h1").text == "cifar100, labels alone · BalancedSoftmax · seed 2"
        saves = {"behavior": "allow", "downloadPath": str(tmp_path)}
        page.driver.execute_cdp_cmd("Browser.setDownloadBehavior", saves)
        wait_until(lambda: page.chart("accuracy_map"))
        for form in ("PNG", "SVG"):  # at once
            page.run_script(f"document.querySelector('[aria-label$=\"per class and epoch as {form}\"]').click()")
        wait_until(lambda: any(file.read_bytes()[:4] == b"\x89PNG" for file in tmp_path.glob("accuracy_map.png")))
        wait_until(lambda: "<svg" in "".join(file.read_text() for file in tmp_path.glob("accuracy_map.svg")))
        page.run_script("document.querySelector('[aria-label=\"Accuracy of the shot groups as SVG\"]').click()")
        lines = wait_until(lambda: [file.read_text() for file in tmp_path.glob("group_lines.svg")])[0]
        assert all(f">{text}<" in lines for text in ("Accuracy of the shot groups", page.text("h1"), "few-shot"))
        page.run_script("document.querySelector('#note-accuracy_map a[download]').click()")
        wait_until(lambda: list(tmp_path.glob(f"{names[-1]}-class_epochs.csv")))

        page.click("all runs (30)")
        everything = wait_until(titles)
        assert len(set(everything)) == 30
        page.picture(pictures / "runs.png")

        page.element("#find-runs input").send_keys("ldam seed=0")
        wait_until(lambda: len(titles()) == 2)
        page.click("few")
        wait_until(lambda: "few ▾" in page.text("#table"))
        page.driver.refresh()
        wait_until(lambda: len(titles()) == 2 and page.element("#find-runs input").get_attribute("value"))
        page.driver.back()
        page.driver.back()  # all keys were one step
        wait_until(lambda: titles() == everything)

        run, others = names[0], "[href*='compare=" + names[6] + "']"
        page.element(f".mark[href*='compare={run}']").click()
        wait_until(lambda: page.run_script("document.querySelectorAll('[aria-checked=true]').length") == 1)
        page.element(f".mark{others}").click()
        wait_until(lambda: "Compare 2 runs" in page.text("#table"))
        page.click("Compare 2 runs")
        wait_until(lambda: page.chart("class_changes"))
        top = page.run_script("document.getElementById('panel-comparison').getBoundingClientRect().top")
        assert -5 < top < LAPTOP[1] / 2 and "train_rule" in page.text("#note-comparison")

        chosen = urlencode([("run", run), *(("compare", other) for other in names[1:18])])
        page.open(f"?{chosen}#panel-comparison")
        wait_until(lambda: page.chart("class_changes"))
        assert page.text("#note-comparison tbody").count("0, 1, 2") == 6  # seeds
        page.picture(pictures / "seeds.png", top="#panel-comparison")

        page.click("all runs (30)")
        wait_until(titles)
        button = page.element(f"[data-edit='{run}']")
        page.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
        ActionChains(page.driver).move_to_element(button).perform()
        wait_until(button.is_displayed)
        button.click()
        page.element("dialog [name=rename]").send_keys("Baseline <b>")
        page.element("dialog [name=tag]").send_keys("paper")
        page.element("#edit form button").click()
        wait_until(lambda: "Baseline <b>" in titles())
        assert read_description(tmp_path, run) == RunDescription(display_name="Baseline <b>", tags=("paper",))
        page.resize(PHONE)
        wait_until(lambda: page.overflow() == 0)
        assert page.complaints() == []


def test_what_is_pressed_is_not_replaced_before_the_click(tmp_path: Path) -> None:
    names = write_thirty_runs(tmp_path / "analytics", began=time.time() - 30 * 1800)
    options = resolve_options(DashboardOptions, {"runs_dir": tmp_path})
    act = page_actions(options, tmp_path / "analytics", is_private=True)
    assert act
    with page_of(tmp_path / "analytics", act) as page:
        page.open()
        page.click("all runs (30)")
        wait_until(lambda: page.element(".run-table .mark"))
        page.run_script("window.mark = document.querySelector('.run-table .mark')")
        page.run_script("window.mark.dispatchEvent(new PointerEvent('pointerdown', {bubbles: true}))")
        act("rename", names[3], "renamed meanwhile")  # as in another window
        time.sleep(1.5)  # with a look at the state
        assert page.run_script("window.mark.isConnected") and "renamed meanwhile" not in page.text("#table")
        page.run_script("window.mark.dispatchEvent(new PointerEvent('pointerup', {bubbles: true}))")
        wait_until(lambda: "renamed meanwhile" in page.text("#table"))
        assert not page.run_script("window.mark.isConnected")


def test_a_thousand_classes_can_be_read(spark: SparkSession, tmp_path: Path, pictures: Path) -> None:
    generator = np.random.default_rng(0)
    epochs = events_of_run("birds", "train", num_classes=1000, epochs=12, gain=0.0, pseudo=0, generator=generator)
    write_events(tmp_path / "events", "birds", "train", epochs)
    with page_over(spark, tmp_path) as page:
        page.open()
        assert wait_until(lambda: page.chart("accuracy_map")) == {"type": "heatmap", "columns": 12, "rows": 100}
        assert "1,000 classes in 100 bands" in page.text("#note-accuracy_map")
        ticks = page.run_script(
            "[...document.querySelectorAll('[data-figure=accuracy_map] .ytick text')].map(t => t.textContent)"
        )
        assert any("head" in tick for tick in ticks) and any("tail" in tick for tick in ticks)
        assert page.overflow() == 0
        page.picture(pictures / "thousand_classes.png")
        page.element("#find input").send_keys("species 77")
        wait_until(lambda: page.chart("accuracy_map")["rows"] == 11)  # 77 and 770 to 779
        assert "classes=species+77" in page.driver.current_url
        fits_a_phone(page)
        assert page.complaints() == []


def test_eight_thousand_classes_are_shown_and_each_is_found(tmp_path: Path) -> None:
    rows = class_rows({i: [0.25, 1 - i / 8141] for i in range(8142)}, train_count=10)
    summaries = table("epochs", {"epoch": 1}, {"epoch": 2})
    confusion = table("confusion", *({"true_class": i, "predicted_class": i // 2} for i in range(8142)))
    manifest = RunManifest("base", {"class_epochs": 1, "epochs": 1000, "steps": 100})
    segments = {"class_epochs": {"1": rows}, "epochs": {"0": summaries}, "confusion": {"all": confusion}}
    write_run(tmp_path, manifest, segments, {"runs": table("runs", {"status": "finished"}).to_pylist()})
    alert = pa.table({"run": ["base"], "epoch": [2], "message": ["<i>tail</i> lost"]})
    OwnAlerts(tmp_path, "tail").add(alert, 0)
    with page_of(tmp_path) as page:
        page.open()
        assert wait_until(lambda: page.chart("accuracy_map")) == {"type": "heatmap", "columns": 2, "rows": 100}
        assert page.text("#overview .alerts") == "query tail <i>tail</i> lost epoch 2"
        assert "8,142 classes in 100 bands" in page.text("#note-accuracy_map")
        assert wait_until(lambda: page.chart("confusion_matrix"))["rows"] == 50
        assert page.overflow() == 0
        page.element("#find input").send_keys("class 8141")
        wait_until(lambda: page.chart("accuracy_map")["rows"] == 1)
        assert "class 8141" in page.text("[data-figure=accuracy_map]")
        fits_a_phone(page)
        assert page.complaints() == []


def test_runs_are_compared_and_pseudo_labels_shown(spark: SparkSession, tmp_path: Path, pictures: Path) -> None:
    generator = np.random.default_rng(1)
    for run, phase, gain, pseudo in (("labels-alone", "train", 0.0, 0), ("with-pseudo-labels", "train_semi", 0.2, 40)):
        epochs = events_of_run(run, phase, num_classes=10, epochs=20, gain=gain, pseudo=pseudo, generator=generator)
        write_events(tmp_path / "events", run, phase, epochs)
    now = time.time()  # of all classes: earlier labels do not count
    labelling = [
        PseudoLabelEvent(
            run="labels-alone", attempt=1, phase="gen_pseudolabels", emitted_at=now, previous_run="", round=1,
            class_id=i, class_name=f"species {i}", labelled_count=int(1280 * 0.01 ** (i / 9)), pseudo_label_count=40,
            mean_confidence=0.9 - 0.04 * i, confidence_p10=0.7 - 0.05 * i, confidence_p50=0.92 - 0.04 * i,
            confidence_p90=0.98 - 0.02 * i,
        )
        for i in range(10)
    ]  # fmt: skip
    write_pseudo_label_events(tmp_path / "events", labelling)
    for window in range(12):
        write_prediction_events(tmp_path / "events", predictions_of("labels-alone", window))
    with page_over(spark, tmp_path) as page:
        page.open("?run=labels-alone")
        page.darken()
        wait_until(lambda: page.chart("pseudo_labels"))
        assert page.chart("pseudo_labels")["columns"] == 10 and page.chart("class_changes") is None
        page.click("+ compare")
        assert wait_until(lambda: page.chart("class_changes")) == {"type": "bar", "columns": 10, "rows": 1}
        assert "compare=with-pseudo-labels" in page.driver.current_url
        assert "Epoch 20" in page.text("#note-comparison")
        page.resize((LAPTOP[0], 1200))
        page.picture(pictures / "comparison.png", top="#panel-pseudo_labels")
        assert page.chart("prediction_windows") == {"type": "scatter", "columns": 12, "rows": 2}
        told = page.text("ul.alerts")
        assert "shares drifted" in told and "class vanished" in told, told
        page.picture(pictures / "drift.png", top="#panel-predictions")

        page.driver.back()
        wait_until(lambda: page.chart("class_changes") is None)
        page.driver.forward()
        wait_until(lambda: page.chart("class_changes"))
        assert page.complaints() == []
