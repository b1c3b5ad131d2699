"""Postfix as a relay, in a directory and on a port of its own: what Koukan is measured against."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup    unix n - n 60 1 pickup
cleanup   unix n - n - 0 cleanup
qmgr      unix n - n 300 1 qmgr
rewrite   unix - - n - - trivial-rewrite
bounce    unix - - n - 0 bounce
defer     unix - - n - 0 bounce
trace     unix - - n - 0 bounce
verify    unix - - n - 1 verify
flush     unix n - n 1000? 0 flush
proxymap  unix - - n - - proxymap
smtp      unix - - n - - smtp
relay     unix - - n - - smtp
error     unix - - n - - error
retry     unix - - n - - error
discard   unix - - n - - discard
anvil     unix - - n - 1 anvil
scache    unix - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
"""

_MAIN = """\
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = postfix.bench.example
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
relayhost = [127.0.0.1]:{sink}
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions =
smtpd_client_connection_rate_limit = 0
smtp_tls_security_level = none
smtp_dns_support_level = disabled
disable_dns_lookups = yes
smtp_host_lookup = native
alias_maps =
alias_database =
default_process_limit = 100
maillog_file = {directory}/maillog
maillog_file_prefixes = {directory}
"""


class Postfix:
    """A relay to the sink. Needs root, as Postfix does, and Debian's package."""

    def __init__(self, port: int, sink: int) -> None:
        self.port = port
        self.directory = Path(tempfile.mkdtemp(prefix="koukan-postfix-"))
        self.directory.chmod(0o755)
        for name in ("queue", "data", "etc"):
            (self.directory / name).mkdir()
        shutil.chown(self.directory / "data", "postfix")
        etc = self.directory / "etc"
        (etc / "main.cf").write_text(_MAIN.format(directory=self.directory, sink=sink))
        (etc / "master.cf").write_text(_MASTER.format(port=port))
        (etc / "dynamicmaps.cf").write_text("")

    @staticmethod
    def missing() -> str | None:
        """Why it cannot be run here; None when it can."""
        if not Path("/usr/sbin/postfix").exists():
            return "Postfix is not installed (Debian: apt-get install postfix)"
        return None if os.geteuid() == 0 else "Postfix can only be started by root"

    def start(self) -> int:
        """Start it: the pid of its master, whose children do the work."""
        self._postfix("start")
        pid = (self.directory / "queue" / "pid" / "master.pid").read_text()
        return int(pid)

    def stop(self) -> None:
        self._postfix("stop")
        shutil.rmtree(self.directory)

    def _postfix(self, action: str) -> None:
        done = subprocess.run(
            ["/usr/sbin/postfix", "-c", str(self.directory / "etc"), action],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        log = self.directory / "maillog"
        assert done.returncode == 0, f"postfix {action}: {done.stdout} {log.read_text() if log.exists() else ''}"
