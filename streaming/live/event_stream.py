"""All metric events as a streaming DataFrame, for queries of your own.

    events = event_stream(file_lines(spark, Path("runs/events")))
    tail = events.where("kind = 'class' AND split = 'test' AND shot_group = 'few'")
    by_hour = tail.groupBy("run", F.window("time", "1 hour")).agg(F.try_divide(F.sum("correct"), F.sum("support")))

docs/analytics.md says which of Longtail's functions work on a stream.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from longtail.streaming.parsing.lines import good_events, parsed_events

TIME = "time"
WATERMARK = "1 hour"
"""How late an event may come for a query that drops what it no longer needs."""


def event_stream(lines: DataFrame, *, watermark: str = WATERMARK) -> DataFrame:
    """The events among lines (value, source), with the columns of all kinds, and `time`, a timestamp, with a watermark.

    `kind` says of which kind an event is; the columns that other kinds have are null. Lines that are no events are left
    out. An event that was sent twice (by a relay that was killed, or from an archive) comes twice.
    """
    events = good_events(parsed_events(lines))
    return events.withColumn(TIME, F.timestamp_seconds("emitted_at")).withWatermark(TIME, watermark)
