"""A matcher: is somebody in the office to answer?"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from koukan.chain.transaction import Recipient, Transaction


def match(options: Mapping[str, Any], tx: Transaction, recipient: Recipient | None) -> bool | None:
    """True, False, or None while it cannot be known. Called often: keep it short, wait for nothing."""
    now = datetime.now(ZoneInfo(options.get("zone", "UTC")))
    return now.weekday() < 5 and options.get("from", 9) <= now.hour < options.get("to", 17)
