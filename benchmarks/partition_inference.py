"""Inference a partition at a time beside a plain torch loop and pyspark's predict_batch_udf.

    python -m benchmarks.partition_inference [--images 50000] [-a resnet20] [--rounds 3]

Made-up images of 32x32x3, as a prepared set's Parquet file on disk; a network with its
first weights. Each way reads the file, decodes it, and has the probabilities of every
image at its end; all with as many threads in all as --threads (2), batches of 500:

- plain loop: pyarrow, and the network as PyTorch has it, in a process of its own;
- longtail: spark_jobs.frames.predictions on local[--threads], a thread a task, into Spark's noop sink;
- predict_batch_udf: the network as PyTorch has it and the same batch size, on the same session, the same sink;
- longtail on one slot, for the scaling with the number of partitions.

Each way has labelled some images before it is timed, so that torch and the network are loaded. The ways take turns,
--rounds times. Prints the medians of images/s and of images per second of processor time (driver, JVM and workers
together), which other work on the machine changes less, and the ratios of the rounds.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.peers import Peer, serve
from longtail.conf.base.files import content_hash
from longtail.conf.options.base import SparkJobOptions
from longtail.conf.options.training import TrainOptions
from longtail.data.contract import ID, IMAGE, RAW
from longtail.models.build import build_model
from longtail.spark_jobs.cluster.session import spark_session
from longtail.spark_jobs.frames.predictions import Classifier, with_predictions
from longtail.training.augmentation import Normalisation
from longtail.training.checkpoint_metadata import CheckpointMetadata
from longtail.training.checkpoints import Checkpoint, save_checkpoint
from longtail.training.inference import read_classifier

SHAPE = (32, 32, 3)
BATCH_SIZE = 500
WARM_UP = 1000
MODULE = "benchmarks.partition_inference"


def write_images(directory: Path, number: int) -> None:
    """One Parquet file, as prepared sets are: uncompressed, raw pixels."""
    directory.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (number, int(np.prod(SHAPE))), dtype=np.uint8)
    images = pa.array([row.tobytes() for row in pixels], pa.binary())
    table = pa.table({ID: pa.array(np.arange(number)), IMAGE: images})
    pq.write_table(table, directory / "rows.parquet", compression="none", use_dictionary=False)


def write_checkpoint(path: Path, arch: str, shape: tuple[int, int, int], *, num_classes: int = 10) -> None:
    """A network with its first weights, for images of shape (height, width, channels)."""
    torch.manual_seed(0)
    model = build_model(arch, num_classes=num_classes, in_channels=shape[2])
    metadata = CheckpointMetadata(
        run="benchmark",
        phase="train",
        arch=arch,
        head="linear",
        logit_scale=1.0,
        class_names=[str(i) for i in range(num_classes)],
        class_counts=[1] * num_classes,
        rule_counts=[1] * num_classes,
        pseudo_label_round=0,
        image_shape=shape,
        normalisation=Normalisation((0.5,) * 3, (0.25,) * 3),
        options=TrainOptions(arch=arch).model_dump(mode="json"),
    )
    save_checkpoint(
        path,
        Checkpoint(epoch=1, arch=arch, state_dict=model.state_dict(), optimizer=None, best=None, metadata=metadata),
    )


def plain_network(checkpoint: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """From images (N, height, width, channels) uint8 to probabilities (N, C), as most people write it."""
    torch.set_num_threads(threads)
    model, metadata = read_classifier(checkpoint)

    @torch.inference_mode()
    def probabilities(pixels: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2)
        return model(metadata.normalisation.apply(batch)).softmax(dim=1).numpy()

    return probabilities


def plain_loop(directory: Path, probabilities: Callable[[np.ndarray], np.ndarray], limit: int | None) -> None:
    images = pq.read_table(directory / "rows.parquet").column(IMAGE).slice(0, limit).combine_chunks()
    pixels = np.frombuffer(b"".join(images.to_pylist()), np.uint8).reshape(-1, *SHAPE)
    for first in range(0, len(pixels), BATCH_SIZE):
        probabilities(pixels[first : first + BATCH_SIZE])


def make_predict(checkpoint: str) -> Callable[[np.ndarray], np.ndarray]:
    """predict_batch_udf's function: batches arrive as arrays of bytes objects."""
    probabilities = plain_network(Path(checkpoint), 1)
    return lambda images: probabilities(np.frombuffer(b"".join(images), np.uint8).reshape(-1, *SHAPE))


def spark_ways(directory: Path, checkpoint: Path, slots: int) -> dict[str, Callable[[int | None], None]]:
    """The ways on Spark in one session with so many slots."""
    from pyspark.ml.functions import predict_batch_udf
    from pyspark.sql import DataFrame
    from pyspark.sql.types import ArrayType, FloatType

    spark = spark_session("benchmark", SparkJobOptions(master=f"local[{slots}]"))
    classifier = Classifier(
        checkpoint=checkpoint,
        version=content_hash(checkpoint),
        image_shape=SHAPE,
        encoding=RAW,
        batch_size=BATCH_SIZE,
        threads=1,
    )
    probabilities = predict_batch_udf(
        partial(make_predict, str(checkpoint)), return_type=ArrayType(FloatType()), batch_size=BATCH_SIZE
    )
    images = spark.read.parquet(str(directory))

    def run(way: Callable[[DataFrame], DataFrame], limit: int | None) -> None:
        given = images if limit is None else images.limit(limit)
        way(given).write.format("noop").mode("overwrite").save()

    return {
        "longtail": partial(run, lambda images: with_predictions(images, classifier)),
        "predict_batch_udf": partial(
            run, lambda images: images.repartition(slots, ID).select(ID, probabilities(IMAGE))
        ),
    }


def serve_ways(directory: Path, checkpoint: Path, kind: str, threads: int) -> None:
    """In a process of its own: warm up, then label all images in the ways that it is asked for."""
    if kind == "spark":
        ways = spark_ways(directory, checkpoint, threads)
    else:
        ways = {"plain loop": partial(plain_loop, directory, plain_network(checkpoint, threads))}
    for way in ways.values():
        way(WARM_UP)
    serve({name: partial(way, None) for name, way in ways.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description="Inference a partition at a time")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("-a", "--arch", default="resnet20")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        directory, checkpoint, kind, threads = json.loads(arguments.only)
        serve_ways(Path(directory), Path(checkpoint), kind, int(threads))
        return
    with tempfile.TemporaryDirectory() as root:
        directory, checkpoint = Path(root) / "rows", Path(root) / "ckpt.pth.tar"
        write_images(directory, arguments.images)
        write_checkpoint(checkpoint, arguments.arch, SHAPE)
        spark, one, plain = (
            Peer(MODULE, directory, checkpoint, *kind)
            for kind in (("spark", arguments.threads), ("spark", 1), ("plain", arguments.threads))
        )
        ways = [
            ("longtail", partial(spark.run, "longtail")),
            ("plain loop", partial(plain.run, "plain loop")),
            ("predict_batch_udf", partial(spark.run, "predict_batch_udf")),
            ("longtail, one slot", partial(one.run, "longtail")),
        ]
        times = np.array([[label() for _, label in ways] for _ in range(arguments.rounds)])
        for peer in (spark, one, plain):
            peer.close()
    print(f"{arguments.images} images of 32x32x3, {arguments.arch}, batch {BATCH_SIZE}, {arguments.threads} threads")
    print(f"{'':<22}{'images/s':>12}{'images per second of processor time':>40}")
    for (way, _), (seconds, processor) in zip(ways, np.median(times, axis=0), strict=True):
        print(f"{way:<22}{arguments.images / seconds:12.0f}{arguments.images / processor:40.0f}")
    print("longtail relative to (median of rounds; by the clock, by processor time)")
    for index, (way, _) in enumerate(ways[1:], 1):
        by_clock, by_processor = np.median(times[:, index] / times[:, 0], axis=0)
        print(f"{way:<22}{by_clock:12.2f}{by_processor:40.2f}")


if __name__ == "__main__":
    main()
