"""The locations that users name: a local path (pathlib.Path), or a URL of a store (StorePath), with the same methods.

    location("datasets"), location("file:///data/sets")    Path
    location("s3a://bucket/sets"), location("hdfs:///sets")  StorePath

A StorePath is no os.PathLike: whatever takes local files alone refuses it, and never makes a directory named s3a:.
"""

import getpass
import os
import re
from pathlib import Path

from longtail.conf.base.store_path import StorePath
from longtail.conf.base.stores import DEFAULT_FILE_SYSTEM, S3_SCHEMES, check_scheme, hadoop_setting, is_of_a_store

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(//([^/]*))?(.*)", re.DOTALL)

Location = Path | StorePath
"""A path on the local disk, or one in a store."""


def location(named: "str | Location") -> Location:
    """The location that a user names.

    A path without a scheme is on Hadoop's default file system, as for Spark, where one is set (use_hadoop_settings),
    and else on the local disk. `file:` and an absolute path is on the local disk, and so is a pathlib.Path.

    Raises ValueError if the text is no location: an unknown scheme, a URL without a path.
    """
    if not isinstance(named, str):
        return named
    text = named
    if (match := _URL.fullmatch(text)) is None:
        return _without_scheme(text)
    scheme, authority, rest = match[1].lower(), match[3] or "", match[4]
    if scheme == "file":
        return _local(authority, rest)
    if match[2] is None and not rest.startswith("/"):
        if is_of_a_store(scheme):
            raise ValueError(f"a URL of {scheme} begins with {scheme}://")
        return _without_scheme(text)
    check_scheme(scheme)
    if scheme in S3_SCHEMES and {":", "@"} & set(authority):
        raise ValueError(
            f"a URL of {scheme} has no credentials: give them in spark.hadoop.fs.s3a.access.key and .secret.key, or in "
            f"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    default = _default_store()
    if not authority and default is not None and default.scheme == scheme:
        authority = default.authority
    if not authority and scheme not in ("hdfs", "viewfs", "memory"):
        raise ValueError(f"a URL of {scheme} names a bucket or a host: {scheme}://NAME/...")
    return StorePath(scheme, authority, rest)


def local_path(named: "str | Location") -> Path:
    """The local path that a user names, with or without `file:`. Raises ValueError for the URL of a store."""
    if isinstance(named, Path):
        return named
    match = None if isinstance(named, StorePath) else _URL.fullmatch(named)
    if match is not None and match[1].lower() == "file":
        return _local(match[3] or "", match[4])
    if isinstance(named, StorePath) or (match is not None and (match[2] is not None or match[4].startswith("/"))):
        raise ValueError(f"a path on the local disk was expected, not {named}")
    return Path(named)


def location_text(path: Location) -> str:
    """A text that location() takes for this location: with `file:` where a path without a scheme is elsewhere."""
    return spark_uri(path) if isinstance(path, Path) and _default_store() is not None else str(path)


def spark_uri(path: Location) -> str:
    """The location as Spark is given it: with a scheme, as it would look for a path without one elsewhere.

    Hadoop takes the characters of a path as they are: none is written as %20. It has one driver for all of S3, s3a,
    unless the cluster's own (EMR's) is set.
    """
    if isinstance(path, Path):
        return f"file://{path.absolute()}"
    is_s3 = path.scheme in S3_SCHEMES and hadoop_setting("fs.s3.impl") is None
    return str(StorePath("s3a", path.authority, path.path) if is_s3 else path)


def _local(authority: str, rest: str) -> Path:
    if authority not in ("", "localhost") or not rest.startswith("/"):
        raise ValueError("file: and an absolute path was expected, as file:///data/sets")
    return Path(f"/{rest.lstrip('/')}")


def _without_scheme(text: str) -> Location:
    default = _default_store()
    if default is None:
        return Path(text)
    return default.joinpath(f"/user/{os.environ.get('HADOOP_USER_NAME') or getpass.getuser()}", text)


def _default_store() -> StorePath | None:
    """Hadoop's default file system; None if it is the local disk."""
    match = _URL.fullmatch(hadoop_setting(DEFAULT_FILE_SYSTEM) or "file:///")
    if match is None or match[1].lower() == "file":
        return None
    return StorePath(match[1].lower(), match[3] or "", match[4])
