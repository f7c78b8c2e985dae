"""Predictions for a user's own rows: their columns stay, those of NAMED_PREDICTION_SCHEMA are added.

A row's image is in a column, or in a file that the row names (image_columns.py). An image that cannot be decoded ends
the job, or has a row that says why. Partitions are read a batch at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StructType

from longtail.conf.base.errors import UserError
from longtail.conf.base.names import class_name_of, with_examples
from longtail.conf.base.shown_text import one_line
from longtail.data.any_image import pixels_of, raw_pixels
from longtail.data.contract import (
    BAD_IMAGE,
    CLASS_NAME,
    CONFIDENCE,
    MARGIN,
    MODEL_VERSION,
    NAMED_PREDICTION_SCHEMA,
    PREDICTED,
    PROBABILITIES,
    TOP5,
)
from longtail.data.image_files import BAD_IMAGE as BAD_IMAGE_ERRORS
from longtail.spark_jobs.frames.image_columns import FileColumn, ImageColumn, column
from longtail.spark_jobs.frames.predictions import (
    FEATURES,
    SCORE_FIELDS,
    Classifier,
    inference_profile,
    outputs_of,
    scores_of,
    threads_per_task,
    torch_of_task,
)

if TYPE_CHECKING:
    import torch

OnBadImage = Literal["stop", "skip"]
ROWS_READ_AT_ONCE = 64
"""Images of files, whose content is in memory only until they are pixels."""
TRUE_CLASS = "true_class"
_SHOWN_COLUMNS = 3


@dataclass(frozen=True, kw_only=True)
class Additions:
    """What is added to the columns of NAMED_PREDICTION_SCHEMA.

    probabilities: PROBABILITIES, of every class
    features: FEATURES
    label_column: the kept column that names each row's class: TRUE_CLASS, its number, and SCORE_FIELDS are added
    """

    probabilities: bool = False
    features: bool = False
    label_column: str | None = None

    @property
    def fields(self) -> list[pa.Field]:
        """Their fields, all of which may be null."""
        floats = pa.list_(pa.float32())
        added = [pa.field(PROBABILITIES, floats)] * self.probabilities + [pa.field(FEATURES, floats)] * self.features
        return added + ([pa.field(TRUE_CLASS, pa.int32()), *SCORE_FIELDS] if self.label_column is not None else [])


NOTHING_ADDED = Additions()


def with_named_predictions(
    frame: DataFrame,
    classifier: Classifier,
    class_names: Sequence[str],
    images: ImageColumn | FileColumn,
    *,
    on_bad_image: OnBadImage = "stop",
    kept: Sequence[str] | None = None,
    additions: Additions = NOTHING_ADDED,
) -> DataFrame:
    """The kept columns of a frame (by default all), NAMED_PREDICTION_SCHEMA and the additions.

    Raises UserError if the frame has a column of such a name.
    """
    kept = frame.columns if kept is None else list(kept)
    predicted = pa.schema([*NAMED_PREDICTION_SCHEMA, *additions.fields])
    _check_names(kept, predicted.names)
    needed = [*kept, *(name for name in images.columns if name not in kept)]
    # PySpark's mapInArrow() takes no name with a dot in it: within it, the columns have numbers.
    numbered = frame.select(*(column(name).alias(_numbered(number)) for number, name in enumerate(needed)))
    predict = partial(
        _predict_partition,
        classifier=classifier,
        class_names=tuple(class_names),
        images=images,
        on_bad_image=on_bad_image,
        columns=needed,
        num_kept=len(kept),
        additions=additions,
        threads=threads_per_task(frame.sparkSession, classifier.threads),
    )
    schema = StructType(numbered.schema.fields[: len(kept)])
    for field in from_arrow_schema(predicted):
        schema = schema.add(field)
    return numbered.mapInArrow(predict, schema, profile=inference_profile(frame.sparkSession)).toDF(
        *kept, *predicted.names
    )


def _numbered(number: int) -> str:
    return f"column_{number}"


def predictions_of(
    values: Sequence[Callable[[], object]], classifier: Classifier, class_names: Sequence[str], device: "torch.device"
) -> pa.StructArray:
    """In a task: NAMED_PREDICTION_SCHEMA of the images that the functions return, as one Arrow array of structs.

    device: that of torch_of_task()
    """
    batches = [
        _predicted(*_pixels(values[first : first + classifier.batch_size], classifier), classifier, class_names, device)
        for first in range(0, len(values), classifier.batch_size)
    ]
    return pa.concat_arrays([batch.to_struct_array() for batch in batches]) if batches else _no_predictions()


def _no_predictions() -> pa.StructArray:
    return pa.array([], pa.struct(list(NAMED_PREDICTION_SCHEMA)))


def _check_names(kept: Sequence[str], added: Sequence[str]) -> None:
    """Raise UserError if a column would have a name twice; Spark does not tell upper from lower case."""
    folded = {name.casefold(): name for name in kept}
    if both := [folded[name.casefold()] for name in added if name.casefold() in folded]:
        raise UserError(
            f"the images' table has columns of predictions already, {with_examples(both)}: rename or drop them"
        )


def _predict_partition(
    batches: Iterator[pa.RecordBatch],
    *,
    classifier: Classifier,
    class_names: Sequence[str],
    images: ImageColumn | FileColumn,
    on_bad_image: OnBadImage,
    columns: list[str],
    num_kept: int,
    additions: Additions,
    threads: int | None,
) -> Iterator[pa.RecordBatch]:
    """columns: names of the batches' columns, the kept ones first"""
    with torch_of_task(threads) as device:
        named = (batch.rename_columns(columns) for batch in batches)
        decoded = _decoded(named, classifier, images, kept=columns[:num_kept])
        for rows, pixels, reasons in _regrouped(decoded, classifier.batch_size):
            if on_bad_image == "stop":
                _check_all_are_decoded(rows, reasons)
            predicted = _predicted(pixels, reasons, classifier, class_names, device, additions=additions, rows=rows)
            result = {_numbered(number): values for number, values in enumerate(rows.columns)}
            result |= dict(zip(predicted.schema.names, predicted.columns, strict=True))
            yield pa.RecordBatch.from_pydict(result)


def _check_all_are_decoded(rows: pa.RecordBatch, reasons: Sequence[str | None]) -> None:
    """Raise UserError at the first row whose image could not be decoded."""
    if bad := [index for index, reason in enumerate(reasons) if reason is not None]:
        raise UserError(
            f"the image of {_shown(rows.slice(bad[0], 1).to_pylist()[0])} cannot be decoded ({reasons[bad[0]]}): "
            f"repair it, or go on without it by --on_bad_image skip"
        )


_Decoded = tuple[pa.RecordBatch, np.ndarray, list[str | None]]
"""The kept columns of N rows, their pixels (N, height, width, channels), and why one has none."""


def _decoded(
    batches: Iterator[pa.RecordBatch], classifier: Classifier, images: ImageColumn | FileColumn, kept: list[str]
) -> Iterator[_Decoded]:
    # Files are read here; what is in a column is in memory already.
    size = ROWS_READ_AT_ONCE if isinstance(images, FileColumn) else classifier.batch_size
    for batch in batches:
        for first in range(0, batch.num_rows, size):
            part = batch.slice(first, size)
            yield part.select(kept), *_pixels_of_rows(part.select(list(images.columns)), images, classifier)


def _pixels_of_rows(
    rows: pa.RecordBatch, images: ImageColumn | FileColumn, classifier: Classifier
) -> tuple[np.ndarray, list[str | None]]:
    """As _pixels(), of rows with the columns of an image; pixels as the network takes them are not copied."""
    if isinstance(images, FileColumn) or images.has_sizes:
        return _pixels([partial(images.value, row) for row in rows.to_pylist()], classifier)
    pixels, is_certain = raw_pixels(rows.column(images.name), classifier.image_shape)
    reasons: list[str | None] = [None] * rows.num_rows
    others = np.flatnonzero(~is_certain)
    for first in range(0, len(others), ROWS_READ_AT_ONCE):
        indices = others[first : first + ROWS_READ_AT_ONCE]
        values = [partial(images.value, row) for row in rows.take(pa.array(indices)).to_pylist()]
        pixels[indices], of_indices = _pixels(values, classifier)
        for index, reason in zip(indices, of_indices, strict=True):
            reasons[index] = reason
    return pixels, reasons


def _regrouped(parts: Iterator[_Decoded], size: int) -> Iterator[_Decoded]:
    """The same rows in groups of ``size``, so that no forward pass but the last is padded."""
    waiting: list[_Decoded] = []
    num_waiting = 0
    for part in parts:
        waiting.append(part)
        num_waiting += part[0].num_rows
        if num_waiting >= size:
            rows, pixels, reasons = _joined(waiting)
            whole = num_waiting - num_waiting % size
            yield rows.slice(0, whole), pixels[:whole], reasons[:whole]
            num_waiting -= whole
            waiting = [(rows.slice(whole), pixels[whole:], reasons[whole:])] if num_waiting else []
    if num_waiting:
        yield _joined(waiting)


def _joined(parts: list[_Decoded]) -> _Decoded:
    if len(parts) == 1:
        return parts[0]
    rows, pixels, reasons = zip(*parts, strict=True)
    return pa.concat_batches(list(rows)), np.concatenate(pixels), [reason for some in reasons for reason in some]


def _pixels(values: Sequence[Callable[[], object]], classifier: Classifier) -> tuple[np.ndarray, list[str | None]]:
    """(N, height, width, channels) uint8, and for each why it could not be decoded, or None; its pixels are 0 then."""
    import torch

    pixels = np.zeros((len(values), *classifier.image_shape), np.uint8)
    reasons: list[str | None] = [None] * len(values)

    def fill(index: int) -> None:
        try:
            pixels[index] = pixels_of(values[index](), classifier.image_shape)
        except FileNotFoundError:
            reasons[index] = "no such file"
        except BAD_IMAGE_ERRORS as error:
            reasons[index] = one_line(str(error))

    # PIL releases the GIL while it decodes.
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        for _ in threads.map(fill, range(len(values))):
            pass
    return pixels, reasons


def _predicted(
    pixels: np.ndarray,
    reasons: Sequence[str | None],
    classifier: Classifier,
    class_names: Sequence[str],
    device: "torch.device",
    *,
    additions: Additions = NOTHING_ADDED,
    rows: pa.RecordBatch | None = None,
) -> pa.RecordBatch:
    """NAMED_PREDICTION_SCHEMA and the additions for N images; null where there is a reason.

    rows: the kept columns
    """
    from longtail.training.class_predictions import class_predictions

    is_bad = np.array([reason is not None for reason in reasons], bool)
    outputs, card = outputs_of(classifier, pixels, device, with_features=additions.features)
    found = class_predictions(outputs.logits)
    names = pa.array(class_names, pa.string())

    def named(classes: np.ndarray, mask: np.ndarray | None = None) -> pa.Array:
        return names.take(pa.array(classes, mask=mask))

    num_best = found.best.shape[1]
    best = pa.StructArray.from_arrays(
        [named(found.best.flatten().numpy()), pa.array(found.best_probabilities.flatten().numpy())],
        fields=list(NAMED_PREDICTION_SCHEMA.field(TOP5).type.value_type),
    )
    columns = {
        CLASS_NAME: named(found.predicted.numpy(), is_bad),
        PREDICTED: pa.array(found.predicted.int().numpy(), mask=is_bad),
        CONFIDENCE: pa.array(found.confidence.numpy(), mask=is_bad),
        MARGIN: pa.array(found.margin.numpy(), mask=is_bad),
        TOP5: _lists(best, num_best, is_bad),
        MODEL_VERSION: pa.repeat(classifier.version, len(pixels)),
        BAD_IMAGE: pa.array(reasons, pa.string()),
    }
    if additions.probabilities:
        columns[PROBABILITIES] = _lists(pa.array(found.probabilities.flatten().numpy()), len(class_names), is_bad)
    if additions.features:
        assert outputs.features is not None, "infer() was asked for them"
        columns[FEATURES] = _lists(pa.array(outputs.features.flatten().numpy()), outputs.features.shape[1], is_bad)
    if additions.label_column is not None:
        assert rows is not None, "they have the labels"
        labels = _class_numbers(rows.column(additions.label_column), class_names, classifier)
        columns[TRUE_CLASS] = pa.array(labels, mask=is_bad)
        columns |= scores_of(outputs.logits, columns[TRUE_CLASS], card, classifier)
    return pa.RecordBatch.from_pydict(columns, schema=pa.schema([*NAMED_PREDICTION_SCHEMA, *additions.fields]))


def _class_numbers(labels: pa.Array, class_names: Sequence[str], classifier: Classifier) -> np.ndarray:
    """(N,) int32 class of each label. Raises UserError at a label that is no class of the checkpoint."""
    numbers = {class_name_of(name): number for number, name in enumerate(class_names)}
    found = np.zeros(len(labels), np.int32)
    for index, label in enumerate(labels.to_pylist()):
        if label is None:
            raise UserError("the images' table has rows without a label: fill or remove them")
        number = numbers.get(class_name_of(str(label)))
        if number is None:
            raise UserError(
                f"the label {one_line(str(label))!r} is no class of {classifier.checkpoint}, which has "
                f"{with_examples(class_names)}: labels are matched by name; rename them, or remove these images"
            )
        found[index] = number
    return found


def _lists(values: pa.Array, length: int, is_null: np.ndarray) -> pa.ListArray:
    """N lists of one length; null where is_null (N,)."""
    offsets = pa.array(np.arange(0, len(values) + 1, length, dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, values, mask=pa.array(is_null))


def _shown(row: dict[str, Any]) -> str:
    """A row, by its first columns that can be shown."""
    shown = [f"{name} {value}" for name, value in row.items() if isinstance(value, str | int | float)]
    return one_line(", ".join(shown[:_SHOWN_COLUMNS])) or "a row"
