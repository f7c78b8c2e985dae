"""How soon, how much and for how long the live query keeps up, beside plain Structured Streaming over the same files.

    python benchmarks/live_query.py latency      # about 1.5 minutes: an epoch's rename -> its row for the readers
    python benchmarks/live_query.py throughput   # about 2 minutes: class events a second, written without a pause
    python benchmarks/live_query.py day          # about 3 minutes: 24 hours of epochs of one run, time compressed
    python benchmarks/live_query.py runs         # about 3 minutes: size of the state, cost of an epoch among many runs
    python benchmarks/live_query.py old_files    # about 1 minute: a look for new event files among many old ones

Ours are the files that a training writes (columns); the peer gets the same events as JSON lines, which the live query
reads too (--lines: both get these).

The peer is what Spark's guide would do: one aggregation that keeps the latest
event of every key in Spark's state, complete output mode, each result written
over the last with foreachBatch. It computes no scores, only the latest events:
its figures flatter it.
"""

import argparse
import contextlib
import os
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming import StreamingQuery

from longtail.conf.base.files import write_text_atomically
from longtail.conf.options.base import SparkJobOptions
from longtail.conf.options.live import TRIGGER
from longtail.spark_jobs.cluster.session import spark_session
from longtail.streaming.archive import archive_run
from longtail.streaming.event_files.passed import NewFiles
from longtail.streaming.events.schema import ClassEvent, ConfusionEvent, Event, RunEvent, event_line, spark_ddl
from longtail.streaming.events.writer import EventWriter
from longtail.streaming.live.archiver import MAX_FILES
from longtail.streaming.live.query import OWN_SETTINGS, LiveQuery, start_live_query
from longtail.streaming.tables.manifest import list_runs, read_run_manifest, run_directory
from longtail.streaming.tables.reading import read_result_table

PATIENCE_SECONDS = 300


def epoch_events(run: str, epoch: int, *, num_classes: int, num_epochs: int, splits: int = 2) -> list[Event]:
    """What a training says after an epoch, with a confusion matrix of about two cells a class."""
    draw = np.random.default_rng(epoch)
    of_run = {"run": run, "attempt": 1, "phase": "train", "emitted_at": time.time()}
    correct = draw.integers(0, 50, (splits, num_classes))
    found: list[Event] = [
        ClassEvent(
            **of_run, epoch=epoch, num_epochs=num_epochs, split=("test", "train")[split], class_id=c,
            class_name=f"class {c}", shot_group=("many", "medium", "few")[3 * c // num_classes],
            train_count=5000 // (c + 1), pseudo_label_count=0, support=50, correct=int(correct[split, c]), predicted=50,
            loss_sum=40.0, confidence_sum=35.0, epoch_seconds=10.0, images_per_second=1000.0,
        )
        for split in range(splits)
        for c in range(num_classes)
    ]  # fmt: skip
    for c in range(num_classes):
        for predicted in {c, (c * 7) % num_classes}:
            cell = {"true_class": c, "predicted_class": predicted, "count": 1 + c % 9}
            found.append(ConfusionEvent(**of_run, epoch=epoch, split="test", **cell))
    of_epoch = {"state": "epoch_done", "epoch": epoch, "num_epochs": num_epochs}
    found.append(RunEvent(**of_run, **of_epoch, configuration="{}", message=""))
    return found


def write_epoch(events_dir: Path, run: str, epoch: int, events: list[Event], *, lines: bool) -> None:
    """An epoch as a training writes it, or as JSON lines."""
    if lines:
        text = "".join(f"{event_line(event)}\n" for event in events)
        write_text_atomically(events_dir / f"{run}-attempt001-epoch{epoch:05d}.jsonl", text)
    else:
        EventWriter(events_dir, run=run, attempt=1).write_epoch(epoch, events)


def num_class_events(events: list[Event]) -> int:
    return sum(isinstance(event, ClassEvent) for event in events)


@contextmanager
def ours(spark: SparkSession, events_dir: Path, tables_dir: Path) -> Iterator[LiveQuery]:
    query = start_live_query(spark, events_dir, tables_dir=tables_dir, trigger=TRIGGER)
    try:
        yield query
    finally:
        query.stop()


@contextmanager
def peer(spark: SparkSession, events_dir: Path, tables_dir: Path) -> Iterator[StreamingQuery]:
    session = spark.newSession()
    for key, value in OWN_SETTINGS.items():
        session.conf.set(key, value)
    key = ["run", "split", "epoch", "class_id"]
    events = session.readStream.schema(spark_ddl(ClassEvent)).json(str(events_dir), pathGlobFilter="*.jsonl")
    payload = F.struct(*(name for name in events.columns if name not in key))
    latest = F.max_by(payload, F.struct("attempt", "emitted_at")).alias("payload")
    newest = events.where(F.col("kind") == "class").groupBy(*key).agg(latest).select(*key, "payload.*")

    def write(batch: DataFrame, batch_id: int) -> None:
        directory = tables_dir / f"batch{batch_id}"
        batch.coalesce(1).write.parquet(str(directory))
        (tables_dir / ".newest").write_text(directory.name)
        (tables_dir / ".newest").rename(tables_dir / "newest")
        for old in tables_dir.glob("batch*"):
            if old != directory:
                shutil.rmtree(old)

    tables_dir.mkdir(parents=True)
    query = (
        newest.writeStream.outputMode("complete")
        .option("checkpointLocation", str(tables_dir / "checkpoint"))
        .trigger(processingTime=TRIGGER)
        .foreachBatch(write)
        .start()
    )
    try:
        yield query
    finally:
        query.stop()


def epoch_in_our_tables(tables_dir: Path, run: str) -> int:
    """The newest epoch of the run that a reader finds."""
    manifest = read_run_manifest(tables_dir, run)
    return manifest.rows["runs"][0]["epoch"] if manifest else 0


def epoch_in_peer_s_table(tables_dir: Path, run: str) -> int:
    try:
        table = ds.dataset(tables_dir / (tables_dir / "newest").read_text()).to_table(
            columns=["epoch"], filter=ds.field("run") == run
        )
    except (FileNotFoundError, pa.ArrowInvalid):  # given up for a newer one while it was read
        return 0
    return max(table["epoch"].to_pylist(), default=0)


BOTH = {"longtail": (ours, epoch_in_our_tables), "complete mode": (peer, epoch_in_peer_s_table)}


def wait_for(epoch: int, query: StreamingQuery, newest: Callable[[Path, str], int], tables_dir: Path, run: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while newest(tables_dir, run) < epoch:
        if not query.isActive:
            raise RuntimeError(str(query.exception()))
        if time.monotonic() > deadline:
            raise RuntimeError(f"epoch {epoch} did not come within {PATIENCE_SECONDS} s")
        time.sleep(0.002)


def percentiles(seconds: list[float]) -> str:
    return f"p50 {1000 * np.percentile(seconds, 50):.0f} ms, p99 {1000 * np.percentile(seconds, 99):.0f} ms"


def process_tree(root: int) -> list[int]:
    """A process, Spark's JVM and the Python workers."""
    found: list[int] = []
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            # The JVM's threads have children of their own.
            children = [file.read_text().split() for file in Path(f"/proc/{pid}/task").glob("*/children")]
            waiting += sorted({int(child) for of_thread in children for child in of_thread})
            found.append(pid)
    return found


def peak_memory_mib() -> dict[str, float]:
    """The most that each of these had of memory so far."""
    found: dict[str, float] = {}
    for pid in process_tree(os.getpid()):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            status = Path(f"/proc/{pid}/status").read_text()
            peak = re.search(r"VmHWM:\s+(\d+) kB", status)
            name = "driver" if pid == os.getpid() else "JVM" if "Name:\tjava" in status else "workers"
            if peak:
                found[name] = found.get(name, 0) + int(peak[1]) / 1024
    return found


def cpu_seconds(root: int | None = None) -> float:
    """What a process, by default this one, and all of these took of the processors so far: on a busy machine it says
    more than the time that went by."""
    found = 0
    for pid in process_tree(os.getpid() if root is None else root):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            found += int(after_name[11]) + int(after_name[12])
    return found / os.sysconf("SC_CLK_TCK")


def latency(spark: SparkSession, root: Path, arguments: argparse.Namespace) -> None:
    """Epochs of one run, one every half second, after some to warm up."""
    for name, (start, newest) in BOTH.items():
        events_dir, tables_dir = root / name / "events", root / name / "tables"
        events_dir.mkdir(parents=True)
        lines = arguments.lines or start is peer
        seconds = []
        with start(spark, events_dir, tables_dir) as query:
            for epoch in range(1, arguments.warm_up + arguments.epochs + 1):
                events = epoch_events("base", epoch, num_classes=arguments.classes, num_epochs=1000)
                write_epoch(events_dir, "base", epoch, events, lines=lines)
                renamed = time.monotonic()
                wait_for(epoch, query, newest, tables_dir, "base")
                if epoch > arguments.warm_up:
                    seconds.append(time.monotonic() - renamed)
                time.sleep(max(0.0, 0.5 - (time.monotonic() - renamed)))
                if epoch == arguments.warm_up:
                    began_cpu = cpu_seconds()
            cpu = (cpu_seconds() - began_cpu) / len(seconds)
        print(
            f"{name}: {percentiles(seconds)} over {len(seconds)} epochs of {arguments.classes} classes, {cpu:.2f} s of "
            f"the processors each",
            flush=True,
        )


def throughput(spark: SparkSession, root: Path, arguments: argparse.Namespace) -> None:
    """A backlog, class events of runs of many classes, and the time until all of it is in the tables."""
    columns_dir, lines_dir = root / "columns", root / "lines"
    total = 0
    for number in range(arguments.backlog_runs):
        for epoch in range(1, arguments.epochs + 1):
            events = epoch_events(f"run{number}", epoch, num_classes=arguments.classes, num_epochs=arguments.epochs)
            for events_dir in (columns_dir, lines_dir):
                write_epoch(events_dir, f"run{number}", epoch, events, lines=events_dir is lines_dir)
            total += num_class_events(events)
    rates = {}
    for name, (start, newest) in BOTH.items():
        tables_dir = root / name / "tables"
        events_dir = lines_dir if arguments.lines or start is peer else columns_dir
        began, began_cpu = time.monotonic(), cpu_seconds()
        with start(spark, events_dir, tables_dir) as query:
            for number in range(arguments.backlog_runs):
                run = f"run{number}"
                wait_for(arguments.epochs, query, newest, tables_dir, run)
            rates[name] = total / (time.monotonic() - began)
            cpu = cpu_seconds() - began_cpu
        print(
            f"{name}: {rates[name]:.0f} class events/s over {total}, {total / cpu:.0f} a second of one processor, the "
            f"query's start included",
            flush=True,
        )
    print(f"ratio {rates['longtail'] / rates['complete mode']:.2f}")


def day(spark: SparkSession, root: Path, arguments: argparse.Namespace) -> None:
    """One run that reports 24 hours of epochs, as fast as they are taken: the first epochs' cost against the last's."""
    num_epochs = 24 * 3600 // arguments.epoch_seconds
    planned = num_epochs + 11 * arguments.probes  # an epoch beyond those that a run has is no event
    ratios = {}
    for name, (start, newest) in BOTH.items():
        events_dir, tables_dir = root / name / "events", root / name / "tables"
        events_dir.mkdir(parents=True)
        lines = arguments.lines or start is peer
        probes: dict[int, list[float]] = {}
        with start(spark, events_dir, tables_dir) as query:
            epoch = 0
            # Epochs in bulk, and after each tenth of the day some one by one, timed.
            for tenth in range(11):
                while epoch < tenth * num_epochs // 10:
                    epoch += 1
                    events = epoch_events("base", epoch, num_classes=10, num_epochs=planned)
                    write_epoch(events_dir, "base", epoch, events, lines=lines)
                wait_for(epoch, query, newest, tables_dir, "base")
                for _ in range(arguments.probes):
                    epoch += 1
                    events = epoch_events("base", epoch, num_classes=10, num_epochs=planned)
                    write_epoch(events_dir, "base", epoch, events, lines=lines)
                    renamed = time.monotonic()
                    wait_for(epoch, query, newest, tables_dir, "base")
                    probes.setdefault(tenth, []).append(time.monotonic() - renamed)
        medians = {tenth: statistics.median(seconds) for tenth, seconds in probes.items()}
        ratios[name] = medians[10] / medians[1]
        shown = ", ".join(f"{1000 * seconds:.0f}" for seconds in medians.values())
        print(f"{name}: median ms of an epoch after each tenth of {num_epochs} epochs: {shown}", flush=True)
    print("last tenth over first: " + ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()))


def runs(spark: SparkSession, root: Path, arguments: argparse.Namespace) -> None:
    """Many runs of many classes: size of the state, memory, and the cost of one run's next epoch among them."""
    events_dir, tables_dir = root / "events", root / "tables"
    first_epoch = epoch_events("RUN", 1, num_classes=arguments.classes, num_epochs=90, splits=1)
    # The runs that are only there have no confusion matrix: what waits to be read is a third of it.
    text = "".join(f"{event_line(event)}\n" for event in first_epoch if not isinstance(event, ConfusionEvent))
    costs: dict[int, float] = {}
    done = 0
    with ours(spark, events_dir, tables_dir) as query:
        for target in (arguments.runs // 10, arguments.runs):
            began, before = time.monotonic(), done
            while done < target:
                run = f"run{done:04d}"
                file = events_dir / f"{run}-attempt001-epoch00001.jsonl"
                write_text_atomically(file, text.replace('"run": "RUN"', f'"run": "{run}"'))
                done += 1
            while len(list_runs(tables_dir)) < target:
                assert query.isActive, query.exception()
                time.sleep(0.2)
            rate = (done - before) * arguments.classes / (time.monotonic() - began)
            seconds = []
            for epoch in range(2, 2 + arguments.probes):
                run = f"run{target - 1:04d}"
                own = epoch_events(run, epoch, num_classes=arguments.classes, num_epochs=90, splits=1)
                EventWriter(events_dir, run=run, attempt=1).write_epoch(epoch, own)
                renamed = time.monotonic()
                wait_for(epoch, query, epoch_in_our_tables, tables_dir, run)
                seconds.append(time.monotonic() - renamed)
            costs[target] = statistics.median(seconds)
            files = [file for run in list_runs(tables_dir) for file in run_directory(tables_dir, run).iterdir()]
            size = sum(file.stat().st_size for file in files)
            checkpoint = sum(file.stat().st_size for file in (tables_dir / "checkpoint").rglob("*") if file.is_file())
            memory = ", ".join(f"{name} {peak:.0f}" for name, peak in peak_memory_mib().items())
            print(
                f"{target} runs x {arguments.classes} classes: {rate:.0f} class events/s, {size / 2**20:.0f} MiB of "
                f"tables, {checkpoint / 2**20:.1f} MiB of checkpoint, peak MiB of memory: {memory}; an epoch more of "
                f"one run: median {1000 * costs[target]:.0f} ms",
                flush=True,
            )
    began = time.monotonic()
    rows = read_result_table(tables_dir, "runs").num_rows
    print(f"the list of {rows} runs is read in {1000 * (time.monotonic() - began):.0f} ms")
    print(f"an epoch among ten times the runs: ratio {costs[arguments.runs] / costs[arguments.runs // 10]:.2f}")


def old_files(spark: SparkSession, root: Path, arguments: argparse.Namespace) -> None:
    """As many archives as --runs says, files up to the number at which they are archived, and one new file a look."""
    events_dir, name = root / "events", "run{:06d}-attempt001-epoch00001.jsonl"
    write_epoch(events_dir, "run", 1, epoch_events("run", 1, num_classes=arguments.classes, num_epochs=1), lines=True)
    archive_run(events_dir, "run")
    (archive,) = (file for file in (events_dir / "archive").glob("*.parquet"))
    for number in range(arguments.runs):
        shutil.copy(archive, archive.with_name(archive.name.replace("run@", f"run{number:06d}@")))
    for number in range(MAX_FILES):
        (events_dir / name.format(number)).touch()
    new_files = NewFiles(events_dir)
    new_files.look()
    seconds = []
    for number in range(MAX_FILES, MAX_FILES + arguments.epochs):
        (events_dir / name.format(number)).touch()
        began = time.monotonic()
        assert new_files.look() == [name.format(number)]
        seconds.append(time.monotonic() - began)
    longest = 1000 * max(seconds)
    print(f"{arguments.runs} archives, {MAX_FILES} files: a look {percentiles(seconds)}, at most {longest:.0f} ms")


MEASUREMENTS = {"latency": latency, "throughput": throughput, "day": day, "runs": runs, "old_files": old_files}
DEFAULTS = {
    "latency": {"classes": 100, "epochs": 60},
    "throughput": {"classes": 1000, "epochs": 20},
    "day": {"classes": 10, "epochs": 0},
    "runs": {"classes": 8142, "epochs": 0},
    "old_files": {"classes": 10, "epochs": 1000},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=MEASUREMENTS)
    parser.add_argument("--classes", type=int, help="classes of a run")
    parser.add_argument("--epochs", type=int, help="epochs that are measured")
    parser.add_argument("--warm_up", type=int, default=20, help="latency: epochs before that")
    parser.add_argument("--backlog_runs", type=int, default=50, help="throughput: runs")
    parser.add_argument("--epoch_seconds", type=int, default=20, help="day: seconds that an epoch stands for")
    parser.add_argument("--probes", type=int, default=5, help="day, runs: epochs that are timed one by one")
    parser.add_argument("--lines", action="store_true", help="JSON lines for both")
    parser.add_argument("--runs", type=int, default=1000, help="runs: how many; old_files: archives")
    arguments = parser.parse_args()
    for name, value in DEFAULTS[arguments.what].items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    spark = spark_session("benchmark", SparkJobOptions())
    with tempfile.TemporaryDirectory() as root:
        MEASUREMENTS[arguments.what](spark, Path(root), arguments)
    spark.stop()


if __name__ == "__main__":
    main()
