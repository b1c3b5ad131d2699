"""`koukan send`: compose a message, submit it by REST, show what becomes of it.

Exit codes: 0 every recipient has been delivered to, 1 one has failed for good, 75 (EX_TEMPFAIL of sysexits.h) one is still
being tried, 2 the command or the server cannot be used.
"""

from __future__ import annotations

import argparse
import mimetypes
import time
from pathlib import Path
from typing import Any

from koukan.cli.process import EXIT_FAILED, EXIT_OK, EXIT_UNUSABLE, print_error, run
from koukan.errors import StartupError, UpstreamError
from koukan.rest.http import HttpClients
from koukan.rest.submission import Message, Progress, Submission

EXIT_TEMPFAIL = 75
#: seconds that the outcome is waited for unless told otherwise
_TIMEOUT = 60.0


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "send",
        help="send a message by REST and show its outcome",
        description="Compose a message, submit it to a router by REST and show its progress until it is final. Exit code 0: "
        "delivered, 1: failed for good, 75: still being tried when --timeout was over.",
    )
    parser.add_argument(
        "--url",
        default="http://127.0.0.1:8000/senders/submission/transactions",
        help="where the router takes transactions of the sender; default: %(default)s",
    )
    parser.add_argument("--tag", help="tag of the sender")
    parser.add_argument("--ca-file", metavar="FILE", help="certificate authority of the router (PEM)")
    parser.add_argument("--from", dest="mail_from", required=True, metavar="ADDRESS", help="sender")
    parser.add_argument("--to", action="append", required=True, metavar="ADDRESS", help="recipient (repeatable)")
    parser.add_argument("--subject", default="", help="subject")
    parser.add_argument("--text", help="plain text body")
    parser.add_argument("--html", help="HTML body")
    parser.add_argument(
        "--attach", action="append", type=Path, default=[], metavar="FILE", help="attachment (repeatable)"
    )
    parser.add_argument(
        "--inline", action="append", default=[], metavar="CID=FILE", help="picture for cid:CID in --html"
    )
    parser.add_argument("--eml", type=Path, metavar="FILE", help="send this message (RFC 5322) as it is")
    parser.add_argument(
        "--timeout",
        type=float,
        default=_TIMEOUT,
        metavar="SECONDS",
        help="wait this long for the outcome; default: %(default)g",
    )
    parser.set_defaults(run=run_send)


def run_send(options: argparse.Namespace) -> int:
    try:
        message = _message(options)
    except StartupError as error:
        print_error(error)
        return EXIT_UNUSABLE
    return run(_send(options, message))


async def _send(options: argparse.Namespace, message: Message) -> int:
    clients = HttpClients()
    submitted: list[Progress] = []
    refused: StartupError | None = None
    try:
        submission = Submission(clients, options.url, tag=options.tag, verify=options.ca_file or True)
        try:
            for recipient in options.to:
                submitted.append(await submission.submit(options.mail_from, recipient, message))
        except UpstreamError as error:
            refused = StartupError(str(error))
        # Those before the one that cannot be submitted are on their way, and must not be sent a second time.
        codes = [await _follow(submission, progress, options.timeout) for progress in submitted]
    finally:
        await clients.close()
    if refused is not None:
        raise refused
    return max(codes, key=lambda code: (code == EXIT_FAILED, code))


async def _follow(submission: Submission, progress: Progress, timeout: float) -> int:
    print(f"{progress.rcpt_to}: {progress.location}", flush=True)
    started = time.monotonic()
    shown = ""
    async for seen in submission.follow(progress, timeout):
        document, answer = seen.document, seen.answer
        line = f"attempt {document.attempt_count or 0}: {answer or 'under way'}"
        if document.final_attempt_reason is not None:
            line += f" ({document.final_attempt_reason})"
        if line != shown:
            print(f"  {time.monotonic() - started:7.3f} s  {line}", flush=True)
            shown = line
    answer = progress.answer
    if answer is not None and answer.ok:
        return EXIT_OK
    if progress.final:
        return EXIT_FAILED
    print(f"  still being tried after {timeout:g} s", flush=True)
    return EXIT_TEMPFAIL


def _message(options: argparse.Namespace) -> Message:
    """What the options describe. Raises StartupError."""
    composed = options.text is not None or options.html is not None or options.attach or options.inline
    if options.eml is not None:
        if composed or options.subject:
            raise StartupError(
                "--eml is a whole message: it goes with none of --subject, --text, --html, --attach, --inline"
            )
        return Message(eml=_existing(options.eml))
    files: dict[str, Path] = {}
    spec: dict[str, Any] = {
        "headers": [
            ["from", [{"address": options.mail_from}]],
            ["to", [{"address": rcpt} for rcpt in options.to]],
            ["subject", options.subject],
            ["date", {"unix_secs": int(time.time())}],
        ]
    }
    text = "" if options.text is None and options.html is None else options.text
    bodies = [("text/plain", text), ("text/html", options.html)]
    spec["text_body"] = [
        {"content_type": kind, "content": {"inline": body}} for kind, body in bodies if body is not None
    ]
    related = [_related(item, files) for item in options.inline]
    attached = [_attached(path, files) for path in options.attach]
    return Message({**spec, "related_attachments": related, "file_attachments": attached}, files)


def _related(item: str, files: dict[str, Path]) -> dict[str, Any]:
    cid, equals, name = item.partition("=")
    if not equals or not cid:
        raise StartupError(f"--inline: must be CID=FILE, got {item!r}")
    return {**_part(Path(name), files), "content_id": f"<{cid}>"}


def _attached(path: Path, files: dict[str, Path]) -> dict[str, Any]:
    return {**_part(path, files), "filename": path.name}


def _part(path: Path, files: dict[str, Path]) -> dict[str, Any]:
    name = f"file{len(files)}"
    files[name] = _existing(path)
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return {"content_type": kind, "content": {"create_id": name}}


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise StartupError(f"{path}: there is no such file")
    return path
