"""The examples as documents."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.support.mail_resources import Document

DIRECTORY = Path(__file__).parents[2] / "examples"
#: plugins/ is about router.yaml
NAMES = sorted(path.name for path in DIRECTORY.iterdir() if path.is_dir() and path.name != "plugins")


def documents(name: str, namespace: str = "mail") -> list[Document]:
    """Every object of an example, in a namespace."""
    found = [
        document
        for path in sorted((DIRECTORY / name).glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
    ]
    return [{**document, "metadata": {"namespace": namespace, **document["metadata"]}} for document in found]
