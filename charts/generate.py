"""Writes what the chart has from elsewhere: `python charts/generate.py [--check]`.

* files/crds/: copies of crds/, since a chart cannot read files outside its folder;
* README.md: the introduction README.md.tmpl and the values, from the comments of values.yaml.

A key is documented by the comment lines above it. A mapping whose first key has a comment is a group: its keys are
documented one by one. `# +section=NAME` opens a section. `# For example:` and what follows it, indented, is an example.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

CHART = Path(__file__).parent / "koukan"
VALUES = CHART / "values.yaml"
INTRODUCTION = CHART / "README.md.tmpl"
README = CHART / "README.md"
CRDS = CHART.parent.parent / "crds"
CRD_COPIES = CHART / "files" / "crds"
SECTION = "# +section="


@dataclass(frozen=True)
class Value:
    """One documented key. `default` is JSON."""

    path: str
    section: str
    comment: str
    default: str


class Undocumented(Exception):
    """A key of values.yaml has no comment."""


def values(text: str) -> list[Value]:
    """Every documented key in the order of the file. Raises Undocumented."""
    root = yaml.compose(text, yaml.SafeLoader)
    return list(_walk(root, "", text.splitlines())) if isinstance(root, yaml.MappingNode) else []


def render(introduction: str, found: list[Value]) -> str:
    """The README: the introduction, then a table of values for each section."""
    lines = [introduction.rstrip(), "", "## Values"]
    section = None
    for value in found:
        if value.section != section:
            section = value.section
            lines += ["", f"### {section}", "", "| Value | Default | Description |", "| --- | --- | --- |"]
        lines.append(f"| `{value.path}` | {_default(value.default)} | {_cell(value.comment)} |")
    return "\n".join(lines) + "\n"


def _walk(node: yaml.MappingNode, prefix: str, lines: list[str]) -> Iterator[Value]:
    for key, child in node.value:
        path = f"{prefix}{key.value}"
        if isinstance(child, yaml.MappingNode) and child.value and _comment(child.value[0][0], lines):
            yield from _walk(child, f"{path}.", lines)
            continue
        comment = _comment(key, lines)
        if not comment:
            raise Undocumented(f"{VALUES.name}:{key.start_mark.line + 1}: {path} has no comment above it")
        default = yaml.SafeLoader("").construct_document(child)
        yield Value(path, _section(key, lines), comment, json.dumps(default))


def _comment(key: yaml.Node, lines: list[str]) -> str:
    """The comment lines right above the key, without their signs."""
    start = number = key.start_mark.line
    while number and lines[number - 1].strip().startswith("#") and SECTION not in lines[number - 1]:
        number -= 1
    return "\n".join(line.strip()[1:].removeprefix(" ") for line in lines[number:start])


def _section(key: yaml.Node, lines: list[str]) -> str:
    above = reversed(lines[: key.start_mark.line])
    return next((line.removeprefix(SECTION) for line in above if line.startswith(SECTION)), "General")


def _default(default: str) -> str:
    return f"`{default}`" if len(default) <= 60 else "see values.yaml"


def _cell(comment: str) -> str:
    """A comment in one cell: its example stays in values.yaml, where it can be copied from."""
    text, _, _ = comment.partition("\nFor example:")
    return " ".join(text.split()).replace("|", "\\|")


def generated() -> dict[Path, str]:
    """Every file as it should be."""
    files = {CRD_COPIES / path.name: path.read_text() for path in sorted(CRDS.glob("*.yaml"))}
    return {**files, README: render(INTRODUCTION.read_text(), values(VALUES.read_text()))}


def out_of_step() -> list[Path]:
    """Files that are missing, other than they should be, or too many."""
    wanted = generated()
    wrong = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    return wrong + [path for path in CRD_COPIES.glob("*") if path not in wanted]


def main() -> int:
    """Run the command; answers its exit code."""
    parser = argparse.ArgumentParser(description="Write what the chart has from elsewhere.")
    parser.add_argument("--check", action="store_true", help="only say whether it is in step")
    options = parser.parse_args()
    wanted = generated()
    for path in out_of_step():
        if options.check:
            sys.stderr.write(f"error: {path} is out of step; run `make generate`\n")
        elif path in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path])
        else:
            path.unlink()
    return 1 if out_of_step() else 0


if __name__ == "__main__":
    sys.exit(main())
