"""The reference page of router.yaml and gateway.yaml, made from their types: every stanza, in the order of the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from inspect import cleandoc
from typing import Any, get_args, get_origin

from koukan.config.base import ConfigModel
from koukan.config.filters import FilterItem
from koukan.config.gateway import GatewayConfig
from koukan.config.reference_tables import Tables, anchor
from koukan.config.router import RouterConfig

_HEAD = """\
# Configuration files

<!-- made from koukan/config by `make generate`; do not edit -->

A router reads [router.yaml](#routeryaml), a gateway [gateway.yaml](#gatewayyaml). `koukan check FILE` says whether one works,
with file and line of what does not. A stanza is headed by its path: `sender[]` is an item of the list `sender`, `NAME` a name
of your choice. Keys of an optional stanza have their defaults when the stanza is absent.

In every text `${NAME}` stands for a variable of the environment, `$${` for `${`; a variable that does not exist is an error.
`${NAME|host}` puts an IPv6 address into brackets, `${NAME|dashed}` makes an address a DNS label, `${NAME|any}` is the wildcard
address of its family, `${NAME|quote}` is made fit for a URL. Unknown keys are warned of, with what was probably
meant. Limits without a key are [constants](../limits.md).
"""

_ROUTER = """\
rest_listener:
  addr: [127.0.0.1, 8000]
  session_uri: http://127.0.0.1:8000
storage:
  url: sqlite:///koukan.db
  gc_interval: 300
global:
  mailer_daemon_mailbox: mailer-daemon@example.com
sender:
  - name: submission            # applications POST to /senders/submission/transactions
    output_chain: submission
    retry: output_chain
    notification: output_chain
    tag:
      - {name: smtp, output_chain: submission_smtp, upstream_tag: smtp_recipient, retry: null, notification: null}
      - {name: smtp_recipient, retry: null, notification: null}
      - {name: bounces, notification: null}
rest_endpoint:
  - name: gateway
    endpoint: http://127.0.0.1:8001/senders/router/transactions
    sender: router
    tag: outbound               # smtp_output.hosts.outbound of the gateway
endpoint:
  - name: submission_smtp       # SMTP clients bring several recipients: each goes through the chain below
    msa: true
    chain:
      - filter: exploder
  - name: submission
    output_handler:
      notification: {sender: submission, tag: bounces}
    chain:
      - filter: message_builder
      - filter: router
        destination: {endpoint: gateway}
      - filter: dns_resolution
      - filter: rest_output
"""

_GATEWAY = """\
rest_listener:
  addr: [127.0.0.1, 8001]
  session_uri: http://127.0.0.1:8001
smtp_output:
  hosts:
    outbound: {ehlo_host: mail.example.com}
rest_output:
  - name: router
    endpoint: http://127.0.0.1:8000/senders/submission/transactions
smtp_listener:
  services:
    - addr: [127.0.0.1, 1587]
      endpoint: router
      sender: submission
      tag: smtp
      limits: {max_message_size: 20000000}
"""

#: what each file is, and a complete small one
_FILES: tuple[tuple[type[ConfigModel], str, str], ...] = (
    (
        RouterConfig,
        "A router that delivers what applications and SMTP clients send, with retries and bounces:",
        _ROUTER,
    ),
    (GatewayConfig, "The gateway beside it, which takes mail by SMTP and delivers it:", _GATEWAY),
)


@dataclass(frozen=True)
class _Stanza:
    """A model at its place in a file; the file itself has no path."""

    path: str
    model: type[ConfigModel]


def configuration_page() -> str:
    """The page, Markdown."""
    anchors = _Anchors()
    parts = [_HEAD]
    for model, words, example in _FILES:
        root, *stanzas = _stanzas("", model)
        title = cleandoc(model.__doc__ or "").rstrip(".")
        anchors.of(title)
        links = {stanza.model: f"[`{stanza.path}`](#{anchors.of(stanza.path)})" for stanza in stanzas}
        tables = Tables(_Words(links))
        parts += [f"## {title}\n", words + "\n", f"```yaml\n{example}```\n", *tables.of(root.model)]
        parts += [line for stanza in stanzas for line in _section(stanza, tables)]
    return "\n".join(parts)


#: what a path has after the name of a key that holds several stanzas
_SUFFIXES: dict[Any, str] = {list: "[]", dict: ".NAME"}


def _stanzas(path: str, model: type[ConfigModel]) -> Iterator[_Stanza]:
    """The model and what it contains, in the order of the file."""
    yield _Stanza(path, model)
    for name, info in model.model_fields.items():
        for suffix, inner in _models(info.annotation, ""):
            yield from _stanzas(f"{path}.{info.alias or name}{suffix}".lstrip("."), inner)


def _models(annotation: Any, suffix: str) -> Iterator[tuple[str, type[ConfigModel]]]:
    """Configuration models within a type, and how a path says that they are items or values."""
    if isinstance(annotation, type) and issubclass(annotation, ConfigModel):
        yield suffix, annotation
    elif annotation != FilterItem:  # filters have a page of their own
        inner = _SUFFIXES.get(get_origin(annotation), "")
        for argument in get_args(annotation):
            yield from _models(argument, suffix + inner)


def _section(stanza: _Stanza, tables: Tables) -> list[str]:
    parts = [f"### `{stanza.path}`\n", cleandoc(stanza.model.__doc__ or "") + "\n", *tables.of(stanza.model)]
    if stanza.model.ignored_keys:
        keys = ", ".join(f"`{key}`" for key in sorted(stanza.model.ignored_keys))
        parts.append(f"Keys that files of the existing Koukan may have here, without effect: {keys}.\n")
    return parts


@dataclass(frozen=True)
class _Words:
    """What this page calls the models that have a section."""

    links: dict[Any, str]

    def __call__(self, annotation: Any) -> str | None:
        if annotation == FilterItem:
            return "[filter](filters.md#filters)"
        return self.links.get(annotation)


class _Anchors:
    """Headings of both files share one page: the second of a name has a number in its link."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def of(self, heading: str) -> str:
        """What a link to the next heading of this name ends in."""
        name = anchor(heading)
        number = self._seen[name] = self._seen.get(name, -1) + 1
        return f"{name}-{number}" if number else name
