"""Match expressions of policy_action: `{matcher: NAME, …}`, `{not: E}`, `{any: [E…]}`, `{all: [E…]}`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from koukan.config.base import ConfigModel, Network, by_name, tag_of


class MatcherOptions(ConfigModel):
    """Arguments of one matcher."""

    matcher: str
    """Name of the matcher."""


class AddressList(MatcherOptions):
    """An address is in one of the domains and has one of the local parts."""

    matcher: Literal["address_list"]
    which_addr: Literal["mail_from", "header_from", "rcpt_to"] = "mail_from"
    """Which address to look at; rcpt_to needs `mode: PER_RCPT`."""
    domains: list[str] = []
    """Domains; empty means any."""
    prefixes: list[str] = []
    """Local parts; empty means any."""
    delimiter: str | None = None
    """With it, `prefix + delimiter + anything` matches too."""


class InvalidMailFrom(MatcherOptions):
    """The reverse-path is not empty and no valid address by the letter of RFC 5321.

    Such addresses exist: some providers have issued local parts like `a..b` and `a.`, and some domains have underscores.
    Without this rule they are relayed as they are.
    """

    matcher: Literal["invalid_mail_from"]


class InvalidRcptTo(MatcherOptions):
    """The recipient is no valid address by the letter of RFC 5321. Needs `mode: PER_RCPT`.

    `Postmaster` without a domain is valid. What is said of invalid_mail_from is true here too.
    """

    matcher: Literal["invalid_rcpt_to"]


class NetworkAddress(MatcherOptions):
    """The client's address is in a network."""

    matcher: Literal["network_address"]
    cidr: Network
    """The network, host bits zero."""


class NumRcpts(MatcherOptions):
    """The transaction has this many accepted recipients already. Needs `mode: PER_RCPT`."""

    matcher: Literal["num_rcpts"]
    max_rcpts: int = Field(ge=0)
    """Recipients that are allowed."""


class SmtpTls(MatcherOptions):
    """The client used TLS."""

    matcher: Literal["smtp_tls", "tls"]


class SmtpAuth(MatcherOptions):
    """The client is authenticated."""

    matcher: Literal["smtp_auth"]


class HelloMatcher(MatcherOptions):
    """The sample plug-in of the existing Koukan: always matches."""

    matcher: Literal["hello", "hello_matcher", "koukan.hello_matcher"]


class RemoteHostMatcher(MatcherOptions):
    """What remote_host found; both keys given means both must hold."""

    matcher: Literal["koukan.remote_host_filter.RemoteHostFilter", "remote_host"]
    fcrdns: bool | None = None
    """Forward-confirmed reverse DNS."""
    ehlo_alignment: bool | None = None
    """EHLO name equals the confirmed name."""


class MessageValidationMatcher(MatcherOptions):
    """Matches bad messages: what is less valid than the threshold, or has been through too many hops."""

    matcher: Literal["koukan.message_validation_filter.MessageValidationFilter", "message_validation"]
    validity_threshold: Literal["NONE", "BASIC", "MEDIUM", "HIGH"] | None = None
    """Matches when the message is below this level."""
    max_received_headers: int | None = Field(default=None, ge=0)
    """Matches when there are more Received headers than this."""


SpfName = Literal[
    "pass",
    "spf_pass",
    "fail",
    "softfail",
    "neutral",
    "none",
    "temperror",
    "permerror",
    "temp_error",
    "perm_error",
]


class SpfMatcher(MatcherOptions):
    """The verdict of spf_check."""

    matcher: Literal[
        "koukan.spf_check_filter.SpfCheckFilter",
        "koukan.remote_host_filter.SpfCheckFilter",  # the sample config's slip
        "spf_check",
    ]
    mail_from_result: SpfName | None = None
    """Verdict on the envelope sender's domain."""
    extra_domain: str | None = None
    """One of the filter's extra domains."""
    extra_domain_result: SpfName | None = None
    """Verdict on that domain."""

    @model_validator(mode="after")
    def _both_or_none(self) -> SpfMatcher:
        if (self.extra_domain is None) != (self.extra_domain_result is None):
            raise ValueError("extra_domain and extra_domain_result go together")
        return self


class DkimMatcher(MatcherOptions):
    """Some signature has this status and is aligned, or is of one of the domains."""

    matcher: Literal[
        "koukan.dkim_check_filter.DkimCheckFilter",
        "koukan.remote_host_filter.DkimCheckFilter",  # the sample config's slip
        "dkim_check",
    ]
    status: Literal["dkim_pass", "pass", "fail", "temp_err", "unknown_algo"] = "dkim_pass"
    """Status of the signature."""
    alignment: Literal["domain", "same_sld", "other"] = "same_sld"
    """At least this well aligned with the header From."""
    domains: list[str] | None = None
    """Signing domains; takes the place of alignment."""

    @model_validator(mode="after")
    def _one_of(self) -> DkimMatcher:
        if self.domains is not None and "alignment" in self.model_fields_set:
            raise ValueError("give alignment or domains, not both")
        return self


class DnsResolutionMatcher(MatcherOptions):
    """What dns_resolution found; all keys given must hold."""

    matcher: Literal["koukan.mx_resolution.DnsResolutionFilter", "dns_resolution"]
    mail_result: Literal["OK", "NX", "TEMP"] | None = None
    """Domain of the reverse-path."""
    rcpt_result: Literal["OK", "NX", "TEMP"] | None = None
    """Domain of the recipient; needs `mode: PER_RCPT`."""
    resolution_result: Literal["OK", "NX", "TEMP"] | None = None
    """Hosts of the route."""


class PolicyActionMatcher(MatcherOptions):
    """An earlier policy_action has matched."""

    matcher: Literal["koukan.policy_action_filter.PolicyActionFilter", "policy_action"]
    tag: str | None = None
    """A tag that matched."""
    rule: str | None = None
    """A rule that matched."""


class PluginMatcher(MatcherOptions):
    """A matcher of `modules.transaction_matcher`; every other key is its own."""

    open: ClassVar[bool] = True

    @model_validator(mode="before")
    @classmethod
    def _mapping(cls, data: Any) -> Any:
        if isinstance(data, (dict, ConfigModel)):
            return data
        raise ValueError(f"must be {{matcher: NAME}}, {{not: …}}, {{any: [… ]}} or {{all: [… ]}}, got {data!r}")


_BUILT_IN = (
    AddressList,
    InvalidMailFrom,
    InvalidRcptTo,
    NetworkAddress,
    NumRcpts,
    SmtpTls,
    SmtpAuth,
    HelloMatcher,
    RemoteHostMatcher,
    MessageValidationMatcher,
    SpfMatcher,
    DkimMatcher,
    DnsResolutionMatcher,
    PolicyActionMatcher,
)
#: every name a built-in matcher answers to
MATCHER_NAMES: dict[str, type[MatcherOptions]] = by_name("matcher", _BUILT_IN)


class NotExpression(ConfigModel):
    """The opposite; a precondition that is unmet stays unmet."""

    not_: MatchExpression = Field(alias="not")
    """Expression to negate."""


class AnyExpression(ConfigModel):
    """The first result that is not 'no'."""

    any: list[MatchExpression] = Field(min_length=1)
    """Expressions in order."""


class AllExpression(ConfigModel):
    """The first result that is not 'yes', else yes."""

    all: list[MatchExpression] = Field(min_length=1)
    """Expressions in order."""


def _tag(value: Any) -> str:
    if isinstance(value, dict) and "matcher" not in value:
        for key, model in (("not", NotExpression), ("any", AnyExpression), ("all", AllExpression)):
            if key in value:
                return model.__name__
    return tag_of(value, "matcher", MATCHER_NAMES, PluginMatcher)


MatchExpression = Annotated[
    Annotated[AddressList, Tag("AddressList")]
    | Annotated[InvalidMailFrom, Tag("InvalidMailFrom")]
    | Annotated[InvalidRcptTo, Tag("InvalidRcptTo")]
    | Annotated[NetworkAddress, Tag("NetworkAddress")]
    | Annotated[NumRcpts, Tag("NumRcpts")]
    | Annotated[SmtpTls, Tag("SmtpTls")]
    | Annotated[SmtpAuth, Tag("SmtpAuth")]
    | Annotated[HelloMatcher, Tag("HelloMatcher")]
    | Annotated[RemoteHostMatcher, Tag("RemoteHostMatcher")]
    | Annotated[MessageValidationMatcher, Tag("MessageValidationMatcher")]
    | Annotated[SpfMatcher, Tag("SpfMatcher")]
    | Annotated[DkimMatcher, Tag("DkimMatcher")]
    | Annotated[DnsResolutionMatcher, Tag("DnsResolutionMatcher")]
    | Annotated[PolicyActionMatcher, Tag("PolicyActionMatcher")]
    | Annotated[PluginMatcher, Tag("PluginMatcher")]
    | Annotated[NotExpression, Tag("NotExpression")]
    | Annotated[AnyExpression, Tag("AnyExpression")]
    | Annotated[AllExpression, Tag("AllExpression")],
    Discriminator(_tag),
]

for _model in (NotExpression, AnyExpression, AllExpression):
    _model.model_rebuild()


def leaves(
    expression: MatchExpression | None, path: tuple[str | int, ...] = ()
) -> Iterator[tuple[MatcherOptions, tuple[str | int, ...]]]:
    """Every matcher of an expression, with the keys and list positions that lead to it from `path`."""
    if isinstance(expression, NotExpression):
        yield from leaves(expression.not_, (*path, "not"))
    elif isinstance(expression, (AnyExpression, AllExpression)):
        key, operands = ("any", expression.any) if isinstance(expression, AnyExpression) else ("all", expression.all)
        for index, operand in enumerate(operands):
            yield from leaves(operand, (*path, key, index))
    elif expression is not None:
        yield expression, path


def reads_header_from(expression: MatchExpression | None) -> bool:
    """Whether some matcher looks at the From field of the message."""
    return any(isinstance(m, AddressList) and m.which_addr == "header_from" for m, _ in leaves(expression))
