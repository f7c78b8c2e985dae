"""Predictions for a user's own rows: their columns stay, those of NAMED_PREDICTION_SCHEMA are added.

Rows become pixels in row_pixels.py, a batch at a time. An image that cannot be decoded ends the job, or has a row that
says why.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import CalendarIntervalType, StructType, YearMonthIntervalType

from longtail.conf.base.errors import UserError
from longtail.conf.base.names import class_name_of, with_examples
from longtail.conf.base.shown_text import one_line
from longtail.data.contract import (
    BAD_IMAGE,
    CLASS_NAME,
    CONFIDENCE,
    FEATURES,
    MARGIN,
    MODEL_VERSION,
    NAMED_PREDICTION_SCHEMA,
    PREDICTED,
    PROBABILITIES,
    TOP5,
)
from longtail.spark_jobs.frames.image_columns import FileColumn, ImageColumn, select_exactly
from longtail.spark_jobs.frames.predictions import (
    SCORE_FIELDS,
    Classifier,
    inference_profile,
    outputs_of,
    scores_of,
    threads_per_task,
    torch_of_task,
)
from longtail.spark_jobs.frames.row_pixels import decoded_rows, pixels_of_values

if TYPE_CHECKING:
    import torch

OnBadImage = Literal["stop", "skip"]
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

    Raises UserError if the frame has a column of such a name, two of one name, or one of a type that Spark does not
    send to Python.
    """
    kept = frame.columns if kept is None else list(kept)
    predicted = pa.schema([*NAMED_PREDICTION_SCHEMA, *additions.fields])
    _check_names(kept, predicted.names)
    needed = [*kept, *(name for name in images.columns if name not in kept)]
    # PySpark's mapInArrow() takes no name with a dot in it, and names may differ in upper and lower case alone: within
    # it, the columns have numbers.
    numbered = select_exactly(frame, needed, called=[_numbered(number) for number in range(len(needed))])
    _check_types(numbered.schema, needed)
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
    groups = [values[first : first + classifier.batch_size] for first in range(0, len(values), classifier.batch_size)]
    batches = [
        _predicted(*pixels_of_values(group, classifier.image_shape), classifier, class_names, device)
        for group in groups
    ]
    return pa.concat_arrays([batch.to_struct_array() for batch in batches]) if batches else _no_predictions()


def _no_predictions() -> pa.StructArray:
    return pa.array([], pa.struct(list(NAMED_PREDICTION_SCHEMA)))


def _check_names(kept: Sequence[str], added: Sequence[str]) -> None:
    """Raise UserError if a column would have a name twice; Spark does not tell upper from lower case."""
    if twice := [name for name, number in Counter(kept).items() if number > 1]:
        raise UserError(f"the images' table has two columns of one name, {with_examples(twice)}: rename or drop one")
    folded = {name.casefold(): name for name in kept}
    if both := [folded[name.casefold()] for name in added if name.casefold() in folded]:
        raise UserError(
            f"the images' table has columns of predictions already, {with_examples(both)}: rename or drop them"
        )


def _check_types(schema: StructType, names: Sequence[str]) -> None:
    """Raise UserError at a column of a type that has none in Arrow, in which rows are sent to Python."""
    for field, name in zip(schema, names, strict=True):
        if isinstance(field.dataType, YearMonthIntervalType | CalendarIntervalType):
            raise UserError(
                f"the column {name!r} of the images' table is of the type {field.dataType.simpleString()}, which Spark "
                f"does not send to Python: drop it, or cast it to a string"
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
        decoded = decoded_rows(
            named, images, classifier.image_shape, kept=columns[:num_kept], group_size=classifier.batch_size
        )
        for found in decoded:
            if on_bad_image == "stop":
                _check_all_are_decoded(found.rows, found.reasons)
            predicted = _predicted(
                found.pixels, found.reasons, classifier, class_names, device, additions=additions, rows=found.rows
            )
            result = {_numbered(number): values for number, values in enumerate(found.rows.columns)}
            result |= dict(zip(predicted.schema.names, predicted.columns, strict=True))
            yield pa.RecordBatch.from_pydict(result)


def _check_all_are_decoded(rows: pa.RecordBatch, reasons: Sequence[str | None]) -> None:
    """Raise UserError at the first row whose image could not be decoded."""
    if bad := [index for index, reason in enumerate(reasons) if reason is not None]:
        raise UserError(
            f"the image of {_shown(rows.slice(bad[0], 1).to_pylist()[0])} cannot be decoded ({reasons[bad[0]]}): "
            f"repair it, or go on without it by --on_bad_image skip"
        )


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
    outputs, metadata = outputs_of(classifier, pixels, device, with_features=additions.features)
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
        columns |= scores_of(outputs.logits, columns[TRUE_CLASS], metadata, classifier)
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
