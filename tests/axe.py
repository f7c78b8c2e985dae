"""axe-core, which finds what makes a page hard to use with a keyboard, a screen reader or weak eyes."""

import subprocess
import tarfile
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.browser import Page

_PACKAGE = "axe-core@4.10.3"
_FOUND = """
const done = arguments[0];
axe.run({ resultTypes: ["violations"] }).then((found) => done(found.violations.map((rule) =>
  `${rule.impact} ${rule.id}: ${rule.nodes.slice(0, 3).map((node) => node.html).join(" ")}`)));
"""


def complaints_of_axe(page: Page) -> list[str]:
    """What axe-core finds on the page as it is, one line per rule: its impact, its name and some elements."""
    page.driver.set_script_timeout(300)
    page.driver.execute_script(_script())
    return page.driver.execute_async_script(_FOUND)


@cache
def _script() -> str:
    """From the npm registry, whose integrity hash npm verifies."""
    with TemporaryDirectory() as directory:
        command = ["npm", "pack", _PACKAGE, "--silent"]
        subprocess.run(command, cwd=directory, check=True, capture_output=True, timeout=300)
        (package,) = Path(directory).glob("*.tgz")
        with tarfile.open(package) as archive:
            script = archive.extractfile("package/axe.min.js")
            assert script is not None
            return script.read().decode()
