"""podTemplate merged over our pod, where that is safe.

Safe is what cannot break what the operator promises: the labels that select the pods, our annotations, mounts and variables,
the security of the container `koukan`. Everything else in `podTemplate.spec` is taken as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from koukan_operator.model.workload import PodSpec, PodTemplate, StringMap
from koukan_operator.render.findings import Findings
from koukan_operator.render.rendered import Manifest

#: the container that runs the router or gateway
MAIN_CONTAINER = "koukan"
#: what `containers: [{name: koukan}]` may say
_MERGED = ("env", "envFrom", "resources", "volumeMounts")
#: volumes and variables with these names are ours
VOLUME_PREFIX = "koukan-"
OWN_VARIABLES = frozenset({"POD_IP", "TMPDIR", "DATABASE_USERNAME", "DATABASE_PASSWORD"})
OWN_DIRECTORIES = ("/etc/koukan", "/run/koukan", "/var/spool/koukan")
_OWN_LABELS = "app.kubernetes.io/"
_OWN_ANNOTATIONS = "koukan.io/"
#: what the `restricted` Pod Security level asks of every container
CONTAINER_SECURITY: Manifest = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
#: fields of the pod that are taken as they are
_TAKEN = (
    "node_selector",
    "affinity",
    "tolerations",
    "topology_spread_constraints",
    "priority_class_name",
    "runtime_class_name",
    "scheduler_name",
    "host_aliases",
    "dns_policy",
    "dns_config",
)


def merge(pod: Manifest, template: PodTemplate, findings: Findings) -> Manifest:
    """The pod template `pod` ({metadata, spec}) with the user's over it; what is not safe is a problem."""
    _check_metadata(template, findings)
    metadata, spec = pod["metadata"], dict(pod["spec"])
    taken = template.spec.model_dump(mode="json", by_alias=True, include=set(_TAKEN), exclude_unset=True)
    # What is given as empty takes ours away: no constraint is a choice too.
    spec = {key: value for key, value in {**spec, **taken}.items() if value not in (None, [], {})}
    spec["volumes"] = [*spec["volumes"], *_volumes(template.spec, findings)]
    spec["containers"] = _containers(spec["containers"][0], template.spec, findings)
    if template.spec.init_containers:
        path = "spec.podTemplate.spec.initContainers"
        names: set[str] = set()
        spec["initContainers"] = [
            _sidecar(container, f"{path}[{index}]", names, findings)
            for index, container in enumerate(template.spec.init_containers)
        ]
    labels = {**template.metadata.labels, **metadata["labels"]}
    annotations = {**template.metadata.annotations, **metadata["annotations"]}
    return {"metadata": {**metadata, "labels": labels, "annotations": annotations}, "spec": spec}


def _check_metadata(template: PodTemplate, findings: Findings) -> None:
    parts: tuple[tuple[str, StringMap, str], ...] = (
        ("labels", template.metadata.labels, _OWN_LABELS),
        ("annotations", template.metadata.annotations, _OWN_ANNOTATIONS),
    )
    for part, values, prefix in parts:
        for key in values:
            if key.startswith(prefix):
                path = f"spec.podTemplate.metadata.{part}"
                findings.problem(path, f"{key} is the operator's; use a key that does not start with {prefix}")


def _volumes(spec: PodSpec, findings: Findings) -> list[Manifest]:
    for index, volume in enumerate(spec.volumes):
        path, name = f"spec.podTemplate.spec.volumes[{index}]", volume.get("name")
        if not isinstance(name, str) or not name:
            findings.problem(f"{path}.name", "is required")
        elif name.startswith(VOLUME_PREFIX):
            findings.problem(
                f"{path}.name", f"names that start with {VOLUME_PREFIX} are the operator's; choose another"
            )
    return spec.volumes


def _containers(main: Manifest, spec: PodSpec, findings: Findings) -> list[Manifest]:
    sidecars: list[Manifest] = []
    names: set[str] = set()
    for index, container in enumerate(spec.containers):
        path = f"spec.podTemplate.spec.containers[{index}]"
        if container.get("name") == MAIN_CONTAINER:
            main = _main(main, container, path, findings)
        else:
            sidecars.append(_sidecar(container, path, names, findings))
    return [main, *sidecars]


def _main(main: Manifest, container: Manifest, path: str, findings: Findings) -> Manifest:
    for key in container:
        if key not in (*_MERGED, "name"):
            hint = "; spec.image names the image" if key == "image" else ""
            findings.problem(f"{path}.{key}", f"of the container koukan, only {', '.join(_MERGED)} may be set{hint}")
    for problem_path, message in _clashes(container):
        findings.problem(f"{path}.{problem_path}", message)
    merged = dict(main)
    for key in ("env", "volumeMounts"):
        merged[key] = [*main[key], *container.get(key, [])]
    for key in ("envFrom", "resources"):
        if container.get(key):
            merged[key] = container[key]
    return merged


def _clashes(container: Manifest) -> Iterator[tuple[str, str]]:
    for index, variable in enumerate(container.get("env") or ()):
        if variable.get("name") in OWN_VARIABLES:
            yield f"env[{index}].name", f"{variable['name']} is set by the operator; choose another name"
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        where = str(mount.get("mountPath", "")).rstrip("/")
        for own in OWN_DIRECTORIES:
            if where == own or where.startswith(f"{own}/") or own.startswith(f"{where}/"):
                yield f"volumeMounts[{index}].mountPath", f"{own} is the operator's; mount elsewhere"


def _sidecar(container: Manifest, path: str, names: set[str], findings: Findings) -> Manifest:
    for key in ("name", "image"):
        if not isinstance(container.get(key), str) or not container[key]:
            findings.problem(f"{path}.{key}", "is required")
    name: Any = container.get("name")
    if name in names:
        findings.problem(f"{path}.name", f"there is another container {name!r}; names must be unique")
    names.add(name)
    # Without its own security context it gets ours, so that the pod stays admitted at the `restricted` level.
    return {"securityContext": CONTAINER_SECURITY, **container}
