"""What a development stack shows: each mail as it arrives, with its transaction and what became of it when."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

#: transactions whose lines are remembered
_REMEMBERED = 1000


class Timeline:
    """Joins what the sink and the receiver got with what the router logged, and prints it."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._lines: OrderedDict[str, list[str]] = OrderedDict()
        #: what has arrived and waits for the router's line about it
        self._arrived: dict[str, dict[str, Any]] = {}
        self._shown = 0
        self._changed = asyncio.Event()

    async def wait_shown(self, count: int) -> None:
        """Wait until so many mails have been shown."""
        while self._shown < count:
            self._changed.clear()
            await self._changed.wait()

    def arrived(self, event: dict[str, Any]) -> None:
        """A mail is at the sink or the receiver."""
        transaction = event.get("transaction")
        if transaction is None:
            self._print(event)
        else:
            self._arrived[str(transaction)] = event

    def attempted(self, event: dict[str, Any]) -> None:
        """The router has finished an attempt."""
        transaction = str(event.get("id"))
        lines = self._lines.setdefault(transaction, [])
        lines.append(_attempt(event))
        while len(self._lines) > _REMEMBERED:
            self._lines.popitem(last=False)
        # The transaction of the client ends after those of its recipients: with it the story is complete.
        for child in [t for t in self._arrived if t == transaction or t.startswith(f"{transaction}-")]:
            self._print(self._arrived.pop(child))
        if event.get("result") == "failed" or (event.get("result") == "retry" and event.get("attempt") == 1):
            self._show(_title("not delivered", event.get("mail_from"), event.get("rcpt_to"), None))
            self._show(f"    transaction {transaction}\n    {lines[-1]}")

    def _print(self, event: dict[str, Any]) -> None:
        transaction = str(event.get("transaction") or "unknown: it has no Received header of a router")
        rcpt = event.get("rcpt_to")
        self._show(
            _title(
                f"mail at the {event['program']}",
                event.get("mail_from"),
                ", ".join(rcpt) if isinstance(rcpt, list) else rcpt,
                event.get("subject"),
            )
        )
        self._show(f"    transaction {transaction}")
        for known, lines in self._lines.items():
            if transaction == known or transaction.startswith(f"{known}-"):
                for line in lines:
                    self._show(f"    {line}")
        if event.get("stored"):
            self._show(f"    stored in {event['stored']}")
        self._shown += 1
        self._changed.set()


def _title(what: str, mail_from: object, rcpt_to: object, subject: object) -> str:
    quoted = f'  "{subject}"' if subject else ""
    return f"\n{what}: <{mail_from or ''}> -> <{rcpt_to or ''}>{quoted}"


def _attempt(event: dict[str, Any]) -> str:
    clock = str(event.get("time", ""))[11:23]
    seconds = float(event.get("seconds") or 0)
    kind = "client's transaction" if event.get("kind") == "interactive" else f"attempt {event.get('attempt', 1)}"
    hop = f" by {event['next_hop']}" if event.get("next_hop") else ""
    retry = f", again in {event['retry_in']} s" if event.get("retry_in") else ""
    if event.get("result") == "waiting":
        return f"{clock}  {kind}: its client fell silent after {seconds:.3f} s, it waits for the rest of its upload"
    result = f"failed ({event.get('reason')})" if event.get("result") == "failed" else event.get("result")
    return f"{clock}  {kind}: {result} after {seconds:.3f} s{hop}: {event.get('answer')}{retry}"
