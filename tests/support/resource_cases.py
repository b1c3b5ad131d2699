"""Resources that must be accepted or refused, with what is said, by the API server (CRDs) and the operator (models) alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.support.mail_resources import Document, resource

SECRET = {"name": "s", "key": "k"}
SINK = {"filter": "rest_output"}


@dataclass(frozen=True, slots=True)
class Case:
    """A resource; `api` and `operator` are parts of the refusals, None where it is accepted."""

    name: str
    document: Document
    api: str | None = None
    operator: str | None = None


def chain(*items: Document, **spec: Any) -> Document:
    return resource("OutputChain", "case", {"chain": [*items], **spec})


def before_sink(item: Document) -> Document:
    return chain(item, SINK)


def matching(expression: Document) -> Document:
    return before_sink({"filter": "policy_action", "tag": "t", "match": expression})


def router(**spec: Any) -> Document:
    return resource("KoukanRouter", "case", {"database": {"urlSecretRef": SECRET}, **spec})


def database(**parts: Any) -> Document:
    return resource("KoukanRouter", "case", {"database": parts})


def endpoint(**parts: Any) -> Document:
    return router(restEndpoints=[{"name": "e", **parts}])


def gateway(**spec: Any) -> Document:
    return resource("KoukanGateway", "case", spec)


def listener(**parts: Any) -> Document:
    return gateway(listeners=[{"name": "mx", "port": 25, "sender": "s", **parts}])


def refused(name: str, document: Document, message: str, operator: str | None = None) -> Case:
    """Refused by both; `operator` where its words differ."""
    return Case(name, document, message, operator or message)


REF = {"routerRef": {"name": "mail"}}
HOST_FORM = {"host": "db", "name": "koukan", "credentialsSecretRef": {"name": "c"}}

CHAINS = [
    Case("a sink alone", chain(SINK)),
    Case("an exploder alone", chain({"filter": "exploder"})),
    refused("no filter", chain(), "should have at least 1 items", "spec.chain: list should have at least 1 item"),
    refused("no sink", chain({"filter": "message_builder"}), "the last filter must be rest_output or exploder", "-"),
    refused("a filter after the sink", chain(SINK, SINK), "nothing may follow the first of them", "-"),
    refused("two exploders", chain({"filter": "exploder"}, {"filter": "exploder"}), "one exploder is all", "-"),
    refused(
        "an option of another filter",
        before_sink({"filter": "message_builder", "domain": "example.com"}),
        "domain is an option of dkim_sign, dkim only",
        "spec.chain[0].domain: unknown key",
    ),
    refused(
        "an option that is missing",
        before_sink({"filter": "authentication_results"}),
        "authentication_results needs authservId",
        "spec.chain[0].authservId: is required",
    ),
    refused("no name of a filter", before_sink({"domain": "x"}), "spec.chain[0].filter", "spec.chain[0].filter"),
    refused(
        "an unknown key",
        before_sink({"filter": "received_header", "recievedHostname": "x"}),
        'unknown field "spec.chain[0].recievedHostname"',
        "spec.chain[0].recievedHostname: unknown key; did you mean 'receivedHostname'?",
    ),
    Case(
        "a key with domain and selector",
        before_sink({"filter": "dkim_sign", "domain": "d", "selector": "s", "keySecretRef": SECRET}),
    ),
    refused(
        "a key without selector",
        before_sink({"filter": "dkim_sign", "domain": "d", "keySecretRef": SECRET}),
        "keySecretRef needs domain and selector",
        "key needs domain and selector",
    ),
    refused(
        "a name that no Secret has",
        before_sink({"filter": "dkim_sign", "domain": "d", "selector": "s", "keySecretRef": {"name": "S", "key": "k"}}),
        "should match",
        "spec.chain[0].keySecretRef.name: string should match pattern",
    ),
    Case("a plug-in", before_sink({"filter": "greylist", "options": {"Any_Thing": [1]}})),
    refused(
        "options of a built-in filter",
        before_sink({"filter": "spf_check", "options": {"x": 1}}),
        "options are a plug-in's",
        "spec.chain[0].options: unknown key",
    ),
    Case(
        "a policy",
        before_sink({"filter": "router", "policy": {"name": "dest_domain", "destination": {"endpoint": "e"}}}),
    ),
    Case("a destination that is empty", before_sink({"filter": "router", "destination": {}, "dryRun": True})),
    Case("a policy of a plug-in", before_sink({"filter": "router", "policy": {"name": "own", "options": {"x": 1}}})),
    refused(
        "a policy and a destination",
        before_sink({"filter": "router", "policy": {"name": "address_list"}, "destination": {"endpoint": "e"}}),
        "give policy or destination, not both",
    ),
    refused(
        "a policy without its destination",
        before_sink({"filter": "router", "policy": {"name": "dest_domain"}}),
        "dest_domain needs destination",
        "spec.chain[0].policy.destination: is required",
    ),
    refused(
        "an option of another policy",
        before_sink({"filter": "router", "policy": {"name": "address_list", "destPort": 26}}),
        "destPort is an option of dest_domain only",
        "spec.chain[0].policy.destPort: unknown key",
    ),
    Case(
        "actions by weight",
        before_sink({"filter": "policy_action", "tag": "t", "actions": [{"weight": 1, "action": "Reject"}]}),
    ),
    refused(
        "an action and actions",
        before_sink(
            {"filter": "policy_action", "tag": "t", "action": "Log", "actions": [{"weight": 1, "action": "Reject"}]}
        ),
        "give action or actions, not both",
    ),
    refused(
        "an action in the spelling of router.yaml",
        before_sink({"filter": "policy_action", "tag": "t", "action": "REJECT"}),
        'supported values: "Reject", "Match", "Log"',
        "must be one of Reject, Match, Log, not 'REJECT'",
    ),
    refused(
        "a reply code that is no refusal",
        before_sink({"filter": "policy_action", "tag": "t", "code": 250}),
        "should be greater than or equal to 400",
        "spec.chain[0].code: input should be greater than or equal to 400",
    ),
    Case("a match", matching({"matcher": "network_address", "cidr": "192.0.2.0/24"})),
    Case(
        "matches within matches",
        matching({"any": [{"not": {"matcher": "smtp_tls"}}, {"all": [{"matcher": "smtp_auth"}]}]}),
    ),
    Case("a matcher of a plug-in", matching({"matcher": "own", "options": {"x": 1}})),
    refused(
        "an option of another matcher",
        matching({"matcher": "smtp_tls", "cidr": "192.0.2.0/24"}),
        "cidr is an option of network_address only",
        "spec.chain[0].match.cidr: unknown key",
    ),
    refused(
        "an option that a matcher needs, below any",
        matching({"any": [{"matcher": "num_rcpts"}]}),
        "num_rcpts needs maxRcpts",
        "spec.chain[0].match.any[0].maxRcpts: is required",
    ),
    refused(
        "two kinds of match",
        matching({"matcher": "smtp_tls", "not": {"matcher": "smtp_auth"}}),
        "give exactly one of matcher, not, any and all",
        "spec.chain[0].match.not: unknown key here",
    ),
    refused("a match of no kind", matching({}), "give exactly one of matcher, not, any and all", "spec.chain[0].match"),
    refused(
        "half of an SPF match",
        matching({"matcher": "spf_check", "extraDomain": "example.com"}),
        "extraDomain and extraDomainResult go together",
        "extra_domain and extra_domain_result go together",
    ),
    Case("no limit", chain(SINK, outputHandler={"retryParams": {"maxAttempts": "Unlimited", "deadline": "Unlimited"}})),
    Case("numbers as strings", chain(SINK, outputHandler={"retryParams": {"maxAttempts": 7, "deadline": "1h30m"}})),
    refused(
        "a duration without a unit",
        chain(SINK, outputHandler={"downstreamTimeout": "60"}),
        "should match",
        "spec.outputHandler.downstreamTimeout: must be a duration such as 30s",
    ),
    refused(
        "a number for a duration",
        chain(SINK, outputHandler={"downstreamTimeout": 60}),
        "must be of type string",
        "spec.outputHandler.downstreamTimeout: must be a duration with a unit",
    ),
    refused(
        "no attempt at all",
        chain(SINK, outputHandler={"retryParams": {"maxAttempts": 0}}),
        "should be greater than or equal to 1",
        "spec.outputHandler.retryParams.maxAttempts: input should be greater than or equal to 1",
    ),
    Case("a claim", chain(SINK, routerRefs=[{"name": "mail"}], senders=[{"name": "s", "retry": "None"}])),
    refused(
        "a claim on no router",
        chain(SINK, senders=[{"name": "s"}]),
        "senders are claimed on routers; name these in routerRefs",
    ),
    refused(
        "a switch of router.yaml",
        chain(SINK, routerRefs=[{"name": "mail"}], senders=[{"name": "s", "retry": "output_chain"}]),
        'supported values: "OutputChain", "None"',
        "must be one of OutputChain, None, not 'output_chain'",
    ),
    refused(
        "the same claim twice",
        chain(SINK, routerRefs=[{"name": "mail"}], senders=[{"name": "s"}, {"name": "s"}]),
        "Duplicate value",
        "-",
    ),
]

ROUTERS = [
    Case("a database", router()),
    Case("a database in parts", database(**HOST_FORM)),
    Case("a database over TLS", database(**HOST_FORM, sslMode="verify-full", caSecretRef=SECRET)),
    Case("a database at an IPv6 address", database(**HOST_FORM | {"host": "fd00::1"})),
    refused(
        "a database's name with more than a name",
        database(**HOST_FORM | {"name": "koukan?host=other"}),
        "spec.database.name",
        "spec.database.name: string should match pattern",
    ),
    refused("no database", database(), "give urlSecretRef, or host, name and credentialsSecretRef"),
    refused("half a database", database(host="db"), "give urlSecretRef, or host, name and credentialsSecretRef"),
    refused("a database twice", database(urlSecretRef=SECRET, host="db"), "urlSecretRef says it all"),
    refused("a CA without verifying", database(**HOST_FORM, caSecretRef=SECRET), "caSecretRef needs sslMode verify-ca"),
    Case("a gateway", endpoint(gatewayRef={"name": "edge"}, tag="out")),
    Case("a router", endpoint(routerRef={"name": "mail"}, sender="s")),
    Case("an application", endpoint(url="https://app.example.com/mail", sender="s", caSecretRef=SECRET)),
    refused("no destination", endpoint(sender="s"), "give exactly one of gatewayRef, routerRef and url"),
    refused(
        "two destinations",
        endpoint(gatewayRef={"name": "edge"}, tag="t", url="http://x", sender="s"),
        "give exactly one of gatewayRef, routerRef and url",
    ),
    refused(
        "a router without sender", endpoint(routerRef={"name": "mail"}), "sender is required with routerRef and url"
    ),
    refused("an application without sender", endpoint(url="http://x"), "sender is required with routerRef and url"),
    refused("a gateway without tag", endpoint(gatewayRef={"name": "edge"}), "tag is required with gatewayRef"),
    refused(
        "a CA for a gateway",
        endpoint(gatewayRef={"name": "edge"}, tag="t", caSecretRef=SECRET),
        "caSecretRef and verify belong to url",
    ),
    refused("a URL of another kind", endpoint(url="ftp://x", sender="s"), "should match", "should match pattern"),
    Case("autoscaling", router(autoscaling={"maxReplicas": 4})),
    refused(
        "replicas and autoscaling",
        router(replicas=2, autoscaling={"maxReplicas": 4}),
        "give replicas or autoscaling, not both",
    ),
    refused("too little to scale", router(autoscaling={"maxReplicas": 1}), "must not be greater than maxReplicas"),
    Case("a certificate", router(tls={"secretName": "mail-tls"})),
    Case("an issuer", router(tls={"issuerRef": {"name": "ca"}, "dnsNames": ["mail.example.com"]})),
    refused("TLS from nowhere", router(tls={}), "give exactly one of secretName and issuerRef"),
    refused(
        "TLS from two sides",
        router(tls={"secretName": "s", "issuerRef": {"name": "ca"}}),
        "give exactly one of secretName and issuerRef",
    ),
    refused("names for a Secret", router(tls={"secretName": "s", "dnsNames": ["x"]}), "dnsNames needs issuerRef"),
    refused(
        "a heartbeat of nothing",
        router(storage={"sessionRefreshInterval": "0s"}),
        "sessionRefreshInterval must be longer than 0s",
        "spec.storage.sessionRefreshInterval: input should be greater than 0",
    ),
    Case("a size", router(maxMessageSize="32Mi", spool={"sizeLimit": "4Gi"}, restListener={"chunkSize": 65536})),
    refused(
        "a size of another kind", router(maxMessageSize="32 MB"), "should match", "must be a whole quantity of bytes"
    ),
    refused(
        "a name that no Service can have",
        {**router(), "metadata": {"name": "mail.example.com", "namespace": "mail"}},
        "Services are named after it",
    ),
    refused(
        "the same sender twice",
        router(senders=[{"name": "s", "outputChain": "c"}, {"name": "s", "outputChain": "c"}]),
        "Duplicate value",
        "-",
    ),
    Case(
        "a pod template",
        router(
            podTemplate={
                "metadata": {"labels": {"team": "mail"}},
                "spec": {
                    "containers": [{"name": "koukan", "resources": {"limits": {"memory": "1Gi"}}}],
                    "affinity": {"nodeAffinity": {}},
                    "priorityClassName": "high",
                },
            }
        ),
    ),
    refused(
        "a pod field that is not safe",
        router(podTemplate={"spec": {"hostNetwork": True}}),
        'unknown field "spec.podTemplate.spec.hostNetwork"',
        "spec.podTemplate.spec.hostNetwork: unknown key",
    ),
]

GATEWAYS = [
    Case("nothing at all", gateway()),
    Case("a listener", listener(**REF)),
    Case("a router elsewhere", listener(url="https://mail.example.com/senders/s/transactions", caSecretRef=SECRET)),
    refused("no router", listener(), "give exactly one of routerRef and url"),
    refused("two routers", listener(**REF, url="http://x"), "give exactly one of routerRef and url"),
    refused("a CA for a router", listener(**REF, caSecretRef=SECRET), "caSecretRef and verify belong to url"),
    Case("AUTH under TLS", listener(**REF, tls={"secretName": "s"}, auth={"secretRef": SECRET})),
    refused("AUTH in clear", listener(**REF, auth={"secretRef": SECRET}), "auth needs tls"),
    refused(
        "TLS from nowhere", listener(**REF, tls={"implicit": True}), "give exactly one of secretName and issuerRef"
    ),
    Case("limits", listener(**REF, limits={"maxConnections": 5, "maxMessageSize": "1Mi", "commandTimeout": "5m"})),
    refused(
        "no connection at all",
        listener(**REF, limits={"maxConnections": 0}),
        "should be greater than or equal to 1",
        "spec.listeners[0].limits.maxConnections: input should be greater than or equal to 1",
    ),
    refused(
        "a PROXY header that never comes",
        listener(**REF, proxyProtocol={"timeout": "0s"}),
        "timeout must be longer than 0s",
        "spec.listeners[0].proxyProtocol.timeout: input should be greater than 0",
    ),
    Case("a way out", gateway(smtpOutput={"hosts": [{"name": "out", "ehloHost": "h", "tls": {"mode": "Verify"}}]})),
    refused(
        "a mode of gateway.yaml",
        gateway(smtpOutput={"hosts": [{"name": "out", "ehloHost": "h", "tls": {"mode": "verify"}}]}),
        'supported values: "None", "May", "Encrypt", "Verify"',
        "must be one of None, May, Encrypt, Verify, not 'verify'",
    ),
    refused(
        "a way out without our name",
        gateway(smtpOutput={"hosts": [{"name": "out"}]}),
        "spec.smtpOutput.hosts[0].ehloHost",
        "spec.smtpOutput.hosts[0].ehloHost: is required",
    ),
    Case("a load balancer", gateway(service={"type": "LoadBalancer", "loadBalancerSourceRanges": ["192.0.2.0/24"]})),
    refused(
        "networks that nothing would keep to",
        gateway(service={"type": "NodePort", "loadBalancerSourceRanges": ["192.0.2.0/24"]}),
        "need type LoadBalancer",
    ),
    refused(
        "a class of load balancers for none",
        listener(**REF)
        | {"spec": {"services": [{"name": "g", "listeners": ["mx"], "loadBalancerClass": "example.com/lb"}]}},
        "need type LoadBalancer",
    ),
    refused(
        "an address for a network",
        gateway(service={"type": "LoadBalancer", "loadBalancerSourceRanges": ["192.0.2.1"]}),
        "should match",
        "should match pattern",
    ),
    refused(
        "a Service of another kind", gateway(service={"type": "ExternalName"}), "supported values", "input should be"
    ),
    refused("a port of nothing", listener(**REF, port=0), "should be greater than or equal to 1"),
    refused(
        "a name that no port can have",
        gateway(listeners=[{"name": "MX", "port": 25, "sender": "s", **REF}]),
        "should match",
        "should match pattern",
    ),
]

CASES = [*CHAINS, *ROUTERS, *GATEWAYS]
