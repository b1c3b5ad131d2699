"""A transaction on a REST server as its client knows it: where it is, what it said last, how to ask again (rest-api.md §7).

An exchange without an answer says nothing: what was asked may be done or not, and may still be on its way. Whoever must know
looks at the transaction before anything else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from yarl import URL

from koukan import clock
from koukan.errors import InvalidDocument, UpstreamError
from koukan.model import HostPort, SmtpMeta
from koukan.model.documents import TransactionDocument, parse_transaction
from koukan.model.values import dump_host_port, dump_smtp_meta
from koukan.rest.http import Answer, HttpClients, exchange, joined, shown

logger = logging.getLogger("koukan.rest")

#: seconds one exchange waits at most for its answer; then the client asks again
WAIT_LIMIT = 30
#: seconds that an answer may take beyond the wait that was asked for; then it counts as lost, and the client looks
ANSWER_GRACE = 5
#: seconds between polls that brought nothing, for servers that answer them at once
POLL_SPACING = 1.0
#: polls in a row that may fail without an answer: connections break, but a server that is gone does not come back
POLL_FAILURES = 5
#: times an update is said again because the transaction has changed meanwhile, or its answer was lost
PATCH_TRIES = 5
#: seconds that telling a peer of a cancellation may take
CANCEL_TIMEOUT = 10

TRANSACTION_HEADER = "koukan-transaction"
ATTEMPT_HEADER = "koukan-attempt"


@dataclass(frozen=True, slots=True)
class Target:
    """Where transactions go and how long they may take."""

    #: URL that creates transactions
    url: str
    sender: str | None = None
    tag: str | None = None
    verify: bool | str = True
    #: value of the Authorization header, for the server of `url` only
    authorization: str | None = None
    #: seconds for the answers to the envelope
    rcpt_timeout: float = 30
    #: seconds for the answer to the data, once all of it is sent; while it is sent, seconds without a byte
    data_timeout: float = 300
    #: seconds beyond that for the truth about what the server may have: until then nobody knows whether it was delivered
    settle_timeout: float = 60
    #: bytes of a ranged chunk; None: one request for the whole body
    chunk_size: int | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """What is sent along about where the mail came from."""

    remote_host: HostPort | None = None
    local_host: HostPort | None = None
    smtp_meta: SmtpMeta | None = None
    filter_output: Mapping[str, Any] | None = None
    #: id of our own transaction, and the number of its attempt: who gets both a second time sees a repetition
    transaction: str | None = None
    attempt: int = 1

    def headers(self) -> dict[str, str]:
        """Header fields of a create request. The fields of its document are fixed by existing peers."""
        if self.transaction is None:
            return {}
        return {TRANSACTION_HEADER: self.transaction, ATTEMPT_HEADER: str(self.attempt)}

    def document(self) -> dict[str, Any]:
        """The fields of a create request."""
        document: dict[str, Any] = {}
        if self.remote_host is not None:
            document["remote_host"] = dump_host_port(self.remote_host)
        if self.local_host is not None:
            document["local_host"] = dump_host_port(self.local_host)
        if self.smtp_meta is not None:
            document["smtp_meta"] = dump_smtp_meta(self.smtp_meta)
        if self.filter_output:
            document["filter_output"] = self.filter_output
        return document


class RemoteTransaction:
    """One transaction on a REST server."""

    def __init__(self, clients: HttpClients, target: Target) -> None:
        self.http = clients.peer(target.url, target.verify, target.authorization)
        self._target = target
        #: empty until it is created
        self.location = ""
        #: where it was created, and where it is looked for again when the replica that it has moved to is gone
        self._home = ""
        self.etag = ""
        #: what the server has said last
        self.document = TransactionDocument()
        #: the server answers when the responses are there, as it was asked to; any other takes as long as it likes
        self.prompt = False
        #: it may have the message: whoever cannot reach it goes on asking
        self.patient = False
        self._failed_polls = 0

    def __str__(self) -> str:
        return shown(self.location or self._target.url)

    @property
    def id(self) -> str:
        """The last part of its URL: what the server calls it."""
        return str(self).rpartition("/")[2] if self.location else ""

    async def create(self, document: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        """POST it. Raises UpstreamError."""
        answer = await self.request("POST", self._target.url, document, headers)
        location = answer.headers.get("location")
        if answer.status != 201 or not location:
            raise UpstreamError(f"{shown(self._target.url)} answered {answer}")
        self.location = self._home = joined(self._target.url, location)
        self.prompt = "preference-applied" in answer.headers
        self.learn(answer)

    async def patch(self, document: Mapping[str, Any] | None, recipients: int | None = None) -> None:
        """Add what is new; nothing (None) is a heartbeat. Raises UpstreamError.

        `recipients`: how many there are once the update is taken. A lost answer is looked for by that number.
        """
        trouble = ""
        for _ in range(PATCH_TRIES):
            try:
                answer = await self.request("PATCH", self.location, document, {"if-match": self.etag})
            except UpstreamError as error:
                if recipients is None:
                    raise
                trouble = str(error)
            else:
                trouble = f"answered {answer}"
                if answer.status == 200:
                    self.learn(answer)
                    return
                if answer.status != 412 and (answer.status < 500 or recipients is None):
                    raise UpstreamError(f"{self} answered {answer}")
                if answer.status != 412:
                    await asyncio.sleep(POLL_SPACING)
            # Something else has changed meanwhile, an answer for example, or nobody knows: look, and say ours again.
            await self.look()
            if recipients is not None and self.document.rcpt_count >= recipients:
                return
        raise UpstreamError(f"{self} takes no update, at last: {trouble}")

    async def poll(self, deadline: float) -> None:
        """One long poll; returns when something has changed or a while is over. Raises UpstreamError."""
        started = clock.now()
        timeout = max(1, min(WAIT_LIMIT, int(deadline - started)))
        headers = {"request-timeout": str(timeout)}
        if self.etag:
            headers["if-none-match"] = self.etag
        if await self._ask(headers, timeout + ANSWER_GRACE):
            return
        # After a broken connection, an answer at once that nothing is new, or a server's own error: ask again, gently.
        await asyncio.sleep(max(0.0, POLL_SPACING - (clock.now() - started)))

    async def look(self) -> None:
        """Read it as it is now, whatever it takes within reason. Raises UpstreamError."""
        while True:
            if await self._ask({}, ANSWER_GRACE, unchanged=True):
                return
            await asyncio.sleep(POLL_SPACING)

    async def _ask(self, headers: Mapping[str, str], timeout: float, *, unchanged: bool = False) -> bool:
        """GET it. Whether there is something new, or `unchanged` an answer at all; several in a row may get none."""
        before = self.etag
        try:
            async with asyncio.timeout(timeout):
                answer = await self.request("GET", self.location, headers=headers)
        except TimeoutError:
            return False
        except UpstreamError:
            self._failed_polls += 1
            if self._failed_polls >= POLL_FAILURES and not self.patient:
                raise
            return False
        self._failed_polls = 0
        if answer.status == 200:
            self.learn(answer)
            return unchanged or self.etag != before
        if answer.status != 304 and answer.status < 500:
            raise UpstreamError(f"{self} answered {answer}")
        return False

    async def cancel(self) -> bool:
        """Tell the server that nothing more will come. Whether it heard; what fails is logged."""
        try:
            async with asyncio.timeout(CANCEL_TIMEOUT):
                answer = await exchange(self.http, "POST", f"{self.location}/cancel", None, {})
        except (UpstreamError, TimeoutError) as error:
            logger.info("cancel to %s: %s", self, error or "no answer")
            return False
        return answer.status < 500

    # --- HTTP ----------------------------------------------------------------------------------------------------------

    async def request(
        self,
        method: str,
        url: str,
        document: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One exchange; follows the transaction to the replica that holds it. Raises UpstreamError."""
        sent = (
            {**(headers or {})} if method == "GET" else {**wait_headers(self._target.rcpt_timeout), **(headers or {})}
        )
        content = None
        if document is not None:
            content = orjson.dumps(document)
            sent["content-type"] = "application/json"
        try:
            answer = await exchange(self.http, method, url, content, sent)
        except UpstreamError:
            if url != self.location or url == self._home:
                raise
            # Whoever had it is gone, and where it came from knows who has it now.
            self.location = self._home
            answer = await exchange(self.http, method, self._home, content, sent)
        if answer.moved_to is not None and self.location:
            # The owner is another replica: talk to it from now on.
            owner, known = URL(answer.moved_to), URL(self.location)
            self.location = str(owner.join(URL(known.raw_path, encoded=True)))
        return answer

    def absolute(self, uri: str) -> str:
        """A URI of the document. Raises UpstreamError for what is none."""
        return joined(self.location, uri)

    def learn(self, answer: Answer) -> None:
        """Take an answer that holds the transaction. Raises UpstreamError when it does not."""
        self.document = read_document(answer.body)
        self.etag = answer.headers.get("etag", self.etag)


def wait_headers(timeout: float) -> dict[str, str]:
    """Ask the server to answer when the responses are there: a little before the `timeout` seconds of its client are over."""
    seconds = str(wait_within(timeout))
    return {"prefer": f"wait={seconds}", "request-timeout": seconds}


def wait_within(timeout: float) -> int:
    """Seconds that a server is asked to wait with an answer that may take `timeout`."""
    return max(1, min(WAIT_LIMIT, int(timeout) - 1))


def read_document(body: bytes) -> TransactionDocument:
    """The transaction that a server answers with. Raises UpstreamError."""
    try:
        return parse_transaction(orjson.loads(body))
    except (orjson.JSONDecodeError, InvalidDocument) as error:
        raise UpstreamError(f"the answer is no transaction: {error}") from None
