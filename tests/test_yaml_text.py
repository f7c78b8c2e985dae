"""YAML of strangers: plain values within bounds, or one line."""

import time
from pathlib import Path

import pytest
import yaml

from longtail.conf.base.yaml_text import BadYaml, parse_yaml
from longtail.conf.command_line.files import file_values
from longtail.conf.experiment import Experiment
from longtail.conf.options.training import TrainOptions
from longtail.conf.packaged import read_yaml_model
from longtail.streaming.alerts.rules_file import read_alert_rules
from tests.conftest import REPOSITORY
from tests.refusals import refused

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
MERGES = "a0: &a0 {x0: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 9))

BAD = {
    "deep lists": ("[" * 2000, "nested more than 50 levels deep"),
    "deep mappings": ("{a: " * 2000, "nested more than 50 levels deep"),
    "51 levels": ("[" * 51 + "]" * 51, "nested more than 50 levels deep"),
    "deep by names": (
        "- &a0 [x]\n" + "".join(f"- &a{n} [*a{n - 1}]\n" for n in range(1, 200)),
        "nested more than 50 levels deep",
    ),
    "deep indentation": ("".join(f"{' ' * n}a:\n" for n in range(400)), "nested more than 50 levels deep"),
    "billion laughs": (LAUGHS, "more than 20000 values, aliases counted"),
    "merged laughs": (MERGES, "more than 20000 values, aliases counted"),
    "itself": ("&a [*a]", "line 1: it contains itself"),
    "itself by key": ("&a {b: {c: *a}}", "line 1: it contains itself"),
    "huge number": (f"lr: {'9' * 5000}", "line 1: it has a number of 5000 digits"),
    "huge hexadecimal": (f"\nlr: 0x{'f' * 5000}", "line 2: it has a number of 5002 digits"),
    "month 13": ("epochs: 2026-13-45", "month must be in 1..12"),
    "hour 99": ("epochs: 2026-01-01 99:99:99", "hour must be in 0..23"),
    "no number": ("a: !!int x", "invalid literal"),
    "no date": ("a: !!timestamp x", ""),
    "no truth": ("a: !!bool x", ""),
    "empty number": ("a: !!int ''", ""),
    "twice": ("lr: 0.1\nepochs: 3\nlr: 0.2", "line 1: the key 'lr' is given more than once"),
    "twice deeper": ("a:\n  b: 1\n  b: 1", "line 2: the key 'b' is given more than once"),
    "code": ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
    "unknown tag": ("!x 1", "could not determine a constructor"),
    "a list as key": ("? [a]\n: b", "unhashable key"),
    "two documents": ("a: 1\n---\nb: 2", "expected a single document"),
    "no end": ("a: [1", "expected ',' or ']'"),
    "unknown alias": ("a: *b", "undefined alias"),
    "zero byte": ("a: \0", "special characters are not allowed"),
    "large": ("a: " + "x" * 200_000, "it has 200003 characters, at most 200000"),
    "many": ("[" + "1," * 20_000 + "]", "more than 20000 values"),
}


@pytest.mark.parametrize(("text", "named"), BAD.values(), ids=BAD)
def test_yaml_that_is_wrong_or_beyond_the_bounds_is_refused_quickly(text: str, named: str) -> None:
    started = time.process_time()
    with pytest.raises(BadYaml) as caught:
        parse_yaml(text)
    assert named in str(caught.value)
    assert len(str(caught.value)) <= 500
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    "text", ["", "3", "a: 1", "a: &b {c: [1, 2]}\nd: *b\ne: {<<: *b, f: 1.5}", '{"a": null}', "- on\n- 0o7"]
)
def test_other_yaml_is_what_the_library_says(text: str) -> None:
    assert parse_yaml(text) == yaml.safe_load(text)


def test_every_yaml_file_of_longtail_is_within_the_bounds() -> None:
    files = list(REPOSITORY.glob("conf/**/*.yaml"))
    assert len(files) > 20
    for file in files:
        assert parse_yaml(file.read_text()) == yaml.safe_load(file.read_text())


@pytest.mark.parametrize("name", ["billion laughs", "huge number", "month 13", "no truth", "twice"])
def test_each_reader_of_yaml_refuses_it_in_one_line(tmp_path: Path, name: str) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(BAD[name][0])
    with refused() as messages:
        file_values(TrainOptions, file, prog="longtail train")
    assert messages[0].startswith(f"{file} is not YAML: ")
    with refused() as messages:
        read_yaml_model(Experiment, file, folder="experiments", kind="experiment")
    assert messages[0].startswith(f"{file} is not YAML: ")
    with refused() as messages:
        read_alert_rules(file)
    assert messages[0].startswith(f"{file} is not YAML: ")
    file.write_bytes(b"\xff\xfe\x00")
    with refused() as messages:
        read_alert_rules(file)
