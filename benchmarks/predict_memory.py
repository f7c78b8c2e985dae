"""Memory of `longtail predict` at two numbers of rows: it must not grow with them.

    python -m benchmarks.predict_memory [--rows 500000,2000000] [--classes 8142] [--side 8] [-a resnet20] [--slots 2]

Parquet tables of random images with a key, and a checkpoint with its first weights for --classes classes. Each table
is predicted by the command as a user starts it, on local[--slots]. Prints for each: seconds, rows/s, and the highest
resident sizes (VmHWM, looked up every half second) of the driver's Python, of the JVM and of the largest Python worker.
"""

import argparse
import contextlib
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.live_query import process_tree
from benchmarks.partition_inference import write_checkpoint

ROWS_PER_GROUP = 20_000
ROWS_PER_FILE = 500_000
SAMPLE_SECONDS = 0.5


def write_table(directory: Path, num_rows: int, side: int) -> Path:
    """Files of at most ROWS_PER_FILE rows: key, and pixels (side, side, 3)."""
    table = directory / f"rows-{num_rows}"
    table.mkdir()
    generator = np.random.default_rng(0)
    schema = pa.schema([("key", pa.int64()), ("image", pa.binary())])
    size = side * side * 3
    for first_of_file in range(0, num_rows, ROWS_PER_FILE):
        with pq.ParquetWriter(table / f"part-{first_of_file:010d}.parquet", schema, use_dictionary=False) as writer:
            for first in range(first_of_file, min(num_rows, first_of_file + ROWS_PER_FILE), ROWS_PER_GROUP):
                number = min(ROWS_PER_GROUP, num_rows - first)
                offsets = pa.array(np.arange(0, (number + 1) * size, size, dtype=np.int32))
                pixels = pa.py_buffer(generator.integers(0, 256, number * size, dtype=np.uint8))
                images = pa.Array.from_buffers(pa.binary(), number, [None, offsets.buffers()[1], pixels])
                writer.write_table(pa.table([pa.array(np.arange(first, first + number)), images], schema=schema))
    return table


class PeakMemory:
    """By process id of a command, its kind and the most memory that it had, in MiB."""

    def __init__(self, root: int) -> None:
        self._root, self._found = root, dict[int, tuple[str, float]]()

    def look(self) -> None:
        for pid in process_tree(self._root):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                status = Path(f"/proc/{pid}/status").read_text()
                kind = "driver" if pid == self._root else "JVM" if "Name:\tjava" in status else "worker"
                if peak := re.search(r"VmHWM:\s+(\d+) kB", status):
                    self._found[pid] = kind, int(peak[1]) / 1024

    def largest(self, kind: str) -> float:
        return max((mib for its_kind, mib in self._found.values() if its_kind == kind), default=0.0)


def predicted(table: Path, checkpoint: Path, output: Path, slots: int) -> tuple[float, PeakMemory]:
    """Seconds of the command, and its memory."""
    command = [Path(sys.executable).parent / "longtail", "predict", "--resume", checkpoint, "--path", table]
    command += ["--output", output, "--master", f"local[{slots}]"]
    started = time.monotonic()
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL) as process:
        memory = PeakMemory(process.pid)
        while process.poll() is None:
            memory.look()
            time.sleep(SAMPLE_SECONDS)
    if process.returncode:
        raise RuntimeError(f"the command ended with {process.returncode}")
    return time.monotonic() - started, memory


def main() -> None:
    parser = argparse.ArgumentParser(description="memory of longtail predict")
    parser.add_argument("--rows", default="500000,2000000")
    parser.add_argument("--classes", type=int, default=8142)
    parser.add_argument("--side", type=int, default=8)
    parser.add_argument("-a", "--arch", default="resnet20")
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--directory", type=Path, help="where the tables are written")
    arguments = parser.parse_args()
    print(f"{arguments.classes} classes, images of {arguments.side}x{arguments.side}, local[{arguments.slots}]")
    print(f"{'rows':>10}{'seconds':>9}{'rows/s':>9}{'driver MiB':>12}{'JVM MiB':>9}{'worker MiB':>12}")
    with tempfile.TemporaryDirectory(dir=arguments.directory) as temporary:
        root = Path(temporary)
        checkpoint = root / "ckpt.pth.tar"
        write_checkpoint(
            checkpoint, arguments.arch, (arguments.side, arguments.side, 3), num_classes=arguments.classes
        )  # fmt: skip
        for num_rows in map(int, arguments.rows.split(",")):
            table = write_table(root, num_rows, arguments.side)
            seconds, memory = predicted(table, checkpoint, root / "predictions", arguments.slots)
            written = pq.ParquetDataset(root / "predictions").fragments
            assert sum(part.metadata.num_rows for part in written) == num_rows
            sizes = [memory.largest(kind) for kind in ("driver", "JVM", "worker")]
            print(
                f"{num_rows:10}{seconds:9.0f}{num_rows / seconds:9.0f}{sizes[0]:12.0f}{sizes[1]:9.0f}{sizes[2]:12.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
