"""The types of blobs, of messages as mail programs write them."""

import pytest

from koukan.blob.bodies import BytesBody
from koukan.message.blob_types import blob_types
from koukan.message.parser import MessageParser

# An invitation as Outlook sends it by Exchange, with a spreadsheet's export, a picture and a forwarded message.
MESSAGE = b"""\
From: Ann <ann@example.com>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="_006_"

--_006_
Content-Type: multipart/alternative; boundary="_000_"

--_000_
Content-Type: text/plain; charset="iso-8859-1"
Content-Transfer-Encoding: quoted-printable

Gr=FC=DFe
--_000_
Content-Type: text/calendar; charset="utf-8"; method=REQUEST
Content-Transfer-Encoding: base64

QkVHSU46VkNBTEVOREFSDQo=
--_000_--
--_006_
Content-Type: image/PNG; name="logo.png"
Content-Disposition: attachment; filename="logo.png"
Content-Transfer-Encoding: base64

iVBORw==
--_006_
Content-Type: text/csv; charset=windows-1252; name="=?iso-8859-1?Q?Gr=F6=DFe.csv?="
Content-Disposition: attachment

a;\x80
--_006_
Content-Type: application/pdf\xe4\xf6; name=x.pdf
Content-Disposition: attachment

%PDF
--_006_
Content-Type: message/rfc822

From: eve@example.com

inner
--_006_
Content-Type: text/rfc822-headers

From: eve@example.com
--_006_--
"""


@pytest.fixture
def types() -> list[str]:
    parser = MessageParser(max_inline=0)
    parser.feed(MESSAGE.replace(b"\n", b"\r\n"))
    parsed = parser.result(BytesBody(MESSAGE))
    named = blob_types(parsed.document)
    parsed.close()
    assert set(named) == set(parsed.blobs)
    return [named[blob_id] for blob_id in sorted(named, key=int)]


def test_every_blob_has_its_own_type(types: list[str]) -> None:
    assert types == [
        "text/plain; charset=utf-8",
        'text/calendar; charset=utf-8; method="REQUEST"',
        "image/png",
        "text/csv; charset=utf-8",
        "application/octet-stream",
        "text/plain; charset=utf-8",
        "message/rfc822",
        "text/rfc822-headers",
    ]


def test_what_is_no_document_has_no_blobs() -> None:
    assert blob_types({}) == blob_types({"parts": 3, "text_body": [7, {"content_type": "a/b"}]}) == {}
