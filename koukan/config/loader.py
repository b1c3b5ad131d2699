"""The one way to load a configuration file: YAML, `${NAME}` from the environment, types, references, warnings.

`${NAME|form}` writes the value for where it stands: `host` puts an IPv6 address into brackets (for a URL), `any` is the
wildcard address of its family (to listen on), `dashed` its name below a headless Service, `quote` escapes it for a URL.

Every problem is one line that names the file, the line, what is wrong and what would be right.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml
from pydantic import ValidationError

from koukan.config.base import ConfigModel
from koukan.errors import ConfigError

Model = TypeVar("Model", bound=ConfigModel)
#: keys and list positions that lead to a value
Path_ = tuple[str | int, ...]

#: message about a key that may not be there
UNKNOWN_KEY = "unknown key"

_VARIABLE = re.compile(r"\$(\$)?\{([^{}]*)\}")
#: nesting of a file; more is a mistake or an attack, and would exhaust the stack
_MAX_DEPTH = 50
#: values in a file, those that aliases repeat included
_MAX_VALUES = 100_000


def _wildcard(address: str) -> str:
    return "::" if ipaddress.ip_address(address).version == 6 else "0.0.0.0"


#: what may follow a variable's name: pod addresses are of either family, and passwords hold any character
_FORMS: dict[str, Callable[[str], str]] = {
    "host": lambda value: f"[{value}]" if ":" in value else value,
    "any": _wildcard,
    "dashed": lambda value: value.replace(".", "-").replace(":", "-"),
    "quote": lambda value: urllib.parse.quote(value, safe=""),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with the value at `path`."""

    path: Path_
    message: str


@dataclass(frozen=True, slots=True)
class Loaded(Generic[Model]):
    """A usable configuration and what its author should know about it."""

    config: Model
    warnings: list[str] = field(default_factory=list)
    #: unknown keys that look like a slip of the pen: `koukan check` fails on them
    typos: list[str] = field(default_factory=list)
    #: `file:line` of the value at a path
    where: Callable[[Path_], str] = field(default_factory=lambda: dotted)

    def located(self, error: ConfigError) -> ConfigError:
        """The error with file and line, where it knows the value that it is about."""
        return ConfigError(f"{self.where(error.path)}: {error}") if error.path else error


class _Document:
    """The plain data of a YAML file, with the line of every value."""

    def __init__(self, name: str, text: str, environment: Mapping[str, str]) -> None:
        self._name = name
        self._environment = environment
        self._lines: dict[Path_, int] = {}
        self._problems: list[str] = []
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
            if root is not None:
                self._note_lines(root, ())
            data = yaml.load(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as error:
            raise ConfigError(self._yaml_problem(error)) from None
        except RecursionError:
            raise ConfigError(f"{name}: broken YAML: nested too deeply") from None
        except ValueError as error:  # a date or number that cannot be, say
            raise ConfigError(f"{name}: broken YAML: {error}") from None
        if not isinstance(data, dict):
            raise ConfigError(f"{name}: must be a YAML mapping of stanzas")
        self.data = self._expand(data, ())
        if self._problems:
            raise ConfigError("\n".join(self._problems))

    def where(self, path: Iterable[str | int]) -> str:
        """`file:line` of the value at `path`, or of the nearest thing around it."""
        known = tuple(path)
        while known and known not in self._lines:
            known = known[:-1]
        return f"{self._name}:{self._lines.get(known, 1)}"

    def line(self, problem: Problem) -> str:
        """The problem as one line: where, what."""
        return f"{self.where(problem.path)}: {dotted(problem.path)}: {problem.message}"

    def _yaml_problem(self, error: yaml.YAMLError) -> str:
        if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
            reason = " ".join(filter(None, (error.problem, error.context)))
            return f"{self._name}:{error.problem_mark.line + 1}: broken YAML: {reason}"
        return f"{self._name}: broken YAML: {' '.join(str(error).split())}"

    def _note_lines(self, node: yaml.Node, path: Path_) -> None:
        if len(path) > _MAX_DEPTH:
            raise ConfigError(f"{self._name}:{node.start_mark.line + 1}: nested more than {_MAX_DEPTH} deep")
        if len(self._lines) > _MAX_VALUES:
            raise ConfigError(f"{self._name}:{node.start_mark.line + 1}: more than {_MAX_VALUES} values")
        self._lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode):
                    self._note_key((*path, key.value), key.start_mark.line + 1)
                    self._note_lines(value, (*path, key.value))
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                self._note_lines(value, (*path, index))

    def _note_key(self, path: Path_, line: int) -> None:
        # YAML forbids it, PyYAML takes the last one: half of the file would be ignored in silence. `<<` merges another mapping.
        if path in self._lines and path[-1] != "<<":
            first = self._lines[path]
            raise ConfigError(f"{self._name}:{line}: {dotted(path)}: is given twice, first in line {first}")
        self._lines[path] = line

    def _expand(self, value: Any, path: Path_) -> Any:
        if isinstance(value, str):
            return _VARIABLE.sub(lambda found: self._variable(found, path), value)
        if isinstance(value, dict):
            return {key: self._expand(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self._expand(item, (*path, index)) for index, item in enumerate(value)]
        return value

    def _variable(self, found: re.Match[str], path: Path_) -> str:
        escaped, text = found.groups()
        if escaped:
            return f"${{{text}}}"
        name, bar, form = text.partition("|")
        if name not in self._environment:
            self._problems.append(
                f"{self.where(path)}: environment variable {name!r} is not set; write $${{{text}}} if the text itself is meant"
            )
            return ""
        value = self._environment[name]
        return self._formed(name, value, form, path) if bar else value

    def _formed(self, name: str, value: str, form: str, path: Path_) -> str:
        if form not in _FORMS:
            self._problems.append(f"{self.where(path)}: ${{{name}|{form}}}: the forms are {', '.join(_FORMS)}")
            return ""
        try:
            return _FORMS[form](value)
        except ValueError as error:
            self._problems.append(f"{self.where(path)}: ${{{name}|{form}}}: {error}")
            return ""


def load(
    path: str,
    model: type[Model],
    check: Callable[[Model], tuple[list[Problem], list[Problem]]],
    environment: Mapping[str, str] | None = None,
) -> Loaded[Model]:
    """Load a file as `model`; `check` finds problems and warnings about references. Raises ConfigError."""
    document = read_document(path, environment)
    try:
        config = model.model_validate(document.data)
    except ValidationError as error:
        raise ConfigError("\n".join(map(document.line, validation_problems(document.data, error)))) from None
    problems, remarks = check(config)
    if problems:
        raise ConfigError("\n".join(map(document.line, problems)))
    warnings = [document.line(p) for p in remarks]
    typos: list[str] = []
    for unknown_path, holder in _unknown_keys(config, ()):
        suggestion = suggest(str(unknown_path[-1]), _keys(type(holder)))
        line = f"{document.where(unknown_path)}: unknown key {dotted(unknown_path)!r} is ignored{suggestion}"
        (typos if suggestion else warnings).append(line)
    return Loaded(config, warnings, typos, document.where)


def read_document(path: str, environment: Mapping[str, str] | None = None) -> _Document:
    """The file's data with variables expanded. Raises ConfigError."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise ConfigError(f"{path}: cannot read the configuration: {reason}") from None
    return _Document(path, text, os.environ if environment is None else environment)


def suggest(name: str, known: Iterable[str]) -> str:
    """`; did you mean …?` when something known is close to `name`, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f"; did you mean {close[0]!r}?" if close else ""


def _keys(model: type[ConfigModel]) -> list[str]:
    return [info.alias or name for name, info in model.model_fields.items()]


def _unknown_keys(value: Any, path: Path_) -> Iterable[tuple[Path_, ConfigModel]]:
    if isinstance(value, ConfigModel):
        if not value.open:
            for key in value.model_extra or ():
                if key not in value.ignored_keys:
                    yield (*path, key), value
        for name, info in type(value).model_fields.items():
            yield from _unknown_keys(getattr(value, name), (*path, info.alias or name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown_keys(item, (*path, index))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _unknown_keys(item, (*path, key))


def validation_problems(data: Any, error: ValidationError) -> Iterable[Problem]:
    """What pydantic found, in the house's words, with paths that exist in `data`."""
    for item in error.errors(include_url=False):
        path = _real_path(data, item["loc"], missing=item["type"] == "missing")
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "missing":
            message = f"is required{_misspelt(str(path[-1]), _at(data, path[:-1]))}"
        elif item["type"] == "extra_forbidden":
            message = UNKNOWN_KEY
        elif item["type"] != "value_error":
            message = f"{message[:1].lower()}{message[1:]}, got {_short(item['input'])}"
        yield Problem(path, message)


def _real_path(data: Any, loc: Sequence[str | int], *, missing: bool) -> Path_:
    """pydantic's location without the names of union members, which the file does not contain."""
    path: list[str | int] = []
    for position, step in enumerate(loc):
        inside = isinstance(data, dict) and step in data
        item = isinstance(data, list) and isinstance(step, int) and step < len(data)
        if inside or item:
            path.append(step)
            data = data[step]
        elif missing and position == len(loc) - 1:
            path.append(step)
    return tuple(path)


def _at(data: Any, path: Path_) -> Any:
    for step in path:
        data = data[step]
    return data


def _misspelt(key: str, holder: Any) -> str:
    close = (
        difflib.get_close_matches(key, [str(k) for k in holder], n=1, cutoff=0.7) if isinstance(holder, dict) else []
    )
    return f"; there is {close[0]!r}, is that meant?" if close else ""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def dotted(path: Path_) -> str:
    """`chain[0].policy.name`."""
    out = ""
    for step in path:
        out += f"[{step}]" if isinstance(step, int) else f".{step}" if out else step
    return out or "file"
