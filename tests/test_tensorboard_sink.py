"""TensorBoard scalars of the live query (streaming/tables/tensorboard.py), read back from the log files. No Spark."""

import struct
from pathlib import Path

import pyarrow as pa
from tensorboardX.proto.event_pb2 import Event

from longtail.streaming.tables.manifest import RunManifest
from longtail.streaming.tables.schemas import TABLES
from longtail.streaming.tables.tensorboard import TensorBoardSink
from longtail.streaming.tables.writing import write_run


def scalars(log_dir: Path) -> dict[tuple[str, int], list[float]]:
    """All values by tag and step: records of length, checksum, content, checksum."""
    found: dict[tuple[str, int], list[float]] = {}
    for file in sorted(log_dir.glob("events.out.tfevents.*")):
        content = file.read_bytes()
        place = 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            event = Event.FromString(content[place + 12 : place + 12 + length])
            for value in event.summary.value:
                found.setdefault((value.tag, event.step), []).append(value.simple_value)
            place += 16 + length
    return found


def write_epochs(tables_dir: Path, *accuracies: float) -> None:
    rows = [
        {"run": "base", "split": "test", "epoch": epoch, "accuracy": accuracy}
        for epoch, accuracy in enumerate(accuracies, start=1)
    ]
    table = pa.Table.from_pylist(rows, schema=TABLES["epochs"])
    write_run(tables_dir, RunManifest("base", {"epochs": 1000}), {"epochs": {"0": table}}, {})


def test_each_epoch_is_written_once_and_what_changed_is_written_anew(tmp_path: Path) -> None:
    tables_dir, log_dir = tmp_path / "tables", tmp_path / "logs"
    sink = TensorBoardSink(tables_dir, log_dir)
    for accuracies in ((0.25,), (0.25, 0.5), (0.25, 0.5)):
        write_epochs(tables_dir, *accuracies)
        sink.update(["base"])
    assert scalars(log_dir / "base") == {("test/accuracy", 1): [0.25], ("test/accuracy", 2): [0.5]}

    write_epochs(tables_dir, 0.125, 0.5)  # a later attempt repeated the first epoch
    sink.update(["base"])
    assert scalars(log_dir / "base") == {("test/accuracy", 1): [0.125], ("test/accuracy", 2): [0.5]}

    write_epochs(tables_dir, 0.125, 0.5, 0.75)
    TensorBoardSink(tables_dir, log_dir).update(["base"])  # another process goes on
    assert scalars(log_dir / "base") == {
        ("test/accuracy", 1): [0.125], ("test/accuracy", 2): [0.5], ("test/accuracy", 3): [0.75],
    }  # fmt: skip
