"""Signatures of ours verified by dkimpy, and the other way round: two implementations that share no code of the hashes."""

import asyncio
import logging
from pathlib import Path

import dkim
import pytest

from koukan.auth.dkim.hashing import read_message
from koukan.auth.dkim.keys import KeyFile
from koukan.auth.dkim.sign import Signer, new_body_hash
from koukan.auth.dkim.verify import Status, Verdict, verify
from koukan.blob.bodies import BytesBody
from koukan.net.dns import Answer
from koukan.net.dns import Status as DnsStatus
from tests.support.dkim_keys import KeyPair, rsa_key

MESSAGES = Path(__file__).parents[2] / "data" / "messages"
MESSAGE = (MESSAGES / "multipart.msg").read_bytes()
ODD = (
    b"From: Ann <ann@example.com>\r\nSubject:\r\nTo:\tbob@example.org ,\r\n\t  carol@example.org \t\r\nX-Empty: \r\n"
    b"Subject: twice\r\n\r\n \t\r\n  a  b\t\tc \r\n\r\n"
)


class Texts:
    """Every name has this record."""

    def __init__(self, record: str) -> None:
        self.record = record.encode()

    async def txt(self, name: str) -> Answer[bytes]:
        return Answer(DnsStatus.OK, (self.record,))


@pytest.fixture(scope="module")
def key() -> KeyPair:
    return rsa_key()


def ours(message: bytes, key: KeyPair) -> Verdict:
    [verdict] = asyncio.run(verify(BytesBody(message), Texts(key.record), 2_000_000_000)).verdicts
    return verdict


@pytest.mark.parametrize("message", [MESSAGE, ODD, ODD[:-4], b"From: a@b.example\r\n\r\n"], ids=range(4))
def test_dkimpy_verifies_what_we_sign(message: bytes, key: KeyPair, tmp_path: Path) -> None:
    async def sign() -> bytes:
        body_hash = new_body_hash()
        headers = await read_message(BytesBody(message), lambda _: [body_hash])
        signer = Signer("example.com", "s", KeyFile(key.write(tmp_path / "key.pem")))
        return await signer.sign(headers, body_hash.digest(), 1_700_000_000)

    signed = asyncio.run(sign()) + message
    assert ours(signed, key).status is Status.PASS
    assert verified_by_dkimpy(signed, key)
    assert not verified_by_dkimpy(signed.replace(b"From: ", b"From: x"), key)


@pytest.mark.parametrize("body", ["simple", "relaxed"])
@pytest.mark.parametrize("header", ["simple", "relaxed"])
@pytest.mark.parametrize("message", [MESSAGE, ODD], ids=["multipart", "odd"])
def test_we_verify_what_dkimpy_signs(message: bytes, header: str, body: str, key: KeyPair) -> None:
    signed = signed_by_dkimpy(message, key, header, body)
    assert ours(signed, key).status is Status.PASS
    assert ours(signed + b"x", key).status is Status.FAIL


def test_a_body_that_is_not_signed_to_its_end_is_no_pass(key: KeyPair) -> None:
    signed = signed_by_dkimpy(MESSAGE, key, "relaxed", "simple", length=True)
    assert ours(signed, key).status is Status.PASS
    appended = signed + b"appended\r\n"
    assert verified_by_dkimpy(appended, key)
    assert ours(appended, key).reason == "the body is not signed to its end"


def signed_by_dkimpy(message: bytes, key: KeyPair, header: str, body: str, *, length: bool = False) -> bytes:
    canonicalize = (header.encode(), body.encode())
    own: bytes = dkim.sign(message, b"s", b"example.com", key.pem, canonicalize=canonicalize, length=length)
    return own + message


def verified_by_dkimpy(message: bytes, key: KeyPair) -> bool:
    quiet = logging.getLogger("tests.dkimpy")
    result: bool = dkim.verify(message, logger=quiet, dnsfunc=lambda name, timeout=5: key.record.encode())
    return result
