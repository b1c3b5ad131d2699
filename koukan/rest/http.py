"""HTTP exchanges of the REST client: pooled connections, redirects, errors as UpstreamError."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import aiohttp.abc
from yarl import URL

from koukan.errors import BodyAborted, ConfigError, UpstreamError

#: seconds to reach a server
CONNECT_TIMEOUT = 10
#: redirects followed for one request: from any replica to the owner, and once more when it has just changed
REDIRECT_LIMIT = 3
#: idle connections are kept for so many seconds; below the 75 s after which aiohttp's server closes them
KEEPALIVE = 60

#: bytes of an answer: documents list blobs and responses, and no honest one comes near this
ANSWER_LIMIT = 16 * 1024 * 1024

#: what a request carries: bytes, or a stream of them
Content = bytes | AsyncIterator[bytes]


class HttpClients:
    """The process's HTTP connections, pooled per way of verifying certificates."""

    def __init__(self) -> None:
        self._sessions: dict[bool | str, aiohttp.ClientSession] = {}
        self._contexts: dict[str, ssl.SSLContext] = {}

    def trust(self, verify: bool | str) -> ssl.SSLContext | bool:
        """What `verify` means to aiohttp. Raises ConfigError for a CA file that is none: ask when the program starts."""
        if isinstance(verify, bool):
            return verify
        if verify not in self._contexts:
            self._contexts[verify] = _trusting(verify)
        return self._contexts[verify]

    def peer(self, url: str, verify: bool | str = True, authorization: str | None = None) -> Peer:
        """The connections to the server of a URL. Raises ConfigError for a CA file that is none."""
        return Peer(self._session(verify), authorization, None if authorization is None else _origin(url))

    def _session(self, verify: bool | str) -> aiohttp.ClientSession:
        found = self._sessions.get(verify)
        if found is None:
            tls = self.trust(verify)
            connector = aiohttp.TCPConnector(limit=0, ssl=tls, keepalive_timeout=KEEPALIVE)
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT)
            found = aiohttp.ClientSession(
                connector=connector,
                timeout=timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"accept-encoding": "identity"},
                # A heartbeat has no body and no type; receivers answer 415 to any but JSON (rest-api.md §8).
                skip_auto_headers=("content-type",),
            )
            self._sessions[verify] = found
        return found

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()


def _trusting(ca_file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror or error
        raise ConfigError(f"{ca_file}: cannot be used as a file of certificate authorities (PEM): {reason}") from None


@dataclass(frozen=True, slots=True)
class Peer:
    """A pool of connections, and what is said to one server only: its redirects and URLs may lead to others."""

    session: aiohttp.ClientSession
    #: value of the Authorization header (RFC 9110 §11.6.2)
    authorization: str | None = None
    #: scheme, host and port that may see it
    origin: str | None = None

    def headers(self, url: str, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Those of a request to `url`."""
        if self.authorization is None or _origin(url) != self.origin:
            return headers
        return {**headers, "authorization": self.authorization}


def _origin(url: str) -> str | None:
    try:
        return str(URL(url).origin())
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Answer:
    """The response to one request. As text: its status and the beginning of its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    #: where redirects led to
    moved_to: str | None = None

    def __str__(self) -> str:
        text = " ".join(self.body[:120].decode("utf-8", "replace").split())
        return f"{self.status}: {text}" if text else str(self.status)


async def exchange(
    http: Peer,
    method: str,
    url: str,
    content: Content | None,
    headers: Mapping[str, str],
    replay: Callable[[], Content] | None = None,
) -> Answer:
    """One request and its response, redirects followed.

    A streamed `content` that is redirected is sent again from `replay`. Raises UpstreamError when there is no answer, and
    BodyAborted when the content broke off.
    """
    moved_to: str | None = None
    try:
        for _ in range(REDIRECT_LIMIT + 1):
            data = SentOnce(content) if method == "PUT" and content is not None else content
            sent = http.headers(url, headers)
            async with http.session.request(
                method, URL(url, encoded=True), data=data, headers=sent, allow_redirects=False
            ) as response:
                if response.status not in (307, 308) or "location" not in response.headers:
                    return Answer(response.status, response.headers, await _read(response), moved_to)
                url = moved_to = joined(url, response.headers["location"])
            if content is not None and not isinstance(content, bytes):
                if replay is None:
                    raise UpstreamError(f"redirected to {shown(url)} in the middle of an upload")
                content = replay()
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
        raise UpstreamError(f"{shown(url)}: is no URL of HTTP, such as http://router:8000/path") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        if isinstance(error.__cause__, BodyAborted):
            raise error.__cause__ from None
        # aiohttp's error refers to itself by its traceback, and to us: what we hold would stay until the next collection.
        content = replay = data = None
        raise UpstreamError(f"{shown(url)}: {error or type(error).__name__}") from None
    raise UpstreamError(f"{shown(url)}: more than {REDIRECT_LIMIT} redirects")


class SentOnce(aiohttp.payload.Payload):
    """A body that cannot begin a second time without being asked.

    aiohttp repeats a PUT by itself when a connection of its pool turns out to be closed. The server may have had the first
    one; and of a stream that was begun aiohttp has sent what was left: an empty body, complete, in the message's place.
    """

    def __init__(self, content: Content) -> None:
        super().__init__(None)
        self._content = content
        self._size = len(content) if isinstance(content, bytes) else None

    _begun = False

    async def write_with_length(self, writer: aiohttp.abc.AbstractStreamWriter, content_length: int | None) -> None:
        if self._begun:
            raise UpstreamError("the connection was lost within an upload")
        self._begun = True
        content, self._content = self._content, b""
        if isinstance(content, bytes):
            await writer.write(content)
            return
        async for chunk in content:
            await writer.write(chunk)

    async def write(self, writer: aiohttp.abc.AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("a body is bytes")


async def _read(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > ANSWER_LIMIT:
            response.close()
            raise UpstreamError(f"{shown(str(response.url))}: the answer is larger than {ANSWER_LIMIT} bytes")
    return bytes(content)


def joined(base: str, reference: str) -> str:
    """`reference` as seen from `base`. Raises UpstreamError for what is no URL of HTTP."""
    try:
        url = URL(base).join(URL(reference, encoded=True))
    except ValueError as error:
        raise UpstreamError(f"{shown(base)} answered with {shown(reference)!r}, which is no URL: {error}") from None
    if not reference or url.scheme not in ("http", "https"):
        raise UpstreamError(f"{shown(base)} answered with {shown(reference)!r}, which is no URL of HTTP")
    return str(url)


def shown(url: str) -> str:
    """A URL as it may stand in a log: without user, password, query and fragment, which may be secrets, and bounded."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "what is no URL"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))[:200]
