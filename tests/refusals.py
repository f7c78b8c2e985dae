"""What every refusal has in common: one line, which is all that the user gets to see."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from longtail.conf.base.errors import UserError


@contextmanager
def refused() -> Iterator[list[str]]:
    """Expects a UserError of one line; the list holds the message afterwards."""
    messages: list[str] = []
    with pytest.raises(UserError) as caught:
        yield messages
    messages.append(str(caught.value))
    assert messages[0].splitlines() == messages


PROGRESS_LINE = (
    r"(finding the images|reading the images|looking for copies|writing the set|describing what was written"
    r"|counting the labels|reading the pixels|looking for exact duplicates|reading the pseudo-labels"
    r"|predicting the images|computing the scores|predicting the unlabeled images|comparing with the withheld labels"
    r"|keeping the surest and the least sure)"
    r"(, \d+ of \d+ tasks)?, \d+ s\n"
)
"""What `prepare`, `stats`, `evaluate` and `gen_pseudolabels` say on stderr every half minute of a busy machine."""
