"""`longtail predict --stream`: what arrives is predicted once, counted by window, and compared with a reference."""

import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from longtail.conf.base.locks import lock_file
from longtail.conf.options.training import TrainOptions
from longtail.conf.vocabulary import TEST
from longtail.data.loader import load_split
from longtail.data.manifest import read_manifest
from longtail.spark_jobs.steps.predict_stream import LOCK_FILE
from longtail.spark_jobs.steps.prediction_windows import MOST_FILES, PredictionWindows
from longtail.spark_jobs.steps.window_counts import read_reference
from longtail.streaming.tables.reading import read_result_table
from longtail.training.run import run_training
from tests.conftest import REPOSITORY, SCRIPTS, RunJob
from tests.refusals import refused
from tests.test_predict import file_of
from tests.tiny_set import ALONE, paths_of, tiny_options

PATIENCE_SECONDS = 300
WINDOW = 600
FIRST = 1_000_000 * WINDOW
"""Where a window begins, in seconds since 1970."""


@pytest.fixture(scope="module")
def checkpoint(set_dir: Path, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    paths = paths_of(set_dir, tmp_path_factory.mktemp("stream") / "run")
    run_training(tiny_options(TrainOptions, epochs=12, loss_type="LDAM"), paths, ALONE, attempt=1)
    return Path(str(paths.run_dir)) / "ckpt.pth.tar"


@pytest.fixture(scope="module")
def files(set_dir: Path) -> list[bytes]:
    """The 30 test images, ten of each class, as PNG files."""
    return [file_of(image) for image in load_split(set_dir, TEST, read_manifest(set_dir)).images]


def arrive(directory: Path, contents: Sequence[bytes], names: Sequence[str], *, at: float = FIRST) -> None:
    for name, content in zip(names, contents, strict=True):
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        os.utime(file, (at, at))


def stream(job: RunJob, checkpoint: Path, *options: object, path: object = "inbox") -> tuple[int, str, str]:
    done = job(
        "predict", "--resume", checkpoint, "--path", path, "--output", "table", "--stream", "--once", "--threads", 1,
        *options,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def names_in(table: Path) -> list[str]:
    return sorted(pq.read_table(table)["file"].to_pylist())


def test_images_that_arrive_are_predicted_once_as_predict_does_also_after_a_kill(
    job: RunJob, checkpoint: Path, files: list[bytes], tmp_path: Path
) -> None:
    first = [f"{number:02d}.png" for number in range(20)]
    arrive(tmp_path / "inbox", files[:19], first[:19])
    arrive(tmp_path / "inbox", files[19:20], first[19:], at=2_840_140_800)  # of 2060
    (tmp_path / "inbox" / "notes.txt").write_text("no image")
    assert stream(job, checkpoint) == (0, "20 images predicted\npredictions: table\n", "")
    assert names_in(tmp_path / "table") == first

    more = ["day 2/a b.PNG", *(f"day 2/{number}.png" for number in range(21, 30))]
    arrive(tmp_path / "inbox", files[20:29], more[:9], at=FIRST + 1)
    arrive(tmp_path / "inbox", files[29:], more[9:], at=1)
    # As if it had been killed after the first batch, before Spark knew that it was done.
    shutil.rmtree(tmp_path / "table" / "_checkpoint" / "commits")
    assert stream(job, checkpoint)[1] == "20 images predicted\n10 images predicted\npredictions: table\n"
    assert names_in(tmp_path / "table") == sorted([*first, *more])

    assert job("predict", "--resume", checkpoint, "--path", "inbox", "--output", "at once").returncode == 0
    columns = ["file", "class_name", "predicted", "model_version"]
    streamed, at_once = (
        pq.read_table(tmp_path / table).sort_by("file").select(columns).to_pylist() for table in ("table", "at once")
    )
    assert streamed == at_once


def test_rows_of_parquet_files_that_arrive_keep_their_columns(
    job: RunJob, checkpoint: Path, files: list[bytes], tmp_path: Path
) -> None:
    for number in range(2):
        columns = {"key": list(range(15 * number, 15 * number + 15)), "image": files[15 * number : 15 * number + 15]}
        (tmp_path / "inbox").mkdir(exist_ok=True)
        write_rows(tmp_path / "inbox" / f"{number}.parquet", columns)
        assert stream(job, checkpoint)[0] == 0
    rows = pq.read_table(tmp_path / "table")
    assert sorted(rows["key"].to_pylist()) == list(range(30))
    assert rows.column_names[:3] == ["key", "arrived_at", "class_name"] and "image" not in rows.column_names


def write_rows(file: Path, columns: dict[str, list]) -> None:
    pq.write_table(pa.table(columns), file)


@pytest.mark.long
def test_messages_of_a_topic_are_predicted_once_though_the_process_is_killed_in_the_middle_of_a_batch(
    checkpoint: Path, files: list[bytes], tmp_path: Path
) -> None:
    arrive(tmp_path / "images", files, names := [f"{number}.png" for number in range(len(files))])
    command = [
        sys.executable,
        "-m",
        "tests.topic_process",
        tmp_path,
        checkpoint,
        *(tmp_path / "images" / n for n in names),
    ]
    done = subprocess.run(list(map(str, command)), cwd=REPOSITORY, capture_output=True, text=True, timeout=420)
    assert done.returncode == 0, done.stderr[-3000:]
    finished, refused = map(json.loads, done.stdout.splitlines())

    assert (finished["status"], finished["out"], finished["err"]) == (
        0, "90 images predicted\npredictions: table\n", "",
    ), finished  # fmt: skip
    rows = pq.read_table(tmp_path / "table").to_pylist()
    assert sorted(row["key"] for row in rows) == sorted(["\ufffd", *(f"{n // 30}/{n % 30}" for n in range(90))])
    assert len({(row["partition"], row["offset"]) for row in rows}) == 91
    assert [row["key"] for row in rows if row["bad_image"]] == ["\ufffd"]
    classes = {number: {row["predicted"] for row in rows if row["key"].endswith(f"/{number}")} for number in range(30)}
    assert all(len(found) == 1 for found in classes.values()) and len(set.union(*classes.values())) > 1
    assert refused["status"] == 2 and "the environment variable NOBODYS is not set" in refused["err"]
    kept = [file for file in (tmp_path / "table").rglob("*") if file.is_file()]
    assert not [file for file in kept if b"hunter2" in file.read_bytes()]
    assert "hunter2" not in (tmp_path / "killed.txt").read_text() + done.stdout + done.stderr


@pytest.mark.long
def test_windows_are_counted_and_another_mix_of_classes_is_told_once(
    job: RunJob, checkpoint: Path, files: list[bytes], tmp_path: Path
) -> None:
    class_0, events_dir = files[:10] * 7, tmp_path / "runs" / "events"
    events_dir.mkdir(parents=True)
    checkpoint = Path(shutil.copytree(checkpoint.parent, tmp_path / "runs" / "run")) / checkpoint.name
    for window, contents in enumerate([files * 35, files * 3, class_0, files]):
        names = [f"{window}/{number}.png" for number in range(len(contents))]
        arrive(tmp_path / "inbox", contents, names, at=FIRST + WINDOW * window + 30)
    status, said, alerts = stream(job, checkpoint, "--window_seconds", WINDOW)
    assert status == 0 and said.endswith("window of 1989-01-05 10:50:00 UTC: as before\npredictions: table\n"), said
    (shares, vanished, *_) = alerts.splitlines()
    assert shares.startswith("alert: window of 1989-01-05 11:00:00 UTC: predicted class shares have changed: class 0 ")
    assert "never predicted any more: class" in vanished

    events = pq.read_table([*events_dir.glob("run-predictions-*.parquet")]).to_pylist()
    predicted = pq.read_table(tmp_path / "table", columns=["file", "predicted", "confidence"]).to_pylist()
    assert len(events) == 12
    for event in events:
        number = (event["window_start"] - FIRST) / WINDOW
        of_window = [row for row in predicted if row["file"].startswith(f"{number:.0f}/")]
        of_class = [row["confidence"] for row in of_window if row["predicted"] == event["class_id"]]
        assert event["predicted"] == len(of_class) and event["confidence_sum"] == pytest.approx(sum(of_class))
        assert event["confidence_squares"] == pytest.approx(sum(value**2 for value in of_class))
        assert event["share_low"] <= event["estimated_share"] <= event["share_high"]
        in_reference = [row for row in predicted if row["file"].startswith("0/")]
        expected = None if number == 0 else sum(row["predicted"] == event["class_id"] for row in in_reference)
        assert event["reference_predicted"] == expected
    for number in range(4):
        of_window = [event for event in events if event["window_start"] == FIRST + WINDOW * number]
        assert sum(event["estimated_share"] for event in of_window) == pytest.approx(1)
    record = json.loads((tmp_path / "table" / "_windows" / "drift.json").read_text())
    told = [line.partition(" UTC: ")[2] for line in alerts.splitlines()]
    assert [entry["findings"] for entry in record] == [None, [], told, None]  # the last has too few images
    assert stream(job, checkpoint, "--window_seconds", WINDOW)[2] == ""
    assert len([*events_dir.iterdir()]) == 4, "what is told is not told again"

    # An image that comes late: its window is written again. What is last is compared as soon as it has enough images.
    arrive(tmp_path / "inbox", files[:1], ["late.png"], at=FIRST + WINDOW + 30)
    arrive(tmp_path / "inbox", class_0[:60], [f"3/more{n}.png" for n in range(60)], at=FIRST + WINDOW * 3 + 30)
    status, said, alerts = stream(job, checkpoint, "--window_seconds", WINDOW)
    assert (status, said) == (0, "61 images predicted\npredictions: table\n") and "11:10:00" in alerts, alerts
    tables_dir = checkpoint.parent.parent / "analytics"
    assert job("monitor", "--runs_dir", checkpoint.parent.parent, "--once").returncode == 0
    rows = read_result_table(tables_dir, "predictions", "run")
    starts = rows["window_start"].to_numpy()
    totals = [int(rows["predicted"].to_numpy()[starts == FIRST + WINDOW * n].sum()) for n in range(4)]
    assert totals == [1050, 91, 70, 90]
    told = {row["rule"]: row for row in read_result_table(tables_dir, "alerts", "run").to_pylist()}
    assert told["shares_drifted"]["split"].endswith("table since 1989-01-05 11:00:00 UTC")
    assert f"window of 1989-01-05 11:10:00 UTC: {told['shares_drifted']['message']}" in alerts


@pytest.mark.long
def test_ctrl_c_in_the_middle_of_a_batch_is_one_line(checkpoint: Path, files: list[bytes], tmp_path: Path) -> None:
    """Spark printed a trace of hundreds of lines: its search in the error's text overflowed a stack."""
    arrive(tmp_path / "inbox", files * 100, [f"{number}.png" for number in range(3000)])
    command = [SCRIPTS / "longtail", "predict", "--resume", checkpoint, "--path", "inbox", "--output", "table"]
    options = ["--stream", "--threads", "1", "--master", "local[1]"]
    with (tmp_path / "said.txt").open("w") as said:
        process = subprocess.Popen([*command, *options], stdout=said, stderr=said, cwd=tmp_path)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not list(tmp_path.glob("table/.batch=0.*")):
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "said.txt").read_text()
            time.sleep(0.01)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == 130
    assert not (tmp_path / "table" / "batch=0").exists(), "it was interrupted too late"
    assert (tmp_path / "said.txt").read_text() == "longtail predict: interrupted\n"


def test_the_counts_of_many_batches_are_merged_and_a_repeated_batch_counts_once(tmp_path: Path) -> None:
    names, num_batches = ["head", "tail"], 2 * MOST_FILES + 10
    windows = PredictionWindows(tmp_path, names, seconds=WINDOW)
    for batch in range(num_batches):
        moment = datetime.datetime.fromtimestamp(FIRST + 10 * batch, datetime.UTC)
        columns = {"arrived_at": [moment] * 2, "predicted": [0, batch % 2], "confidence": [0.5, 0.25]}
        write_rows(tmp_path / "batch.parquet", columns)
        for _ in range(2 if batch == num_batches - 1 else 1):
            assert windows.add(batch, tmp_path / "batch.parquet") == 2
    assert len([*(tmp_path / "_windows").iterdir()]) <= MOST_FILES + 1
    merged = min((tmp_path / "_windows").iterdir(), key=lambda file: file.name)
    assert merged.name.startswith("batches-0-")
    shutil.copyfile(merged, merged.with_name("batches-0-5.parquet"))  # whoever is killed while merging leaves some
    for found in (windows, PredictionWindows(tmp_path, names, seconds=WINDOW)):  # also in another process
        counts = [window.counts for window in found.ended(is_over=True)]
        assert [one.counts.tolist() for one in counts] == [[90, 30]] * 3 + [[45, 15]]
        assert [one.confidence_sums.tolist() for one in counts] == [[37.5, 7.5]] * 3 + [[18.75, 3.75]]
        # Of 0.5 in the bin from there on, of 0.25 likewise.
        assert [one.images[0, [5, 10]].tolist() for one in counts] == [[30, 60]] * 3 + [[15, 30]]


def test_a_bad_image_stops_the_stream_in_one_line_and_can_be_left_out(
    job: RunJob, checkpoint: Path, files: list[bytes], tmp_path: Path
) -> None:
    arrive(tmp_path / "inbox", [files[0], b"no image"], ["good.png", "bad.png"])
    status, _, error = stream(job, checkpoint)
    assert status == 2 and "the image of file bad.png" in error and "--on_bad_image skip" in error
    assert len(error.splitlines()) == 1
    assert stream(job, checkpoint, "--on_bad_image", "skip")[1].startswith("1 images predicted\n")
    rows = pq.read_table(tmp_path / "table").sort_by("file").to_pylist()
    assert [(row["file"], row["bad_image"] is None) for row in rows] == [("bad.png", False), ("good.png", True)]


def test_a_reference_is_matched_by_the_names_of_its_classes(tmp_path: Path) -> None:
    columns = {"class_name": ["tail"] * 20 + ["head"] * 40 + [None], "confidence": [0.5] * 60 + [None]}
    write_rows(tmp_path / "reference.parquet", columns)
    checkpoint = tmp_path / "ckpt.pth.tar"
    for names, counts in ((["head", "tail"], [40, 20]), (["tail", "head", "new"], [20, 40, 0])):
        assert read_reference(tmp_path / "reference.parquet", names, of=checkpoint).counts.tolist() == counts
    with refused() as messages:
        read_reference(tmp_path / "reference.parquet", ["head", "wasp"], of=checkpoint)
    assert f"has predictions of other classes than {checkpoint}: tail; name another --reference" in messages[0]


def test_a_table_is_of_one_stream(job: RunJob, checkpoint: Path, files: list[bytes], tmp_path: Path) -> None:
    arrive(tmp_path / "inbox", files[:2], ["a.png", "b.png"])
    arrive(tmp_path / "other", files[:2], ["a.png", "b.png"])
    assert stream(job, checkpoint)[0] == 0
    assert "has predictions of another source" in stream(job, checkpoint, path="other")[2]
    with closing(lock_file(tmp_path / "table" / LOCK_FILE, "")):
        status, _, error = stream(job, checkpoint)
    assert status == 2 and "another process writes the predictions in" in error
    done = job("predict", "--resume", checkpoint, "--path", "inbox", "--output", "table")
    assert done.returncode == 2 and "is the table of a stream" in done.stderr
    record = tmp_path / "table" / "_stream.json"
    about = json.loads(record.read_text())
    for names, said in (
        (["class 1", "class 0", "class 2"], "in another order (class 0 is 'class 1' there and 'class 0' here)"),
        (["class 0", "class 1", "wasp"], "it lacks class 2 and has wasp instead"),
        ([0], "it lacks class 0, class 1, class 2 and has 0 instead"),
    ):
        record.write_text(json.dumps({**about, "class_names": names}))
        assert said in stream(job, checkpoint)[2]
    record.write_text(json.dumps(about))
    arguments = ["predict", "--resume", checkpoint, "--output", "other2"]
    topic = ["--topic", "images", "--bootstrap_servers", "127.0.0.1:1"]
    for wrong, message in (
        (["--path", "inbox", "--once"], "belong to --stream"),
        ([], "--path names the images, or with --stream --topic does"),
        ([*topic, "--path", "inbox", "--stream"], "give one of them"),
        (topic, "a --topic has no end"),
        ([*topic[:2], "--stream"], "--topic and --bootstrap_servers HOST:PORT go together"),
        (["--path", "inbox", "--stream", "--kafka_option", "client.id=x"], "need --topic"),
        ([*topic, "--stream"], "--bootstrap_servers 127.0.0.1:1: cannot reach it"),
    ):
        done = job(*arguments, *wrong)
        assert done.returncode == 2 and message in done.stderr, done.stderr
        assert len(done.stderr.splitlines()) == 1 and not (tmp_path / "other2").exists()
    assert "does not run over Spark Connect" in stream(job, checkpoint, "--remote", "sc://localhost")[2]
    assert names_in(tmp_path / "table") == ["a.png", "b.png"]
