"""`longtail predict` beside a plain torch loop that does the same: files of images in, the same table out.

    python -m benchmarks.predict [--images 2000] [--photo 500x375] [--size 64] [-a resnet20] [--form folder|table]

Smooth pictures with noise as JPEG (or --files png) files in a folder, or as bytes in a Parquet table, and a checkpoint
with its first weights for images of --size. Each way reads and decodes all of them, and writes a Parquet table with the
key, class name and number, confidence, margin, the five best classes, the checkpoint's hash and the reason why an image
could not be read; both with as many threads in all as --threads (2), batches of 500:

- longtail: spark_jobs.steps.predict on local[--threads], in a session that has predicted before;
- plain loop: PIL in --threads threads, the network as PyTorch has it on as many, pyarrow's writer, in a process that
  has predicted before.

The ways take turns, --rounds times. Prints the medians of images/s and of images per second of processor time (driver,
JVM and workers together), the ratios, and in how many predictions they agree: longtail decodes a JPEG at a half or a
quarter where that is enough, so the pixels differ a little. Then each once as a command, from its start to its end.
"""

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image, ImageOps

from benchmarks.partition_inference import write_checkpoint
from benchmarks.peers import Peer, serve
from longtail.conf.arguments import resolve_options
from longtail.conf.base.files import content_hash
from longtail.conf.options.inference import PredictOptions
from longtail.data.contract import (
    BAD_IMAGE,
    CLASS_NAME,
    CONFIDENCE,
    FILE,
    MARGIN,
    MODEL_VERSION,
    NAMED_PREDICTION_SCHEMA,
    PREDICTED,
    TOP5,
)
from longtail.spark_jobs.cluster.session import spark_session
from longtail.spark_jobs.steps.predict import predict
from longtail.training.inference import read_classifier

MODULE = "benchmarks.predict"
BATCH_SIZE = 500
FILES_PER_FOLDER = 500
KEY, IMAGE = FILE, "image"
SCHEMA = pa.schema([pa.field(KEY, pa.string()), *NAMED_PREDICTION_SCHEMA])


def write_images(root: Path, *, number: int, size: tuple[int, int], kind: str, form: str) -> Path:
    """The images (width, height) as files in folders, or as a table of their bytes."""
    generator = np.random.default_rng(1)
    width, height = size
    rows: dict[str, list[object]] = {KEY: [], IMAGE: []}
    for index in range(number):
        coarse = Image.fromarray(generator.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((width, height))
        noisy = np.asarray(coarse).astype(np.int16) + generator.integers(-20, 21, (height, width, 1), dtype=np.int16)
        content = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(content, kind, quality=85)
        name = f"{index // FILES_PER_FOLDER}/{index:06d}.{kind}"
        if form == "table":
            rows[KEY].append(name)
            rows[IMAGE].append(content.getvalue())
        else:
            file = root / "images" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.getvalue())
    if form == "table":
        pq.write_table(pa.table(rows), root / "images.parquet", row_group_size=BATCH_SIZE)
        return root / "images.parquet"
    return root / "images"


def longtail_way(images: Path, checkpoint: Path, output: Path, threads: int) -> None:
    options = {"resume": checkpoint, "path": images, "output": output, "master": f"local[{threads}]"}
    chosen = resolve_options(PredictOptions, options)
    predict(spark_session("predict", chosen, networks=True), chosen)


def files_in_batches(images: Path) -> Iterator[tuple[list[str], list[bytes]]]:
    """Keys and contents."""
    if images.is_file():
        for batch in pq.ParquetFile(images).iter_batches(BATCH_SIZE):
            yield batch[KEY].to_pylist(), batch[IMAGE].to_pylist()
        return
    files = (file for file in images.rglob("*") if file.is_file())
    while some := list(islice(files, BATCH_SIZE)):
        yield [str(file.relative_to(images)) for file in some], [file.read_bytes() for file in some]


def plain_way(images: Path, checkpoint: Path, output: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    model, metadata = read_classifier(checkpoint)
    names, version = np.array(metadata.class_names), content_hash(checkpoint)
    height, width, _ = metadata.image_shape

    def decoded(content: bytes) -> np.ndarray:
        picture = Image.open(io.BytesIO(content)).convert("RGB")
        return np.asarray(ImageOps.fit(picture, (width, height), Image.Resampling.BILINEAR))

    output.mkdir(exist_ok=True)
    with (
        torch.inference_mode(),
        ThreadPoolExecutor(threads) as pool,
        pq.ParquetWriter(output / "predictions.parquet", SCHEMA) as writer,
    ):
        for keys, contents in files_in_batches(images):
            pixels = torch.from_numpy(np.stack(list(pool.map(decoded, contents)))).permute(0, 3, 1, 2)
            probabilities = model(metadata.normalisation.apply(pixels)).softmax(dim=1)
            best, classes = (found.numpy() for found in probabilities.topk(5, dim=1))
            columns = {
                KEY: keys,
                CLASS_NAME: names[classes[:, 0]],
                PREDICTED: classes[:, 0].astype(np.int32),
                CONFIDENCE: best[:, 0],
                MARGIN: best[:, 0] - best[:, 1],
                TOP5: [
                    [{CLASS_NAME: name, CONFIDENCE: share} for name, share in zip(names[of_row], shares, strict=True)]
                    for of_row, shares in zip(classes, best, strict=True)
                ],
                MODEL_VERSION: [version] * len(keys),
                BAD_IMAGE: pa.nulls(len(keys), pa.string()),
            }
            writer.write_table(pa.table(columns, schema=SCHEMA))


WAYS = {"longtail": longtail_way, "plain loop": plain_way}


def seconds_of_command(way: str, images: Path, checkpoint: Path, output: Path, threads: int) -> float:
    """From the start of a process to its end."""
    if way == "longtail":
        command = ["longtail", "predict", "--resume", checkpoint, "--path", images, "--output", output]
        command = [Path(sys.executable).parent / command[0], *command[1:], "--master", f"local[{threads}]"]
    else:
        given = json.dumps([way, *map(str, (images, checkpoint, output, threads)), "once"])
        command = [sys.executable, "-m", MODULE, "--only", given]
    started = time.monotonic()
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def predictions_in(output: Path) -> dict[str, int]:
    rows = pq.read_table(output, columns=[KEY, PREDICTED])
    return dict(zip(rows[KEY].to_pylist(), rows[PREDICTED].to_pylist(), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description="longtail predict beside a plain loop")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--photo", default="500x375", help="width and height of the files")
    parser.add_argument("--files", choices=["jpeg", "png"], default="jpeg")
    parser.add_argument("--form", choices=["folder", "table"], default="folder")
    parser.add_argument("--size", type=int, default=64, help="of the network's images")
    parser.add_argument("-a", "--arch", default="resnet20")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        name, images, checkpoint, output, threads, *once = json.loads(arguments.only)
        way = partial(WAYS[name], Path(images), Path(checkpoint), Path(output), int(threads))
        way()
        if not once:
            serve({name: way})
        return
    width, height = map(int, arguments.photo.split("x"))
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        images = write_images(
            root, number=arguments.images, size=(width, height), kind=arguments.files, form=arguments.form
        )
        checkpoint = root / "ckpt.pth.tar"
        write_checkpoint(checkpoint, arguments.arch, (arguments.size, arguments.size, 3))
        given = {way: (images, checkpoint, root / way.replace(" ", "_"), arguments.threads) for way in WAYS}
        peers = {way: Peer(MODULE, way, *given[way]) for way in WAYS}
        times = np.array([[peers[way].run(way) for way in WAYS] for _ in range(arguments.rounds)])  # (rounds, ways, 2)
        for peer in peers.values():
            peer.close()
        ours, theirs = (predictions_in(given[way][2]) for way in WAYS)
        agreeing = np.mean([ours[key] == theirs[key] for key in theirs])
        commands = {way: seconds_of_command(way, *given[way]) for way in WAYS}
    print(
        f"{arguments.images} {arguments.files} files of {width}x{height} ({arguments.form}), {arguments.arch} on "
        f"{arguments.size}x{arguments.size}, {arguments.threads} threads; {agreeing:.1%} of predictions agree"
    )
    print(f"{'':<12}{'images/s':>10}{'images per second of processor time':>38}{'command, seconds':>20}")
    for (way, seconds), (by_clock, by_processor) in zip(commands.items(), np.median(times, axis=0), strict=True):
        print(f"{way:<12}{arguments.images / by_clock:10.0f}{arguments.images / by_processor:38.0f}{seconds:20.1f}")
    by_clock, by_processor = np.median(times[:, 1] / times[:, 0], axis=0)
    print(f"longtail relative to the plain loop: {by_clock:.2f} by the clock, {by_processor:.2f} by processor time")


if __name__ == "__main__":
    main()
