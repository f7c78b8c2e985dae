"""How this process reaches the stores that URLs name (s3a://, hdfs://, gs://, abfss://, and others that fsspec knows).

Endpoints and credentials are those of Spark, where it has some: `use_hadoop_settings` gets them before the options
are read. Else each driver takes its own from the environment (AWS_*, HADOOP_CONF_DIR, GOOGLE_APPLICATION_CREDENTIALS).
They are never part of a location's text.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

import fsspec
from fsspec.spec import AbstractFileSystem

from longtail.conf.base.errors import UserError
from longtail.conf.base.shown_text import hide
from longtail.conf.base.suggestions import did_you_mean

DEFAULT_FILE_SYSTEM = "fs.defaultFS"
S3_SCHEMES = frozenset({"s3", "s3a", "s3n"})
_DRIVERS = {"s3a": "s3", "s3n": "s3", "abfss": "abfs", "wasb": "abfs", "wasbs": "abfs"}
"""fsspec's name of the file system of a scheme, where the two differ."""
_PACKAGES = {
    "s3": "pip install 'longtail[s3]'",
    "hdfs": "pip install 'longtail[hdfs]'",
    "viewfs": "pip install 'longtail[hdfs]'",
    "gs": "pip install gcsfs",
    "gcs": "pip install gcsfs",
    "abfs": "pip install adlfs",
    "abfss": "pip install adlfs",
    "az": "pip install adlfs",
}
_OF_HADOOP = ("libjvm", "libhdfs")
"""Without the package, fsspec looks for an installed Hadoop."""
MOST_OF_REASON = 300
"""Characters of a driver's message, which may list each place where it has looked for a library."""
_RENAMING = frozenset({"hdfs", "viewfs", "webhdfs"})
"""Schemes whose files are seen while they are written, and are renamed in one step; elsewhere objects appear whole."""

_S3_SETTINGS = {
    "endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "endpoint.region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "access.key": ("AWS_ACCESS_KEY_ID",),
    "secret.key": ("AWS_SECRET_ACCESS_KEY",),
    "session.token": ("AWS_SESSION_TOKEN",),
    "path.style.access": (),
    "connection.ssl.enabled": (),
    "aws.credentials.provider": (),
}
"""Hadoop's settings below fs.s3a., and the variables of the environment that have the same meaning."""
_SECRETS = ("secret.key", "session.token")
_OF_HDFS = re.compile(r"dfs\.(nameservices|ha\.namenodes\.|namenode\.rpc-address|client\.)|hadoop\.security\.auth")
_KEPT = re.compile(rf"{re.escape(DEFAULT_FILE_SYSTEM)}$|fs\.s3a\.|fs\.s3\.impl$|{_OF_HDFS.pattern}")

_hadoop: dict[str, str] = {}
_sent: dict[tuple[str, str], dict[str, str]] = {}
"""Settings that another process sent with a location, by scheme and authority."""


def use_hadoop_settings(settings: Mapping[str, str]) -> None:
    """Replace Hadoop's settings by these, of which those of file systems are kept; secrets are never shown."""
    _hadoop.clear()
    _hadoop.update({name: value for name, value in settings.items() if _KEPT.match(name)})
    for name, value in _hadoop.items():
        if name.endswith(_SECRETS):
            hide(value)


def hadoop_setting(name: str) -> str | None:
    """One of Hadoop's settings; None if nobody set it."""
    return _hadoop.get(name) or None


def check_scheme(scheme: str) -> None:
    """Raise ValueError if no file system is known by this name, or if it is no store."""
    if scheme in ("http", "https"):
        raise ValueError(f"{scheme}: has no directories, and nothing can be written to it: download the files first")
    known = {*fsspec.available_protocols(), *_DRIVERS, *_PACKAGES}
    if scheme not in known:
        hint = did_you_mean(scheme, known, likeness=0.6)
        raise ValueError(f"no file system is known as {scheme}:{hint}; a local path is ./{scheme}:")


def is_of_a_store(scheme: str) -> bool:
    """Whether this is the scheme of a usual store."""
    return scheme in _PACKAGES or scheme in _DRIVERS


def file_system_of(scheme: str, authority: str) -> AbstractFileSystem:
    """The file system of a URL. Raises UserError if its driver is not installed, or cannot be started."""
    protocol = _DRIVERS.get(scheme, scheme)
    url = f"{scheme}://{authority}/"
    try:
        kind = fsspec.get_filesystem_class(protocol)
        options = {**kind._get_kwargs_from_urls(url), **_options(protocol, settings_of(scheme, authority))}
        return kind(**options)
    except ImportError as error:
        mend = _PACKAGES.get(protocol, f"install fsspec's driver for {scheme}:")
        raise UserError(f"{url} cannot be reached ({error}): {mend}, or name a local path") from None
    except (ValueError, OSError, RuntimeError) as error:
        mend = f"check the address and the settings of {scheme}"
        if any(library in str(error) for library in _OF_HADOOP):
            mend = f"{_PACKAGES['hdfs']}, or name a local path"
        raise UserError(f"{url} cannot be reached ({str(error)[:MOST_OF_REASON]}): {mend}") from None


def renames(scheme: str) -> bool:
    """Whether a store shows files while they are written, and renames them in one step."""
    return scheme in _RENAMING


def settings_of(scheme: str, authority: str) -> dict[str, str]:
    """What a process needs to reach a store, by name: of this process, or else as another one sent it."""
    if sent := _sent.get((scheme, authority)):
        return sent
    if scheme in S3_SCHEMES:
        found = {name: _s3_setting(name, authority) for name in _S3_SETTINGS}
        return {name: value for name, value in found.items() if value}
    return {name: value for name, value in _hadoop.items() if scheme in ("hdfs", "viewfs") and _OF_HDFS.match(name)}


def receive(scheme: str, authority: str, settings: dict[str, str]) -> None:
    """Keep the settings that another process sent, unless this one has its own."""
    if settings and not settings_of(scheme, authority):
        _sent[scheme, authority] = settings
        for name, value in settings.items():
            if name.endswith(_SECRETS):
                hide(value)


def _s3_setting(name: str, bucket: str) -> str | None:
    of_hadoop = _hadoop.get(f"fs.s3a.bucket.{bucket}.{name}") or _hadoop.get(f"fs.s3a.{name}")
    return of_hadoop or next((os.environ[variable] for variable in _S3_SETTINGS[name] if variable in os.environ), None)


def _options(protocol: str, settings: dict[str, str]) -> dict[str, Any]:
    if protocol != "s3":
        # Other processes write to the same store: no listing is remembered.
        return settings if protocol in ("hdfs", "viewfs") else {"use_listings_cache": False}
    options: dict[str, Any] = {"use_listings_cache": False}
    for option, name in (("key", "access.key"), ("secret", "secret.key"), ("token", "session.token")):
        if name in settings:
            options[option] = settings[name]
    if "Anonymous" in settings.get("aws.credentials.provider", ""):
        options["anon"] = True
    if endpoint := settings.get("endpoint"):
        protocol_of_endpoint = "http" if settings.get("connection.ssl.enabled") == "false" else "https"
        options["endpoint_url"] = endpoint if "://" in endpoint else f"{protocol_of_endpoint}://{endpoint}"
    if region := settings.get("endpoint.region"):
        options["client_kwargs"] = {"region_name": region}
    if settings.get("path.style.access") == "true":
        options["config_kwargs"] = {"s3": {"addressing_style": "path"}}
    return options
