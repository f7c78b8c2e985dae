"""Inference a partition at a time beside a plain torch loop and pyspark's predict_batch_udf.

    python benchmarks/partition_inference.py [--images 50000] [-a resnet20]

Made-up images of 32x32x3, as a prepared set's Parquet file on disk; a network with its
first weights. Each way reads the file, decodes it, and has the probabilities of every
image at its end; all with as many threads in all as --threads (2), batches of 500:

- plain loop: data.loader and training.inference in this process, --threads threads;
- longtail: spark_jobs.inference on local[--threads], a thread a task, into Spark's noop sink;
- predict_batch_udf: the same network and batch size, on the same session, the same sink;
- longtail on one slot, for the scaling with the number of partitions.

Each Spark way has labelled some images before it is timed, so the workers have torch and
the network. Prints images/s and the ratios.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from longtail.conf.base.files import content_hash
from longtail.conf.options.base import SparkJobOptions
from longtail.conf.options.training import TrainOptions
from longtail.data.contract import ID, IMAGE, RAW
from longtail.data.loader import decode_images, read_columns
from longtail.models.build import build_model
from longtail.spark_jobs.cluster.session import spark_session
from longtail.spark_jobs.frames.predictions import Classifier, with_predictions
from longtail.training.augmentation import Normalisation
from longtail.training.checkpoints import Checkpoint, save_checkpoint
from longtail.training.inference import infer, load_classifier
from longtail.training.model_card import ModelCard

SHAPE = (32, 32, 3)
BATCH_SIZE = 500
WARM_UP = 4000


def write_images(directory: Path, number: int) -> None:
    """One Parquet file, as prepared sets are: uncompressed, raw pixels."""
    directory.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (number, int(np.prod(SHAPE))), dtype=np.uint8)
    images = pa.array([row.tobytes() for row in pixels], pa.binary())
    table = pa.table({ID: pa.array(np.arange(number)), IMAGE: images})
    pq.write_table(table, directory / "rows.parquet", compression="none", use_dictionary=False)


def write_checkpoint(path: Path, arch: str) -> None:
    torch.manual_seed(0)
    model = build_model(arch, num_classes=10, in_channels=SHAPE[2])
    card = ModelCard(
        run="benchmark",
        phase="train",
        arch=arch,
        head="linear",
        logit_scale=1.0,
        class_names=[str(i) for i in range(10)],
        class_counts=[1] * 10,
        rule_counts=[1] * 10,
        pseudo_label_round=0,
        image_shape=SHAPE,
        normalisation=Normalisation((0.5,) * 3, (0.25,) * 3),
        options=TrainOptions(arch=arch).model_dump(mode="json"),
    )
    save_checkpoint(
        path, Checkpoint(epoch=1, arch=arch, state_dict=model.state_dict(), optimizer=None, best=None, model_card=card)
    )


def plain_loop(directory: Path, checkpoint: Path, threads: int) -> float:
    """Seconds to read and to label all images."""
    torch.set_num_threads(threads)
    version = content_hash(checkpoint)

    def label(limit: int | None) -> None:
        column = read_columns([directory / "rows.parquet"], [ID, IMAGE]).column(IMAGE)
        images = decode_images(column.slice(0, limit), SHAPE, RAW)
        infer(checkpoint, version, images, batch_size=BATCH_SIZE).logits.softmax(dim=1)

    label(WARM_UP)
    started = time.monotonic()
    label(None)
    return time.monotonic() - started


def make_predict(checkpoint: str, version: str):
    """predict_batch_udf's function: batches arrive as arrays of bytes objects."""
    torch.set_num_threads(1)
    model, card = load_classifier(Path(checkpoint), version)

    @torch.inference_mode()
    def predict(images: np.ndarray) -> np.ndarray:
        pixels = np.frombuffer(b"".join(images), np.uint8).reshape(-1, *SHAPE)
        batch = torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2)
        return model(card.normalisation.apply(batch)).softmax(dim=1).numpy()

    return predict


def on_spark(directory: Path, checkpoint: Path, slots: int, peers: list[str]) -> dict[str, float]:
    """Seconds of each way in one session with so many slots; runs in a process of its own."""
    from pyspark.ml.functions import predict_batch_udf
    from pyspark.sql.types import ArrayType, FloatType

    spark = spark_session("benchmark", SparkJobOptions(master=f"local[{slots}]"))
    version = content_hash(checkpoint)
    classifier = Classifier(
        checkpoint=checkpoint, version=version, image_shape=SHAPE, encoding=RAW, batch_size=BATCH_SIZE, threads=1
    )
    probabilities = predict_batch_udf(
        partial(make_predict, str(checkpoint), version), return_type=ArrayType(FloatType()), batch_size=BATCH_SIZE
    )
    ways = {
        "longtail": lambda images: with_predictions(images, classifier),
        "predict_batch_udf": lambda images: images.repartition(slots, ID).select(ID, probabilities(IMAGE)),
    }
    seconds = {}
    for peer in peers:
        images = spark.read.parquet(str(directory))
        ways[peer](images.limit(WARM_UP)).write.format("noop").mode("overwrite").save()
        started = time.monotonic()
        ways[peer](images).write.format("noop").mode("overwrite").save()
        seconds[peer] = time.monotonic() - started
    spark.stop()
    return seconds


def in_process(**arguments: Any) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, "--only", json.dumps(arguments)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("-a", "--arch", default="resnet20")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        given = json.loads(arguments.only)
        given |= {name: Path(given[name]) for name in ("directory", "checkpoint")}
        print(json.dumps(on_spark(**given)))
        return
    with tempfile.TemporaryDirectory() as root:
        directory, checkpoint = Path(root) / "rows", Path(root) / "ckpt.pth.tar"
        write_images(directory, arguments.images)
        write_checkpoint(checkpoint, arguments.arch)
        places = {"directory": str(directory), "checkpoint": str(checkpoint)}
        seconds = {"plain loop": plain_loop(directory, checkpoint, arguments.threads)}
        seconds |= in_process(**places, slots=arguments.threads, peers=["longtail", "predict_batch_udf"])
        one_slot = in_process(**places, slots=1, peers=["longtail"])["longtail"]
    print(f"{arguments.images} images of 32x32x3, {arguments.arch}, batch {BATCH_SIZE}, {arguments.threads} threads")
    for way, taken in {**seconds, "longtail, one slot": one_slot}.items():
        print(f"{way:<22}{arguments.images / taken:8.0f} images/s")
    print(f"longtail / plain loop           {seconds['plain loop'] / seconds['longtail']:.2f}")
    print(f"longtail / predict_batch_udf    {seconds['predict_batch_udf'] / seconds['longtail']:.2f}")
    print(f"{arguments.threads} slots / 1 slot               {one_slot / seconds['longtail']:.2f}")


if __name__ == "__main__":
    main()
