"""The Java that Spark would start: whether there is one, and which."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from longtail.conf.base.errors import UserError

MINIMUM_JAVA = 17


def check_java() -> str:
    """Return what `java -version` says; raises UserError unless the java that Spark would start is new enough."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else "java"
    remedy = f"install Java {MINIMUM_JAVA} (Debian: apt-get install openjdk-17-jre-headless) or set JAVA_HOME to it"
    if shutil.which(java) is None:
        raise UserError(f"Spark needs Java {MINIMUM_JAVA} or newer, and there is no {java}: {remedy}")
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True)
    except OSError as error:
        raise UserError(f"{java} cannot be run ({error.strerror}): {remedy}") from None
    said = done.stderr + done.stdout
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    if found is None:
        raise UserError(f"`{java} -version` does not print a version: {remedy}")
    if int(found[1]) < MINIMUM_JAVA:
        raise UserError(f"Spark needs Java {MINIMUM_JAVA} or newer, {java} is Java {found[1]}: {remedy}")
    return said
