"""The reverse index of references."""

from __future__ import annotations

from koukan_operator.index import ReferenceIndex
from koukan_operator.kinds import Key

ROUTER = Key("KoukanRouter", "mail", "a")
OTHER = Key("KoukanRouter", "mail", "b")
CHAIN = Key("OutputChain", "mail", "submission")
SECRET = Key("Secret", "mail", "dkim")


def test_users_are_found_by_what_they_refer_to() -> None:
    index = ReferenceIndex()
    index.set(ROUTER, {CHAIN, SECRET})
    index.set(OTHER, {CHAIN})
    assert index.users_of(CHAIN) == {ROUTER, OTHER}
    assert index.users_of(SECRET) == {ROUTER}
    assert index.users_of(Key("Secret", "elsewhere", "dkim")) == frozenset()


def test_a_reference_that_is_dropped_no_longer_leads_to_its_user() -> None:
    index = ReferenceIndex()
    index.set(ROUTER, {CHAIN, SECRET})
    index.set(ROUTER, {CHAIN})
    assert index.users_of(SECRET) == frozenset()
    assert index.users_of(CHAIN) == {ROUTER}


def test_a_user_that_is_gone_leaves_nothing_behind() -> None:
    index = ReferenceIndex()
    index.set(ROUTER, {CHAIN, SECRET})
    index.remove(ROUTER)
    assert index.users_of(CHAIN) == frozenset()
    assert not index._users
    assert not index._targets
