"""A gallery: images behind a number, with what they are and what they were predicted as, as HTML."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files

from longtail.streaming.dashboard.rendering import render


@dataclass(frozen=True, kw_only=True)
class ShownImage:
    """An image of the gallery.

    key: its id in the prepared set
    source: a data: URL of its thumbnail
    truth: name of its class; None if nobody knows it, or if it is of none of the classes
    predicted: name of the class that it was predicted as, with confidence in [0, 1]
    """

    key: int
    source: str
    truth: str | None
    predicted: str
    confidence: float

    @property
    def is_right(self) -> bool | None:
        """Whether it is what it was predicted as; None if nobody knows."""
        return None if self.truth is None else self.truth == self.predicted

    @property
    def text(self) -> str:
        """What it shows, for those who do not see it."""
        truth = "of unknown class" if self.truth is None else f"of the class {self.truth}"
        return f"image {self.key} {truth}, predicted as {self.predicted} with confidence {self.percent}%"

    @property
    def percent(self) -> str:
        """The confidence in percent: of thousands of classes even the surest may have less than one."""
        return f"{100 * self.confidence:.0f}" if self.confidence >= 0.01 else f"{100 * self.confidence:.1g}"


@dataclass(frozen=True, kw_only=True)
class ShownGroup:
    """Images under one heading.

    number: how many there are, of which at most a few are shown; None if nobody knows
    order: of those shown, in words
    """

    title: str
    number: int | None
    order: str
    images: list[ShownImage]


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """What a click shows.

    title, note: in words
    problem: why there are no images, as one sentence; None if there are
    """

    title: str
    note: str = ""
    groups: list[ShownGroup] = field(default_factory=list)
    problem: str | None = None


CELL, CLASS, PSEUDO_LABELS = "cell", "class", "pseudo_labels"
"""What is wanted: a cell of the confusion matrix, all that is known of a class, or what was predicted as it among the
unlabeled images."""


@dataclass(frozen=True, kw_only=True)
class WantedImages:
    """What images are wanted of a run.

    kind: CELL, CLASS or PSEUDO_LABELS
    split: of the evaluation
    truth, predicted: numbers of the classes that they are of, and were predicted as; the same unless kind is CELL
    title: in words
    """

    kind: str
    run: str
    split: str
    truth: tuple[int, ...]
    predicted: tuple[int, ...]
    title: str


def title_of(kind: str, truth: Sequence[str], predicted: Sequence[str]) -> str:
    """What is wanted, in words. truth, predicted: the names of the classes"""
    if kind == PSEUDO_LABELS:
        return f"Unlabeled images predicted as {_classes(predicted)}"
    if kind == CELL and list(truth) != list(predicted):
        return f"{_classes(truth)} predicted as {_classes(predicted)}"
    return _classes(truth)


def _classes(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} classes ({names[0]} … {names[-1]})"


def gallery_html(gallery: Gallery) -> str:
    """The HTML of a gallery, with all pictures in it; texts are escaped."""
    return render("gallery.html", gallery=gallery)


def gallery_document(galleries: Sequence[Gallery]) -> str:
    """Galleries with their style, for a notebook or a file of its own."""
    style = (files("longtail.streaming.dashboard") / "static" / "gallery.css").read_text()
    return f"<style>{style}</style>{''.join(map(gallery_html, galleries))}"
