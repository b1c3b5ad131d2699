"""Forms that differ from their configuration stanza by more than spelling."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from koukan.config import filters, gateway, matchers, router
from koukan_operator.model.base import ResourceModel
from koukan_operator.model.forms import FORM, NAMES, SPECIAL, Form
from koukan_operator.model.secrets import SecretFile
from koukan_operator.model.values import CountLimit, DurationLimit, Quantity, enumeration

__all__ = ["FORM", "EndpointOptions"]

Switch = Annotated[str | None, *enumeration({"OutputChain": "output_chain", "None": None})]
Action = Annotated[
    Literal["REJECT", "MATCH", "LOG"], *enumeration({"Reject": "REJECT", "Match": "MATCH", "Log": "LOG"})
]


class _Plugin(Form):
    """A plug-in: what is its own stands under `options`, since the API server keeps no unknown keys."""

    options: dict[str, Any] = {}
    """Options of the plug-in, as it wants them."""

    @classmethod
    def from_config(cls, document: dict[str, Any]) -> dict[str, Any]:
        named = {key: value for key, value in document.items() if key in NAMES}
        options = {key: value for key, value in document.items() if key not in NAMES}
        return {**named, "options": options} if options else named

    @classmethod
    def to_config(cls, document: dict[str, Any]) -> dict[str, Any]:
        options = document.pop("options", {})
        return {**options, **document}


class _DkimKey(Form):
    key: SecretFile = Field(alias="keySecretRef")
    """Private key (PEM), RSA or Ed25519; read again when it changes."""


class _DkimSign(Form):
    key: SecretFile | None = Field(default=None, alias="keySecretRef")
    """Private key (PEM), RSA or Ed25519; read again when it changes."""


class _RestOutput(Form):
    verify: bool = True
    """Verify TLS certificates."""
    ca_file: SecretFile | None = Field(default=None, alias="caSecretRef")
    """Certificate authorities to verify with (PEM); default: the system's, or those of the endpoint."""

    @classmethod
    def from_config(cls, document: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(document.get("verify"), str):
            return document
        return {**{k: v for k, v in document.items() if k != "verify"}, "ca_file": document["verify"]}

    @classmethod
    def to_config(cls, document: dict[str, Any]) -> dict[str, Any]:
        ca_file = document.pop("ca_file", None)
        return document if ca_file is None else {**document, "verify": ca_file}


class _WeightedAction(ResourceModel):
    """One action of several."""

    weight: float = Field(ge=0)
    """How often, in relation to the other weights."""
    action: Action
    """What to do."""


class _PolicyAction(Form):
    action: Action = "MATCH"
    """What to do."""
    actions: list[_WeightedAction] | None = Field(default=None, min_length=1, max_length=16, alias="actions")
    """What to do, chosen by weight; takes the place of action."""

    @model_validator(mode="after")
    def _one_way(self) -> _PolicyAction:
        if self.actions is not None and "action" in self.model_fields_set:
            raise ValueError("give action or actions, not both")
        if self.actions is not None and sum(each.weight for each in self.actions) <= 0:
            raise ValueError("the weights must add up to more than zero")
        return self

    @field_validator("action", mode="before")
    @classmethod
    def _action_or_pairs(cls, action: Any) -> Any:
        # In place of the configuration's, which speaks of its own spelling and of pairs.
        return action

    @classmethod
    def from_config(cls, document: dict[str, Any]) -> dict[str, Any]:
        action = document.get("action")
        if not isinstance(action, (list, tuple)):
            return document
        rest = {key: value for key, value in document.items() if key != "action"}
        return {**rest, "actions": [{"weight": weight, "action": name} for weight, name in action]}

    @classmethod
    def to_config(cls, document: dict[str, Any]) -> dict[str, Any]:
        actions = document.pop("actions", None)
        return document if actions is None else {**document, "action": [[a["weight"], a["action"]] for a in actions]}


class _ReceiveParsing(ResourceModel):
    """The destination gets messages as JSON."""

    max_inline: Quantity = 65_536
    """Bytes of text in the JSON document itself."""


class EndpointOptions(ResourceModel):
    """What a destination receives."""

    receive_parsing: _ReceiveParsing | None = None
    """Messages as JSON, by the filter message_parser; {} is enough."""
    send_filter_output: bool = False
    """What the filters learnt about the message."""


class _Destination(Form):
    options: EndpointOptions = EndpointOptions()
    """Laid over the endpoint's options."""


class _SmtpMeta(ResourceModel):
    """What is said of the SMTP conversation."""

    ehlo_host: str | None = Field(default=None, max_length=255)
    """Name in EHLO."""
    esmtp: bool = False
    """The client said EHLO."""
    tls: bool = False
    """The client used TLS."""
    auth: bool | None = None
    """The client is authenticated."""


class _Tag(Form):
    retry: Switch = None
    """OutputChain: retry as the chain says; None: never."""
    notification: Switch = None
    """OutputChain: bounce as the chain says; None: never."""
    smtp_meta: _SmtpMeta | None = Field(default=None, alias="smtpMeta")
    """As a destination: replaces what is known of the SMTP conversation."""


class _Sender(_Tag):
    tag: list[Annotated[router.TagConfig, FORM]] | None = Field(default=None, alias="tags", max_length=64)
    """Roles. With a list, other tags are refused; without one any tag is accepted."""


class _RetryParams(Form):
    max_attempts: CountLimit = Field(default=30, alias="maxAttempts")
    """Attempts in all, or Unlimited."""
    deadline: DurationLimit = Field(default=86_400, alias="deadline")
    """Age at which trying ends, or Unlimited."""


class _SmtpTls(Form):
    ca_file: SecretFile | None = Field(default=None, alias="caSecretRef")
    """Certificate authorities for Verify (PEM); default: the system's."""


class _SmtpHost(Form):
    name: str = Field(min_length=1, max_length=63)
    """Tag that selects it: the `tag` of a router's restEndpoint."""


class _Not(Form):
    @classmethod
    def to_config(cls, document: dict[str, Any]) -> dict[str, Any]:
        return {"not": document["not_"]}


SPECIAL.update(
    {
        filters.PluginFilter: _Plugin,
        filters.PluginPolicy: _Plugin,
        matchers.PluginMatcher: _Plugin,
        matchers.NotExpression: _Not,
        filters.DkimKey: _DkimKey,
        filters.DkimSign: _DkimSign,
        filters.RestOutput: _RestOutput,
        filters.PolicyAction: _PolicyAction,
        filters.Destination: _Destination,
        router.TagConfig: _Tag,
        router.SenderConfig: _Sender,
        router.RetryParams: _RetryParams,
        gateway.SmtpTlsConfig: _SmtpTls,
        gateway.SmtpHostConfig: _SmtpHost,
    }
)
