"""Numbers and sentences, as the advice words them."""

from longtail.spark_jobs.advising.estimates import Estimate
from longtail.spark_jobs.display.tables import percent


def as_sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def with_percent_interval(estimate: Estimate) -> str:
    return f"{percent(estimate.value)} % ({percent(estimate.low)} to {percent(estimate.high)})"


def with_interval(estimate: Estimate) -> str:
    return f"{estimate.value:.3g} ({estimate.low:.3g} to {estimate.high:.3g})"
