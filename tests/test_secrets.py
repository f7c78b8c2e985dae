"""Passwords, tokens and keys in URLs and settings are not shown, and not saved."""

import json
from pathlib import Path
from typing import Any

import pytest

from longtail.conf.arguments import parse_options
from longtail.conf.base.errors import UserError
from longtail.conf.base.shown_text import redacted, redacted_values
from longtail.conf.next_command import next_command
from longtail.conf.options.live import RelayOptions
from longtail.conf.options.semi import TrainSemiOptions
from longtail.conf.options.training import TrainOptions
from longtail.spark_jobs.cluster.failures import failure_line
from longtail.streaming.events.writer import EventWriter
from longtail.training.run import run_training
from longtail.training.run_directory import begin_attempt
from longtail.training.run_events import run_event
from tests.refusals import refused
from tests.tiny_set import ALONE, paths_of, tiny_options

STORE = "s3a://AKIA123:hunter2/x@bucket/images?X-Amz-Signature=hunter2"

SIGNED = "s3a://bucket/images?X-Amz-Signature=hunter2"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3a://AKIA:se/cret@bucket/x", "s3a://***@bucket/x"),
        ("s3a:/AKIA:secret@bucket/x", "s3a:/***@bucket/x"),
        ("https://ghp_token@host/x", "https://***@host/x"),
        ("http://u:p@host:5000/a?token=t&run=1", "http://***@host:5000/a?token=***&run=1"),
        ("https://x.blob/a?sv=1&sig=abc%3D&se=2", "https://x.blob/a?sv=1&sig=***&se=2"),
        ("https://h/a?X-Amz-Credential=k&X-Amz-Date=1", "https://h/a?X-Amz-Credential=***&X-Amz-Date=1"),
        ("u:p@a:9092,v:q@b:9092", "***@a:9092,***@b:9092"),
        ("fs.s3a.secret.key=abc fs.s3a.endpoint=h", "fs.s3a.secret.key=*** fs.s3a.endpoint=h"),
        ('sasl.jaas.config=x password="p q" c', 'sasl.jaas.config=x password="***" c'),
        ("abfss://container@account/x spark://host:7077", "abfss://container@account/x spark://host:7077"),
        ("/data/a:b/c@d, run a: ckpt@best, 12:30", "/data/a:b/c@d, run a: ckpt@best, 12:30"),
    ],
)
def test_secrets_are_hidden_and_the_rest_is_kept(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert redacted_values({"a": [text, 1, None], "b": (text,)}) == {"a": [shown, 1, None], "b": (shown,)}


@pytest.mark.parametrize("part", ["9", "a.", "a:/", "a:", "secret", "http:/", ":/a:", "a:b@"])
def test_a_long_text_takes_no_long_time(part: str) -> None:
    # By the square of the length it would be minutes.
    redacted(part * (50_000 // len(part)))


def test_a_message_has_no_secret() -> None:
    assert str(UserError(f"cannot reach {STORE}")) == ("cannot reach s3a://***@bucket/images?X-Amz-Signature=***")
    assert "hunter2" not in failure_line(RuntimeError(f"GET {STORE} failed"))
    with refused() as messages:
        raise UserError("--bootstrap_servers admin:hunter2@broker:9092: no answer")
    assert messages[0] == "--bootstrap_servers ***@broker:9092: no answer"


def test_a_run_saves_and_sends_no_secret(set_dir: Path, tmp_path: Path) -> None:
    options = tiny_options(TrainOptions, unlabeled=SIGNED, master="spark://host:7077")
    paths = paths_of(set_dir, tmp_path / "run")
    begin_attempt(paths, options)
    run_training(options, paths, ALONE, attempt=1)
    EventWriter(paths.events_dir, run="run", attempt=1).write_run(
        run_event("failed", options, run="run", attempt=1, phase="train", epoch=0, message=f"GET {STORE} failed")
    )
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {"options.json", "ckpt.pth.tar", "run-attempt001-failed.jsonl"} <= {file.name for file in files}
    for file in files:
        assert b"hunter2" not in file.read_bytes(), file
    recorded: dict[str, Any] = json.loads((tmp_path / "run" / "options.json").read_text())
    assert recorded["unlabeled"] == "s3a://bucket/images?X-Amz-Signature=***"


@pytest.mark.parametrize("url", [STORE, "s3://key:hunter2@bucket/x"])
def test_credentials_in_the_url_of_a_bucket_are_refused_and_not_shown(url: str) -> None:
    with refused() as messages:
        parse_options(TrainOptions, ["--data_dir", url], prog="longtail train")
    assert "a URL of s3" in messages[0] and "has no credentials" in messages[0]
    assert "hunter2" not in messages[0]


def test_names_and_next_commands_have_no_secret_and_do_not_depend_on_it() -> None:
    options, other = (
        tiny_options(TrainOptions, unlabeled=store) for store in (SIGNED, SIGNED.replace("hunter2", "hunter3"))
    )
    assert options.run_name({}) == other.run_name({})
    assert options.set_name() == other.set_name()
    assert "hunter2" not in next_command("train_semi", TrainSemiOptions, options)
    assert "hunter2" not in json.dumps(RelayOptions(bootstrap_servers="u:hunter2@broker:9092").recorded())
