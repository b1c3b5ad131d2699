"""Every link, path, module and make target that the documentation names exists."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.support.docs import ROOT

PAGES = sorted(
    str(page.relative_to(ROOT))
    for page in (
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("charts/**/*.md"),
        *ROOT.glob("examples/**/*.md"),
    )
)
#: where a path may begin; examples/plugins is what PYTHONPATH names
_ROOTS = ("", "koukan", "operator", "examples/plugins")
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_QUOTED = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)*(?:/|\.(?:py|md|yaml|toml))(?:: \w+)?")
_IN_A_COMMAND = re.compile(r"(?:^|[\s=])((?:examples|charts|docs|koukan|operator|tests|crds)/[\w./-]*)")
_TARGET = re.compile(r"(?:^|\$ |`)make ([a-z][a-z-]*)", re.MULTILINE)


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def prose_of(page: str) -> str:
    return _FENCED.sub("", text_of(page))


def anchors(page: Path) -> set[str]:
    """What links to the headings of a page end in; the second heading of a name has a number."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#+ (.+)$", _FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE):
        name = re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-")
        found.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return found


def existing(path: str) -> Path | None:
    return next((ROOT / root / path for root in _ROOTS if (ROOT / root / path).exists()), None)


def missing_links(page: str) -> list[str]:
    missing = []
    for link in _LINK.findall(prose_of(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, fragment = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        if not target.exists() or (fragment and fragment not in anchors(target)):
            missing.append(link)
    return missing


def missing_paths(text: str) -> list[str]:
    """Paths in backticks that lead nowhere; `file.py: name` must hold that name, too."""
    missing = []
    for quoted in _QUOTED.findall(text):
        if "/" not in quoted.rstrip("/") or _PATH.fullmatch(quoted) is None:
            continue
        path, _, name = quoted.partition(": ")
        found = existing(path)
        if found is None or (name and re.search(rf"\b(?:def|class) {name}\b", found.read_text()) is None):
            missing.append(quoted)
    return missing


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    assert missing_links(page) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_path_in_the_text_exists(page: str) -> None:
    assert missing_paths(prose_of(page)) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_path_in_a_command_exists(page: str) -> None:
    named = _IN_A_COMMAND.findall("\n".join(_FENCED.findall(text_of(page))))
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_exists(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    assert set(_TARGET.findall(text_of(page))) <= targets


def test_every_module_of_the_source_map_exists() -> None:
    rows = [
        line.split(" | ", 1)
        for line in text_of("docs/architecture.md").splitlines()
        if re.match(r"\| `\w+/\w+/`", line)
    ]
    assert len(rows) > 12
    for room, content in rows:
        folder = ROOT / room.strip("| `")
        for name in _QUOTED.findall(content):
            if re.fullmatch(r"\w+/?", name):
                assert (folder / name.rstrip("/")).is_dir() or (folder / f"{name}.py").is_file(), (room, name)


def test_every_module_of_the_picture_exists() -> None:
    picture = "\n".join(_FENCED.findall(text_of("docs/architecture.md")))
    modules = re.findall(r"\b([a-z]+)\.([a-z_]+)\b", picture)
    assert len(modules) > 10
    assert [pair for pair in modules if not (ROOT / "koukan" / pair[0] / f"{pair[1]}.py").is_file()] == []


def test_every_room_is_on_the_source_map() -> None:
    page = text_of("docs/architecture.md")
    rooms = [
        init.parent for init in (*ROOT.glob("koukan/*/__init__.py"), ROOT / "operator/koukan_operator/__init__.py")
    ]
    assert [room for room in rooms if f"| `{room.relative_to(ROOT)}/` |" not in page] == []


def test_every_page_is_reached_from_the_readme() -> None:
    linked = {link.partition("#")[0] for page in PAGES for link in _LINK.findall(prose_of(page))}
    names = {Path(link).name for link in linked}
    assert [page for page in PAGES if page.startswith("docs/") and Path(page).name not in names] == []


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("see `koukan/no_such.py`", ["koukan/no_such.py"]),
        ("see `router/exploder.py: no_such`", ["router/exploder.py: no_such"]),
        ("see `docs/nowhere/`", ["docs/nowhere/"]),
        ("see `router/exploder.py: Exploder`, `config/loader.py`, `acme_mail/stamp.py`, `text/plain`", []),
    ],
)
def test_a_path_that_leads_nowhere_is_found(text: str, missing: list[str]) -> None:
    assert missing_paths(text) == missing
