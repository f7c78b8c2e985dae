"""From lines of text to metric events: what each line is, or why it is none. DataFrame -> DataFrame.

    lines (value, source) -> parsed_events -> good_events, bad_lines

The source of the lines does not matter: event files, Kafka messages, or a static
frame. A line is an event only if it is a whole JSON object of this schema version
with exactly the fields of its kind, each of its type; all else is kept with the
reason.
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from longtail.streaming.events.schema import (
    EVENT_KINDS,
    EVENT_SCHEMA_VERSION,
    RUN_NAME,
    RUN_STATES,
    field_names,
    spark_ddl,
)

LINE, SOURCE, REASON = "value", "source", "reason"
MAX_LINE_KEPT = 2000
"""Characters of a bad line that are kept."""

_UNREADABLE = "unreadable"


def parsed_events(lines: DataFrame) -> DataFrame:
    """What each line is: `reason` says why it is no event, null for one; the columns of all event kinds.

    value: of a line that is no event its beginning, null of an event
    """
    options = {"columnNameOfCorruptRecord": _UNREADABLE}
    event = F.from_json(LINE, f"{spark_ddl()}, {_UNREADABLE} STRING", options)
    columns = [field.partition(" ")[0] for field in spark_ddl().split(", ")]
    # Null unless the line is a whole JSON object.
    keys = F.json_object_keys(LINE)
    # A line may be any bytes; those that are no text become marks of that.
    texts = lines.withColumn(LINE, F.make_valid_utf8(LINE)).where(F.trim(LINE) != "")
    parsed = texts.select(LINE, SOURCE, event.alias("event"), keys.alias("keys")).withColumn(REASON, _reason())
    bad = F.when(F.col(REASON).isNotNull(), F.substring(LINE, 1, MAX_LINE_KEPT))
    return parsed.select(
        bad.alias(LINE), SOURCE, REASON, *(F.col(f"event.{column}").alias(column) for column in columns)
    )


def good_events(parsed: DataFrame) -> DataFrame:
    return parsed.where(F.col(REASON).isNull()).drop(LINE, SOURCE, REASON)


def bad_lines(parsed: DataFrame) -> DataFrame:
    """reason, line, source"""
    return parsed.where(F.col(REASON).isNotNull()).select(REASON, F.col(LINE).alias("line"), SOURCE)


def _reason() -> Column:
    # Spark plans this for every micro-batch, which for a small one takes longer than to run it: so a list of names is
    # one constant, and one function tells which fields are there, instead of an expression a field. What costs time
    # a line comes behind a check that finds nothing to look at in nearly all of them.
    keys, kind = F.col("keys"), F.col("event.kind")

    def of_kind(names: dict[str, list[str]]) -> Column:
        """Those of the line's own kind."""
        joined = F.create_map(*(F.lit(part) for name, values in names.items() for part in (name, ",".join(values))))
        return F.split(F.try_element_at(joined, kind), ",")

    fields = of_kind({name: field_names(event) for name, event in EVENT_KINDS.items()})
    required = of_kind({name: field_names(event, nullable=False) for name, event in EVENT_KINDS.items()})
    differ = keys != fields
    unknown, missing = F.array_except(keys, fields), F.array_except(fields, keys)
    # A field that is there and null all the same did not have its type. JSON that Spark writes has no nulls.
    mistyped = F.array_except(required, F.json_object_keys(F.to_json("event")))
    unreadable = F.col(f"event.{_UNREADABLE}").isNotNull()
    return (
        F.when(keys.isNull(), "not a whole JSON object")
        .when(~F.array_contains(keys, "schema_version"), "no schema_version")
        .when(
            F.coalesce(F.col("event.schema_version") != EVENT_SCHEMA_VERSION, F.lit(True)),
            F.format_string(
                f"schema version %s, not {EVENT_SCHEMA_VERSION}", F.get_json_object(LINE, "$.schema_version")
            ),
        )
        .when(
            F.coalesce(~kind.isin(*EVENT_KINDS), F.lit(True)),
            F.format_string("unknown kind %s", F.get_json_object(LINE, "$.kind")),
        )
        .when(differ & (F.size(unknown) > 0), F.concat(F.lit("unknown fields: "), F.array_join(unknown, ", ")))
        .when(differ & (F.size(missing) > 0), F.concat(F.lit("missing fields: "), F.array_join(missing, ", ")))
        .when(
            (unreadable | F.contains(F.col(LINE), F.lit("null"))) & (F.size(mistyped) > 0),
            F.concat(F.lit("not of their type: "), F.array_join(mistyped, ", ")),
        )
        .when(unreadable, "a field is not of its type")
        .when(~F.col("event.run").rlike(rf"\A{RUN_NAME.pattern}\z"), "no run has such a name")
        .when(_impossible(), "a number is out of range")
    )


def _impossible() -> Column:
    """Numbers that no training has; null or false (no objection) for the fields that a kind lacks."""
    counts = (
        "support",
        "correct",
        "predicted",
        "train_count",
        "pseudo_label_count",
        "labelled_count",
        "count",
        "epoch",
    )
    not_negative = F.array(*(F.col(f"event.{name}") for name in (*counts, "class_id", "true_class", "predicted_class")))
    return F.greatest(
        F.exists(not_negative, lambda number: number < 0),
        F.col("event.attempt") < 1,
        F.col("event.correct") > F.col("event.support"),
        ~F.col("event.state").isin(*RUN_STATES),
        F.col("event.round") < 1,
    )
