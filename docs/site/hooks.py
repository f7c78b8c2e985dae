"""Hooks of MkDocs (mkdocs.yml): a page for each job, made from its typed options; and pages of files outside docs/."""

import html
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from longtail.conf import options as options_package
from longtail.conf.command_line.help import option_entries
from longtail.conf.options.base import JobOptions
from longtail.spark_jobs.cli import JOB_GROUPS, JOBS

REPOSITORY = Path(__file__).parents[2]
JOBS_PAGE = "reference/jobs.md"
OUTSIDE = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
"""Pages of the site that are files of the repository, by their path there."""
INSTEAD_OF_THE_README = {"README.md#jobs": JOBS_PAGE, "README.md#quick-start": "index.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are generated."""
    pages = {JOBS_PAGE: _jobs_page()}
    pages |= {f"reference/{job}.md": _job_page(job, options_type) for job, options_type in job_options().items()}
    pages |= {page: (REPOSITORY / source).read_text() for source, page in OUTSIDE.items()}
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as they are in the repository become links of the site."""
    up = "../" * page.file.src_uri.count("/")
    for source, target in (OUTSIDE | INSTEAD_OF_THE_README).items():
        markdown = re.sub(rf"\]\((?:\.\./)*{re.escape(source)}(#[^)]*)?\)", rf"]({up}{target}\1)", markdown)
    if page.file.src_uri in OUTSIDE.values():
        markdown = markdown.replace("](docs/", "](")
    return markdown


def job_options() -> dict[str, type[JobOptions]]:
    """The options of each job, by its name, in the order in which `longtail help` lists the jobs."""
    names = [f"{options_package.__name__}.{found.name}" for found in pkgutil.iter_modules(options_package.__path__)]
    for name in [*names, "longtail.spark_jobs.package"]:
        importlib.import_module(name)
    found = {_job(one): one for one in _subclasses(JobOptions) if _job(one) in JOBS}
    return {job: found[job] for job in JOBS}


def _subclasses(base: type[JobOptions]) -> list[type[JobOptions]]:
    return [one for child in base.__subclasses__() for one in (child, *_subclasses(child))]


def _job(options_type: type[JobOptions]) -> str:
    return (options_type.__doc__ or "").partition(":")[0]


def _jobs_page() -> str:
    lines = [
        "# Jobs",
        "",
        "`longtail JOB OPTIONS` starts a job; `spark-submit spark_jobs/JOB.py OPTIONS` starts it on a cluster.",
        "`longtail JOB --help` shows the common options in the terminal, with the defaults of the data set named.",
        "",
        "| job | what it does |",
        "|---|---|",
    ]
    for group, jobs in JOB_GROUPS.items():
        lines.append(f"| **{group}** | |")
        lines += [f"| [`{job}`]({job}.md) | {_cell(summary)} |" for job, summary in jobs.items()]
    return "\n".join(lines) + "\n"


def _job_page(job: str, options_type: type[JobOptions]) -> str:
    text = (inspect.getdoc(options_type) or "").partition(": ")[2]
    lines = [f"# {job}", "", text[:1].upper() + text[1:], ""]
    if options_type.examples:
        lines += ["```sh", *_examples(job, options_type), "```", ""]
    for group, entries in option_entries(options_type).items():
        lines += [f"## {group}", "", "| option | |", "|---|---|"]
        lines += [f"| {_code(invocation)} | {_cell(description)} |" for invocation, description in entries]
        lines.append("")
    lines += [
        "`--config FILE` reads options from a YAML file; a key is any spelling of an option, without its dashes.",
        "",
    ]
    if "dataset" in options_type.model_fields:
        lines += [
            "The defaults above are the job's own. A data set may have others, such as the number of epochs "
            f"(`conf/datasets/`): `longtail {job} --dataset NAME --help` shows them.",
            "",
        ]
    return "\n".join(lines)


def _examples(job: str, options_type: type[JobOptions]) -> list[str]:
    return [f"longtail {job} {arguments}".rstrip() + f"   # {effect}" for arguments, effect in options_type.examples]


def _code(text: str) -> str:
    """Code in a cell of a Markdown table: of backticks, Markdown would show the backslash before a bar."""
    return f"<code>{html.escape(text)}</code>".replace("|", "&#124;")


def _cell(text: str) -> str:
    """Text in a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
