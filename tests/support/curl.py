"""As much of curl as the documentation uses, for machines without it: `python curl.py [OPTION…] URL`."""

from __future__ import annotations

import argparse
import re
import sys
import urllib.error
import urllib.request
from http.client import HTTPResponse
from pathlib import Path


def main(arguments: list[str]) -> None:
    """One request."""
    options = _options().parse_intermixed_args(arguments)
    data = options.data.encode() if options.data is not None else None
    if options.upload is not None:
        data = Path(options.upload).read_bytes()
    method = options.method or ("PUT" if options.upload else "POST" if data is not None else "GET")
    headers = dict(line.split(": ", 1) for line in options.header)
    request = urllib.request.Request(options.url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            _show(answer, options.output, options.write_out)
    except urllib.error.HTTPError as refused:  # curl shows these as it does any other answer
        with refused:
            _show(refused, options.output, options.write_out)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="curl")
    parser.add_argument("-sS", action="store_true", required=True)
    parser.add_argument("-X", dest="method")
    parser.add_argument("-H", dest="header", action="append", default=[])
    parser.add_argument("-d", dest="data")
    parser.add_argument("-T", dest="upload")
    parser.add_argument("-o", dest="output")
    parser.add_argument("-w", dest="write_out", default="")
    parser.add_argument("url")
    return parser


def _show(answer: HTTPResponse | urllib.error.HTTPError, output: str | None, write_out: str) -> None:
    content = answer.read()
    if output is None:
        sys.stdout.write(content.decode())
    else:
        Path(output).write_bytes(content)
    sys.stdout.write(re.sub(r"%header\{([\w-]+)\}", lambda name: answer.headers.get(name[1], ""), write_out))


if __name__ == "__main__":
    main(sys.argv[1:])
