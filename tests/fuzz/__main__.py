import argparse
import os
import sys
import tempfile
import traceback
from pathlib import Path

# pyarrow's own pools reserve address space, which the readers' limit would count.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

from longtail.conf.base.errors import UserError  # noqa: E402
from tests.fuzz.readers import READERS  # noqa: E402
from tests.fuzz.runner import an_input, run  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("readers", nargs="*", choices=[[], *READERS], metavar="READER", help=", ".join(READERS))
    parser.add_argument("--seconds", type=float, default=30, help="for all readers together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--replay", metavar="READER:SEED:NUMBER", help="read one input in this process")
    given = parser.parse_args()
    if given.replay:
        return replay(*given.replay.split(":"))
    names = given.readers or list(READERS)
    total_failures = 0
    print(f"{'reader':<16}{'inputs':>10}{'read':>10}{'refused':>10}{'failures':>10}")
    for name in names:
        outcome = run(READERS[name], name, seed=given.seed, seconds=given.seconds / len(names))
        counts = (outcome.num_inputs, outcome.num_read, outcome.num_refused, len(outcome.failures))
        print(f"{name:<16}" + "".join(f"{count:>10}" for count in counts), flush=True)
        for kind, failed in by_kind(outcome.failures).items():
            number, what = failed[0]
            print(f"  {len(failed)} x {kind}: {name}:{given.seed}:{number} {what}", flush=True)
        total_failures += len(outcome.failures)
    return 1 if total_failures else 0


def by_kind(failures: dict[int, str]) -> dict[str, list[tuple[int, str]]]:
    """Failures by the exception and the line that raised it, or by the beginning of the description."""
    kinds: dict[str, list[tuple[int, str]]] = {}
    for number, what in failures.items():
        exception, _, place = what.partition(":")[0], *what.rpartition("(")[1:]
        kind = f"{exception} ({place}" if place.endswith(")") else " ".join(what.split()[:3])
        kinds.setdefault(kind, []).append((number, what))
    return kinds


def replay(name: str, seed: str, number: str) -> int:
    content = an_input(READERS[name], name, int(seed), int(number))
    print(f"{len(content)} bytes: {content[:200]!r}")
    with tempfile.TemporaryDirectory() as directory:
        try:
            READERS[name].read(content, Path(directory))
        except UserError as error:
            print(f"refused: {error}")
        except BaseException:
            traceback.print_exc()
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
