"""The three answers of a matcher: yes, no, and not known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from koukan.chain.transaction import Recipient, Transaction

#: None: what the matcher looks at is not known (its precondition is unmet), now or ever
Verdict = bool | None

#: a matcher with its options bound; the recipient is None outside `mode: PER_RCPT`
Matcher = Callable[[Transaction, Recipient | None], Verdict]

#: what `modules.transaction_matcher` names: options as they stand in the file, without `matcher`
MatchFunction = Callable[[Mapping[str, Any], Transaction, Recipient | None], Verdict]
