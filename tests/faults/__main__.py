"""Apply each fault to a copy of the repository and run the tests that must catch it.

    python -m tests.faults            # all
    python -m tests.faults ldam_margin confusion_transposed

Prints caught or missed per fault; exit status 1 if any is missed.
"""

import argparse
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

from tests.faults import Fault, read_faults
from tests.patched_copy import apply_patch, copy_repository, run_pytest

_ASSERTIONS = ("assert", "AssertionError", "Failed: ")
"""How pytest's message of a failed check begins; any other exception shows nothing about the check."""


def run_tests(fault: Fault, copy: Path) -> str:
    """Run the fault's tests on a copy that has it; returns "" if one fails by an assertion, or else what happened."""
    report = copy / "report.xml"
    done = run_pytest(copy, "--long", f"--junitxml={report}", *fault.tests)
    if not report.exists():
        return f"pytest did not run: {done.stderr.strip()}"
    cases = list(ET.parse(report).getroot().iter("testcase"))
    messages = [failure.get("message", "") for case in cases for failure in case.findall("failure")]
    errors = [error.get("message", "") for case in cases for error in case.findall("error")]
    if any(message.startswith(_ASSERTIONS) for message in messages):
        return ""
    return "; ".join(errors + messages) or f"{len(cases)} tests passed"


def judge(fault: Fault) -> str:
    """Copy the repository, apply the fault and run its tests; returns "" if it is caught, or else what happened."""
    with tempfile.TemporaryDirectory(prefix="longtail-fault-") as directory:
        copy = Path(directory) / "copy"
        copy_repository(copy)
        try:
            apply_patch(fault.patch.read_text(), copy)
        except subprocess.CalledProcessError as error:
            return f"the patch does not apply: {error.stderr.strip()}"
        return run_tests(fault, copy)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Check that the tests catch faults.")
    parser.add_argument("names", nargs="*", help="faults to try (default: all)")
    names = parser.parse_args().names
    faults = [fault for fault in read_faults() if not names or fault.name in names]
    missed = 0
    for fault in faults:
        problem = judge(fault)
        missed += bool(problem)
        print(f"{'missed' if problem else 'caught'}  {fault.name}: {problem or fault.description}", flush=True)
    print(f"{len(faults) - missed} of {len(faults)} faults caught")
    sys.exit(min(missed, 1))


if __name__ == "__main__":
    main()
