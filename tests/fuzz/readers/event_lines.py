"""Lines of metric events. Each becomes an event of one kind, is left to the slow checks, or is empty; none is lost."""

import json
from pathlib import Path
from random import Random

import pyarrow as pa

from longtail.streaming.events.schema import event_line
from longtail.streaming.parsing.arrow import LINE_SCHEMA
from longtail.streaming.parsing.fast_lines import read_fast_lines
from tests.events import PLAIN
from tests.fuzz.mutation import changed_json, damaged

_LINES = [event_line(event) for event in PLAIN.values()]
_TOKENS = [b'"', b"\\", b"\\u", b"\\ud800", b"{", b"}", b",", b":", b"null", b"1e99", b"9" * 30, b"-0", b"\xff", b"\0",
           b'"run": "../x"', b"[" * 3000, b"\xe2\x80\xa8", b"a" * 3000]  # fmt: skip


def generate(random: Random) -> bytes:
    lines = []
    for _ in range(random.randrange(1, 6)):
        line = random.choice(_LINES)
        if random.random() < 0.4:
            lines.append(changed_json(json.loads(line), random).encode(errors="surrogatepass"))
        else:
            lines.append(damaged(line.encode(), random, tokens=_TOKENS))
    return b"\n".join(lines)


def read(content: bytes, directory: Path) -> None:
    lines = content.split(b"\n")
    # As Spark gives them: any bytes, of the type of a text.
    values = pa.array(lines, pa.binary()).view(pa.string())
    events, others = read_fast_lines(pa.table([values, pa.array([""] * len(lines))], schema=LINE_SCHEMA))
    num_events = sum(table.num_rows for table in events.values())
    assert num_events + others.num_rows + lines.count(b"") == len(lines)
