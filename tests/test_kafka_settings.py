"""Settings of Kafka's client, their secrets, brokers that cannot be reached, and checkpoints of another source."""

import random
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from longtail.conf.arguments import parse_options
from longtail.conf.base.errors import UserError
from longtail.conf.base.properties import parse_properties
from longtail.conf.base.shown_text import redacted
from longtail.conf.kafka_settings import kafka_settings
from longtail.conf.options.live import MonitorOptions, RelayOptions
from longtail.streaming.live.checkpoint import FILES, SOURCE_FILE, claim_checkpoint, topic_source
from longtail.streaming.live.kafka_brokers import CONNECT_SECONDS, KafkaConnection, check_reachable
from tests.refusals import refused

JAAS = 'o.a.k.ScramLoginModule required\n  username="alice" password="hunter2";'


def test_settings_come_one_by_one_from_a_file_or_both_and_secrets_from_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAAS", JAAS)
    (tmp_path / "word").write_text("s3cret-hunter2\n")
    file = tmp_path / "client.properties"
    file.write_text("# comment\nsecurity.protocol = SSL\nssl.truststore.password=trust-hunter2\nacks: all\n")
    given = ["security.protocol=SASL_SSL", "sasl.jaas.config=env:JAAS", f"ssl.key.password=file:{tmp_path / 'word'}"]
    settings = kafka_settings(given, file)
    assert settings == {
        "security.protocol": "SASL_SSL",
        "ssl.truststore.password": "trust-hunter2",
        "acks": "all",
        "sasl.jaas.config": JAAS,
        "ssl.key.password": "s3cret-hunter2",
    }
    for text in (f"bad value {' '.join(JAAS.split())}", JAAS, "no key hunter2 in it", "x s3cret-hunter2 trust-hunter2"):
        assert "hunter2" not in redacted(text)
        assert "hunter2" not in str(UserError(text))
    assert "hunter2" not in repr(KafkaConnection("h:1", settings))


def test_options_repeat_and_a_file_of_options_has_a_mapping(tmp_path: Path) -> None:
    argv = ["--bootstrap_servers", "h:1", "--kafka_option", "acks=all", "--kafka-option", "client.id=a=b"]
    assert parse_options(RelayOptions, argv, prog="longtail relay").kafka_option == ("acks=all", "client.id=a=b")
    (tmp_path / "o.yaml").write_text("source: kafka\nbootstrap_servers: h:1\nkafka_option: {acks: all, linger.ms: 5}\n")
    options = parse_options(MonitorOptions, ["--config", str(tmp_path / "o.yaml")], prog="longtail monitor")
    assert options.kafka_option == ("acks=all", "linger.ms=5")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("acks", "--kafka_option: input should be KEY=VALUE, as security.protocol=SASL_SSL"),
        ("a b=1", "--kafka_option: input should be KEY=VALUE, as security.protocol=SASL_SSL"),
        ("acks=", "--kafka_option: acks has no value"),
        ("bootstrap.servers=h:1", "--kafka_option: bootstrap.servers cannot be given: --bootstrap_servers sets it"),
        (
            "auto.offset.reset=latest",
            "--kafka_option: auto.offset.reset cannot be given: Spark's checkpoint keeps how far the topic was read",
        ),
    ],
)
def test_a_setting_that_cannot_be_is_named_without_its_value(setting: str, message: str) -> None:
    argv = ["--bootstrap_servers", "h:1", "--kafka_option", "ssl.key.password=hunter2", "--kafka_option", setting]
    with refused() as messages:
        parse_options(RelayOptions, argv, prog="longtail relay")
    assert messages == [message]


def test_settings_need_kafka_as_the_source() -> None:
    with refused() as messages:
        parse_options(MonitorOptions, ["--kafka_option", "acks=all"], prog="longtail monitor")
    assert messages == ["--kafka_option and --kafka_config need --source kafka"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("env:NO_SUCH", "the environment variable NO_SUCH is not set: set it, or name another one"),
        ("file:no/such", "cannot read no/such: No such file or directory"),
        ("file:a\0b", "cannot read a\\x00b: no file has this name"),
        ("file:.", "cannot read .: it is not a regular file"),
        ("file:empty", "empty has 0 bytes or more, between 1 and 1048576 were expected"),
        ("file:large", "large has 1048577 bytes or more, between 1 and 1048576 were expected"),
        ("file:binary", "binary is not UTF-8 text"),
    ],
)
def test_a_secret_that_is_not_there_is_one_line(
    value: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").touch()
    Path("large").write_bytes(b"x" * (2 << 20))
    Path("binary").write_bytes(b"\xff\xfe")
    with refused() as messages:
        kafka_settings([f"ssl.key.password={value}"], None)
    assert messages == [f"--kafka_option ssl.key.password: {message}"]


def test_properties_are_read_as_java_reads_them(spark: SparkSession) -> None:
    jvm: Any = spark.sparkContext._jvm  # objects of the JVM have no static type
    draw = random.Random(0)
    pieces = ["a", "b.c", "=", ":", " ", "\t", "\\", "\n", "\r\n", "#", "!", "\\\n  ", "\\u0041", "\\t", '"x y"', "é"]
    # Of a backslash at the very end, Java makes an empty key.
    texts = ["".join(draw.choices(pieces, k=draw.randrange(14))) + "z" for _ in range(100)]
    for text in texts:
        expected = jvm.java.util.Properties()
        expected.load(jvm.java.io.StringReader(text))
        assert parse_properties(text) == dict(expected), repr(text)


def test_a_broker_that_cannot_be_reached_is_named_within_seconds() -> None:
    with socket.socket() as bound, socket.create_server(("127.0.0.1", 0)) as listening:
        bound.bind(("127.0.0.1", 0))  # does not listen
        nobody, somebody = (f"127.0.0.1:{one.getsockname()[1]}" for one in (bound, listening))
        began = time.monotonic()
        check_reachable(f"{nobody}, {somebody}")
        with refused() as messages:
            check_reachable(nobody)
        # An address that routers drop: no answer, ever.
        with refused() as silent:
            check_reachable(f"{nobody},192.0.2.1:9092,no.such.host.invalid:1")
    assert time.monotonic() - began < 2 * CONNECT_SECONDS
    assert messages == [
        f"--bootstrap_servers {nobody}: cannot reach it (Connection refused): start the broker, or correct the address"
    ]
    assert "192.0.2.1:9092" in silent[0] and "cannot reach any of them (Connection refused; " in silent[0]


@pytest.mark.parametrize(
    "server", ["localhost", "h:", ":9092", "h:x", "h:0", "h:65536", "u:hunter2@h:9092", "h:1,", "h:²"]
)
def test_a_broker_is_host_and_port(server: str) -> None:
    with refused() as messages:
        check_reachable(server)
    assert "HOST:PORT was expected" in messages[0] and "hunter2" not in messages[0]


def test_a_checkpoint_belongs_to_one_source(tmp_path: Path) -> None:
    checkpoint = tmp_path / "tables" / "checkpoint"
    topic, other = topic_source("events", "c1"), topic_source("events", "c2")
    claim_checkpoint(checkpoint, topic, new=False)
    claim_checkpoint(checkpoint, other, new=False)  # nothing was read yet
    (checkpoint / "offsets").mkdir()
    claim_checkpoint(checkpoint, other, new=False)
    for source in (topic, FILES):
        with refused() as messages:
            claim_checkpoint(checkpoint, source, new=False)
        assert messages[0].startswith(f"{checkpoint} belongs to a query on {other}, not on {source}: --new_checkpoint ")
    claim_checkpoint(checkpoint, FILES, new=True)
    assert [file.name for file in checkpoint.iterdir()] == [SOURCE_FILE]
    (checkpoint / "offsets").mkdir()
    (checkpoint / SOURCE_FILE).unlink()  # as version 0.2 left it
    claim_checkpoint(checkpoint, FILES, new=False)
    (checkpoint / SOURCE_FILE).write_text("{")
    with refused() as messages:
        claim_checkpoint(checkpoint, FILES, new=False)
    assert f"{checkpoint / SOURCE_FILE} is damaged" in messages[0] and "--new_checkpoint" in messages[0]
