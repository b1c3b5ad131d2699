"""Options of the built-in filters: one model each, `filter: NAME` says which."""

from __future__ import annotations

from math import inf
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import AliasChoices, BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from koukan.config.base import ConfigModel, DomainName, HostEntry, Network, PieceSize, Seconds, by_name, tag_of
from koukan.config.matchers import MatchExpression
from koukan.config.routing import AddressListPolicy as AddressListPolicy
from koukan.config.routing import DestDomainPolicy as DestDomainPolicy
from koukan.config.routing import Destination as Destination
from koukan.config.routing import HelloPolicy as HelloPolicy
from koukan.config.routing import PluginPolicy as PluginPolicy
from koukan.config.routing import Policy as Policy
from koukan.config.routing import present


class FilterOptions(ConfigModel):
    """One item of a chain."""

    filter: str
    """Name of the filter."""


class RemoteHost(FilterOptions):
    """Looks up the client's name: PTR, then A and AAAA to confirm it."""

    filter: Literal["remote_host"]


class MessageBuilder(FilterOptions):
    """Renders a message_builder spec to a message (RFC 5322, MIME).

    Filters before it that look into messages let a spec pass untouched: message_validation and dkim_check have no result for
    it, and policies on those are not met.
    """

    filter: Literal["message_builder"]


class MessageParser(FilterOptions):
    """Parses the message to JSON for destinations whose options have receive_parsing."""

    filter: Literal["message_parser"]


class MessageValidation(FilterOptions):
    """Says how valid the message is: NONE, BASIC, MEDIUM or HIGH. Policies decide what follows."""

    filter: Literal["message_validation"]


class ReceivedHeader(FilterOptions):
    """Prepends a Received header (RFC 5321 §4.4)."""

    filter: Literal["received_header"]
    received_hostname: str | None = None
    """Our name in the `by` clause; without it the clause is left out."""


class DkimKey(ConfigModel):
    """A key for one signing domain."""

    domain: DomainName
    """Signing domain (d=); serves mail whose From is in it or, with subdomains, below it."""
    selector: DomainName
    """Selector (s=)."""
    key: str
    """PEM file of the private key, RSA or Ed25519; read again when it changes."""


class DkimSign(FilterOptions):
    """Prepends a DKIM-Signature (RFC 6376, RFC 8463). Without a key the filter is off.

    Nothing leaves unsigned in silence: a message without From, or whose From none of `keys` is for, is refused. The one
    `key` of old configurations signs mail of every domain, with a log line where its own is not that of From.
    """

    filter: Literal["dkim_sign", "dkim"]
    key: str | None = None
    """PEM file of the private key, RSA or Ed25519; read again when it changes."""
    domain: DomainName | None = None
    """Signing domain (d=)."""
    selector: DomainName | None = None
    """Selector (s=)."""
    keys: list[DkimKey] = []
    """Several keys, chosen by the domain of the From header; all keys of the best matching domain sign."""
    when_unsignable: Literal["reject", "pass"] | None = None
    """What becomes of a message that cannot be signed in alignment with its From: `reject` answers 550 5.7.1, `pass` sends it
    as it is with a log line. Default: `reject`, but `pass` for bounces (null reverse-path), which tell of other mail; and the
    one `key` signs what is not aligned. When `reject` is given it holds for those, too."""

    @model_validator(mode="after")
    def _complete(self) -> DkimSign:
        if self.key is not None and (self.domain is None or self.selector is None):
            raise ValueError("key needs domain and selector")
        return self

    @property
    def all_keys(self) -> list[DkimKey]:
        single = (
            [DkimKey(domain=self.domain or "", selector=self.selector or "", key=self.key)]
            if self.key is not None
            else []
        )
        return single + self.keys


class DkimCheck(FilterOptions):
    """Verifies DKIM signatures (RFC 6376)."""

    filter: Literal["dkim_check"]
    ignored_keys: ClassVar[frozenset[str]] = frozenset({"extra_domains"})


class SpfCheck(FilterOptions):
    """Evaluates SPF (RFC 7208) for the client's address."""

    filter: Literal["spf_check"]
    extra_domains: list[str] = Field(default=[], validation_alias=AliasChoices("extra_domains", "domains"))
    """Domains to evaluate besides that of the envelope sender."""
    received_hostname: str | None = None
    """Our name in Received-SPF and in explanations; without it the clause is left out."""


class AuthenticationResults(FilterOptions):
    """Prepends Authentication-Results (RFC 8601) for what was checked; removes forged ones of our authserv-id."""

    filter: Literal["authentication_results"]
    authserv_id: str = Field(min_length=1, max_length=255, pattern=r"^\S+$")
    """Our name in the header; existing headers that carry it are removed."""


class DnsResolution(FilterOptions):
    """Replaces host names of the route by addresses: MX, A, AAAA, or static hosts.

    It resolves the routes of the routers before it, and says whether the domains of the envelope take mail: before all routers
    too, or before an exploder, for policies on `mail_result` and `rcpt_result`. Of several hosts, those that do not resolve are
    left out. Where none of the hosts that a destination or `static_hosts` names resolves, the result is TEMP, the log names
    them, and the answer is 451 4.3.5: that says nothing about the recipient.
    """

    filter: Literal["dns_resolution"]
    static_hosts: list[HostEntry] | None = None
    """Take these instead of asking DNS for the domain."""
    suffix: str | None = None
    """Resolve names that end so; "" means every name."""
    literal: str | None = None
    """Resolve exactly this name."""
    allow_private: bool = False
    """Accept loopback, private and link-local addresses from DNS."""
    own_hosts: list[str] = []
    """Our own names and addresses: mail exchangers that are us, and those that are no better, are left out."""
    ignored_keys: ClassVar[frozenset[str]] = frozenset({"overwrite"})


class Router(FilterOptions):
    """Decides where recipients go. With neither policy nor destination it rejects them.

    The first router of a chain that takes a recipient has it; end with one that takes, or rejects, all that are left. Before
    `rest_output` a transaction goes one way: a recipient that would go another way than the first is answered 452, on which
    clients send it in a transaction of its own. Behind an exploder every recipient has a transaction of its own anyway.
    """

    filter: Literal["router"]
    policy: Policy | None = None
    """Which recipients this router takes."""
    destination: Annotated[Destination | None, BeforeValidator(present)] = None
    """Where every recipient goes that no earlier router took."""
    dry_run: bool = False
    """Mark recipients as routed and do nothing else."""

    @model_validator(mode="after")
    def _one_of(self) -> Router:
        if self.policy is not None and self.destination is not None:
            raise ValueError("give policy or destination, not both; a policy has its own destination")
        return self


Action = Literal["REJECT", "MATCH", "LOG"]
WeightedAction = tuple[Annotated[float, Field(ge=0)], Action]


def _is_weighted(pair: Any) -> bool:
    if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        return False
    weight, action = pair
    return isinstance(weight, (int, float)) and 0 <= weight < inf and action in get_args(Action)


class PolicyAction(FilterOptions):
    """Acts when an expression matches: rejects, or records the match for later filters.

    A rule acts at the earliest moment at which its inputs are known: with the reverse-path, a recipient, or the body. Rules of
    one tag are asked in their order; while one waits for its input, the later ones wait with it. REJECT answers whatever is
    outstanding and all that follows with `code` and `message`; MATCH records tag and rule; LOG records the rule only, so that
    the other rules of the tag go on. With `mode: PER_RCPT` the rule looks at each recipient when it arrives, and REJECT
    answers that one.
    """

    filter: Literal["policy_action"]
    tag: str
    """Group of rules; once one of them has matched, the others are skipped."""
    name: str | None = None
    """Name of this rule; the tag when absent."""
    match: MatchExpression | None = None
    """When to act; absent: always."""
    mode: Literal["PER_RCPT"] | None = None
    """Evaluate for each recipient alone."""
    action: Action | list[WeightedAction] = "MATCH"
    """What to do, or a list of [weight, action] to choose from."""
    code: int = Field(default=550, ge=400, le=599)
    """Reply code of REJECT."""
    message: str | None = None
    """Reply text of REJECT."""

    @field_validator("action", mode="before")
    @classmethod
    def _action_or_pairs(cls, action: Any) -> Any:
        if all(_is_weighted(pair) for pair in (action if isinstance(action, list) else [(1, action)])):
            return action
        raise ValueError(f"must be REJECT, MATCH or LOG, or a list like [[9, LOG], [1, REJECT]], got {action!r}")

    @field_validator("action", mode="after")
    @classmethod
    def _some_weight(cls, action: Any) -> Any:
        if isinstance(action, list) and sum(weight for weight, _ in action) <= 0:
            raise ValueError("the weights must add up to more than zero")
        return action

    @property
    def rule(self) -> str:
        return self.name if self.name is not None else self.tag


class RelayAuth(FilterOptions):
    """Fails a transaction that has neither SMTP AUTH nor an allow-listed client address.

    The answer to MAIL is 530, which asks the client to authenticate, or 550 where that would not help.
    """

    filter: Literal["relay_auth"]
    smtp_auth: bool = True
    """Accept authenticated clients."""
    allowlist: list[Network] = []
    """Networks whose clients need no authentication."""


class AddRoute(FilterOptions):
    """Sends a copy through the chain of another sender. Without sender the filter is off.

    The copy goes first and is waited for: what the other chain refuses is refused here, with the same class; a recipient that
    is refused here afterwards stays a recipient of the copy when others are accepted. With `store_and_forward` the copy is
    queued instead, for the recipients that are accepted when the body is there. A retry does not send it again: a copy has the
    same id in every attempt, and its delivery is noted in the database. A crash just then may send it twice, and so does a
    retry later than `storage.gc_ttl`.
    """

    filter: Literal["add_route"]
    sender: str | None = None
    """Sender whose chain takes the copy."""
    tag: str | None = None
    """Tag of that sender."""
    store_and_forward: bool = False
    """Queue the copy instead of waiting for its delivery."""
    ignored_keys: ClassVar[frozenset[str]] = frozenset({"output_chain"})


class Exploder(FilterOptions):
    """Sink of interactive chains: one transaction per recipient, answered together."""

    filter: Literal["exploder"]
    msa: bool | None = None
    """Accept and queue what fails temporarily, as a submission server does; default: the chain's own `msa`."""
    rcpt_timeout: Seconds | None = None
    """How long RCPT waits for the next hop; default 5 with msa, else 30."""
    data_timeout: Seconds | None = None
    """How long the end of data waits for the next hop; default 30 with msa, else 300."""
    output_chain: str | None = None
    """Chain of the per-recipient transactions, where the sender's upstream_sender and upstream_tag name none."""


class RestOutput(FilterOptions):
    """Sink: sends the transaction to the REST endpoint that was routed."""

    filter: Literal["rest_output"]
    verify: bool | str = True
    """Verify TLS certificates: true, false, or a CA file."""
    rcpt_timeout: Seconds = 30
    """How long to wait for the answers to the envelope."""
    data_timeout: Seconds = 300
    """How long to wait for the answer to the data."""
    chunk_size: PieceSize | None = None
    """Upload bodies in ranged chunks of this size; absent: one request."""
    static_endpoint: str | None = None
    """Send here (a rest_endpoint's name or a URL) instead of where the transaction was routed."""
    static_remote_host: HostEntry | None = None
    """The host for the gateway to connect to, instead of the routed ones."""


class Hello(FilterOptions):
    """The sample plug-in of the existing Koukan: does nothing."""

    filter: Literal["hello", "hello_filter"]


class PluginFilter(FilterOptions):
    """A filter of `modules.sync_filter`; every other key is its own."""

    open: ClassVar[bool] = True


BUILT_IN_FILTERS: tuple[type[FilterOptions], ...] = (
    RemoteHost,
    MessageBuilder,
    MessageParser,
    MessageValidation,
    ReceivedHeader,
    DkimSign,
    DkimCheck,
    SpfCheck,
    AuthenticationResults,
    DnsResolution,
    Router,
    PolicyAction,
    RelayAuth,
    AddRoute,
    Exploder,
    RestOutput,
    Hello,
)
#: every name a built-in filter answers to
FILTER_NAMES: dict[str, type[FilterOptions]] = by_name("filter", BUILT_IN_FILTERS)
#: filters that end a chain
SINKS = (Exploder, RestOutput)


FilterItem = Annotated[
    Annotated[RemoteHost, Tag("RemoteHost")]
    | Annotated[MessageBuilder, Tag("MessageBuilder")]
    | Annotated[MessageParser, Tag("MessageParser")]
    | Annotated[MessageValidation, Tag("MessageValidation")]
    | Annotated[ReceivedHeader, Tag("ReceivedHeader")]
    | Annotated[DkimSign, Tag("DkimSign")]
    | Annotated[DkimCheck, Tag("DkimCheck")]
    | Annotated[SpfCheck, Tag("SpfCheck")]
    | Annotated[AuthenticationResults, Tag("AuthenticationResults")]
    | Annotated[DnsResolution, Tag("DnsResolution")]
    | Annotated[Router, Tag("Router")]
    | Annotated[PolicyAction, Tag("PolicyAction")]
    | Annotated[RelayAuth, Tag("RelayAuth")]
    | Annotated[AddRoute, Tag("AddRoute")]
    | Annotated[Exploder, Tag("Exploder")]
    | Annotated[RestOutput, Tag("RestOutput")]
    | Annotated[Hello, Tag("Hello")]
    | Annotated[PluginFilter, Tag("PluginFilter")],
    Discriminator(lambda value: tag_of(value, "filter", FILTER_NAMES, PluginFilter)),
]
