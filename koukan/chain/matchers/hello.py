"""hello: the sample matcher of the existing Koukan. It always matches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from koukan.chain.matchers.verdict import Verdict
from koukan.chain.transaction import Recipient, Transaction


def match(options: Mapping[str, Any], tx: Transaction, recipient: Recipient | None) -> Verdict:
    """Yes, whatever there is."""
    return True
