"""Golden renderings: `NAME.in.yaml` holds resources, `NAME.out.yaml` what becomes of them.

`python -m tests.support.golden` writes the outputs anew; look at the difference before you keep it. A first line
`# show: KIND…` limits an output to some kinds, where the others would only repeat what other files show.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from koukan_operator.errors import InvalidResource
from koukan_operator.model import KoukanGateway, KoukanRouter, OutputChain
from koukan_operator.references import ObjectRef, Refs
from koukan_operator.render import Rendered, render_gateway, render_router
from koukan_operator.render_command import Plain
from koukan_operator.settings import CERT_MANAGER_API, MONITORING_API, OperatorSettings

DIRECTORY = Path(__file__).parents[1] / "operator" / "golden"
SETTINGS = OperatorSettings(
    image="koukan:golden",
    image_pull_secrets=("registry",),
    available_apis=frozenset({CERT_MANAGER_API, MONITORING_API}),
)
_SHOW = "# show: "

Document = dict[str, Any]


def cases() -> list[str]:
    return sorted(path.name.removesuffix(".in.yaml") for path in DIRECTORY.glob("*.in.yaml"))


def source(name: str) -> str:
    return (DIRECTORY / f"{name}.in.yaml").read_text(encoding="utf-8")


def expected(name: str) -> str:
    return (DIRECTORY / f"{name}.out.yaml").read_text(encoding="utf-8")


def refs_of(documents: Sequence[Document]) -> Refs:
    """The documents as the operator would have found them."""
    found = {ObjectRef(d["kind"], d["metadata"]["name"]): d for d in documents}
    return Refs(found, [d for d in documents if d["kind"] == OutputChain.KIND])


def rendered(documents: Sequence[Document], settings: OperatorSettings = SETTINGS) -> Iterator[tuple[str, Rendered]]:
    """Every router and gateway of the documents, rendered."""
    refs = refs_of(documents)
    for document in documents:
        name = f"{document['kind']}/{document['metadata']['name']}"
        if document["kind"] == KoukanRouter.KIND:
            yield name, render_router(KoukanRouter.parse(document), refs, settings)
        elif document["kind"] == KoukanGateway.KIND:
            yield name, render_gateway(KoukanGateway.parse(document), refs, settings)


def output(text: str) -> str:
    """What becomes of the resources in `text`."""
    first, _, _ = text.partition("\n")
    kinds = first.removeprefix(_SHOW).split() if first.startswith(_SHOW) else []
    documents = [document for document in yaml.safe_load_all(text) if document is not None]
    parts: list[Document] = []
    try:
        for name, answer in rendered(documents):
            said = _said(answer)
            parts += [{"of": name, **said}] if said else []
            parts += [m for m in answer.manifests if not kinds or m["kind"] in kinds]
    except InvalidResource as error:
        parts.append({"invalid": str(error).splitlines()})
    return yaml.dump_all(parts, Dumper=Plain, sort_keys=False, allow_unicode=True, width=120)


def _said(answer: Rendered) -> Document:
    claims = [
        {
            "chain": c.chain,
            "sender": c.sender,
            "tag": c.tag,
            "accepted": c.accepted,
            "reason": c.reason,
            "message": c.message,
        }
        for c in answer.claims
    ]
    said: Document = {
        "missing": [f"{m.ref} {m.path}: {m.message}" for m in answer.missing],
        "problems": [str(problem) for problem in answer.problems],
        "warnings": [str(warning) for warning in answer.warnings],
        "claims": [{key: value for key, value in claim.items() if value is not None} for claim in claims],
    }
    return {key: value for key, value in said.items() if value}


def main() -> None:
    for name in cases():
        (DIRECTORY / f"{name}.out.yaml").write_text(output(source(name)), encoding="utf-8")


if __name__ == "__main__":
    main()
