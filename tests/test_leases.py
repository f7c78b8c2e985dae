"""Leases: of several processes one holds it, and a killed one's expires."""

import json
import threading
import time

import pytest

from longtail.conf.base import leases
from longtail.conf.base.errors import UserError
from longtail.conf.base.leases import LeaseHeldError, lease
from longtail.conf.base.store_path import StorePath

PLACE = StorePath("memory", "leases", "/set.lease")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    PLACE.unlink(missing_ok=True)
    monkeypatch.setattr(leases, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr(leases, "_READ_BACK_SECONDS", 0.2)


def test_a_lease_is_held_by_one_and_free_afterwards() -> None:
    with lease(PLACE) as held:
        with pytest.raises(LeaseHeldError, match="process [0-9]+$"), lease(PLACE):
            raise AssertionError("two hold it")
        held.check()
    assert not PLACE.exists()
    with lease(PLACE):
        pass


def test_a_lease_is_renewed_while_its_owner_works_and_expires_when_it_was_killed() -> None:
    with lease(PLACE, seconds=0.4):
        time.sleep(1)
        with pytest.raises(LeaseHeldError), lease(PLACE):
            raise AssertionError("two hold it")
    PLACE.write_bytes(json.dumps({"owner": "host, process 1, x", "until": time.time() + 0.3}).encode())
    with pytest.raises(LeaseHeldError, match="^host, process 1$"), lease(PLACE):
        raise AssertionError("two hold it")
    time.sleep(0.4)
    with lease(PLACE) as held:
        held.check()


def test_of_many_that_find_it_expired_one_takes_it() -> None:
    PLACE.write_bytes(b"damaged")
    held_by: list[int] = []

    def take(number: int) -> None:
        try:
            with lease(PLACE):
                held_by.append(number)
                time.sleep(0.6)
        except LeaseHeldError:
            pass

    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held_by) == 1


def test_an_owner_that_lost_its_lease_is_told_before_it_writes_more() -> None:
    with lease(PLACE) as held:
        PLACE.write_bytes(json.dumps({"owner": "other, process 2, y", "until": time.time() + 60}).encode())
        with pytest.raises(UserError, match="taken over by another process"):
            held.check()
    assert PLACE.exists(), "it is the other's"
