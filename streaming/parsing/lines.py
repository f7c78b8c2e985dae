"""Parses lines of text into metric events, or finds the reason why a line is none. DataFrame -> DataFrame.

    lines (value, source) -> parsed_events -> good_events, bad_lines -> quarantined

The lines may come from event files, Kafka messages or a static DataFrame. A line is an event if it is one complete JSON
object of a known format version with exactly the fields of its kind, each of its type and within its bounds
(streaming/events/bounds.py); every other line is kept together with the reason.
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from longtail.streaming.events.bounds import MAX_NESTING, NOT_ABOVE, ONE_OF, REALS, integer_range, longest_text
from longtail.streaming.events.schema import (
    EVENT_FORMAT_VERSION,
    EVENT_KINDS,
    RUN_NAME,
    RunEvent,
    field_types,
    later_fields,
    nullable_fields,
    spark_ddl,
)
from longtail.streaming.parsing.arrow import RUN_IN_LINE

LINE, SOURCE, REASON = "value", "source", "reason"
TOO_LONG = "a line too long for Kafka"
"""How the relay begins the message that it sends in the place of such a line."""
MAX_LINE_KEPT = 2000
"""Characters of a bad line that are kept."""

_UNREADABLE = "unreadable"


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
    # The JSON types of the fields; null if the line is not JSON in the strict sense, or has a field twice.
    types = F.replace(F.schema_of_variant(F.try_parse_json(LINE)), F.lit("<"), F.lit("< "))
    parts = texts.select(LINE, SOURCE, event.alias("event"), keys.alias("keys"), types.alias("types"))
    parsed = parts.withColumn(REASON, _reason())
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


def quarantined(bad: DataFrame) -> DataFrame:
    """Each bad line once, with the run that it names: reason, line, source, run. bad: bad_lines"""
    named = F.nullif(F.regexp_extract("line", RUN_IN_LINE, 1), F.lit("")).alias("run")
    return bad.groupBy(REASON, "line").agg(F.min(SOURCE).alias(SOURCE)).select(REASON, "line", SOURCE, named)


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
    strings = names_by_kind(
        {
            name: [field for field, value_type in field_types(event).items() if value_type is str]
            for name, event in EVENT_KINDS.items()
        }
    )
    # Spark reads any JSON value as a string.
    no_strings = F.filter(
        strings,
        lambda name: (
            F.array_contains(keys, name)
            & ~F.contains("types", F.concat(F.lit(" "), name, F.lit(": STRING")))
            & ~F.contains("types", F.concat(F.lit(" "), name, F.lit(": VOID")))
        ),
    )
    differ = keys != fields
    unknown, missing = F.array_except(keys, fields), F.array_except(expected, keys)
    # A field that is present and still null did not have its type: JSON that Spark writes omits nulls.
    mistyped = F.array_except(required, F.json_object_keys(F.to_json("event")))
    unreadable = F.col(f"event.{_UNREADABLE}").isNotNull()
    return (
        F.when(F.startswith(LINE, F.lit(TOO_LONG)), TOO_LONG)
        .when(keys.isNull(), "not a complete JSON object")
        .when(F.size(keys) > F.size(F.array_distinct(keys)), "a field is repeated")
        .when(F.col("types").isNull(), "not a complete JSON object")
        .when(~_is_one_object(F.col(LINE)), "more than one JSON object")
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
        .when(unreadable | F.col("types").rlike("<.*<"), "wrong type of a field")
        .when(F.size(no_strings) > 0, F.concat(F.lit("wrong type: "), F.array_join(no_strings, ", ")))
        .when(~F.col("event.run").rlike(rf"\A{RUN_NAME.pattern}\z"), "invalid name of a run")
        .when(F.size(_out_of_bounds()) > 0, F.concat(F.lit("out of bounds: "), F.array_join(_out_of_bounds(), ", ")))
    )


def _is_one_object(text: Column) -> Column:
    """Whether a text is a JSON object with nothing after it, which Spark's JSON functions would ignore."""
    in_array = F.json_array_length(F.concat(F.lit("["), text, F.lit("]")))
    in_object = F.json_object_keys(F.concat(F.lit('{"":'), text, F.lit("}")))
    # What closes the array early leaves the object open, and the other way round.
    is_one = (in_array == 1) & (F.size(in_object) == 1) & F.json_object_keys(text).isNotNull()
    return F.coalesce(is_one, F.lit(False))


def _is_too_deep(text: Column) -> Column:
    """Whether a JSON text has objects and arrays in more than MAX_NESTING levels."""
    no_brackets = F.length(F.regexp_replace(text, r"[\[{]", ""))
    outside_texts = F.regexp_replace(text, r'"(?:[^"\\]|\\.)*+"', "")
    brackets = F.regexp_replace(outside_texts, r"[^\[{\]}]", "")
    start = F.struct(F.lit(0).alias("level"), F.lit(0).alias("deepest"))

    def after(reached: Column, bracket: Column) -> Column:
        level = reached["level"] + F.when(bracket.isin("[", "{"), 1).otherwise(-1)
        return F.struct(level.alias("level"), F.greatest(level, reached["deepest"]).alias("deepest"))

    deepest = F.aggregate(F.split(brackets, ""), start, after, lambda reached: reached["deepest"])
    # Nearly every text has so few opening brackets that it need not be read.
    return F.when(F.length(text) - no_brackets > MAX_NESTING, deepest > MAX_NESTING).otherwise(F.lit(False))


def _is_known_version() -> Column:
    return F.coalesce(F.col("event.format_version").between(1, EVENT_FORMAT_VERSION), F.lit(False))


def _version_reason() -> Column:
    found = F.get_json_object(LINE, "$.format_version")
    newer = F.format_string(
        f"format version %s is newer than {EVENT_FORMAT_VERSION}, the newest that this version of Longtail reads", found
    )
    invalid = F.format_string("invalid format version %s", found)
    return F.when(F.col("event.format_version") > EVENT_FORMAT_VERSION, newer).otherwise(invalid)


def _out_of_bounds() -> Column:
    """The names of the fields with an impossible value, sorted; the fields that a kind lacks are null and never are."""
    types = {name: value_type for kind in EVENT_KINDS.values() for name, value_type in field_types(kind).items()}
    ranges = {name: integer_range(name) for name, value_type in types.items() if value_type is int} | REALS
    numbers = [(name, F.col(f"event.{name}").cast("double"), *map(float, bounds)) for name, bounds in ranges.items()]
    texts = [
        (name, F.octet_length(f"event.{name}").cast("double"), 0.0, float(longest_text(name)))
        for name, value_type in types.items()
        if value_type is str
    ]
    fields = F.array(
        *(
            F.struct(
                F.lit(name).alias("name"), value.alias("value"), F.lit(low).alias("low"), F.lit(high).alias("high")
            )
            for name, value, low, high in (*numbers, *texts)
        )
    )
    # NaN is larger than any number.
    beyond = F.filter(fields, lambda field: (field["value"] < field["low"]) | (field["value"] > field["high"]))
    above = [F.when(F.col(f"event.{low}") > F.col(f"event.{high}"), F.lit(low)) for low, high in NOT_ABOVE.items()]
    other = [F.when(~F.col(f"event.{name}").isin(*values), F.lit(name)) for name, values in ONE_OF.items()]
    is_run = F.col("event.kind") == RunEvent.kind
    text = F.col("event.configuration")
    configuration = F.when(is_run & (~_is_one_object(text) | _is_too_deep(text)), F.lit("configuration"))
    found = F.concat(
        F.transform(beyond, lambda field: field["name"]), F.array_compact(F.array(*above, *other, configuration))
    )
    return F.array_sort(F.array_distinct(found))
