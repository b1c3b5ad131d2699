"""The Deployment of a router or gateway: secure pods that drain before they end."""

from __future__ import annotations

import math
from typing import Any

from koukan_operator.labels import CONFIG_HASH, SECRETS_HASH, labels_of, selector_of
from koukan_operator.model import KoukanRouter
from koukan_operator.peers import REST_PORT
from koukan_operator.references import rest_tls_secret
from koukan_operator.render.findings import SECRETS_DIRECTORY, Findings
from koukan_operator.render.objects import Workload_, manifest
from koukan_operator.render.pods import CONTAINER_SECURITY, MAIN_CONTAINER, merge
from koukan_operator.render.rendered import Manifest
from koukan_operator.render.router_config import PASSWORD_VARIABLE, USERNAME_VARIABLE
from koukan_operator.settings import OperatorSettings

CONFIG_DIRECTORY = "/etc/koukan"
SPOOL_DIRECTORY = "/var/spool/koukan"
#: who the image's processes run as
USER_ID = 10001
#: before SIGTERM, so that Services have stopped sending new connections when draining begins
_PRE_STOP_SECONDS = 5
#: after draining, for what ends the process
_EXIT_SECONDS = 10
#: requests that schedule a pod sensibly on a small node; podTemplate says otherwise where mail is busy
_REQUESTS = {"cpu": "100m", "memory": "128Mi"}


def config_name(resource: Workload_) -> str:
    """Name of the ConfigMap."""
    return f"{resource.metadata.name}-config"


def program(resource: Workload_) -> str:
    """The command of `koukan`, which is also the name of its file."""
    return "router" if isinstance(resource, KoukanRouter) else "gateway"


def deployment(
    resource: Workload_, ports: list[Manifest], config_hash: str, findings: Findings, settings: OperatorSettings
) -> Manifest:
    """The Deployment; `ports` are the container's besides REST and admin."""
    spec = resource.spec
    pod = {
        "metadata": {
            "labels": labels_of(resource),
            "annotations": {CONFIG_HASH: config_hash, SECRETS_HASH: findings.secrets_hash()},
        },
        "spec": _pod(resource, ports, findings, settings),
    }
    content: dict[str, Any] = {
        "selector": {"matchLabels": selector_of(resource)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": merge(pod, spec.pod_template, findings),
    }
    # With autoscaling the number belongs to the autoscaler alone.
    if spec.autoscaling is None:
        content = {"replicas": 1 if spec.replicas is None else spec.replicas, **content}
    return manifest(resource, "apps/v1", "Deployment", resource.metadata.name, {"spec": content})


def _pod(resource: Workload_, ports: list[Manifest], findings: Findings, settings: OperatorSettings) -> Manifest:
    spec = resource.spec
    drain = math.ceil(spec.drain_timeout)
    secrets = [ref.name for ref in spec.image_pull_secrets] or list(settings.image_pull_secrets)
    pod: dict[str, Any] = {
        "serviceAccountName": resource.metadata.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _PRE_STOP_SECONDS + drain + _EXIT_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": _spread(resource),
        "containers": [_container(resource, ports, findings, settings)],
        "volumes": _volumes(resource, findings),
    }
    if secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in secrets]
    return pod


def _container(resource: Workload_, ports: list[Manifest], findings: Findings, settings: OperatorSettings) -> Manifest:
    spec, command = resource.spec, program(resource)
    mounts = [
        {"name": "koukan-config", "mountPath": CONFIG_DIRECTORY, "readOnly": True},
        {"name": "koukan-spool", "mountPath": SPOOL_DIRECTORY},
    ]
    if findings.files:
        mounts.append({"name": "koukan-secrets", "mountPath": SECRETS_DIRECTORY, "readOnly": True})
    return {
        "name": MAIN_CONTAINER,
        "image": spec.image or settings.image,
        "imagePullPolicy": spec.image_pull_policy or settings.image_pull_policy,
        "command": ["koukan", command, f"{CONFIG_DIRECTORY}/{command}.yaml"],
        "env": _environment(resource),
        "ports": [
            {"name": "rest", "containerPort": REST_PORT, "protocol": "TCP"},
            {"name": "admin", "containerPort": spec.admin_listener.port, "protocol": "TCP"},
            *ports,
        ],
        "resources": {"requests": _REQUESTS},
        "volumeMounts": mounts,
        # Starting may bring the database's schema up to date, which other probes would not wait for.
        "startupProbe": _probe(resource, "/healthz", 2, 90),
        "livenessProbe": _probe(resource, "/healthz", 10, 6),
        "readinessProbe": _probe(resource, "/readyz", 5, 2),
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(_PRE_STOP_SECONDS)]}}},
        "securityContext": CONTAINER_SECURITY,
    }


def _environment(resource: Workload_) -> list[Manifest]:
    variables: list[Manifest] = [
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}},
        {"name": "TMPDIR", "value": SPOOL_DIRECTORY},
    ]
    database = resource.spec.database if isinstance(resource, KoukanRouter) else None
    if database is not None and database.credentials_secret_ref is not None:
        ref = database.credentials_secret_ref
        for variable, key in ((USERNAME_VARIABLE, ref.username_key), (PASSWORD_VARIABLE, ref.password_key)):
            variables.append({"name": variable, "valueFrom": {"secretKeyRef": {"name": ref.name, "key": key}}})
    return variables


def _probe(resource: Workload_, path: str, period: int, failures: int) -> Manifest:
    scheme = "HTTP" if rest_tls_secret(resource) is None else "HTTPS"
    return {
        "httpGet": {"path": path, "port": "rest", "scheme": scheme},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _spread(resource: Workload_) -> list[Manifest]:
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": selector_of(resource)},
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]


def _volumes(resource: Workload_, findings: Findings) -> list[Manifest]:
    spool = resource.spec.spool.model_dump(mode="json")["size_limit"]
    volumes: list[Manifest] = [
        {"name": "koukan-config", "configMap": {"name": config_name(resource)}},
        {"name": "koukan-spool", "emptyDir": {"sizeLimit": str(spool)}},
    ]
    if findings.files:
        sources = [
            {"secret": {"name": name, "items": [{"key": key, "path": f"{name}/{key}"} for key in sorted(keys)]}}
            for name, keys in sorted(findings.files.items())
        ]
        volumes.append({"name": "koukan-secrets", "projected": {"defaultMode": 0o440, "sources": sources}})
    return volumes
