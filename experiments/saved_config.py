"""What a run saved as JSON, checked: its config field by field, its records line by line."""

from __future__ import annotations

import json
import os
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from jaxlessons.errors import UserError, reason

LARGEST = 1e15  # of a step's number, or of seconds
REFUSED = object()  # what stands for a value that no type of a field takes
NAMES = {int: "a whole number", float: "a finite number", bool: "true or false", str: "a text"}
NAMES |= {Path: "a path", dict: "a table", type(None): "null"}


def read_object(path: Path, what: str, advice: str) -> dict[str, Any]:
    """The JSON object in a file; UserError, naming it as `what`, when it holds none."""
    try:
        return parse_object(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read as {what} ({reason(error)}): {advice}.") from error


def parse_object(text: str) -> dict[str, Any]:
    """The JSON object that `text` is; ValueError when it is none."""
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    return found


def record(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """The JSON object in a line of metrics.jsonl; UserError, naming file and line, for any other.

    Its step and seconds are numbers, if only a step where a training diverged.
    """
    try:
        found = parse_object(line.decode("utf-8"))
        for name in ("step",) if "diverged" in found else ("step", "seconds"):
            value: Any = found.get(name)
            if type(value) not in (int, float) or not 0 <= value <= LARGEST:
                raise ValueError(f"its {name} is no number from 0 on")
    except ValueError as error:
        raise UserError(
            f"{path} is damaged at line {number} ({reason(error)}): put that line right or delete "
            "it."
        ) from error
    return found


def fields(path: Path, saved: dict[str, Any], kind: type) -> dict[str, Any]:
    """Those of the dataclass `kind` that `saved`, read from `path`, has, in their own types.

    JSON knows neither tuples nor paths. A whole number may stand for any other.

    Raises UserError, naming the file and the field, for a value of another type.
    """
    found = {}
    for name, hint in typing.get_type_hints(kind).items():
        if name in saved:
            found[name] = _as(saved[name], hint)
            if found[name] is REFUSED:
                raise UserError(
                    f"{path} holds {_shown(saved[name])} as {name}, which must be "
                    f"{_described(hint)}: put that right, or start a new run."
                )
    return found


def _as(value: Any, hint: Any) -> Any:
    """`value` as the type `hint` has it; REFUSED when it is not of that type."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin is Literal:
        return value if type(value) is str and value in inner else REFUSED
    if origin in (typing.Union, types.UnionType):
        taken = (_as(value, one) for one in inner)
        return next((one for one in taken if one is not REFUSED), REFUSED)
    if origin is tuple:
        return _tuple(value, inner)
    if origin is dict:
        return _dict(value, inner)
    return _plain(value, hint)


def _tuple(value: Any, inner: tuple[Any, ...]) -> Any:
    if not isinstance(value, list):
        return REFUSED
    hints = [inner[0]] * len(value) if inner[-1] is ... else inner
    if len(hints) != len(value):
        return REFUSED
    items = tuple(_as(item, hint) for item, hint in zip(value, hints, strict=True))
    return REFUSED if REFUSED in items else items


def _dict(value: Any, inner: tuple[Any, ...]) -> Any:
    if not isinstance(value, dict):
        return REFUSED
    items = {_as(key, inner[0]): _as(item, inner[1]) for key, item in value.items()}
    return REFUSED if REFUSED in (*items, *items.values()) else items


def _plain(value: Any, hint: Any) -> Any:
    """A number, a text, a path, true or false, or null."""
    if hint is float and type(value) in (int, float):
        return value if abs(value) <= sys.float_info.max else REFUSED
    if hint in (str, Path):
        return hint(value) if type(value) is str and _is_text(value) else REFUSED
    return value if type(value) is hint else REFUSED


def _is_text(value: str) -> bool:
    """Whether it can be shown, and name a file."""
    try:
        return "\0" not in value and bool(os.fsencode(value) or not value)
    except UnicodeEncodeError:
        return False


def _shown(value: Any) -> str:
    if isinstance(value, list | dict):
        return f"a {'list' if isinstance(value, list) else 'table'} of {len(value):,}"
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _described(hint: Any) -> str:
    """The type, in words."""
    return " or ".join(dict.fromkeys(_words(hint)))


def _words(hint: Any) -> Iterator[str]:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        yield "one of " + ", ".join(inner)
    elif origin is tuple:
        count = "" if inner[-1] is ... else f"{len(inner)} times "
        yield f"a list of {count}{_described(inner[0])}"
    elif origin is dict:
        yield f"a table with {_described(inner[1])} for each name"
    elif inner:
        for one in inner:
            yield from _words(one)
    else:
        yield NAMES[hint]
