"""When a streaming query processes a micro-batch."""

from pyspark.sql.streaming.readwriter import DataStreamWriter


def with_trigger(writer: DataStreamWriter, trigger: str | None) -> DataStreamWriter:
    """trigger: the interval as Spark writes it ("1 second"); None: process what exists and end"""
    return writer.trigger(availableNow=True) if trigger is None else writer.trigger(processingTime=trigger)
