"""From lines of text to metric events: what each line is, or why it is none. DataFrame -> DataFrame.

    lines (value, source) -> parsed_events -> good_events, bad_lines

The source of the lines does not matter: event files, Kafka messages, or a static
frame. A line is an event only if it is a whole JSON object of this schema version
with exactly the fields of its kind, each of its type; all else is kept with the
reason.
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from streaming.events import EVENT_KINDS, EVENT_SCHEMA_VERSION, RUN_NAME, RUN_STATES, field_names, spark_ddl

LINE, SOURCE, REASON = "value", "source", "reason"
MAX_LINE_KEPT = 2000
"""Characters of a bad line that are kept."""

_UNREADABLE = "unreadable"


def parsed_events(lines: DataFrame) -> DataFrame:
    """The lines with the columns of all event kinds, and `reason`: null for an event, else why the line is none."""
    options = {"columnNameOfCorruptRecord": _UNREADABLE}
    event = F.from_json(LINE, f"{spark_ddl()}, {_UNREADABLE} STRING", options)
    columns = [field.partition(" ")[0] for field in spark_ddl().split(", ")]
    # Null unless the line is a whole JSON object.
    keys = F.json_object_keys(LINE)
    # A line may be any bytes; those that are no text become marks of that.
    texts = lines.withColumn(LINE, F.make_valid_utf8(LINE)).where(F.trim(LINE) != "")
    parsed = texts.select(LINE, SOURCE, event.alias("event"), keys.alias("keys"))
    return parsed.select(
        LINE, SOURCE, _reason().alias(REASON), *(F.col(f"event.{column}").alias(column) for column in columns)
    )


def good_events(parsed: DataFrame) -> DataFrame:
    return parsed.where(F.col(REASON).isNull()).drop(LINE, SOURCE, REASON)


def bad_lines(parsed: DataFrame) -> DataFrame:
    """reason, line, source"""
    line = F.substring(LINE, 1, MAX_LINE_KEPT).alias("line")
    return parsed.where(F.col(REASON).isNotNull()).select(REASON, line, SOURCE)


def _reason() -> Column:
    keys, kind = F.col("keys"), F.col("event.kind")

    def of_kind(names: dict[str, list[str]]) -> Column:
        """The array of the line's own kind."""
        chosen = F.lit(None)
        for name, values in names.items():
            chosen = F.when(kind == name, F.array(*map(F.lit, values))).otherwise(chosen)
        return chosen

    fields = of_kind({name: field_names(event) for name, event in EVENT_KINDS.items()})
    required = of_kind({name: field_names(event, nullable=False) for name, event in EVENT_KINDS.items()})
    columns = {name for event in EVENT_KINDS.values() for name in field_names(event)}
    present = (F.when(F.col(f"event.{name}").isNotNull(), F.lit(name)) for name in sorted(columns))
    # A field that is there and null all the same did not have its type.
    mistyped = F.array_except(required, F.array(*present))
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
        .when(
            F.size(F.array_except(keys, fields)) > 0,
            F.concat(F.lit("unknown fields: "), F.array_join(F.array_except(keys, fields), ", ")),
        )
        .when(
            F.size(F.array_except(fields, keys)) > 0,
            F.concat(F.lit("missing fields: "), F.array_join(F.array_except(fields, keys), ", ")),
        )
        .when(F.size(mistyped) > 0, F.concat(F.lit("not of their type: "), F.array_join(mistyped, ", ")))
        .when(F.col(f"event.{_UNREADABLE}").isNotNull(), "a field is not of its type")
        .when(~F.col("event.run").rlike(rf"\A{RUN_NAME.pattern}\z"), "no run has such a name")
        .when(_impossible(), "a number is out of range")
    )


def _impossible() -> Column:
    """Numbers that no training has; null (no objection) for the fields that a kind lacks."""
    counts = ("support", "correct", "predicted", "train_count", "pseudo_label_count", "labelled_count", "count")
    checks = [F.col(f"event.{name}") < 0 for name in (*counts, "class_id", "true_class", "predicted_class")]
    checks += [F.col("event.attempt") < 1, F.col("event.correct") > F.col("event.support"), F.col("event.epoch") < 0]
    checks += [~F.col("event.state").isin(*RUN_STATES), F.col("event.round") < 1]
    return F.greatest(*(F.coalesce(check, F.lit(False)) for check in checks))
