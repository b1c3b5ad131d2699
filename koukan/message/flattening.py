"""What people see of a parsed message: its text, what the text shows, and its files (message-json.md §2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PartJson = Mapping[str, Any]

_TEXTS = ("text/plain", "text/html")


def flatten(root: PartJson) -> dict[str, list[dict[str, Any]]]:
    """The lists text_body, related_attachments and file_attachments as far as the structure has them."""
    walk = _Walk(root)
    lists = {"text_body": walk.texts, "related_attachments": walk.related, "file_attachments": walk.files}
    return {name: [_flat(part) for part in parts] for name, parts in lists.items() if parts}


class _Walk:
    """From the root to the text, in the order in which mail programs nest."""

    def __init__(self, root: PartJson) -> None:
        self.texts: list[PartJson] = []
        self.related: list[PartJson] = []
        self.files: list[PartJson] = []
        part: PartJson | None = root
        if _is(part, "multipart/signed"):
            part = _child(part, 0)
        if _is(part, "multipart/mixed"):
            self.files = _children(part)[1:]
            part = _child(part, 0)
        part = self._enter_related(part)
        if _is(part, "multipart/alternative"):
            part = self._enter_alternative(part)
        if not self.related:
            part = self._enter_related(part)
        if part is not None and part.get("content_type") in _TEXTS:
            self.texts.append(part)

    def _enter_related(self, part: PartJson | None) -> PartJson | None:
        if not _is(part, "multipart/related"):
            return part
        self.related = _children(part)[1:]
        return _child(part, 0)

    def _enter_alternative(self, part: PartJson | None) -> PartJson | None:
        """The plain text is one body; what goes on is the second alternative only."""
        first = _child(part, 0)
        if first is None or not _is(first, "text/plain"):
            return None
        self.texts.append(first)
        return _child(part, 1)


def _is(part: PartJson | None, content_type: str) -> bool:
    return part is not None and part.get("content_type") == content_type


def _children(part: PartJson | None) -> list[PartJson]:
    return [] if part is None else list(part.get("parts", ()))


def _child(part: PartJson | None, index: int) -> PartJson | None:
    children = _children(part)
    return children[index] if index < len(children) else None


def _flat(part: PartJson) -> dict[str, Any]:
    flat: dict[str, Any] = {"content_type": part["content_type"]}
    for name, value in part.get("headers", ()):
        if name == "content-disposition" and isinstance(value, list) and value[0] == "attachment":
            if "filename" in value[1]:
                flat["filename"] = value[1]["filename"]
            break
        if name == "content-id":
            flat["content_id"] = value
            break
    if "content" in part:
        flat["content"] = part["content"]
    return flat
