"""Sender Policy Framework (RFC 7208, RFC 8616): may this client send mail for this domain?"""

from koukan.auth.spf.evaluator import Verdict, check_host
from koukan.auth.spf.record import Result

__all__ = ["Result", "Verdict", "check_host"]
