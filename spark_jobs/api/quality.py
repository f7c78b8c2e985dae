"""The quality of pseudo-labels where the true classes are known."""

import pandas as pd

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location, location
from longtail.spark_jobs.api.known_options import with_known_options
from longtail.spark_jobs.steps.label_quality import read_quality

_COUNTS = {"support": "unlabeled", "predicted": "pseudo_labels", "correct": "right"}


@with_known_options
def label_quality(table: str | Location) -> pd.DataFrame:
    """How many pseudo-labels of a table of pseudo_labels() are right, by the withheld labels: a row for each class.

    unlabeled: images of the class; pseudo_labels: images that were labelled as the class; right: those of the class
    among them; precision: right over pseudo_labels whose truth is known; recall: right over unlabeled. Null where
    nothing is known.

    Raises UserError if pseudo_labels() did not write the table.
    """
    try:
        rows = read_quality(location(table))["classes"]
    except FileNotFoundError:
        raise UserError(f"beside {table} is no file of its quality: give a table that pseudo_labels() wrote") from None
    found = pd.DataFrame(rows)[["class_name", *_COUNTS, "precision", "recall"]].rename(columns=_COUNTS)
    return found.astype({"precision": "Float64", "recall": "Float64"})
