"""Parses lines of text into metric events, or finds the reason why a line is none. DataFrame -> DataFrame.

    lines (value, source) -> parsed_events -> good_events, bad_lines

The lines may come from event files, Kafka messages or a static DataFrame. A line is an event if it is a complete JSON
object of a known format version with exactly the fields of its kind, each of its type; every other line is kept
together with the reason.
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from longtail.streaming.events.schema import (
    EVENT_FORMAT_VERSION,
    EVENT_KINDS,
    RUN_NAME,
    RUN_STATES,
    field_types,
    later_fields,
    nullable_fields,
    spark_ddl,
)

LINE, SOURCE, REASON = "value", "source", "reason"
MAX_LINE_KEPT = 2000
"""Characters of a bad line that are kept."""

_UNREADABLE = "unreadable"
_COUNTS = ("support", "correct", "predicted", "train_count", "pseudo_label_count", "labelled_count", "count", "epoch")
_CLASSES = ("class_id", "true_class", "predicted_class")


def parsed_events(lines: DataFrame) -> DataFrame:
    """One row per line: the columns of all event kinds, `reason` and `value`.

    reason: why the line is no event; null for an event
    value: the beginning of a line that is no event; null for an event
    """
    options = {"columnNameOfCorruptRecord": _UNREADABLE}
    event = F.from_json(LINE, f"{spark_ddl()}, {_UNREADABLE} STRING", options)
    columns = [field.partition(" ")[0] for field in spark_ddl().split(", ")]
    # Null unless the line is a complete JSON object.
    keys = F.json_object_keys(LINE)
    # A line may hold any bytes; invalid ones become replacement characters.
    texts = lines.withColumn(LINE, F.make_valid_utf8(LINE)).where(F.trim(LINE) != "")
    parsed = texts.select(LINE, SOURCE, event.alias("event"), keys.alias("keys")).withColumn(REASON, _reason())
    bad = F.when(F.col(REASON).isNotNull(), F.substring(LINE, 1, MAX_LINE_KEPT))
    return parsed.select(
        bad.alias(LINE), SOURCE, REASON, *(F.col(f"event.{column}").alias(column) for column in columns)
    )


def good_events(parsed: DataFrame) -> DataFrame:
    """The rows that are events, with the columns of all event kinds."""
    return parsed.where(F.col(REASON).isNull()).drop(LINE, SOURCE, REASON)


def bad_lines(parsed: DataFrame) -> DataFrame:
    """The rows that are no events: reason, line, source."""
    return parsed.where(F.col(REASON).isNotNull()).select(REASON, F.col(LINE).alias("line"), SOURCE)


def _reason() -> Column:
    # Spark plans this for every micro-batch, which for a small one takes longer than running it. So a list of names is
    # one constant, and one function compares the fields, instead of one expression per field. Whatever is expensive
    # per line is guarded by a cheap check that excludes nearly all lines.
    keys, kind = F.col("keys"), F.col("event.kind")

    def names_by_kind(names: dict[str, list[str]]) -> Column:
        """The names for the kind of the line."""
        joined = F.create_map(*(F.lit(part) for name, values in names.items() for part in (name, ",".join(values))))
        return F.split(F.try_element_at(joined, kind), ",")

    fields = names_by_kind({name: list(field_types(event)) for name, event in EVENT_KINDS.items()})
    expected = names_by_kind(
        {
            name: [field for field in field_types(event) if field not in later_fields(event)]
            for name, event in EVENT_KINDS.items()
        }
    )
    required = names_by_kind(
        {
            name: [field for field in field_types(event) if field not in nullable_fields(event)]
            for name, event in EVENT_KINDS.items()
        }
    )
    differ = keys != fields
    unknown, missing = F.array_except(keys, fields), F.array_except(expected, keys)
    # A field that is present and still null did not have its type: JSON that Spark writes omits nulls.
    mistyped = F.array_except(required, F.json_object_keys(F.to_json("event")))
    unreadable = F.col(f"event.{_UNREADABLE}").isNotNull()
    return (
        F.when(keys.isNull(), "not a complete JSON object")
        .when(~F.array_contains(keys, "format_version"), "no format_version")
        .when(~_is_known_version(), _version_reason())
        .when(
            F.coalesce(~kind.isin(*EVENT_KINDS), F.lit(True)),
            F.format_string("unknown kind %s", F.get_json_object(LINE, "$.kind")),
        )
        .when(differ & (F.size(unknown) > 0), F.concat(F.lit("unknown fields: "), F.array_join(unknown, ", ")))
        .when(differ & (F.size(missing) > 0), F.concat(F.lit("missing fields: "), F.array_join(missing, ", ")))
        .when(
            (unreadable | F.contains(F.col(LINE), F.lit("null"))) & (F.size(mistyped) > 0),
            F.concat(F.lit("wrong type: "), F.array_join(mistyped, ", ")),
        )
        .when(unreadable, "wrong type of a field")
        .when(~F.col("event.run").rlike(rf"\A{RUN_NAME.pattern}\z"), "invalid name of a run")
        .when(_is_out_of_range(), "a number is out of range")
    )


def _is_known_version() -> Column:
    return F.coalesce(F.col("event.format_version").between(1, EVENT_FORMAT_VERSION), F.lit(False))


def _version_reason() -> Column:
    found = F.get_json_object(LINE, "$.format_version")
    newer = F.format_string(
        f"format version %s is newer than {EVENT_FORMAT_VERSION}, the newest that this version of Longtail reads", found
    )
    invalid = F.format_string("invalid format version %s", found)
    return F.when(F.col("event.format_version") > EVENT_FORMAT_VERSION, newer).otherwise(invalid)


def _is_out_of_range() -> Column:
    """Whether a number is impossible; null or false for the fields that a kind lacks."""
    not_negative = F.array(*(F.col(f"event.{name}") for name in (*_COUNTS, *_CLASSES)))
    return F.greatest(
        F.exists(not_negative, lambda number: number < 0),
        F.col("event.attempt") < 1,
        F.col("event.correct") > F.col("event.support"),
        ~F.col("event.state").isin(*RUN_STATES),
        F.col("event.round") < 1,
    )
