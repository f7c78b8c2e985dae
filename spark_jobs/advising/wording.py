"""Numbers and sentences, as the advice words them."""

from longtail.spark_jobs.advising.estimates import Estimate
from longtail.spark_jobs.display.tables import percent


def as_sentence(text: str) -> str:
    """The text with a capital first letter."""
    return text[0].upper() + text[1:]


def with_percent_interval(estimate: Estimate) -> str:
    """A share in percent with its interval: '61.0 % (48.2 to 73.9)'."""
    return f"{percent(estimate.value)} % ({percent(estimate.low)} to {percent(estimate.high)})"


def with_interval(estimate: Estimate) -> str:
    """A value with its interval, three significant digits each."""
    return f"{estimate.value:.3g} ({estimate.low:.3g} to {estimate.high:.3g})"
