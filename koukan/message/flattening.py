"""What people see of a parsed message: its text, what the text shows, and its files (message-json.md §2).

One walk over the parts, after RFC 8621 §4.1.4: every part that has content is in one list, in the order of the message. What is
within an attached message belongs to that message, which is a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from koukan.message.mime import Part

PartJson = Mapping[str, Any]
Content = Mapping[str, str]

_TEXTS = ("text/plain", "text/html")


def flatten(root: Part, document: PartJson, whole: Callable[[Part], Content]) -> dict[str, list[dict[str, Any]]]:
    """The lists text_body, related_attachments and file_attachments of a part and its JSON, those that are not empty.

    `whole` is asked for the content of parts that are containers in the document.
    """
    walk = _Walk(whole)
    walk.visit(_Node(root, document), is_text=True, related=False)
    lists = {"text_body": walk.texts, "related_attachments": walk.related, "file_attachments": walk.files}
    return {name: parts for name, parts in lists.items() if parts}


class _Node:
    """A part with what its JSON says of it."""

    def __init__(self, part: Part, json: PartJson) -> None:
        self.part = part
        self.json = json
        fields: dict[str, Any] = {}
        for name, value in json["headers"]:
            fields.setdefault(name, value)
        self._disposition = _parameterized(fields.get("content-disposition"))
        self._type = _parameterized(fields.get("content-type"))
        self.content_type: str = json["content_type"]
        self.content_id = _bracketed(fields.get("content-id", ""))
        #: an HTML text may refer to it
        self.has_name_in_text = bool(self.content_id or fields.get("content-location"))

    @property
    def is_attachment(self) -> bool:
        return bool(self._disposition[0] == "attachment")

    @property
    def is_readable(self) -> bool:
        """It is a text, or there may be one in it."""
        return bool(self.part.children) if self.is_multipart else self.content_type in _TEXTS and not self.is_attachment

    @property
    def is_multipart(self) -> bool:
        return self.part.maintype == "multipart"

    @property
    def filename(self) -> str | None:
        """Content-Disposition says it, or the older way, the type (RFC 2183 §2.3)."""
        name = self._disposition[1].get("filename")
        return name or self._type[1].get("name", name)

    @property
    def start(self) -> str:
        """The content id of the part that a multipart/related shows (RFC 2387 §3.2)."""
        return _bracketed(self._type[1].get("start", ""))

    @property
    def children(self) -> list[_Node]:
        """The parts of a multipart. What else has parts is one file."""
        if not self.is_multipart:
            return []
        return [_Node(*pair) for pair in zip(self.part.children, self.json.get("parts", ()), strict=False)]


class _Walk:
    """Puts parts into lists."""

    def __init__(self, whole: Callable[[Part], Content]) -> None:
        self.texts: list[dict[str, Any]] = []
        self.related: list[dict[str, Any]] = []
        self.files: list[dict[str, Any]] = []
        self._whole = whole

    def visit(self, node: _Node, *, is_text: bool, related: bool) -> None:
        """`is_text`: a text here is to be read, whatever name it has; `related`: it is there for a text to show it."""
        children = node.children
        if not children:
            self._take(node, is_text=is_text, related=related)
        elif node.content_type == "multipart/related":
            shown = _shown(node.start, children)
            for child in children:
                self.visit(child, is_text=child is shown, related=related or child is not shown)
        else:
            for i, child in enumerate(children):
                self.visit(child, is_text=i == 0 or node.content_type == "multipart/alternative", related=related)

    def _take(self, node: _Node, *, is_text: bool, related: bool) -> None:
        if related and (node.has_name_in_text or not node.is_attachment):
            self._add(self.related, node)
        elif node.content_type in _TEXTS and not node.is_attachment and (is_text or not node.filename):
            self._add(self.texts, node)
        else:
            self._add(self.files, node)

    def _add(self, parts: list[dict[str, Any]], node: _Node) -> None:
        content = node.json.get("content")
        if node.is_multipart and (node.part.start == node.part.end or not (content or node.part.has_preamble)):
            return  # a multipart of nothing
        content = content or self._whole(node.part)
        names = {"content_id": node.content_id or None, "filename": node.filename}
        named = {name: value for name, value in names.items() if value is not None}
        parts.append({"content_type": node.content_type, **named, "content": content})


def _shown(start: str, children: list[_Node]) -> _Node:
    """The part of a multipart/related that is to be shown: the one that `start` names, or the first (RFC 2387 §3.2).

    Where the first one is no text, senders have forgotten `start`.
    """
    named = [child for child in children if start and child.content_id == start]
    return (named or [child for child in children if child.is_readable] or children)[0]


def _parameterized(value: object) -> tuple[str, Mapping[str, str]]:
    """A field with parameters as header_json gives it; one that it could not take apart says nothing."""
    return (value[0], value[1]) if isinstance(value, list) else ("", {})


def _bracketed(text: str) -> str:
    """A content id as the field has it (RFC 2392): what message_builder takes, and `cid:` has without the brackets."""
    bare = text.strip(" \t")
    return bare if not bare or (bare.startswith("<") and bare.endswith(">")) else f"<{bare}>"
