import pytest

from koukan.auth.alignment import Alignment, align, organizational_domain


@pytest.mark.parametrize(
    ("one", "other", "alignment"),
    [
        ("example.com", "example.com", Alignment.SAME),
        ("Example.COM.", "example.com", Alignment.SAME),
        ("bücher.example", "xn--bcher-kva.example", Alignment.SAME),
        ("mail.example.com", "news.example.com", Alignment.ORGANIZATION),
        ("example.com", "a.b.example.com", Alignment.ORGANIZATION),
        ("a.co.uk", "b.co.uk", Alignment.OTHER),
        ("co.uk", "a.co.uk", Alignment.OTHER),
        ("a.github.io", "b.github.io", Alignment.OTHER),
        ("example.com", "example.org", Alignment.OTHER),
        ("badexample.com", "example.com", Alignment.OTHER),
        ("localhost", "localhost", Alignment.SAME),
        ("com", "a.com", Alignment.OTHER),
        ("[192.0.2.1]", "[192.0.2.2]", Alignment.OTHER),
        ("", "", Alignment.SAME),
        ("..", "example.com", Alignment.OTHER),
        ("\ud800", "example.com", Alignment.OTHER),
    ],
)
def test_alignment(one: str, other: str, alignment: Alignment) -> None:
    assert align(one, other) is alignment
    assert align(other, one) is alignment


def test_a_public_suffix_is_nobodys() -> None:
    assert organizational_domain("co.uk") is None
    assert organizational_domain("a.b.example.co.uk") == "example.co.uk"
