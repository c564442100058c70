import pytest

from callstream.streams.ownership import LostOwnership, Ownership
from tests.support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ownership(clock: Clock) -> Ownership:
    """Three partitions, under a lease of eight seconds."""
    owned = Ownership(8.0, clock)
    owned.assign([0, 1, 2])
    return owned


def test_what_is_owned_may_be_claimed(ownership: Ownership) -> None:
    claim = ownership.claim(1)
    ownership.require(claim)
    assert ownership.owned == {0, 1, 2}
    with pytest.raises(LostOwnership, match="partition 3 was revoked"):
        ownership.require(ownership.claim(3))


def test_a_claim_from_before_a_revocation_is_void_even_if_the_partition_came_back(ownership: Ownership) -> None:
    before = ownership.claim(1)
    ownership.revoke()
    assert ownership.owned == frozenset()
    with pytest.raises(LostOwnership, match="partition 1 was revoked"):
        ownership.require(before)
    ownership.assign([1])
    with pytest.raises(LostOwnership):
        ownership.require(before)
    ownership.require(ownership.claim(1))


def test_the_lease_lasts_while_the_loop_runs(ownership: Ownership, clock: Clock) -> None:
    claim = ownership.claim(0)
    for _ in range(10):
        clock.now += 7.9
        assert ownership.beat() == pytest.approx(7.9)
        ownership.require(claim)


def test_a_loop_that_stood_still_owns_nothing_until_the_group_says_so_again(ownership: Ownership, clock: Clock) -> None:
    claim = ownership.claim(0)
    clock.now += 8.1
    with pytest.raises(LostOwnership, match=r"stood still for 8\.1 s, longer than engine\.session_timeout_seconds"):
        ownership.require(claim)
    assert ownership.beat() > 8.0
    with pytest.raises(LostOwnership, match="stood still"):
        ownership.require(claim)
    ownership.revoke()
    ownership.assign([0])
    ownership.require(ownership.claim(0))


def test_who_owns_nothing_has_no_lease_to_break(clock: Clock) -> None:
    ownership = Ownership(8.0, clock)
    clock.now += 60
    assert ownership.beat() == 0
    ownership.assign([0])
    claim = ownership.claim(0)
    clock.now += 7
    assert ownership.beat() == 7
    ownership.require(claim)
    clock.now += 9
    assert ownership.beat() == 9
    ownership.revoke()
    assert ownership.beat() == 0
    with pytest.raises(LostOwnership):
        ownership.require(claim)
