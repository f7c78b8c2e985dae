"""Places: what a path and a URL mean, and how a store is written to and read."""

import getpass
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from longtail.conf.arguments import options_for, parse_options
from longtail.conf.base import stores
from longtail.conf.base.errors import UserError
from longtail.conf.base.files import content_hash, read_regular_text, write_json_atomically
from longtail.conf.base.locations import Location, location, spark_uri
from longtail.conf.base.paths import check_can_be_written
from longtail.conf.base.store_path import StorePath
from longtail.conf.base.stores import settings_of, use_hadoop_settings
from longtail.conf.next_command import next_command
from longtail.conf.options.export import ExportOptions
from longtail.conf.options.prepare import PrepareOptions
from longtail.conf.options.training import TrainOptions
from longtail.spark_jobs.cluster.hadoop import use_settings_of_spark


@pytest.fixture(autouse=True)
def settings_as_before() -> Iterator[None]:
    yield
    use_hadoop_settings({})


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("datasets", Path("datasets")),
        ("/data//sets", Path("/data/sets")),
        ("file:/data/my sets", Path("/data/my sets")),
        ("file:///data/100%25", Path("/data/100%25")),  # as for Hadoop, which decodes nothing
        ("FILE://localhost/data", Path("/data")),
        ("C:/data", Path("C:/data")),
        ("epoch:3/ckpt", Path("epoch:3/ckpt")),
        ("s3a://bucket/a/../b//c/", StorePath("s3a", "bucket", "/b/c")),
        ("S3://bucket", StorePath("s3", "bucket", "/")),
        ("hdfs://name:9000/a b", StorePath("hdfs", "name:9000", "/a b")),
        ("hdfs:/a", StorePath("hdfs", "", "/a")),
        ("abfss://box@account.dfs.core.windows.net/a", StorePath("abfss", "box@account.dfs.core.windows.net", "/a")),
    ],
)
def test_a_place_is_a_local_path_or_a_url(text: str, place: Location) -> None:
    assert location(text) == place
    assert location(place) == place
    assert type(location(text)) is type(place)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("s3a:bucket/x", "begins with s3a://"),
        ("s4a://bucket/x", r"no file system is known as s4a: \(did you mean s3a\?\)"),
        ("nosuch:/x", "no file system is known as nosuch:; a local path is ./nosuch:"),
        ("file://data/x", "file: and an absolute path was expected"),
        ("http://host/x", "http: has no directories, and nothing can be written to it: download the files first"),
        ("file:data", "file: and an absolute path was expected"),
        ("s3:///x", "names a bucket or a host"),
    ],
)
def test_what_is_no_place_is_refused_with_the_mend(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        location(text)
    with pytest.raises(UserError, match=f"--data_dir {text}: .*{complaint}"):
        parse_options(PrepareOptions, ["--data_dir", text], prog="longtail prepare")


def test_a_path_without_a_scheme_is_where_spark_looks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HADOOP_USER_NAME", raising=False)
    use_hadoop_settings({"fs.defaultFS": "hdfs://name:9000"})
    assert str(location("/data")) == "hdfs://name:9000/data"
    assert str(location("hdfs:///data")) == "hdfs://name:9000/data"
    assert str(location("sets")) == f"hdfs://name:9000/user/{getpass.getuser()}/sets"
    assert location("file:///data") == Path("/data")
    options = parse_options(PrepareOptions, [], prog="longtail prepare")
    assert str(options.data_dir) == f"hdfs://name:9000/user/{getpass.getuser()}/datasets"
    assert options.recorded()["data_dir"] == str(options.data_dir)
    use_hadoop_settings({"fs.defaultFS": "file:///"})
    assert parse_options(PrepareOptions, [], prog="longtail prepare").data_dir == Path("datasets")


def test_a_local_place_stays_one_in_the_options_of_other_jobs_and_in_the_next_command() -> None:
    use_hadoop_settings({"fs.defaultFS": "hdfs://name:9000"})
    given = parse_options(PrepareOptions, ["--data_dir", "file:///data/sets"], prog="longtail prepare")
    assert given.data_dir == Path("/data/sets")
    assert options_for(TrainOptions, given).data_dir == Path("/data/sets")
    assert given.recorded()["data_dir"] == "file:///data/sets"
    assert "--data_dir file:///data/sets" in next_command("train", TrainOptions, given)


def test_a_path_that_is_not_on_the_local_disk_is_told_once_with_its_url(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HADOOP_USER_NAME", "me")
    parse_options(PrepareOptions, [], prog="longtail prepare")
    use_hadoop_settings({"fs.defaultFS": "hdfs://of-the-test"})
    for _ in range(2):
        parse_options(TrainOptions, ["--runs_dir", "/runs"], prog="longtail train")
    parse_options(PrepareOptions, ["--data_dir", "s3a://bucket/sets"], prog="longtail prepare")
    assert capsys.readouterr().err == (
        "longtail: by fs.defaultFS, --data_dir is hdfs://of-the-test/user/me/datasets, --runs_dir is "
        "hdfs://of-the-test/runs (file: and an absolute path: the local disk)\n"
    )


def test_the_default_file_system_is_read_where_spark_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    core_site = (
        "<configuration><property><name> fs.defaultFS </name><value>{}</value></property>"
        "<property><name>fs.s3a.endpoint</name><value>http://store:9</value></property></configuration>"
    )
    monkeypatch.setattr("longtail.spark_jobs.cluster.hadoop._of_the_jvm", lambda: None)
    (tmp_path / "hadoop").mkdir()
    (tmp_path / "hadoop" / "core-site.xml").write_text(core_site.format("hdfs://of-hadoop"))
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path / "hadoop"))
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    monkeypatch.delenv("PYSPARK_SUBMIT_ARGS", raising=False)
    use_settings_of_spark()
    assert str(location("/a")) == "hdfs://of-hadoop/a"
    assert settings_of("s3a", "bucket")["endpoint"] == "http://store:9"
    (tmp_path / "spark-defaults.conf").write_text("spark.hadoop.fs.defaultFS hdfs://of-spark\n")
    use_settings_of_spark()
    assert str(location("/a")) == "hdfs://of-spark/a"
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", "--conf spark.hadoop.fs.defaultFS=hdfs://of-arguments pyspark-shell")
    use_settings_of_spark()
    assert str(location("/a")) == "hdfs://of-arguments/a"


def test_an_option_of_local_files_takes_no_url(tmp_path: Path) -> None:
    checkpoint = tmp_path / "ckpt.pth.tar"
    checkpoint.touch()
    with pytest.raises(UserError, match="a path on the local disk was expected, not s3a://b/m.onnx"):
        parse_options(ExportOptions, ["--resume", str(checkpoint), "--to", "s3a://b/m.onnx"], prog="longtail export")
    options = parse_options(
        ExportOptions, ["--resume", f"file:{checkpoint}", "--to", "file:///tmp/m.onnx"], prog="longtail export"
    )
    assert (options.resume, options.to) == (checkpoint, Path("/tmp/m.onnx"))


def test_names_in_a_store_are_those_of_pathlib() -> None:
    place = location("s3a://bucket/runs/a.b")
    here = Path("/runs/a.b")
    for name in ("name", "stem", "suffix"):
        assert getattr(place, name) == getattr(here, name)
    assert str(place.parent) == "s3a://bucket/runs"
    assert [str(parent) for parent in place.parents] == ["s3a://bucket/runs", "s3a://bucket/"]
    assert str(place / "x" / "y") == "s3a://bucket/runs/a.b/x/y"
    assert str(place.with_suffix(".c")) == "s3a://bucket/runs/a.c"
    assert place.is_relative_to("s3a://bucket/") and not place.is_relative_to("s3a://bucket/ru")
    assert (place / "x").relative_to("s3a://bucket/runs") == Path("a.b/x")
    assert sorted([place / "b", place / "a"]) == [place / "a", place / "b"]
    assert not isinstance(place, os.PathLike), "nothing that is for local files alone takes it"


def test_a_store_is_written_and_read_like_a_directory() -> None:
    top = location("memory://box/sets")
    assert isinstance(top, StorePath)
    assert not top.exists() and not list(top.glob("*"))
    write_json_atomically(top / "a" / "x.json", {"k": 1})
    assert read_regular_text(top / "a" / "x.json") == '{\n  "k": 1\n}\n'
    assert content_hash(top / "a" / "x.json") == "e7633e76ba1a3c9f0785bb20caf11c9efbd8ef124ad6770ae34fc8c27a8a41f0"
    with (top / "b.csv").open("w") as file:
        file.write("ä\n")
    assert (top / "b.csv").read_text() == "ä\n"
    assert sorted(entry.name for entry in top.iterdir()) == ["a", "b.csv"]
    assert top.files_below() == [top / "a" / "x.json", top / "b.csv"]
    assert list(top.rglob("*.json")) == [top / "a" / "x.json"]
    assert top.is_dir() and (top / "b.csv").is_file() and (top / "b.csv").stat().st_size == 3
    check_can_be_written(top, option="--data_dir")
    assert (top / "once").create(b"first") and not (top / "once").create(b"second")
    assert (top / "once").read_bytes() == b"first"
    with pytest.raises(UserError, match="is a file, a directory was expected"):
        check_can_be_written(top / "once", option="--data_dir")
    (top / "once").unlink()
    (top / "once").unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        (top / "once").read_bytes()
    top.remove()
    assert not top.exists()


def test_a_place_takes_endpoint_and_keys_to_other_machines_but_shows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    use_hadoop_settings({
        "fs.s3a.endpoint": "http://store:9", "fs.s3a.access.key": "AKIA_OF_TEST", "fs.s3a.secret.key": "very-secret",
        "fs.s3a.bucket.other.endpoint": "http://elsewhere:9",
    })  # fmt: skip
    sent = pickle.dumps(location("s3a://bucket/a"))
    assert settings_of("s3a", "other")["endpoint"] == "http://elsewhere:9"
    assert str(UserError("with very-secret")) == "with ***"
    use_hadoop_settings({})
    monkeypatch.setattr(stores, "_sent", {})
    assert settings_of("s3a", "bucket") == {}
    place = pickle.loads(sent)
    assert str(place) == "s3a://bucket/a"
    assert settings_of("s3a", "bucket") == {
        "endpoint": "http://store:9", "access.key": "AKIA_OF_TEST", "secret.key": "very-secret",
    }  # fmt: skip


def test_a_driver_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(protocol: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.get_filesystem_class", missing)
    with pytest.raises(UserError, match=r"s3a://bucket/ cannot be reached .*: pip install 'longtail\[s3\]', or name a"):
        location("s3a://bucket/a").exists()


def test_hdfs_without_its_package_says_what_to_install_and_not_where_java_was_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arrow = pytest.importorskip("fsspec.implementations.arrow")

    def no_java(*_: object, **__: object) -> None:
        raise OSError("Unable to load libjvm " + "/no/such/place " * 100)

    monkeypatch.setattr("fsspec.get_filesystem_class", lambda _: arrow.HadoopFileSystem)
    monkeypatch.setattr(arrow.HadoopFileSystem, "__init__", no_java)
    with pytest.raises(UserError, match=r"cannot be reached .*: pip install 'longtail\[hdfs\]', or name a") as caught:
        location("hdfs://of-the-test-without-a-driver/a").exists()
    assert len(str(caught.value)) < 500


def test_a_name_node_that_nobody_knows_is_one_line() -> None:
    with pytest.raises(UserError, match=r"hdfs://no-such-service/ cannot be reached \(.*\): check the address"):
        location("hdfs://no-such-service/a").exists()


def test_spark_is_given_a_scheme() -> None:
    assert spark_uri(Path("/a b/100%")) == "file:///a b/100%"
    assert spark_uri(Path("x")) == f"file://{Path.cwd()}/x"
    assert spark_uri(location("hdfs://name/a b")) == "hdfs://name/a b"
    assert spark_uri(location("s3://bucket/a")) == "s3a://bucket/a"
    use_hadoop_settings({"fs.s3.impl": "com.amazon.ws.emr.hadoop.fs.EmrFileSystem"})
    assert spark_uri(location("s3://bucket/a")) == "s3://bucket/a"
