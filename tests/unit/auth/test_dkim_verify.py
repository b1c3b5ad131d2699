"""Verification against the examples of the RFCs, and against everything that can be wrong with a signature."""

import base64
from collections.abc import Callable
from pathlib import Path
from time import process_time
from types import SimpleNamespace

import dkim
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from koukan.auth.dkim.keys import KeyFile
from koukan.auth.dkim.sign import Signer, new_body_hash
from koukan.auth.dkim.hashing import read_message
from koukan.auth.dkim.verify import Status, Verdict, verify
from koukan.blob.bodies import BytesBody
from koukan.net.dns import Answer
from koukan.net.dns import Status as DnsStatus
from tests.support.dkim_keys import KeyPair, ed25519_key, rsa_key
from tests.support.nameserver import parse_zone
