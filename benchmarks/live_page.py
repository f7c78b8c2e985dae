"""How soon the live page shows a run of very many classes, beside a page that draws every class.

    python -m benchmarks.live_page [--classes 8142] [--epochs 90]      # about 1 minute

A run's tables are written as the live query keeps them, an epoch a file. Timed are the page's state from cold tables,
the state after one more epoch, a search for one class, and a real headless Chromium from its request to the drawn map
of classes. The peer is the same heat map of class x epoch with a row a class instead of bands: what a chart library
does unless told otherwise.
"""

import argparse
import gzip
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from longtail.streaming.dashboard.class_axis import class_axis
from longtail.streaming.dashboard.class_figures import accuracy_map
from longtail.streaming.dashboard.page import page_state
from longtail.streaming.dashboard.selection import Selection
from longtail.streaming.dashboard.server import address, dashboard_page, listening_socket, serving, state_json
from longtail.streaming.dashboard.table_reader import TableReader
from longtail.streaming.dashboard.table_rows import last_epoch
from longtail.streaming.tables.manifest import RunManifest
from longtail.streaming.tables.reading import rows_where
from longtail.streaming.tables.schemas import TABLES
from longtail.streaming.tables.writing import write_run
from tests.browser import browser, wait_until

RUN = "many"
SPLITS = ("test", "train")
_Result = TypeVar("_Result")


def rows_of(name: str, num_rows: int, **columns: Any) -> pa.Table:
    """A result table of these columns, the others null."""
    return pa.table(
        {f.name: columns[f.name] if f.name in columns else pa.nulls(num_rows, f.type) for f in TABLES[name]},
        schema=TABLES[name],
    )


def epoch_of_classes(epoch: int, num_classes: int) -> pa.Table:
    draw = np.random.default_rng(epoch)
    num_rows = num_classes * len(SPLITS)
    ids = np.tile(np.arange(num_classes), len(SPLITS))
    return rows_of(
        "class_epochs", num_rows, run=[RUN] * num_rows, phase=["train"] * num_rows,
        split=np.repeat(SPLITS, num_classes), epoch=np.full(num_rows, epoch), num_epochs=np.full(num_rows, 1000),
        class_id=ids, class_name=[f"species {i}" for i in ids],
        shot_group=np.array(["many", "medium", "few"])[3 * ids // num_classes],
        train_count=1 + 1000 * (num_classes - ids) // num_classes, pseudo_label_count=np.zeros(num_rows, int),
        support=np.full(num_rows, 3), accuracy=draw.random(num_rows), true_share=np.full(num_rows, 1 / num_classes),
        predicted_share=draw.random(num_rows) / num_classes,
    )  # fmt: skip


def write_tables(tables_dir: Path, num_classes: int, num_epochs: int) -> RunManifest:
    draw = np.random.default_rng(0)
    num_cells = 3 * num_classes
    confusion = rows_of(
        "confusion", num_cells, run=[RUN] * num_cells, split=["test"] * num_cells, count=np.ones(num_cells, int),
        epoch=np.full(num_cells, num_epochs), true_class=np.repeat(np.arange(num_classes), 3),
        predicted_class=draw.integers(0, num_classes, num_cells),
    )  # fmt: skip
    epochs = rows_of(
        "epochs", num_epochs, run=[RUN] * num_epochs, phase=["train"] * num_epochs, split=["test"] * num_epochs,
        epoch=np.arange(1, num_epochs + 1), balanced_accuracy=draw.random(num_epochs),
    )  # fmt: skip
    segments = {
        "class_epochs": {str(epoch): epoch_of_classes(epoch, num_classes) for epoch in range(1, num_epochs + 1)},
        "confusion": {"all": confusion},
        "epochs": {"0": epochs},
    }
    state = {"run": RUN, "phase": "train", "status": "finished", "epoch": num_epochs, "num_epochs": num_epochs}
    manifest = RunManifest(RUN, {"class_epochs": 1, "epochs": 1000, "steps": 100})
    return write_run(
        tables_dir, manifest, segments, {"runs": [{name: state.get(name) for name in TABLES["runs"].names}]}
    )


def timed(words: str, measured: Callable[[], _Result]) -> tuple[_Result, float]:
    began = time.perf_counter()
    result = measured()
    seconds = time.perf_counter() - began
    print(f"{words}: {1000 * seconds:.0f} ms", flush=True)
    return result, seconds


def size(json: str) -> str:
    return f"{len(json) / 1e6:.1f} MB of JSON, {len(gzip.compress(json.encode(), 3)) / 1e3:.0f} kB packed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, default=8142)
    parser.add_argument("--epochs", type=int, default=90)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        tables_dir = Path(root)
        manifest = write_tables(tables_dir, arguments.classes, arguments.epochs)
        reader = TableReader(tables_dir)
        print(f"{arguments.classes} classes, {len(SPLITS)} splits, {arguments.epochs} epochs")

        def state(**selected: str) -> str:
            return state_json(page_state(reader.read, Selection(**selected)), "1")

        whole, _ = timed("the page's state from cold tables", state)
        print(f"    {size(whole)}")
        following = epoch_of_classes(arguments.epochs + 1, arguments.classes)
        write_run(tables_dir, manifest, {"class_epochs": {str(arguments.epochs + 1): following}}, {})
        _, ours = timed("the state after one more epoch", state)
        timed("the state of a search for one class", lambda: state(classes=f"species {arguments.classes - 1}"))

        rows = rows_where(reader.read("class_epochs", RUN), split="test")

        def every_class() -> str:
            latest = rows_where(rows, epoch=last_epoch(rows))
            return accuracy_map(rows, class_axis(latest, max_rows=arguments.classes), view="all").to_json()

        peer, theirs = timed("peer: the map alone with a row a class", every_class)
        print(f"    {size(peer)}; ratio of all of our state to it {ours / theirs:.2f} in time", flush=True)

        listening = listening_socket("127.0.0.1", 0)
        with (
            serving(dashboard_page(reader.read, reader.version, host="127.0.0.1"), listening),
            browser(address(listening)) as page,
        ):

            def opened() -> None:
                page.open()
                wait_until(lambda: page.chart("accuracy_map"))

            timed("Chromium, from the request to the drawn map", opened)
            timed("Chromium, loaded again", opened)


if __name__ == "__main__":
    main()
