"""Memory of `longtail predict` at two numbers of rows: it must not grow with them.

    python -m benchmarks.predict_memory [--rows 500000,2000000] [--classes 8142] [--side 8] [-a resnet20] [--slots 2]

Parquet tables of random images with a key, and a checkpoint with its first weights for --classes classes. Each table
is predicted by the command as a user starts it, on local[--slots]. Prints for each: seconds, rows/s, and the highest
resident sizes (VmHWM, looked up every half second) of the driver's Python, of the JVM and of the largest Python worker.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.command_memory import KINDS, seconds_and_memory, shown
from benchmarks.partition_inference import write_checkpoint

ROWS_PER_GROUP = 20_000
ROWS_PER_FILE = 500_000


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
    print(f"{'rows':>10}{'seconds':>9}{'rows/s':>9}" + "".join(f"{f'{kind} MiB':>12}" for kind in KINDS))
    with tempfile.TemporaryDirectory(dir=arguments.directory) as temporary:
        root = Path(temporary)
        checkpoint = root / "ckpt.pth.tar"
        write_checkpoint(
            checkpoint, arguments.arch, (arguments.side, arguments.side, 3), num_classes=arguments.classes
        )  # fmt: skip
        for num_rows in map(int, arguments.rows.split(",")):
            table = write_table(root, num_rows, arguments.side)
            output = root / "predictions"
            seconds, sizes = seconds_and_memory(
                "predict", "--resume", checkpoint, "--path", table, "--output", output,
                "--master", f"local[{arguments.slots}]",
            )  # fmt: skip
            assert sum(part.metadata.num_rows for part in pq.ParquetDataset(output).fragments) == num_rows
            print(f"{num_rows:10}{seconds:9.0f}{num_rows / seconds:9.0f}{shown(sizes)}", flush=True)


if __name__ == "__main__":
    main()
