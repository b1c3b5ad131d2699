"""gateway.yaml of a KoukanGateway."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from koukan.config.gateway import GatewayConfig, check_gateway
from koukan.config.loader import Path_, validation_problems
from koukan_operator.model import KoukanGateway, KoukanRouter
from koukan_operator.model.gateway import Listener
from koukan_operator.model.secrets import secret_of
from koukan_operator.model.values import Writing
from koukan_operator.peers import rest_url, tls_secret
from koukan_operator.references import ObjectRef, listener_tls_secret, rest_tls_secret, secrets_in
from koukan_operator.render.document import admin_listener, certificate, escaped, listen, rest_listener, url_part
from koukan_operator.render.findings import Findings
from koukan_operator.render.wording import in_resource
from koukan_operator.settings import OperatorSettings


def gateway_document(gateway: KoukanGateway, findings: Findings, settings: OperatorSettings) -> dict[str, Any]:
    """The configuration; everything wrong with it goes to `findings`."""
    spec, writing = gateway.spec, Writing(findings.file)
    findings.need_secrets(secrets_in(spec, ("spec",)))
    listeners = [_listener(gateway, index, findings, writing) for index in range(len(spec.listeners))]
    outputs = [_output(gateway, index, findings, settings, writing) for index in range(len(spec.listeners))]
    document: dict[str, Any] = {
        "global": spec.model_dump(mode="json", include={"drain_timeout"}, context=writing),
        "rest_listener": {
            **rest_listener(gateway, rest_tls_secret(gateway), findings, settings),
            **spec.rest_listener.model_dump(mode="json", exclude_unset=True, context=writing),
        },
        "admin_listener": admin_listener(spec),
        "smtp_output": {"hosts": _hosts(gateway, findings, writing)},
        "smtp_listener": {"services": listeners},
        "rest_output": outputs,
    }
    if spec.logging:
        document["logging"] = escaped(spec.logging)
    _check(document, findings)
    return document


def _hosts(gateway: KoukanGateway, findings: Findings, writing: Writing) -> dict[str, Any]:
    hosts: dict[str, Any] = {}
    dumped = gateway.spec.smtp_output.model_dump(mode="json", exclude_unset=True, context=writing)
    for index, host in enumerate(dumped.get("hosts", [])):
        name = host.pop("name")
        if name in hosts:
            path = f"spec.smtpOutput.hosts[{index}].name"
            findings.problem(path, f"there is another host {name!r}; names must be unique")
        hosts[name] = escaped(host)
    return hosts


def _listener(gateway: KoukanGateway, index: int, findings: Findings, writing: Writing) -> dict[str, Any]:
    listener = gateway.spec.listeners[index]
    stanza: dict[str, Any] = {
        "addr": listen(listener.target_port),
        "endpoint": listener.name,
        "sender": escaped(listener.sender),
    }
    if listener.tag is not None:
        stanza["tag"] = escaped(listener.tag)
    secret = listener_tls_secret(gateway, index)
    if secret is not None and listener.tls is not None:
        stanza.update(certificate(secret, findings))
        if listener.tls.implicit:
            stanza["smtps"] = True
    if listener.auth is not None:
        users = secret_of(listener.auth.secret_ref)
        assert users is not None, "it is required"
        stanza["auth_secrets"] = findings.file(users.name, users.key)
    if listener.proxy_protocol is not None:
        proxy = listener.proxy_protocol.model_dump(mode="json", context=writing)
        stanza["proxy_protocol_timeout"] = proxy["timeout"]
    keys = {"limits", "rcpt_timeout", "data_timeout", "delay_reject"}
    return {**stanza, **listener.model_dump(mode="json", include=keys, exclude_unset=True, context=writing)}


def _output(
    gateway: KoukanGateway, index: int, findings: Findings, settings: OperatorSettings, writing: Writing
) -> dict[str, Any]:
    """The rest_output of a listener, which has its name."""
    listener = gateway.spec.listeners[index]
    url, verify = _target(gateway, listener, f"spec.listeners[{index}]", findings, settings)
    stanza: dict[str, Any] = {"name": listener.name, "endpoint": url}
    if verify is not None:
        stanza["verify"] = verify
    return {**stanza, **listener.rest_output.model_dump(mode="json", exclude_unset=True, context=writing)}


def _target(
    gateway: KoukanGateway, listener: Listener, path: str, findings: Findings, settings: OperatorSettings
) -> tuple[str, bool | str | None]:
    if listener.url is not None:
        ca = secret_of(listener.ca_secret_ref)
        verify = False if not listener.verify else None if ca is None else findings.file(ca.name, ca.key)
        return escaped(listener.url), verify
    assert listener.router_ref is not None, "the model has seen to it"
    name = listener.router_ref.name
    peer = findings.need(ObjectRef(KoukanRouter.KIND, name), f"{path}.routerRef")
    known = peer or {"metadata": {"name": name, "namespace": gateway.metadata.namespace}}
    base = rest_url(KoukanRouter.KIND, known, settings.cluster_domain)
    return f"{base}/senders/{url_part(listener.sender)}/transactions", findings.ca_file(tls_secret(known))


def _check(document: dict[str, Any], findings: Findings) -> None:
    places: dict[Path_, str] = {
        ("smtp_listener", "services"): "spec.listeners",
        ("rest_output",): "spec.listeners",
        ("smtp_output",): "spec.smtpOutput",
    }
    try:
        problems, remarks = check_gateway(GatewayConfig.model_validate(document))
    except ValidationError as error:
        problems, remarks = list(validation_problems(document, error)), []
    # Names and addresses that clash are said of the listeners, with ports as these have them.
    problems = [problem for problem in problems if problem.path[-1] not in ("name", "addr")]
    findings.problems += [in_resource(problem, places) for problem in problems]
    findings.warnings += [in_resource(remark, places) for remark in remarks]
