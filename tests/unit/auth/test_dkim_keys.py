import logging
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from koukan.auth.dkim.keys import CHECK_INTERVAL, KeyFile, load_key
from koukan.errors import ConfigError
from tests.support.dkim_keys import ed25519_key, rsa_key


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_replaced_file_is_read_again_after_some_seconds(tmp_path: Path) -> None:
    path, clock = tmp_path / "key.pem", Clock()
    key_file = KeyFile(rsa_key(1024).write(path), clock)
    old = key_file.get()
    replace(path, ed25519_key().pem)
    assert key_file.get() is old
    clock.now += CHECK_INTERVAL
    assert key_file.get().algorithm == "ed25519-sha256"


@pytest.mark.parametrize("content", [b"", b"no key", None])
def test_a_file_that_became_unusable_leaves_the_last_key_in_use(
    content: bytes | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, clock = tmp_path / "key.pem", Clock()
    key_file = KeyFile(ed25519_key().write(path), clock)
    old = key_file.get()
    if content is None:
        path.unlink()
    else:
        replace(path, content)
    for _ in range(3):
        clock.now += CHECK_INTERVAL
        assert key_file.get() is old
    assert len(caplog.records) == 1
    assert str(path) in caplog.text
    replace(path, rsa_key(1024).pem)
    clock.now += CHECK_INTERVAL
    assert key_file.get().algorithm == "rsa-sha256"


def replace(path: Path, content: bytes) -> None:
    """Another file under the same name, as Kubernetes does it."""
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.replace(path)


def test_bad_keys_are_errors_that_name_the_file(tmp_path: Path) -> None:
    elliptic = ec.generate_private_key(ec.SECP256R1())
    contents = {
        "missing.pem": (None, "No such file"),
        "empty.pem": (b"", "no private key in PEM form"),
        "public.pem": (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no private key in PEM form"),
        "curve.pem": (elliptic.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "of this kind"),
        "locked.pem": (
            elliptic.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")),
            "protected by a password",
        ),
    }
    for name, (content, reason) in contents.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ConfigError, match=reason) as error:
            load_key(str(path))
        assert str(error.value).startswith(str(path))


def test_short_keys_are_warned_of_or_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = rsa_key(1024).write(tmp_path / "key.pem")
    assert not load_key(path).slow
    assert caplog.record_tuples == [
        ("koukan.dkim", logging.WARNING, f"{path}: an RSA key of 1024 bits is weak, use 2048")
    ]
    monkeypatch.setattr("koukan.auth.dkim.keys.MIN_RSA_BITS", 1025)
    with pytest.raises(ConfigError, match="an RSA key of 1024 bits; verifiers accept none below 1025, use 2048"):
        load_key(path)


def test_long_keys_sign_off_the_loop(tmp_path: Path) -> None:
    assert load_key(rsa_key(3072).write(tmp_path / "key.pem")).slow
