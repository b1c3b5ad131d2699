"""Domains in configuration files: what no DNS can have is an error of the file, not of the first message."""

import pytest
from pydantic import ValidationError

from koukan.config.filters import AuthenticationResults, DkimKey


@pytest.mark.parametrize(
    "domain", ["example.com", "EXAMPLE.com", "a-1.example", "bücher.example", "xn--bcher-kva.example"]
)
def test_a_domain(domain):
    assert DkimKey(domain=domain, selector="s1", key="k").domain == domain


@pytest.mark.parametrize(
    "domain", ["", "a b", "-a.example", "a..example", "[192.0.2.1]", "a" * 64, "a\n.example", "\u200b.example"]
)
def test_what_is_no_domain(domain):
    with pytest.raises(ValidationError, match="must be a domain name such as"):
        DkimKey(domain=domain, selector="s1", key="k")


@pytest.mark.parametrize("name", ["", "mx.example.com a", "a\r\nb", "x" * 300])
def test_what_is_no_authserv_id(name):
    with pytest.raises(ValidationError):
        AuthenticationResults(filter="authentication_results", authserv_id=name)
