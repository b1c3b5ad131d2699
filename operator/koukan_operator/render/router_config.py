"""router.yaml of a KoukanRouter."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from koukan.config.loader import Path_, validation_problems
from koukan.config.references import check_router
from koukan.config.router import RouterConfig
from koukan_operator.model import KoukanGateway, KoukanRouter
from koukan_operator.model.router import Database, RestEndpoint
from koukan_operator.model.secrets import secret_of
from koukan_operator.model.values import Writing
from koukan_operator.peers import rest_url, smtp_host_names, tls_secret
from koukan_operator.references import Document, ObjectRef, rest_tls_secret, secrets_in
from koukan_operator.render.attachment import Attachment, origins
from koukan_operator.render.document import admin_listener, escaped, rest_listener, url_part
from koukan_operator.render.findings import Findings
from koukan_operator.render.wording import in_resource
from koukan_operator.settings import OperatorSettings

#: sender that mail goes to gateways as; they look at the tag only
_GATEWAY_SENDER = "koukan"
#: variables of the environment that hold the database's credentials
USERNAME_VARIABLE = "DATABASE_USERNAME"
PASSWORD_VARIABLE = "DATABASE_PASSWORD"


def router_document(
    router: KoukanRouter, own: Document, attachment: Attachment, findings: Findings, settings: OperatorSettings
) -> dict[str, Any]:
    """The configuration; everything wrong with it goes to `findings`. `own` is the router's document."""
    spec, writing = router.spec, attachment.writing
    attachment.collect()
    findings.need_secrets(secrets_in(spec, ("spec",)))
    for name, chain in attachment.chains.items():
        findings.need_secrets(secrets_in(chain.spec, ("spec",)), f"OutputChain/{name} ")
    uri = rest_url(KoukanRouter.KIND, own, settings.cluster_domain)
    endpoints = [
        _endpoint(endpoint, f"spec.restEndpoints[{index}]", own, findings, settings)
        for index, endpoint in enumerate(spec.rest_endpoints)
    ]
    document: dict[str, Any] = {
        "global": _global(router, writing),
        "rest_listener": {
            **rest_listener(router, rest_tls_secret(router), findings, settings),
            "service_uri": uri,
            **spec.rest_listener.model_dump(mode="json", exclude_unset=True, context=writing),
        },
        "admin_listener": admin_listener(spec),
        "storage": {
            **_database(spec.database, findings),
            **spec.storage.model_dump(mode="json", context=writing),
        },
        "sender": escaped([sender.document for sender in attachment.senders.values()]),
        "rest_endpoint": endpoints,
        "endpoint": [_chain(name, attachment, writing) for name in attachment.chains],
    }
    for key in ("modules", "logging"):
        stanza = spec.model_dump(mode="json", include={key}, exclude_unset=True, context=writing).get(key)
        if stanza:
            document[key] = escaped(stanza)
    _check(document, attachment, findings)
    return document


def _global(router: KoukanRouter, writing: Writing) -> dict[str, Any]:
    keys = {
        "rest_id_entropy",
        "dequeue",
        "mailer_daemon_mailbox",
        "dns",
        "max_inflight",
        "max_message_size",
        "max_recipients",
    }
    stanza = router.spec.model_dump(mode="json", include=keys, exclude_unset=True, context=writing)
    return {**escaped(stanza), **router.spec.model_dump(mode="json", include={"drain_timeout"}, context=writing)}


def _database(database: Database, findings: Findings) -> dict[str, Any]:
    url = secret_of(database.url_secret_ref)
    if url is not None:
        return {"url_file": findings.file(url.name, url.key)}
    credentials = database.credentials_secret_ref
    assert credentials is not None, "the model has seen to it"
    keys = (credentials.username_key, credentials.password_key)
    findings.need_keys(credentials.name, keys, "spec.database.credentialsSecretRef")
    for key in keys:
        findings.value(credentials.name, key)
    ca = secret_of(database.ca_secret_ref)
    parameters = [] if database.ssl_mode is None else [f"sslmode={database.ssl_mode}"]
    parameters += [] if ca is None else [f"sslrootcert={findings.file(ca.name, ca.key)}"]
    query = f"?{'&'.join(parameters)}" if parameters else ""
    who = f"${{{USERNAME_VARIABLE}|quote}}:${{{PASSWORD_VARIABLE}|quote}}"
    host = f"[{database.host}]" if ":" in (database.host or "") else database.host
    return {"url": f"postgresql://{who}@{host}:{database.port}/{database.name}{query}"}


def _endpoint(
    endpoint: RestEndpoint, path: str, own: Document, findings: Findings, settings: OperatorSettings
) -> dict[str, Any]:
    options = endpoint.options.model_dump(mode="json", exclude_unset=True, context=Writing(findings.file))
    url, sender, verify = _target(endpoint, path, own, findings, settings)
    stanza: dict[str, Any] = {"name": escaped(endpoint.name), "endpoint": url, "sender": escaped(sender)}
    if endpoint.tag is not None:
        stanza["tag"] = escaped(endpoint.tag)
    if verify is not None:
        stanza["verify"] = verify
    authorization = secret_of(endpoint.authorization_secret_ref)
    if authorization is not None:
        stanza["authorization_file"] = findings.file(authorization.name, authorization.key)
    if options:
        stanza["options"] = options
    return stanza


def _target(
    endpoint: RestEndpoint, path: str, own: Document, findings: Findings, settings: OperatorSettings
) -> tuple[str, str, bool | str | None]:
    """URL, sender, and how the server is verified."""
    sender = endpoint.sender or _GATEWAY_SENDER
    if endpoint.url is not None:
        ca = secret_of(endpoint.ca_secret_ref)
        verify = False if not endpoint.verify else None if ca is None else findings.file(ca.name, ca.key)
        return escaped(endpoint.url), sender, verify
    if endpoint.gateway_ref is not None:
        kind, name = KoukanGateway.KIND, endpoint.gateway_ref.name
        peer = findings.need(ObjectRef(kind, name), f"{path}.gatewayRef")
        _check_tag(endpoint.tag, name, peer, path, findings)
    else:
        assert endpoint.router_ref is not None, "the model has seen to it"
        kind, name = KoukanRouter.KIND, endpoint.router_ref.name
        myself = name == own["metadata"]["name"]
        peer = own if myself else findings.need(ObjectRef(kind, name), f"{path}.routerRef")
    # Without the peer nothing is applied; the URL is what it will be when the peer comes without TLS.
    known = peer or {"metadata": {"name": name, "namespace": own["metadata"].get("namespace", "default")}}
    base = rest_url(kind, known, settings.cluster_domain)
    return f"{base}/senders/{url_part(sender)}/transactions", sender, findings.ca_file(tls_secret(known))


def _check_tag(tag: str | None, gateway: str, document: Document | None, path: str, findings: Findings) -> None:
    if document is not None and tag not in (hosts := smtp_host_names(document)):
        listed = ", ".join(hosts) or "none"
        findings.warn(f"{path}.tag", f'KoukanGateway "{gateway}" has no smtpOutput host {tag!r}; it has: {listed}')


def _chain(name: str, attachment: Attachment, writing: Writing) -> dict[str, Any]:
    spec = attachment.chains[name].spec
    keys = {"msa", "output_handler", "chain"}
    return {"name": name, **escaped(spec.model_dump(mode="json", include=keys, exclude_unset=True, context=writing))}


def _check(document: dict[str, Any], attachment: Attachment, findings: Findings) -> None:
    places: dict[Path_, str] = dict(origins(attachment))
    try:
        problems, remarks = check_router(RouterConfig.model_validate(document))
    except ValidationError as error:
        problems, remarks = list(validation_problems(document, error)), []
    for problem in problems:
        # What a missing or invalid chain entails needs no words of its own: it goes when the chain comes.
        if not (attachment.incomplete and problem.path[0] == "sender"):
            findings.problems.append(in_resource(problem, places))
    findings.warnings += [in_resource(remark, places) for remark in remarks]
