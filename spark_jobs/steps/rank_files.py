"""A run's files for ranks on hosts of a cluster, which may not share the driver's file system.

Before it trains, each rank looks for a file that the driver has written into the run's directory, and the driver for
one that the rank has written there. A rank that passes works in that directory. Any other has a temporary one: it
fetches the checkpoint that it goes on from, and what it writes is sent to the driver while it runs.
"""

import os
import secrets
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.sql import SparkSession

from longtail.conf.base.errors import UserError
from longtail.conf.base.files import scratch_directory, write_text_atomically
from longtail.conf.options.training import RunOptions
from longtail.spark_jobs.cluster.file_client import FileClient
from longtail.spark_jobs.cluster.file_server import PORT_SETTING, FileServer, ServerAddress
from longtail.spark_jobs.cluster.mirror import mirrored
from longtail.training.run_directory import CHECKPOINT_FILE, RunPaths

if TYPE_CHECKING:
    from longtail.training.distributed import Rank

INPUTS = ("resume", "pretrained_model")
OUTPUTS = ("features", "tsne")
"""Options that name a file."""
_RUN, _EVENTS = "run", "events"
"""Names of places."""
RankMain = Callable[["Rank", RunPaths, RunOptions], dict[str, Any]]


@dataclass(frozen=True)
class DriverFiles:
    """What a rank needs to know of the driver's files.

    address: of the driver's FileServer
    sign: name and content of a file in the run's directory
    sizes: bytes of the files that options name as inputs, by the option
    """

    address: ServerAddress
    sign: str
    sizes: dict[str, int]


@contextmanager
def served_files(
    spark: SparkSession, options: RunOptions, paths: RunPaths, *, cancel: Callable[[], None]
) -> Iterator[DriverFiles]:
    """Serve the run's files to ranks during the block.

    cancel: called if what a rank sent cannot be written; the block's exception is then the reason
    """
    assert isinstance(paths.run_dir, Path), "a run in a store needs no server"
    assert isinstance(paths.events_dir, Path), "it is beside the run"
    files = {name: path for name in (*INPUTS, *OUTPUTS) if isinstance(path := getattr(options, name, None), Path)}
    sign = paths.run_dir / f".{secrets.token_hex()}"
    existed = paths.run_dir.exists()
    write_text_atomically(sign, sign.name)
    places = {_RUN: paths.run_dir, _EVENTS: paths.events_dir, **files}
    try:
        with FileServer(spark, places, on_error=cancel) as server:
            sizes = {name: files[name].stat().st_size for name in INPUTS if name in files}
            yield DriverFiles(server.address, sign.name, sizes)
    finally:
        sign.unlink(missing_ok=True)
        if not existed:  # an evaluation has no run
            with suppress(OSError):
                paths.run_dir.rmdir()


def run_with_driver_files(
    rank_main: RankMain, rank: "Rank", paths: RunPaths, options: RunOptions, *, driver: DriverFiles
) -> dict[str, Any]:
    """In a rank: rank_main(rank, paths, options) on the driver's files, or on local ones that become the driver's."""
    assert isinstance(paths.run_dir, Path), "a run in a store needs no server"
    client = FileClient(driver.address)
    with ExitStack() as stack:
        stack.callback(client.close)
        shares = _shares_directory(client, paths.run_dir, driver.sign, rank.rank)
        directory = stack.enter_context(scratch_directory(Path(tempfile.gettempdir()), "run"))
        local = _with_local_files(client, options, driver, directory)
        if shares:
            result = rank_main(rank, paths, local)
        else:
            run_dir, events_dir = directory / paths.run_dir.name, directory / _EVENTS
            here = replace(paths, run_dir=run_dir, events_dir=events_dir)
            for place in (run_dir, events_dir):
                place.mkdir()
            with _reachable(paths.run_dir):
                client.fetch(f"{_RUN}/{CHECKPOINT_FILE}", run_dir / CHECKPOINT_FILE)
            with mirrored(client, {_RUN: run_dir, _EVENTS: events_dir}):
                result = rank_main(rank, here, local)
        if rank.is_first:
            _send_outputs(client, local)
        return result


def _shares_directory(client: FileClient, run_dir: Path, sign: str, rank: int) -> bool:
    """Whether this process and the driver see each other's files in a directory."""
    answer = run_dir / f"{sign}-{rank}"
    try:
        if (run_dir / sign).read_text(encoding="utf-8") != sign:
            return False
        answer.touch()
    except OSError:
        return False
    try:
        return client.exists(f"{_RUN}/{answer.name}")
    except OSError:
        return True  # the driver's connections are closed to us, and it is not needed
    finally:
        answer.unlink(missing_ok=True)


def _with_local_files(client: FileClient, options: RunOptions, driver: DriverFiles, directory: Path) -> RunOptions:
    """The options with inputs that are on this host, fetched if necessary, and outputs for which that holds too."""
    local: dict[str, Path] = {}
    for name, size in driver.sizes.items():
        path = getattr(options, name)
        assert isinstance(path, Path)
        if not (os.path.isfile(path) and path.stat().st_size == size):
            # Its directory's name is that of a run.
            local[name] = directory / name / path.parent.name / path.name
            with _reachable(path):
                client.fetch(name, local[name])
    for name in OUTPUTS:
        if (path := getattr(options, name, None)) is not None:
            local[name] = directory / name / path.name
            local[name].parent.mkdir(parents=True)
    return options.with_files_at(local)


def _send_outputs(client: FileClient, options: RunOptions) -> None:
    for name in OUTPUTS:
        if (path := getattr(options, name, None)) is not None:
            with path.open("rb") as file, _reachable(path):
                client.send(name, file, size=path.stat().st_size)


@contextmanager
def _reachable(path: Path) -> Iterator[None]:
    """Raise UserError for an error of the connection."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"a rank on {socket.gethostname()} does not see {path} and cannot connect to the driver ({error}): let all "
            f"hosts share that directory, or open a port and name it by {PORT_SETTING}"
        ) from None
