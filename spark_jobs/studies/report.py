"""The directory of a report: a self-contained page, the same as Markdown, its figures, scores and trials."""

import base64
import html
from collections.abc import Sequence
from functools import partial
from io import BytesIO

from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from PIL import Image

from longtail.conf.base.errors import UserError
from longtail.conf.base.locations import Location
from longtail.conf.base.new_directories import new_table_directory
from longtail.conf.experiment import Experiment
from longtail.spark_jobs.steps.report_files import CSV_FILE, IMAGES_FILE, LATEX_FILE, PAGE_FILE, TRIALS_FILE
from longtail.spark_jobs.studies.arms import arms_of
from longtail.spark_jobs.studies.feature_maps import FeatureMap
from longtail.spark_jobs.studies.figures.report_figures import report_figures
from longtail.spark_jobs.studies.kept_trials import keep_trials
from longtail.spark_jobs.studies.markdown import report_markdown
from longtail.spark_jobs.studies.report_images import images_page
from longtail.spark_jobs.studies.scores_table import scores_csv, scores_latex
from longtail.spark_jobs.studies.trial_row import Row

_PNG_COLOURS = 256
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 80rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }}
table {{ border-collapse: collapse; display: block; overflow-x: auto; font-size: 0.875rem; }}
th, td {{ padding: 0.3rem 0.75rem; border-bottom: 1px solid #ddd; white-space: nowrap; }}
h1, h2, p, ul {{ max-width: 60rem; }}
img {{ max-width: 100%; }}
</style>
{body}
</html>
"""


def write_report(
    experiment: Experiment, rows: Sequence[Row], directory: Location, *, maps: Sequence[FeatureMap] = ()
) -> Location:
    """Write the directory of the report atomically; return it. Raises UserError if it cannot be written."""
    arms = arms_of(experiment, rows)
    figures = report_figures(experiment, rows, maps)
    images = {name: _png(captioned.figure) for name, captioned in figures.items()}
    captions = {name: captioned.caption for name, captioned in figures.items()}
    text = partial(report_markdown, experiment, rows, num_planned=len(experiment.trials()), figures=captions)
    pictures = images_page(experiment, rows)
    link = "" if pictures is None else f"\n[Few-shot test images, and what they are predicted as]({IMAGES_FILE})\n"
    try:
        with new_table_directory(directory) as new:
            if pictures is not None:
                (new / IMAGES_FILE).write_text(pictures, encoding="utf-8")
            for name, content in images.items():
                (new / f"{name}.png").write_bytes(content)
            (new / "report.md").write_text(text(source=lambda name: f"{name}.png") + link, encoding="utf-8")
            page = page_of(experiment.title, text(source=lambda name: _data_uri(images[name])) + link)
            (new / PAGE_FILE).write_text(page, encoding="utf-8")
            (new / CSV_FILE).write_text(scores_csv(experiment, arms), encoding="utf-8")
            (new / LATEX_FILE).write_text(scores_latex(experiment, arms), encoding="utf-8")
            keep_trials(new / TRIALS_FILE, experiment, rows)
    except OSError as error:
        raise UserError(f"cannot write {directory}: {error.strerror or error}; choose another --output_dir") from None
    return directory


def _png(figure: Figure) -> bytes:
    full, small = BytesIO(), BytesIO()
    figure.savefig(full, format="png", dpi=130)
    # A third of the bytes without a visible difference: a figure has few colours.
    Image.open(full, formats=["PNG"]).convert("RGB").quantize(_PNG_COLOURS, dither=Image.Dither.NONE).save(
        small, "png", optimize=True
    )
    return small.getvalue()


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def page_of(title: str, markdown: str) -> str:
    """A page of HTML that needs nothing but what the Markdown links to."""
    # Without embedded HTML: titles and levels are plain text.
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    return _PAGE.format(title=html.escape(title), body=body)
