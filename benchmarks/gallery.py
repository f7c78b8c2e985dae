"""How long the images behind a number take, of a set with very many classes.

    python -m benchmarks.gallery [--classes 8142] [--directory DIR]      # about 1 minute, 1.2 GB in DIR

The set has three test images of each class and 60,000 unlabeled ones, JPEG files of 224 x 224 pixels, in row groups of
900 images. Printed are, by what is asked for: processor time, images, and bytes of the answer as it is sent
(compressed as the server does), and at the end the peak memory of this process.
"""

import argparse
import gzip
import io
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from longtail.conf.vocabulary import TEST, UNLABELED
from longtail.data.contract import ENCODED, HIDDEN_LABEL, ID, IMAGE, LABEL
from longtail.data.kept_predictions import PER_CLASS, STEPS, keep_ends, kept_rows, write_kept
from longtail.data.manifest import Manifest
from longtail.spark_jobs.steps.run_images import images_of_runs
from longtail.streaming.dashboard.gallery import CELL, CLASS, PSEUDO_LABELS, WantedImages, gallery_html
from tests.prepared_set import ROW_SCHEMA, write_manifest, write_split

RUN, SIDE, IMAGES_PER_CLASS, NUM_UNLABELED, FILES, ROWS_PER_GROUP = "many", 224, 3, 60_000, 8, 900
FIRST_UNLABELED = 2**40


def write_set(set_dir: Path, num_classes: int, generator: np.random.Generator) -> Manifest:
    """The set, in files by a hash of the id, as Spark writes them."""
    files = [_jpeg(generator) for _ in range(200)]
    ids = np.arange(IMAGES_PER_CLASS * num_classes)
    parts = {
        TEST: (ids, ids // IMAGES_PER_CLASS, None),
        UNLABELED: (
            FIRST_UNLABELED + np.arange(NUM_UNLABELED),
            None,
            generator.integers(0, num_classes, NUM_UNLABELED),
        ),
    }
    for split, (keys, labels, truth) in parts.items():
        for number in range(FILES):
            mine = keys % FILES == number
            columns = {
                ID: keys[mine], IMAGE: [files[key % len(files)] for key in keys[mine].tolist()],
                LABEL: pa.nulls(mine.sum()) if labels is None else labels[mine],
                HIDDEN_LABEL: pa.nulls(mine.sum()) if truth is None else truth[mine],
            }  # fmt: skip
            rows = pa.table(columns).cast(ROW_SCHEMA)
            write_split(set_dir, split, rows, file_name=f"part-{number}.parquet", row_group_size=ROWS_PER_GROUP)
    counts = {TEST: [IMAGES_PER_CLASS] * num_classes, UNLABELED: [0] * num_classes}
    shape = (SIDE, SIDE, 3)
    return write_manifest(set_dir, counts, image_shape=shape, encoding=ENCODED, num_classless=NUM_UNLABELED)


def write_predictions(directory: Path, manifest: Manifest, generator: np.random.Generator) -> None:
    """Of a run that recognises half of the test images, and takes the others for a larger class."""
    num_classes = manifest.num_classes
    labels = np.arange(IMAGES_PER_CLASS * num_classes) // IMAGES_PER_CLASS
    is_right = generator.random(len(labels)) < 0.5
    predicted = np.where(is_right, labels, (labels * generator.random(len(labels))).astype(int))
    of_test = kept_rows(np.arange(len(labels)), predicted, generator.random(len(labels)), labels)
    run_dir, set_dir = directory / "runs" / RUN, directory / "set"
    write_kept(run_dir, TEST, of_test, manifest, set_dir=set_dir, epoch=1)
    guesses = generator.integers(0, num_classes, NUM_UNLABELED)
    keys = FIRST_UNLABELED + np.arange(NUM_UNLABELED)
    rows = keep_ends(kept_rows(keys, guesses, generator.random(NUM_UNLABELED)))
    write_kept(run_dir, UNLABELED, rows, manifest, set_dir=set_dir, epoch=1, source=STEPS, per_class=PER_CLASS)


def _jpeg(generator: np.random.Generator) -> bytes:
    """A picture whose file is about as large as that of a photograph."""
    file = io.BytesIO()
    rough = Image.fromarray(generator.integers(0, 256, (28, 28, 3), dtype=np.uint8))
    rough.resize((SIDE, SIDE), Image.Resampling.BILINEAR).save(file, "JPEG", quality=90)
    return file.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=8142)
    parser.add_argument("--directory", type=Path)
    arguments = parser.parse_args()
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=arguments.directory) as scratch:
        directory = Path(scratch)
        manifest = write_set(directory / "set", arguments.classes, generator)
        write_predictions(directory, manifest, generator)
        images = images_of_runs(directory / "runs")
        last = arguments.classes - 1
        band = tuple(range(last - last // 50, last + 1))
        asked = {
            "a head class": (CLASS, (0,)), "a tail class": (CLASS, (last,)), "a band of a fiftieth": (CLASS, band),
            "a cell of that band": (CELL, band), "pseudo-labels of a class": (PSEUDO_LABELS, (last,)),
        }  # fmt: skip
        for name, (kind, classes) in asked.items():
            wanted = WantedImages(kind=kind, run=RUN, split=TEST, truth=classes, predicted=classes, title=name)
            began = time.process_time()
            html = gallery_html(images(wanted))
            seconds = time.process_time() - began
            sent = len(gzip.compress(html.encode(), 3))
            print(f"{name:25}  {seconds:5.2f} s of a processor  {html.count('<img '):3} images  {sent / 1000:6.0f} kB")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB, with writing the set")


if __name__ == "__main__":
    main()
