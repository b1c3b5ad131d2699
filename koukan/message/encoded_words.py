"""Text beyond ASCII in header fields (RFC 2047)."""

from __future__ import annotations

import base64
import binascii
import re

from koukan.message import charset

#: characters of one encoded word (RFC 2047 §2)
MAX_WORD = 75

WORD = re.compile(r"=\?([^?\s]+)\?([bBqQ])\?([^?\s]*)\?=")
# What programs write as a word, too: with spaces, and with question marks that they should have encoded.
_MARKS = 5
_LOOSE_WORD = re.compile(rf"=\?([^?\s]+)\?([bBqQ])\?([^?\r\n]*(?:(?<!=)\?(?!=)[^?\r\n]*){{0,{_MARKS}}}+)\?=")
# White space between two encoded words belongs to neither (RFC 2047 §6.2).
_WORDS = re.compile(rf"{_LOOSE_WORD.pattern}(?:[ \t]*+{_LOOSE_WORD.pattern})*+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_Q_HEX = re.compile(rb"=([0-9a-fA-F]{2})")
_Q_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-!*+/")
_Q_CODE = [chr(octet) if octet in _Q_PLAIN else "_" if octet == 0x20 else f"={octet:02X}" for octet in range(256)]


def decode(text: str) -> str:
    """The text that `text` stands for. Never fails: what is no proper encoded word stays or becomes U+FFFD.

    Octets that are no UTF-8 may stand in it as lone surrogates: within a word they are of its charset.
    Control characters become U+FFFD, so that no encoded word smuggles a line end into whatever the text goes to.
    """
    if "=?" in text:
        text = _WORDS.sub(_decode_run, text)
    return harmless(text)


def harmless(text: str) -> str:
    """`text` with U+FFFD for every control character but TAB, and for octets that are no UTF-8."""
    if text.isprintable():
        return text
    if _SURROGATE.search(text):
        text = charset.octets(text).decode("utf-8", "replace")
    return _CONTROL.sub("\ufffd", text)


def well_formed(word: re.Match[str]) -> bool:
    """Whether a match of WORD decodes without loss."""
    data, intact = _word_bytes(word)
    return intact and charset.decode(data, _charset(word))[1]


def encode(text: str, room: int = MAX_WORD) -> list[str]:
    """`text` as encoded words in UTF-8, to be put on a line each; `room` is what the first line has left.

    The shorter of the two encodings is taken, Q where it costs little more, and no character is split (RFC 2047 §5).
    """
    data = text.encode()
    encoding = "b" if len(base64.b64encode(data)) + 5 < sum(len(_Q_CODE[octet]) for octet in data) else "q"
    words: list[str] = []
    limit = min(room, MAX_WORD)
    taken, size = "", 0
    for character in text:
        cost = _cost(character, encoding)
        if taken and _length(size + cost, encoding) > limit:
            words.append(_encode_word(taken, encoding))
            taken, size, limit = "", 0, MAX_WORD
        taken += character
        size += cost
    if taken:
        words.append(_encode_word(taken, encoding))
    return words


def _decode_run(words: re.Match[str]) -> str:
    """The text of neighbouring words. Those of one charset are joined first: some senders split in the midst of a character."""
    texts: list[str] = []
    data, name = bytearray(), ""
    for word in _LOOSE_WORD.finditer(words[0]):
        if _charset(word) != name:
            texts.append(charset.decode(data, name)[0])
            data, name = bytearray(), _charset(word)
        data += _word_bytes(word)[0]
    texts.append(charset.decode(data, name)[0])
    return "".join(texts)


def _charset(word: re.Match[str]) -> str:
    return word[1].partition("*")[0].lower()  # what follows is a language (RFC 2231 §5)


def _word_bytes(word: re.Match[str]) -> tuple[bytes, bool]:
    content = charset.octets(word[3])
    if word[2] in "qQ":
        return _Q_HEX.sub(_octet, content.replace(b"_", b" ")), True
    return _decode_b(content)


def _octet(code: re.Match[bytes]) -> bytes:
    return bytes((int(code[1], 16),))


def _decode_b(content: bytes) -> tuple[bytes, bool]:
    missing = -len(content) % 4
    try:
        return base64.b64decode(content + b"=" * missing, validate=True), missing == 0
    except binascii.Error:
        return _decode_damaged_b(content), False


def _decode_damaged_b(content: bytes) -> bytes:
    """What is of the alphabet decodes; what is too short for that stays as it is, so that readers see something."""
    try:
        return base64.b64decode(content + b"==", validate=False)
    except binascii.Error:
        return content


def _cost(character: str, encoding: str) -> int:
    data = character.encode()
    return len(data) if encoding == "b" else sum(len(_Q_CODE[octet]) for octet in data)


def _length(size: int, encoding: str) -> int:
    """Characters of a word whose content costs `size`: octets for B, characters for Q."""
    return len("=?utf-8?x??=") + (size if encoding == "q" else (size + 2) // 3 * 4)


def _encode_word(text: str, encoding: str) -> str:
    data = text.encode()
    content = base64.b64encode(data).decode() if encoding == "b" else "".join(_Q_CODE[octet] for octet in data)
    return f"=?utf-8?{encoding}?{content}?="
