"""YAML: experiments, options and alert rules."""

from pathlib import Path
from random import Random

from longtail.conf.command_line.files import file_values
from longtail.conf.experiment import Experiment
from longtail.conf.options.training import TrainOptions
from longtail.conf.packaged import read_yaml_model
from longtail.streaming.alerts.rules_file import read_alert_rules
from tests.conftest import REPOSITORY
from tests.fuzz.mutation import damaged

_SEEDS = [
    (REPOSITORY / "conf" / "experiments" / "digits_small.yaml").read_bytes(),
    (REPOSITORY / "conf" / "alerts.yaml").read_bytes(),
    b"epochs: 3\nlr: 0.1\nloss_type: LDAM\nimb_factor: 0.01\n",
    b"a: &a {b: [1, 2]}\nc: *a\nd: {<<: *a, e: 2026-01-01}\n",
]
_TOKENS = [
    b"&a ", b"*a", b"<<: *a", b"[", b"]", b"{", b"}", b": ", b"- ", b"\n", b"? ", b"!!int ", b"!!float ", b"!!bool ",
    b"---\n", b"!!timestamp ", b"!!binary ", b"!!python/name:os.system ", b"!!set ", b"!!omap ", b"2026-13-45",
    b"0x" + b"f" * 300, b"9" * 90, b".nan", b".inf", b"~", b"|\n", b">\n", b"'", b'"', b"%YAML 9.9\n", b"\t", b"\xff",
    b"\xef\xbb\xbf", b"\x1b", b"[" * 60, b"- &b [*a, *a]\n" * 30, b"1:59:59", b"\xc2\x85", b"lr: 1\n",
]  # fmt: skip


def generate(random: Random) -> bytes:
    return damaged(random.choice(_SEEDS), random, tokens=_TOKENS)


def read(content: bytes, directory: Path) -> None:
    file = directory / "file.yaml"
    file.write_bytes(content)
    if b"axes" in content:
        read_yaml_model(Experiment, file, folder="experiments", kind="experiment")
    elif b"tail_falling" in content:
        read_alert_rules(file)
    else:
        file_values(TrainOptions, file, prog="longtail train")
