"""CEL rules of the CRDs: what belongs together, said by the API server when someone applies it.

The operator checks the same and more; these are the rules that need one object only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from koukan.config.filters import FILTER_NAMES
from koukan.config.matchers import MATCHER_NAMES
from koukan_operator.model.wording import POLICIES
from koukan_operator.structural import Schema, Union

UNIONS = (
    Union("filter", "PluginFilter"),
    Union("matcher", "PluginMatcher", recursive=True),
    Union("name", "PluginPolicy"),
)
#: variants of match expressions that have no matcher
_CONNECTIVES = {"NotExpression": "not", "AnyExpression": "any", "AllExpression": "all"}
_SINKS = "['rest_output', 'exploder']"


def rule(expression: str, message: str, path: str = "") -> Schema:
    """One entry of x-kubernetes-validations."""
    out = {"rule": expression, "message": message}
    return {**out, "fieldPath": path} if path else out


#: items of lists that would multiply the cost of rules, by the name of the model
LIMITS = {"AnyExpression": 16, "AllExpression": 16}

#: by the name of the model
_RULES: Mapping[str, list[Schema]] = {
    "Database": [
        rule(
            "has(self.urlSecretRef) != (has(self.host) && has(self.name) && has(self.credentialsSecretRef))",
            "give urlSecretRef, or host, name and credentialsSecretRef",
        ),
        rule(
            "!has(self.urlSecretRef) || !(has(self.host) || has(self.name) || has(self.credentialsSecretRef) || "
            "has(self.sslMode) || has(self.caSecretRef))",
            "urlSecretRef says it all; leave host, name, credentialsSecretRef, sslMode and caSecretRef out",
        ),
        rule(
            "!has(self.caSecretRef) || (has(self.sslMode) && self.sslMode in ['verify-ca', 'verify-full'])",
            "caSecretRef needs sslMode verify-ca or verify-full",
            ".caSecretRef",
        ),
    ],
    "RestEndpoint": [
        rule(
            "[has(self.gatewayRef), has(self.routerRef), has(self.url)].filter(kind, kind).size() == 1",
            "give exactly one of gatewayRef, routerRef and url",
        ),
        rule(
            "has(self.gatewayRef) || has(self.sender)",
            "sender is required with routerRef and url: it says who the mail is from",
        ),
        rule(
            "!has(self.gatewayRef) || has(self.tag)",
            "tag is required with gatewayRef: it chooses one of the gateway's smtpOutput.hosts",
        ),
        rule(
            "has(self.url) || !(has(self.caSecretRef) || has(self.verify))",
            "caSecretRef and verify belong to url; Koukan's own Services are verified by their Secret's ca.crt",
        ),
        rule(
            "has(self.url) || !has(self.authorizationSecretRef)",
            "authorizationSecretRef belongs to url",
            ".authorizationSecretRef",
        ),
    ],
    "Listener": [
        rule("has(self.routerRef) != has(self.url)", "give exactly one of routerRef and url"),
        rule("!has(self.auth) || has(self.tls)", "auth needs tls: passwords are taken under TLS only", ".auth"),
        rule(
            "has(self.url) || !(has(self.caSecretRef) || has(self.verify))",
            "caSecretRef and verify belong to url; a KoukanRouter is verified by its Secret's ca.crt",
        ),
    ],
    "SmtpService": [
        rule(
            "(has(self.type) && self.type == 'LoadBalancer') || !(has(self.loadBalancerClass) || "
            "(has(self.loadBalancerSourceRanges) && size(self.loadBalancerSourceRanges) > 0))",
            "loadBalancerClass and loadBalancerSourceRanges need type LoadBalancer; nothing else heeds them",
        )
    ],
    "Tls": [
        rule("has(self.secretName) != has(self.issuerRef)", "give exactly one of secretName and issuerRef"),
        rule(
            "!has(self.dnsNames) || has(self.issuerRef)",
            "dnsNames needs issuerRef; a Secret has its names already",
            ".dnsNames",
        ),
    ],
    "Autoscaling": [
        rule(
            "(has(self.minReplicas) ? self.minReplicas : 2) <= self.maxReplicas",
            "minReplicas (default 2) must not be greater than maxReplicas",
        )
    ],
    "RouterSpec": [rule("!has(self.replicas) || !has(self.autoscaling)", "give replicas or autoscaling, not both")],
    "DkimSign": [
        rule(
            "!has(self.keySecretRef) || (has(self.domain) && has(self.selector))",
            "keySecretRef needs domain and selector",
        )
    ],
    "Router": [
        rule(
            "!has(self.policy) || !has(self.destination)",
            "give policy or destination, not both; a policy has its own destination",
        )
    ],
    "PolicyAction": [rule("!has(self.action) || !has(self.actions)", "give action or actions, not both")],
    "SpfMatcher": [
        rule(
            "has(self.extraDomain) == has(self.extraDomainResult)",
            "extraDomain and extraDomainResult go together",
        )
    ],
    "OutputChainSpec": [
        rule(
            f"size(self.chain) == 0 || self.chain[size(self.chain) - 1].filter in {_SINKS}",
            "the last filter must be rest_output or exploder, or mail goes nowhere",
            ".chain",
        ),
        rule(
            "self.chain.filter(item, item.filter == 'exploder').size() <= 1",
            "one exploder is all that a chain can have; it makes a transaction per recipient, and ends the chain",
            ".chain",
        ),
        rule(
            f"self.chain.filter(item, item.filter in {_SINKS}).size() <= 1",
            "rest_output and exploder end a chain; nothing may follow the first of them",
            ".chain",
        ),
        rule(
            "!has(self.senders) || size(self.senders) == 0 || (has(self.routerRefs) && size(self.routerRefs) > 0)",
            "senders are claimed on routers; name these in routerRefs",
            ".senders",
        ),
    ],
}
RULES: Mapping[str, list[Schema]] = {
    **_RULES,
    "ListenerTls": _RULES["Tls"],
    "GatewaySpec": _RULES["RouterSpec"],
    "ServiceGroup": _RULES["SmtpService"],
}

NAME_RULE = rule(
    "self.metadata.name.matches('^[a-z]([-a-z0-9]{0,48}[a-z0-9])?$')",
    "Services are named after it: at most 50 lower-case letters, digits and hyphens, the first one a letter",
)


def union_rules(union: Union, variants: Mapping[str, Schema]) -> list[Schema]:
    """Which options belong to which variant, and which it must have."""
    out = [_belongs(union, key, variants) for key in _keys(variants) if key != union.key]
    for name, variant in variants.items():
        if name != union.plugin:
            out += [_needs(union, name, key) for key in sorted(set(variant.get("required", ())) - {union.key})]
    if union.key == "matcher":
        kinds = ", ".join(f"has(self.{kind})" for kind in ("matcher", *_CONNECTIVES.values()))
        message = "give exactly one of matcher, not, any and all"
        out.append(rule(f"[{kinds}].filter(kind, kind).size() == 1", message))
    return [each for each in out if each["rule"]]


def _keys(variants: Mapping[str, Schema]) -> list[str]:
    return list(dict.fromkeys(key for variant in variants.values() for key in variant["properties"]))


def _belongs(union: Union, key: str, variants: Mapping[str, Schema]) -> Schema:
    holders = [name for name, variant in variants.items() if key in variant["properties"]]
    if key in _CONNECTIVES.values():
        return rule("", "")
    names = [word for name in holders if name != union.plugin for word in _names(union, name)]
    if holders == [union.plugin]:
        known = [word for name in variants if name != union.plugin for word in _names(union, name)]
        return rule(
            f"!has(self.{key}) || !({_is_in(union, known)})",
            f"{key} are a plug-in's; options of a built-in {_noun(union)} stand beside its name",
            f".{key}",
        )
    return rule(
        f"!has(self.{key}) || {_is_in(union, names)}",
        f"{key} is an option of {', '.join(_shown(names))} only; options of a plug-in stand under options",
        f".{key}",
    )


def _needs(union: Union, name: str, key: str) -> Schema:
    if name in _CONNECTIVES:
        return rule("", "")
    names = _names(union, name)
    return rule(f"!({_is_in(union, names)}) || has(self.{key})", f"{', '.join(_shown(names))} needs {key}")


def _is_in(union: Union, names: list[str]) -> str:
    listed = ", ".join(f"'{name}'" for name in names)
    present = "has(self.matcher) && " if union.key == "matcher" else ""
    return f"{present}self.{union.key} in [{listed}]"


def _names(union: Union, name: str) -> list[str]:
    """The words that choose a variant."""
    if union.key == "name":
        return list(POLICIES.get(name, ()))
    table: Mapping[str, type[Any]] = FILTER_NAMES if union.key == "filter" else MATCHER_NAMES
    return [word for word, model in table.items() if model.__name__ == name]


def _shown(names: list[str]) -> list[str]:
    """Without the module paths that old configurations name matchers by."""
    return [name for name in names if "." not in name] or names


def _noun(union: Union) -> str:
    return {"filter": "filter", "matcher": "matcher", "name": "policy"}[union.key]
