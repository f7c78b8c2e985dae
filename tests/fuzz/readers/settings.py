"""Files with settings of Kafka's client, and with streaming queries of a user's own."""

from pathlib import Path
from random import Random

from longtail.conf.base import shown_text
from longtail.conf.kafka_settings import kafka_settings
from longtail.streaming.live.own_queries import load_queries
from tests.fuzz.mutation import damaged

_SETTINGS = (
    b'# TLS\nsecurity.protocol=SASL_SSL\nsasl.jaas.config=Module required \\\n  password="x\\u00e9";\nretries: 3\n'
)
_QUERY = b"def table(events):\n    return events\n\n\ndef alerts(events):\n    return events\n"
_TOKENS = [
    b"=", b":", b"\\", b"\\u", b"\\uD800", b"\n", b"\r", b"#", b"!", b"\0", b"\xff", b"\xef\xbb\xbf", b"\x1b[31m",
    b"env:HOME", b"env:", b"file:/dev/null", b"file:/dev/zero", b"file:\0", b"bootstrap.servers=x\n", b"x" * 5000,
    b"\\\n" * 500, b"password=", b"def table(", b"(" * 500, b"  ", b"\t", b"1/0\n", b"raise SystemExit\n",
    b"table = 3\n",
    b"del table\n", b'"' * 3, b"# coding: x\n", b"-" * 20_000 + b"1\n",
]  # fmt: skip


def generate(random: Random) -> bytes:
    return damaged(random.choice((_SETTINGS, _QUERY)), random, tokens=_TOKENS)


def read(content: bytes, directory: Path) -> None:
    shown_text._known_secrets.clear()  # every input has some; with thousands of them redaction takes long
    if b"def" in content:
        (directory / "query.py").write_bytes(content)
        load_queries([str(directory / "query.py")])
    else:
        (directory / "client.properties").write_bytes(content)
        kafka_settings([], directory / "client.properties")
