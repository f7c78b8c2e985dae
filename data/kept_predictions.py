"""What a run's last evaluation predicted for each image, kept in the run's directory: predictions/PART.parquet.

A part is a held-out split, with all its images, or UNLABELED: images of the unlabeled part with a pseudo-label that the
run made. Each file says of which epoch it is, and of which prepared set, whose images have the ids.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from longtail.conf.base.files import write_atomically
from longtail.conf.base.formats import check_format_version
from longtail.conf.base.json_text import finite_json
from longtail.conf.base.locations import Location
from longtail.conf.base.parquet_sizes import check_memory
from longtail.conf.vocabulary import TEST, UNLABELED, VAL
from longtail.data.contract import CONFIDENCE, ID, LABEL, PREDICTED
from longtail.data.manifest import Manifest
from longtail.data.storage import check_columns, damaged, open_parquet

KEPT_DIRECTORY = "predictions"
KEPT_PARTS = (TEST, VAL, UNLABELED)
FORMAT_VERSION = 1
PER_CLASS = 100
"""Of the unlabeled part, so many of the surest and of the least sure images of each class are kept."""

EVALUATION, STEPS, LABELLING, TRAINED_ON = "evaluation", "steps", "labelling", "trained_on"
"""Where predictions come from: an evaluation during the training; the steps of an epoch, in which FixMatch makes
pseudo-labels; a job that labels with the run's checkpoint; a table of pseudo-labels that the run learns from."""
_METADATA_KEY = b"longtail.predictions"

KEPT_SCHEMA = pa.schema(
    [
        pa.field(ID, pa.int64(), nullable=False),
        # The class, as the run saw it; null in the unlabeled part, whose withheld labels the prepared set has.
        pa.field(LABEL, pa.int32()),
        pa.field(PREDICTED, pa.int32(), nullable=False),
        # Largest softmax probability.
        pa.field(CONFIDENCE, pa.float32(), nullable=False),
    ]
)


@dataclass(frozen=True, kw_only=True)
class KeptPredictions:
    """The predictions of one part.

    rows: of KEPT_SCHEMA
    source: EVALUATION, STEPS, LABELLING or TRAINED_ON
    epoch: after which they were made; 0 if not by this training
    per_class: at most so many of the surest and of the least sure images of each class are kept; None: all images
    set_dir, set_identity: the prepared set, as it was then (Manifest.identity)
    """

    rows: pa.Table
    source: str
    epoch: int
    set_dir: str
    set_identity: str
    per_class: int | None = None


def kept_rows(
    ids: np.ndarray, predicted: np.ndarray, confidences: np.ndarray, labels: np.ndarray | None = None
) -> pa.Table:
    """Rows of KEPT_SCHEMA from arrays (N,); without labels, of the unlabeled part."""
    columns = [ids, np.zeros(len(ids)) if labels is None else labels, predicted, confidences]
    arrays = [
        pa.array(values.astype(field.type.to_pandas_dtype()))
        for values, field in zip(columns, KEPT_SCHEMA, strict=True)
    ]
    if labels is None:
        arrays[1] = pa.nulls(len(ids), pa.int32())
    return pa.table(arrays, schema=KEPT_SCHEMA)


def keep_ends(rows: pa.Table, *, per_class: int = PER_CLASS) -> pa.Table:
    """The surest and the least sure images of each predicted class, so many of either at most."""
    ordered = rows.sort_by([(PREDICTED, "ascending"), (CONFIDENCE, "descending"), (ID, "ascending")])
    classes = ordered[PREDICTED].to_numpy()
    first, last = np.searchsorted(classes, classes, side="left"), np.searchsorted(classes, classes, side="right")
    places = np.arange(len(classes))
    return ordered.filter(pa.array((places - first < per_class) | (last - places <= per_class)))


def write_kept(
    run_dir: Location,
    part: str,
    rows: pa.Table,
    manifest: Manifest,
    *,
    set_dir: Location,
    epoch: int,
    source: str = EVALUATION,
    per_class: int | None = None,
) -> None:
    """Write the predictions of a part, in the place of older ones."""
    values = {
        "format_version": FORMAT_VERSION, "source": source, "epoch": epoch, "set_dir": str(set_dir.absolute()),
        "set_identity": manifest.identity, "per_class": per_class,
    }  # fmt: skip
    table = rows.sort_by([(LABEL, "ascending"), (PREDICTED, "ascending"), (ID, "ascending")])
    table = table.replace_schema_metadata({_METADATA_KEY: json.dumps(values).encode()})
    write = partial(pq.write_table, table, compression="zstd", write_page_checksum=True)
    write_atomically(_file(run_dir, part), write)


def is_kept(run_dir: Location, part: str) -> bool:
    """Whether a run has predictions of a part of KEPT_PARTS."""
    assert part in KEPT_PARTS, part
    return _file(run_dir, part).is_file()


def read_kept(run_dir: Location, part: str) -> KeptPredictions | None:
    """The predictions of a part of KEPT_PARTS; None if the run has none.

    Raises UserError if the file is damaged or of a newer format.
    """
    if not is_kept(run_dir, part):
        return None
    file = _file(run_dir, part)
    with open_parquet(file) as parquet:
        check_columns(parquet, KEPT_SCHEMA.names, file=file)
        try:
            check_memory(parquet, KEPT_SCHEMA.names, file=file)
            rows = parquet.read(KEPT_SCHEMA.names).replace_schema_metadata(None).cast(KEPT_SCHEMA)
            values = finite_json((parquet.schema_arrow.metadata or {})[_METADATA_KEY].decode())
            version = values["format_version"]
        except (OSError, ValueError, LookupError, TypeError, RecursionError, pa.ArrowException) as error:
            raise damaged(file, error) from None
    check_format_version(version, newest=FORMAT_VERSION, file=file, remedy="train again")
    try:
        kept = KeptPredictions(
            rows=rows, source=values["source"], epoch=values["epoch"], per_class=values["per_class"],
            set_dir=values["set_dir"], set_identity=values["set_identity"],
        )  # fmt: skip
    except (LookupError, TypeError) as error:
        raise damaged(file, error) from None
    texts, numbers = (kept.source, kept.set_dir, kept.set_identity), (kept.epoch, kept.per_class or 0)
    if not all(isinstance(text, str) for text in texts) or not all(isinstance(number, int) for number in numbers):
        raise damaged(file, TypeError("its description has values of other types"))
    return kept


def of_classes(
    rows: pa.Table,
    *,
    labels: Sequence[int] | None = None,
    predicted: Sequence[int] | None = None,
    is_right: bool | None = None,
) -> pa.Table:
    """The rows with these labels and predictions; None for any.

    is_right: only those whose prediction is, or is not, the label; an image without a label is neither
    """
    wanted = pa.array(np.ones(len(rows), bool))
    for column, classes in ((LABEL, labels), (PREDICTED, predicted)):
        if classes is not None:
            found = pc.is_in(rows[column], pa.array(classes, pa.int32()), skip_nulls=True)
            wanted = pc.and_(wanted, found)
    if is_right is not None:
        agrees = pc.fill_null(pc.equal(rows[LABEL], rows[PREDICTED]), not is_right)
        wanted = pc.and_(wanted, agrees if is_right else pc.invert(agrees))
    return rows.filter(wanted)


def _file(run_dir: Location, part: str) -> Location:
    return run_dir / KEPT_DIRECTORY / f"{part}.parquet"
