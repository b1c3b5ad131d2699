"""`${NAME|form}`: a variable written for where it stands."""

import pytest

from koukan.config.files import load_router
from koukan.errors import ConfigError

ROUTER = """
rest_listener:
  addr: ["${POD_IP|any}", 8000]
  session_uri: "%s"
storage: {url: "postgresql://koukan:${PASSWORD|quote}@db/koukan", gc_interval: 60}
"""


def load(tmp_path, environment, session_uri="http://${POD_IP|host}:8000"):
    path = tmp_path / "router.yaml"
    path.write_text(ROUTER % session_uri)
    return load_router(str(path), {"PASSWORD": "p", **environment}).config


@pytest.mark.parametrize(
    ("address", "wildcard", "uri"),
    [("10.0.0.7", "0.0.0.0", "http://10.0.0.7:8000"), ("fd00::7", "::", "http://[fd00::7]:8000")],
)
def test_a_pod_address_of_either_family(tmp_path, address, wildcard, uri):
    config = load(tmp_path, {"POD_IP": address})
    assert config.rest_listener.addr.host == wildcard
    assert config.rest_listener.session_uri == uri


@pytest.mark.parametrize(("address", "name"), [("10.0.0.7", "10-0-0-7"), ("fd00::7", "fd00--7")])
def test_the_name_of_a_pod_below_a_headless_service(tmp_path, address, name):
    config = load(tmp_path, {"POD_IP": address}, "https://${POD_IP|dashed}.mail-pods.mail.svc:8000")
    assert config.rest_listener.session_uri == f"https://{name}.mail-pods.mail.svc:8000"


def test_a_password_with_characters_that_a_url_reserves(tmp_path):
    config = load(tmp_path, {"POD_IP": "10.0.0.7", "PASSWORD": "a/b:c@d%e"})
    assert config.storage.url == "postgresql://koukan:a%2Fb%3Ac%40d%25e@db/koukan"


def test_an_unknown_form_names_the_known_ones(tmp_path):
    with pytest.raises(ConfigError, match=r"router.yaml:4: \$\{POD_IP\|ip6\}: the forms are host, any, dashed, quote"):
        load(tmp_path, {"POD_IP": "10.0.0.7"}, "http://${POD_IP|ip6}:8000")


def test_what_is_no_address_has_no_wildcard(tmp_path):
    with pytest.raises(ConfigError, match="'mail' does not appear to be an IPv4 or IPv6 address"):
        load(tmp_path, {"POD_IP": "mail"})
