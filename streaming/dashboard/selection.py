"""The selection of the page. It is stored in the page's address, so that reloads, bookmarks and links show the same."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from longtail.conf.vocabulary import SHOT_GROUPS

GROUPS = ("all", *SHOT_GROUPS)
MAX_COMPARED = 4


@dataclass(frozen=True)
class Selection:
    """What the page shows.

    run: None for the newest run; compare: runs to compare with it
    split: None for the first that exists of test, val and train
    group, classes: which classes are shown, by shot group and by a part of their name
    """

    run: str | None = None
    compare: tuple[str, ...] = ()
    split: str | None = None
    group: str = "all"
    classes: str = ""

    def link(self, **changes: Any) -> str:
        """The address of the page with some of the selection changed."""
        wanted = replace(self, **changes)
        parameters = {name: value for name, value in vars(wanted).items() if value != getattr(Selection, name)}
        return "?" + urlencode(parameters, doseq=True)

    def toggled(self, run: str) -> tuple[str, ...]:
        """The compared runs with one run added or removed; beyond MAX_COMPARED the first is dropped."""
        if run in self.compare:
            return tuple(other for other in self.compare if other != run)
        return (*self.compare, run)[-MAX_COMPARED:]


def read_selection(parameters: Sequence[tuple[str, str]]) -> Selection:
    """The selection of an address; unknown or invalid parameters have no effect.

    parameters: names and values of the query, in order
    """
    last = {name: value for name, value in parameters if value}
    compared = dict.fromkeys(value for name, value in parameters if name == "compare" and value)
    group = last.get("group", "all")
    return Selection(
        run=last.get("run"),
        compare=tuple(compared)[:MAX_COMPARED],
        split=last.get("split"),
        group=group if group in GROUPS else "all",
        classes=last.get("classes", "")[:100],
    )
