"""Addresses and interfaces of ranks (spark_jobs/cluster/rendezvous.py); two hosts are in test_two_hosts.py."""

import os
import socket

import pytest

from longtail.conf.base.errors import UserError
from longtail.spark_jobs.cluster.rendezvous import interface_for, interface_of, own_address

NAMES = {"debian": "127.0.1.1", "other": "127.0.0.1", "known": "192.0.2.7"}


def resolve(name: str) -> str:
    if name not in NAMES:
        raise socket.gaierror(-2, "Name or service not known")
    return NAMES[name]


def test_the_address_that_spark_knows_is_the_rank_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostbyname", resolve)
    assert own_address(["debian", "known"], 1) == "192.0.2.7"
    # Not 127.0.1.1, but what it would send to the other from.
    assert own_address(["debian", "other"], 0) == "127.0.0.1"


def test_a_host_that_another_cannot_resolve_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostbyname", resolve)
    with pytest.raises(UserError, match="cannot resolve the host elsewhere, .*: give it a name that all hosts know"):
        own_address(["debian", "elsewhere"], 0)


def test_an_interface_is_found_by_its_address() -> None:
    assert interface_of("127.0.0.1") == "lo"
    assert interface_of("192.0.2.77") is None


def test_gloo_and_nccl_use_the_interface_unless_the_user_chose_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "ib0")
    with interface_for("127.0.0.1"):
        assert os.environ["GLOO_SOCKET_IFNAME"] == "lo"
        assert os.environ["NCCL_SOCKET_IFNAME"] == "ib0"
    assert "GLOO_SOCKET_IFNAME" not in os.environ
    monkeypatch.delenv("NCCL_SOCKET_IFNAME")
    with interface_for("127.0.0.1"):
        assert os.environ["NCCL_SOCKET_IFNAME"] == "=lo"
    with interface_for("192.0.2.77"):
        assert "GLOO_SOCKET_IFNAME" not in os.environ
