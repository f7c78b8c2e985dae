"""The driver's files for ranks with other disks (spark_jobs/cluster/file_server.py, file_client.py, mirror.py)."""

import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import write_text_atomically
from longtail.conf.options.training import TrainOptions
from longtail.spark_jobs.cluster.file_client import FileClient
from longtail.spark_jobs.cluster.file_server import FileServer, ServerAddress
from longtail.spark_jobs.cluster.mirror import Mirror, mirrored
from tests.tiny_set import tiny_options


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    """Where the driver's files are."""
    for place in ("run", "events"):
        (tmp_path / "driver" / place).mkdir(parents=True)
    return tmp_path / "driver"


@pytest.fixture
def server(spark: SparkSession, driver: Path) -> Iterator[FileServer]:
    with FileServer(
        spark, {"run": driver / "run", "events": driver / "events", "tsne": driver / "map.png"}, on_error=lambda: None
    ) as started:  # fmt: skip
        yield started


@pytest.fixture
def client(server: FileServer) -> Iterator[FileClient]:
    client = FileClient(server.address)
    yield client
    client.close()


@pytest.fixture
def rank(tmp_path: Path) -> Path:
    """Where a rank's files are."""
    for place in ("run", "events"):
        (tmp_path / "rank" / place).mkdir(parents=True)
    return tmp_path / "rank"


def mirror_of(client: FileClient, rank: Path) -> Mirror:
    return Mirror(client, {"run": rank / "run", "events": rank / "events"})


def content(directory: Path) -> dict[str, str]:
    return {str(file.relative_to(directory)): file.read_text() for file in directory.rglob("*") if file.is_file()}


def test_a_mirror_has_what_is_written_rewritten_continued_and_removed(
    client: FileClient, driver: Path, rank: Path
) -> None:
    (rank / "run" / "ckpt.pth.tar").write_text("fetched")  # which the driver has
    mirror = mirror_of(client, rank)
    scalars = rank / "run" / "tensorboard" / "events.out.tfevents.1"
    scalars.parent.mkdir()
    scalars.write_text("one")
    write_text_atomically(rank / "events" / "epoch1.jsonl", "first")
    (rank / "events" / ".unfinished").touch()
    mirror.send()
    assert content(driver) == {"run/tensorboard/events.out.tfevents.1": "one", "events/epoch1.jsonl": "first"}

    with scalars.open("a") as file:
        file.write(", two")
    write_text_atomically(rank / "events" / "epoch1.jsonl", "again, and longer")
    write_text_atomically(rank / "run" / "ckpt.pth.tar", "trained")
    mirror.send()
    assert content(driver) == {
        "run/tensorboard/events.out.tfevents.1": "one, two",
        "run/ckpt.pth.tar": "trained",
        "events/epoch1.jsonl": "again, and longer",
    }
    (rank / "events" / "epoch1.jsonl").unlink()
    mirror.send()
    assert list((driver / "events").iterdir()) == []


def test_a_file_that_took_the_inode_of_another_is_sent_whole(client: FileClient, driver: Path, rank: Path) -> None:
    mirror = mirror_of(client, rank)
    file = rank / "run" / "ckpt.pth.tar"
    file.write_text("old")
    mirror.send()
    file.write_text("newer and longer")  # in place, as a rename to a number that was used before looks
    mirror.send()
    assert content(driver / "run") == {"ckpt.pth.tar": "newer and longer"}


def test_events_are_there_before_the_checkpoint_that_follows_them(
    client: FileClient, rank: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    monkeypatch.setattr(client, "send", lambda name, file, **how: sent.append(name))
    mirror = mirror_of(client, rank)
    (rank / "events" / "epoch1.parquet").touch()
    (rank / "run" / "ckpt.pth.tar").touch()
    mirror.send()
    assert sent == ["events/epoch1.parquet", "run/ckpt.pth.tar"]


def test_a_rank_that_fails_leaves_what_it_wrote(client: FileClient, driver: Path, rank: Path) -> None:
    with pytest.raises(RuntimeError), mirrored(client, {"events": rank / "events"}):
        (rank / "events" / "failed.jsonl").write_text("out of memory")
        raise RuntimeError
    assert content(driver) == {"events/failed.jsonl": "out of memory"}


def test_files_are_fetched_and_a_broken_connection_is_made_again(
    client: FileClient, driver: Path, tmp_path: Path
) -> None:
    data = os.urandom(3 * 1024**2 + 5)
    (driver / "run" / "ckpt.pth.tar").write_bytes(data)
    assert client.fetch("run/ckpt.pth.tar", tmp_path / "here" / "ckpt.pth.tar")
    assert (tmp_path / "here" / "ckpt.pth.tar").read_bytes() == data
    assert not client.fetch("run/none", tmp_path / "none") and not (tmp_path / "none").exists()
    assert client.exists("run/ckpt.pth.tar") and not client.exists("run/none")
    assert client._connection is not None
    client._connection[0].shutdown(socket.SHUT_RDWR)
    with pytest.raises(OSError):
        client.exists("run/ckpt.pth.tar")
    assert client.exists("run/ckpt.pth.tar")


@pytest.mark.parametrize("name", ["run/../../secret", "other/file", "/etc/passwd", ".."])
def test_nothing_but_the_places_is_served(client: FileClient, name: str) -> None:
    with pytest.raises(UserError, match="which the driver does not offer"):
        client.exists(name)


def test_who_does_not_know_the_secret_is_told_nothing(server: FileServer, tmp_path: Path) -> None:
    address = server.address
    stranger = FileClient(ServerAddress(address.host, address.port, "guess"))
    with pytest.raises(OSError):
        stranger.exists("run/ckpt.pth.tar")
    for rubbish in (b"\n", b"[" * 60_000 + b"\n", b"\xff\xfe\n", b'{"answer": 3}\n', b""):
        with socket.create_connection((address.host, address.port)) as connection:
            connection.sendall(rubbish)
            connection.shutdown(socket.SHUT_WR)
            lines = connection.makefile("rb").read().splitlines()
        assert [list(json.loads(line)) for line in lines] == [["challenge"]]
    assert "guess" not in repr(ServerAddress("host", 1, "guess"))


def test_what_the_driver_cannot_write_ends_the_stage_with_its_reason(
    spark: SparkSession, driver: Path, rank: Path
) -> None:
    cancelled: list[bool] = []
    (driver / "events").rmdir()
    (driver / "events").write_text("a file where a directory was")
    with (
        pytest.raises(OSError, match="File exists"),
        FileServer(spark, {"events": driver / "events"}, on_error=lambda: cancelled.append(True)) as server,
        mirrored(FileClient(server.address), {"events": rank / "events"}),
    ):
        (rank / "events" / "epoch1.jsonl").touch()
        deadline = time.monotonic() + 20
        while not cancelled:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        raise RuntimeError("the stage was cancelled")
    assert cancelled == [True]


def test_options_with_files_elsewhere_record_those_that_the_user_named(tmp_path: Path) -> None:
    checkpoint, here = tmp_path / "ckpt.pth.tar", tmp_path / "here.pth.tar"
    checkpoint.touch()
    options = tiny_options(TrainOptions, resume=checkpoint)
    moved = options.with_files_at({"resume": here})
    assert moved.resume == here and moved.continues_from == here
    assert moved.recorded() == options.recorded() and moved.recorded()["resume"] == str(checkpoint)
