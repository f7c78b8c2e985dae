"""How soon the live page shows many finished runs, and how fast it answers among them.

    python -m benchmarks.page_of_old_runs                        # 1,000 runs, about 4 minutes
    python -m benchmarks.page_of_old_runs --runs 30 --browser    # first paint in a real headless Chromium

The event files are those that trainings write, put into archives as a live query does. `longtail dashboard` is started
as users start it: first without tables (cold), and once more with those of the first start (warm). Timed are, from the
start of the command on, the first answer of the page, the lines in which it says how far it is, and the answer with all
runs; then the answers of each kind. Processor time is that of the command with all that it started.
"""

import argparse
import contextlib
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import numpy as np

from benchmarks.live_query import cpu_seconds
from longtail.conf.base.files import write_json_atomically
from longtail.streaming.archive import archive_files
from longtail.streaming.events.schema import ClassEvent, ConfusionEvent, Event, RunEvent
from longtail.streaming.events.writer import EVENTS_DIRECTORY, EventWriter
from tests.browser import browser, wait_until

PATIENCE_SECONDS = 500
POLL_SECONDS = 0.25
NUM_ANSWERS = 100
PROGRESS = re.compile(r"read [\d,]+ of [\d,]+ event files")
"""What the page says while event files wait."""
CONFIGURATION = {"dataset": "cifar10", "arch": "resnet32", "loss_type": "LDAM", "train_rule": "DRW", "imb_factor": 0.02}


def run_name(number: int) -> str:
    return f"cifar10_resnet32_LDAM_DRW_exp_0.02_seed{number:04d}"


def write_runs(runs_dir: Path, num_runs: int, num_epochs: int, num_classes: int) -> None:
    """The event files of finished runs, and what else a training leaves in the runs directory that is listed."""
    draw = np.random.default_rng(0)
    now = time.time()
    for number in range(num_runs):
        run = run_name(number)
        began = now - 3600.0 * (num_runs - number)
        of_run = {"run": run, "attempt": 1, "phase": "train"}
        of_attempt = {
            **of_run,
            "num_epochs": num_epochs,
            "configuration": json.dumps({**CONFIGURATION, "seed": number}),
            "message": "",
        }
        writer = EventWriter(runs_dir / EVENTS_DIRECTORY, run=run, attempt=1)

        writer.write_run(RunEvent(**of_attempt, state="started", epoch=0, emitted_at=began))
        for epoch in range(1, num_epochs + 1):
            at = began + 10.0 * epoch
            correct = draw.binomial(100, 0.9 - 0.6 * np.arange(num_classes) / num_classes, (2, num_classes))
            events: list[Event] = [
                ClassEvent(
                    **of_run, emitted_at=at, epoch=epoch, num_epochs=num_epochs, split=split, class_id=c,
                    class_name=f"class {c}", shot_group=("many", "medium", "few")[3 * c // num_classes],
                    train_count=5000 // (c + 1), pseudo_label_count=0, support=100, correct=int(correct[row, c]),
                    predicted=100, loss_sum=40.0, confidence_sum=70.0, epoch_seconds=10.0, images_per_second=1000.0,
                )
                for row, split in enumerate(("test", "train"))
                for c in range(num_classes)
            ]  # fmt: skip
            events += [
                ConfusionEvent(
                    **of_run, emitted_at=at, epoch=epoch, split="test", true_class=c, predicted_class=other,
                    count=1 + (c + other) % 9,
                )
                for c in range(num_classes)
                for other in {c, (7 * c + epoch) % num_classes}
            ]  # fmt: skip
            events.append(RunEvent(**of_attempt, state="epoch_done", epoch=epoch, emitted_at=at))
            writer.write_epoch(epoch, events)
        ended = began + 10.0 * num_epochs + 1
        writer.write_run(RunEvent(**of_attempt, state="finished", epoch=num_epochs, emitted_at=ended))
        write_json_atomically(runs_dir / run / "options.json", {**CONFIGURATION, "seed": number})


@contextmanager
def dashboard(runs_dir: Path) -> Iterator[tuple[subprocess.Popen[str], str, float]]:
    """The process of the page, its address, and when it was started."""
    command = [sys.executable, "-m", "longtail", "dashboard", "--runs_dir", str(runs_dir), "--port", "0"]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stdout
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found, "the dashboard did not start"
        yield process, found[0], began
    finally:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def get(address: str, **parameters: str) -> tuple[bytes, float, int]:
    """Body of an answer, seconds, and bytes on the wire: compressed, as browsers ask for it."""
    request = Request(f"{address}?{urlencode(parameters)}", headers={"Accept-Encoding": "gzip"})
    began = time.monotonic()
    with urlopen(request, timeout=PATIENCE_SECONDS) as answer:
        content = answer.read()
    seconds = time.monotonic() - began
    is_packed = answer.headers.get("Content-Encoding") == "gzip"
    return gzip.decompress(content) if is_packed else content, seconds, len(content)


def shown_runs(state: dict[str, Any]) -> int:
    """How many runs the list of the page has, with those that it only counts."""
    html = state["html"]["runs"]
    more = re.search(r"and (\d+) older runs", html)
    return html.count('class="run-link"') + (int(more[1]) if more else 0)


def measure_start(title: str, runs_dir: Path, num_runs: int, *, also: Callable[[str], None]) -> None:
    """Start the dashboard, look at it as a browser does until it shows all runs, and call also with its address."""
    with dashboard(runs_dir) as (process, address, began):
        first_answer, lines, version = None, {}, ""
        while True:
            body, _, _ = get(f"{address}state", version=version)
            now = time.monotonic() - began
            first_answer = first_answer or now
            if body:
                state = json.loads(body)
                version, shown = state["version"], shown_runs(state)
                if line := PROGRESS.search(state["html"]["runs"]):
                    lines.setdefault(line[0], f"{now:.1f} s: {line[0]}, {shown} runs shown")
                if shown >= num_runs:
                    break
            assert now < PATIENCE_SECONDS, f"{shown} of {num_runs} runs are shown"
            time.sleep(POLL_SECONDS)
        seconds = time.monotonic() - began
        cpu = cpu_seconds(process.pid)
        print(f"{title}: first answer after {first_answer:.1f} s, all {num_runs} runs after {seconds:.1f} s, ", end="")
        print(f"{cpu:.1f} s of the processors", *lines.values(), sep="\n    ", flush=True)
        also(address)


def wait_until_read(address: str) -> None:
    """Wait until no event file waits for the dashboard."""
    while PROGRESS.search(get(f"{address}state")[0].decode()):
        time.sleep(POLL_SECONDS)


def measure_answers(address: str, num_runs: int) -> None:
    """Each kind of answer some times, after the archiver and the query have come to rest."""
    runs = [run_name(number) for number in np.random.default_rng(1).permutation(num_runs)[:NUM_ANSWERS]]
    kinds: dict[str, list[tuple[str, dict[str, str]]]] = {
        "the page": [("", {})] * NUM_ANSWERS,
        "state of the newest run": [("state", {})] * NUM_ANSWERS,
        "state of a run not looked at before": [("state", {"run": run}) for run in runs],
        "the same runs again": [("state", {"run": run}) for run in runs],
        "nothing has changed": [("state", {"version": ""})] * NUM_ANSWERS,
    }
    for title, requests in kinds.items():
        # The start of the query changes what is shown until it has read what waited.
        version = json.loads(get(f"{address}state")[0])["version"]
        answers = [
            get(address + path, **({"version": version} if "version" in parameters else parameters))[1:]
            for path, parameters in requests
        ]
        milliseconds = [1000 * seconds for seconds, _ in answers]
        p50, p99 = np.percentile(milliseconds, 50), np.percentile(milliseconds, 99)
        size = np.median([num_bytes for _, num_bytes in answers])
        print(f"{title}: p50 {p50:.0f} ms, p99 {p99:.0f} ms, {size / 1000:.1f} kB", flush=True)


def measure_paint(address: str) -> None:
    """From the request to the first text and to the first chart in Chromium; the second time with cached files.

    And the processor time of the browser's main thread until then, and the bytes of all that was sent.
    """
    with browser(address) as page:
        page.driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
        for title in ("first visit", "second visit"):
            began = time.monotonic()
            page.open()
            wait_until(lambda: page.chart("accuracy_map"))
            seconds = time.monotonic() - began
            paint = page.run_script("performance.getEntriesByName('first-contentful-paint')[0].startTime")
            found = {
                one["name"]: one["value"]
                for one in page.driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
            }
            busy = ", ".join(
                f"{1000 * found[metric]:.0f} ms {what}"
                for metric, what in (
                    ("TaskDuration", "in all"),
                    ("ScriptDuration", "scripts"),
                    ("LayoutDuration", "layout"),
                )
            )
            print(
                f"Chromium, {title}: first paint {paint:.0f} ms, charts drawn {1000 * seconds:.0f} ms, "
                f"{page.weight() / 1e6:.2f} MB; main thread {busy}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--loose", action="store_true", help="leave the event files as they were written, unarchived")
    parser.add_argument("--browser", action="store_true", help="time a real headless Chromium, too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        runs_dir = Path(root)
        write_runs(runs_dir, arguments.runs, arguments.epochs, arguments.classes)
        if not arguments.loose:
            archive_files(runs_dir / EVENTS_DIRECTORY)
        num_files = sum(1 for _ in (runs_dir / EVENTS_DIRECTORY).rglob("*.*"))
        print(f"{arguments.runs} runs x {arguments.epochs} epochs x {arguments.classes} classes in {num_files} files")
        # The tables of all runs are written before the second start.
        measure_start("cold", runs_dir, arguments.runs, also=wait_until_read)

        def measure_all(address: str) -> None:
            measure_answers(address, arguments.runs)
            if arguments.browser:
                measure_paint(address)

        measure_start("warm", runs_dir, arguments.runs, also=measure_all)


if __name__ == "__main__":
    main()
