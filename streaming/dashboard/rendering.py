"""Renders the templates of the page to HTML."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from longtail.conf.palette import GROUP_COLOURS, NEUTRAL
from longtail.streaming.dashboard.selection import GROUPS
from longtail.streaming.dashboard.style import RUN_DASHES

LegendEntry = tuple[str, str, str]
"""Label, colour, and dash of a line; empty for what is no line."""

_templates = Environment(
    loader=PackageLoader("longtail.streaming.dashboard"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.globals.update(groups=GROUPS, group_colours=GROUP_COLOURS, neutral=NEUTRAL, dashes=RUN_DASHES)


def compile_templates() -> None:
    """Compile all templates, so that the first reader of the page does not wait for that."""
    for name in _templates.list_templates():
        _templates.get_template(name)


def render(template: str, **values: Any) -> str:
    """The HTML of a template; values are escaped."""
    return _templates.get_template(template).render(**values)


def render_note(text: str, *, legend: list[LegendEntry] | None = None) -> str:
    """The text above a chart, with a legend."""
    return render("note.html", text=text, legend=legend or [])
