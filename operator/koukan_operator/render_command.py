"""`koukan-operator render -f FILE…`: what would be applied, without a cluster."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import yaml

from koukan.errors import ConfigError
from koukan_operator.errors import InvalidResource
from koukan_operator.model import KoukanGateway, KoukanRouter, OutputChain
from koukan_operator.references import ObjectRef, Refs
from koukan_operator.render import Rendered, render_gateway, render_router
from koukan_operator.settings import CERT_MANAGER_API, MONITORING_API, OperatorSettings

_DEFAULT_NAMESPACE = "default"
_OURS = (KoukanRouter.KIND, KoukanGateway.KIND, OutputChain.KIND)
#: kinds that resources refer to; whatever else stands in the files is none of our business
_READ = (*_OURS, "Secret", "ConfigMap")


def register(
    commands: Any,
    add_settings: Callable[[argparse.ArgumentParser], None],
    settings_of: Callable[[argparse.Namespace], OperatorSettings],
) -> None:
    """Add `render` to the parser; the two functions are about the options that `run` has too."""
    parser = commands.add_parser(
        "render",
        help="print what would be applied, without a cluster",
        description="Print the manifests that the operator would apply for the resources in the files. What they refer to and "
        "the files do not have is noted on standard error. Exit code 2 when a resource is invalid.",
    )
    parser.add_argument(
        "-f", "--filename", action="append", required=True, metavar="FILE", help="repeatable; - is stdin"
    )
    parser.add_argument("-n", "--namespace", default=_DEFAULT_NAMESPACE, help="of resources that name none")
    parser.add_argument(
        "--api",
        action="append",
        default=[],
        choices=(MONITORING_API, CERT_MANAGER_API),
        help="render as for a cluster that has it; repeatable",
    )
    add_settings(parser)
    parser.set_defaults(run=lambda options: run_render(options, settings_of(options)))


def run_render(options: argparse.Namespace, settings: OperatorSettings) -> int:
    settings = replace(settings, available_apis=frozenset(options.api))
    documents = [document for path in options.filename for document in read(path, options.namespace)]
    return 0 if print_plan(documents, settings, sys.stdout, sys.stderr) else 2


def read(path: str, namespace: str) -> Iterator[dict[str, Any]]:
    """The objects in a YAML file. Raises ConfigError."""
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        documents = list(yaml.safe_load_all(text))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', 'no UTF-8 text')}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: broken YAML: {' '.join(str(error).split())}") from None
    for number, document in enumerate(documents, 1):
        if document is None:
            continue
        if not _is_object(document):
            raise ConfigError(f"{path}: document {number} is no Kubernetes object: it needs kind and metadata.name")
        document["metadata"].setdefault("namespace", namespace)
        yield document


def print_plan(documents: Sequence[Mapping[str, Any]], settings: OperatorSettings, out: TextIO, notes: TextIO) -> bool:
    """Print the manifests of all routers and gateways; False when some resource is invalid."""
    valid = True
    for document in documents:
        if document["kind"] not in _OURS:
            continue
        where = f"{document['kind']}/{document['metadata']['name']}"
        try:
            rendered = _rendered(document, _refs(documents, document["metadata"]["namespace"]), settings)
        except InvalidResource as error:
            notes.writelines(f"error: {where}: {line}\n" for line in str(error).splitlines())
            valid = False
            continue
        if rendered is not None:
            notes.writelines(f"{line}\n" for line in _notes(where, rendered))
            valid = valid and not rendered.problems
            _print(rendered.manifests, out)
    return valid


def _is_object(document: Any) -> bool:
    if not isinstance(document, dict) or not isinstance(document.get("metadata"), dict):
        return False
    return isinstance(document.get("kind"), str) and isinstance(document["metadata"].get("name"), str)


def _refs(documents: Iterable[Mapping[str, Any]], namespace: str) -> Refs:
    near = [d for d in documents if d["metadata"]["namespace"] == namespace and d["kind"] in _READ]
    found = {ObjectRef(d["kind"], d["metadata"]["name"]): d for d in near}
    return Refs(found, [d for d in near if d["kind"] == OutputChain.KIND])


def _rendered(document: Mapping[str, Any], refs: Refs, settings: OperatorSettings) -> Rendered | None:
    if document["kind"] == KoukanRouter.KIND:
        return render_router(KoukanRouter.parse(document), refs, settings)
    if document["kind"] == KoukanGateway.KIND:
        return render_gateway(KoukanGateway.parse(document), refs, settings)
    OutputChain.parse(document)
    return None


def _notes(where: str, rendered: Rendered) -> Iterator[str]:
    for problem in rendered.problems:
        yield f"error: {where}: {problem}"
    for missing in rendered.missing:
        yield f"needs: {where}: {missing.path}: {missing.message}"
    for warning in rendered.warnings:
        yield f"warning: {where}: {warning}"
    for claim in rendered.claims:
        if not claim.accepted:
            yield f"refused: {OutputChain.KIND}/{claim.chain}: {claim.message}"


def _print(manifests: Iterable[Mapping[str, Any]], out: TextIO) -> None:
    for manifest in manifests:
        out.write("---\n")
        yaml.dump(manifest, out, Dumper=Plain, sort_keys=False, allow_unicode=True, width=120)


class Plain(yaml.SafeDumper):
    """YAML for people: text of several lines as a block, no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


Plain.add_representer(str, _block)
