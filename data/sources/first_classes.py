"""A data set restricted to its first classes; the other classes can be the irrelevant images of its unlabeled part."""

from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from longtail.conf.base.errors import UserError
from longtail.conf.options.data import DataOptions
from longtail.data.contract import LABEL
from longtail.data.sources.base import Located, Shard, Source


@dataclass(frozen=True)
class FirstClasses:
    """The images of the classes 0 .. num_classes - 1 of a source."""

    source: Source
    num_classes: int

    def locate(self, options: DataOptions) -> Located:
        """As the source; raises UserError also if it has no further classes."""
        located = self.source.locate(options)
        if self.num_classes >= (there := len(located.class_names)):
            raise UserError(f"--num_classes {self.num_classes}: {options.dataset} has {there}: give a smaller number")
        return replace(
            located,
            origin=f"{located.origin}, first {self.num_classes} classes",
            class_names=located.class_names[: self.num_classes],
            head_to_tail=[label for label in located.labels_head_to_tail if label < self.num_classes],
        )

    def read(self, shard: Shard) -> pa.RecordBatch:
        rows = self.source.read(shard)
        return rows.filter(pc.less(rows[LABEL], self.num_classes))


@dataclass(frozen=True)
class OtherClasses:
    """The images of all other classes of a source."""

    source: Source
    num_classes: int

    def locate(self, options: DataOptions) -> Located:
        located = self.source.locate(options)
        return replace(located, origin=f"{located.origin}, all but the first {self.num_classes} classes")

    def read(self, shard: Shard) -> pa.RecordBatch:
        rows = self.source.read(shard)
        return rows.filter(pc.greater_equal(rows[LABEL], self.num_classes))
