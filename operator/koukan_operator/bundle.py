"""`python -m koukan_operator.bundle`: applies the resources of a ConfigMap and waits until they are ready.

For a chart that brings resources together with their definitions, as ours does with its demo: Helm looks up every kind of
a release before it creates anything, so a Job of the release does it. The ConfigMap becomes their owner: they go when the
release does, by garbage collection.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Mapping, Sequence

import yaml

from koukan.errors import ConfigError, KoukanError, StartupError
from koukan_operator.api import KubernetesCluster, load_configuration
from koukan_operator.cluster import Cluster, ClusterError, NotFound
from koukan_operator.kinds import CONFIG_MAP, RESOURCES, Document, Key, key_of

logger = logging.getLogger("koukan.operator.bundle")

#: seconds between two looks at what is not ready yet
POLL = 1.0
#: kinds that have a condition Ready; chains have none of their own, the routers that use them do
_READY_KINDS = ("KoukanRouter", "KoukanGateway")


class Taken(KoukanError):
    """A resource of that name exists and belongs to somebody else."""


class Bundle:
    """The resources of one ConfigMap."""

    def __init__(self, owner: Document) -> None:
        """Raises ConfigError when the ConfigMap holds anything but our resources."""
        metadata = owner["metadata"]
        self._reference = {
            "apiVersion": "v1",
            "kind": CONFIG_MAP.name,
            "name": metadata["name"],
            "uid": metadata["uid"],
        }
        namespace = metadata["namespace"]
        self.documents = [self._owned(document, namespace) for document in _documents(owner.get("data") or {})]

    async def apply(self, cluster: Cluster) -> dict[Key, str]:
        """Bring the cluster to what the bundle says; answers what is not ready yet and why. Raises Taken."""
        waiting = {}
        for document in self.documents:
            key = key_of(document)
            try:
                await self._refuse_taken(cluster, key)
                reason = _not_ready(await cluster.apply(document))
            except ClusterError as error:
                # Definitions and roles of the same release take a moment; what never comes is told at the deadline.
                reason = str(error)
            if reason:
                waiting[key] = reason
        return waiting

    async def prune(self, cluster: Cluster, namespace: str) -> list[Key]:
        """Delete what an earlier version of the bundle brought; answers what that was."""
        wanted = {key_of(document) for document in self.documents}
        pruned = []
        for kind in RESOURCES:
            for document in await cluster.list(kind, namespace):
                key = key_of(document)
                if key not in wanted and self._owns(document):
                    await cluster.delete(key, document["metadata"]["uid"])
                    pruned.append(key)
        return pruned

    async def _refuse_taken(self, cluster: Cluster, key: Key) -> None:
        try:
            existing = await cluster.get(key)
        except NotFound:
            return
        if not self._owns(existing):
            raise Taken(f"{key} exists and is not part of this release; rename or delete it, then try again")

    def _owns(self, document: Document) -> bool:
        """By name: a ConfigMap that was made again, with another uid, takes over what it had."""
        references = document["metadata"].get("ownerReferences") or ()
        own = (self._reference["kind"], self._reference["name"])
        return any((reference["kind"], reference["name"]) == own for reference in references)

    def _owned(self, document: Document, namespace: str) -> Document:
        metadata = {**document["metadata"], "namespace": namespace, "ownerReferences": [self._reference]}
        return {**document, "metadata": metadata}


def _documents(data: Mapping[str, str]) -> list[Document]:
    kinds = {(kind.api_version, kind.name) for kind in RESOURCES}
    documents = []
    for name in sorted(data):
        for document in yaml.safe_load_all(data[name]):
            if document is None:
                continue
            if not isinstance(document, dict) or (document.get("apiVersion"), document.get("kind")) not in kinds:
                raise ConfigError(f"{name}: must hold KoukanRouters, KoukanGateways and OutputChains, got {document!r}")
            documents.append(document)
    return documents


def _not_ready(document: Document) -> str:
    """Why the resource is not ready; empty when it is."""
    if document["kind"] not in _READY_KINDS:
        return ""
    for condition in document.get("status", {}).get("conditions") or ():
        if condition["type"] == "Ready":
            current = condition.get("observedGeneration") == document["metadata"]["generation"]
            if condition["status"] == "True" and current:
                return ""
            return condition.get("message") or "not ready" if current else "the operator has not seen the change yet"
    return "the operator has not seen it yet"


async def bring(cluster: Cluster, owner: Key, *, timeout: float, poll: float = POLL) -> None:
    """Apply the bundle until everything is ready. Raises ClusterError, ConfigError, Taken, and StartupError in the end."""
    bundle = Bundle(await cluster.get(owner))
    waiting: dict[Key, str] = {}
    try:
        async with asyncio.timeout(timeout):
            while now := await bundle.apply(cluster):
                for key, reason in now.items():
                    if waiting.get(key) != reason:
                        logger.info("%s: %s", key, reason)
                waiting = now
                await asyncio.sleep(poll)
    except TimeoutError:
        reasons = "; ".join(f"{key}: {reason}" for key, reason in waiting.items())
        raise StartupError(f"not ready within {timeout:g} s: {reasons}") from None
    for key in await bundle.prune(cluster, owner.namespace):
        logger.info("%s: deleted, this version of the bundle does without it", key)
    logger.info("%d resources are ready", len(bundle.documents))


async def _run(owner: Key, timeout: float) -> None:
    cluster = KubernetesCluster(load_configuration(in_cluster="KUBERNETES_SERVICE_HOST" in os.environ))
    try:
        await bring(cluster, owner, timeout=timeout)
    finally:
        await cluster.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; answers its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m koukan_operator.bundle", description="Apply the resources of a ConfigMap."
    )
    parser.add_argument("name", metavar="CONFIGMAP", help="its values are YAML documents")
    parser.add_argument("--namespace", required=True, help="namespace of the ConfigMap and the resources")
    parser.add_argument("--timeout", type=float, default=240, metavar="SECONDS", help="default: %(default)s")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        asyncio.run(_run(Key(CONFIG_MAP.name, options.namespace, options.name), options.timeout))
    except KoukanError as error:
        logger.error("error: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
