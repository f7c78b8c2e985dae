"""The rules that raise alerts about streams of predictions (`longtail predict --stream`).

An alert is about the latest window of a stream, which is compared with the stream's reference (streaming/drift.py). In
the place of a split it has the stream, and since which window there was none without it: drift that ends and comes back
is another alert.
"""

import datetime
from collections.abc import Callable, Iterable
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from longtail.streaming.alerts.rule import AlertTables, Found, Rule
from longtail.streaming.drift import PredictionSums, changed_shares, class_vanished, confidence_fell, images_novel

LOOK_BACK = 20
"""Windows before the latest one that may be of the same alert."""
_NAME_LENGTH = 80


class DriftRule(Rule):
    """A test finds a difference that chance would bring about in a share `alpha` of the windows."""

    test: ClassVar[Callable[..., str | None]]

    alpha: float = Field(gt=0, lt=1)

    def find(self, tables: AlertTables) -> Iterable[Found]:
        """One alert for each stream whose latest window differs."""
        rows = tables.predictions
        for stream in sorted(rows["stream"].unique().to_pylist()):
            of_stream = rows.filter(pc.equal(rows["stream"], stream))
            starts = sorted(of_stream["window_start"].unique().to_pylist(), reverse=True)
            found: list[str] = []
            for start in starts[: LOOK_BACK + 1]:
                message = self._message(of_stream.filter(pc.equal(of_stream["window_start"], start)))
                if message is None:
                    break
                found.append(message)
            if found:
                since = f"since {_moment(starts[len(found) - 1])}"
                span = since if len(found) <= LOOK_BACK else f"for {LOOK_BACK} windows and more"
                yield Found(f"{_shown(stream)} {span}", 0, found[0])  # a stream has no epochs

    def _message(self, window: pa.Table) -> str | None:
        """What the test says of the rows of a window; None without a reference."""
        if window["reference_predicted"].null_count:
            return None
        window = window.sort_by("class_id")
        names = window["class_name"].to_pylist()
        return type(self).test(_predictions(window), _predictions(window, "reference_"), names, alpha=self.alpha)


class SharesDrifted(DriftRule):
    """The classes are predicted in other shares than in the reference."""

    test = staticmethod(changed_shares)


class ClassVanished(DriftRule):
    """A class of the reference is never predicted any more."""

    test = staticmethod(class_vanished)


class ConfidenceFell(DriftRule):
    """The predictions are less confident than those of the reference."""

    test = staticmethod(confidence_fell)


class ImagesNovel(DriftRule):
    """More images than in the reference are less confident than nearly all of it."""

    test = staticmethod(images_novel)


def _predictions(rows: pa.Table, prefix: str = "") -> PredictionSums:
    counts, novel, sums, squares = (
        rows[f"{prefix}{name}"].to_numpy() for name in ("predicted", "novel", "confidence_sum", "confidence_squares")
    )
    return PredictionSums(counts.astype(np.int64), float(sums.sum()), float(squares.sum()), novel=int(novel.sum()))


def _shown(stream: str) -> str:
    """The end of a path, which tells tables apart."""
    return stream if len(stream) <= _NAME_LENGTH else f"…{stream[-_NAME_LENGTH:]}"


def _moment(seconds: float) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"
