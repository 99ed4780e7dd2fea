"""The characters that a model knows, and text as their indices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from jaxlessons.errors import UserError

UNKNOWN = "\N{REPLACEMENT CHARACTER}"
CODES = np.dtype("<u4")  # code points, as UTF-32-LE has them
NAMED = 3  # how many symbols a message names


@dataclass(frozen=True)
class Vocabulary:
    """Characters in code point order; a character's token is its place among them.

    symbols: one character each. unknown: whether symbols[0] is U+FFFD and stands for every
    character that is not in the vocabulary. lower: whether text is lower-cased (`str.lower`)
    before it is looked up, which may change its length ("İ" becomes two characters).

    Raises UserError when the symbols are not as described.
    """

    symbols: tuple[str, ...]
    lower: bool = False
    unknown: bool = False

    def __post_init__(self) -> None:
        if fault := _fault(self):
            raise UserError(f"This is no vocabulary: {fault}.")

    @classmethod
    def build(
        cls,
        text: str,
        min_frequency: int = 1,
        lower: bool = False,
        unknown: bool | None = None,
    ) -> Vocabulary:
        """The characters that `text` holds at least `min_frequency` times.

        unknown: whether there is an unknown symbol; None: exactly when min_frequency > 1. Where
        there is one, a U+FFFD in the text counts as unknown. There is no padding symbol: fast.ai's
        56 on Nietzsche (lower, min_frequency 3) are 54 characters, <unk> and <pad>; here 55.

        Raises:
          UserError: when the text is empty, holds half of a surrogate pair (what Python makes of
            undecodable bytes on a command line), or no character often enough.
        """
        if min_frequency < 1:
            raise UserError(f"The minimum frequency is {min_frequency}: it must be 1 or more.")
        if not text:
            raise UserError("The text is empty: a vocabulary needs at least one character.")
        codes, counts = np.unique(_codes(text.lower() if lower else text), return_counts=True)
        if lone := [chr(code) for code in codes if _is_surrogate(chr(code))]:
            raise UserError(
                f"The text holds {describe(lone[0])}, half of a surrogate pair: it was not decoded "
                "as UTF-8; read it anew."
            )
        unknown = min_frequency > 1 if unknown is None else unknown
        often = [chr(code) for code in codes[counts >= min_frequency]]
        symbols = [symbol for symbol in often if not (unknown and symbol == UNKNOWN)]
        if not symbols:
            raise UserError(
                f"No character is {min_frequency} times in the text of {len(text):,} characters; "
                "give a longer text or a lower minimum frequency."
            )
        return cls((UNKNOWN,) * unknown + tuple(symbols), lower, unknown)

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, text: str) -> np.ndarray:
        """`[n]` int32: the tokens of `text`, n its length once it is lower-cased.

        Raises UserError for a character outside a vocabulary that has no unknown symbol.
        """
        text = text.lower() if self.lower else text
        codes, known = _codes(text), self._codes
        order = np.minimum(np.searchsorted(known, codes), len(known) - 1)
        outside = known[order] != codes
        if not self.unknown and outside.any():
            place = int(outside.argmax())
            raise UserError(
                f"The text has {describe(text[place])} at position {place:,}, which is not among "
                f"the vocabulary's {len(self):,} symbols; leave it out, or train with a vocabulary "
                "that has it or an unknown symbol."
            )
        tokens = np.where(outside, 0, order + int(self.unknown))
        return tokens.astype(np.int32)

    def missing(self, text: str) -> str | None:
        """The first character of `text` (once it is lower-cased) that has no symbol of its own."""
        text = text.lower() if self.lower else text
        known = set(self._known)
        return next((symbol for symbol in text if symbol not in known), None)

    def decode(self, tokens: Iterable[int] | np.ndarray) -> str:
        """The text of tokens `[n]`; the unknown symbol is shown as U+FFFD.

        Raises UserError for a token outside the vocabulary.
        """
        array = np.asarray(tokens if isinstance(tokens, np.ndarray) else list(tokens))
        if array.size == 0:
            return ""
        if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
            raise ValueError(f"tokens must be [n] integers, not {array.dtype} {array.shape}")
        if len(wrong := array[(array < 0) | (array >= len(self))]):
            raise UserError(
                f"Token {wrong[0]} is outside the vocabulary of {len(self):,} symbols: the text "
                "was made with another vocabulary."
            )
        return _codes("".join(self.symbols))[array].tobytes().decode("utf-32-le")

    def to_json(self) -> dict[str, Any]:
        """As JSON values, which `from_json` takes back."""
        return {"symbols": "".join(self.symbols), "lower": self.lower, "unknown": self.unknown}

    @classmethod
    def from_json(cls, value: object) -> Vocabulary:
        """What `to_json` made; UserError when `value` is anything else."""
        expected = {"symbols": str, "lower": bool, "unknown": bool}
        if not isinstance(value, dict) or set(value) != set(expected):
            raise UserError(f"This is no vocabulary: it must hold {', '.join(expected)}.")
        for name, kind in expected.items():
            if not isinstance(value[name], kind):
                raise UserError(
                    f"This is no vocabulary: {name} must be a {kind.__name__}, not "
                    f"{type(value[name]).__name__}."
                )
        return cls(tuple(value["symbols"]), value["lower"], value["unknown"])

    def difference(self, other: Vocabulary) -> str | None:
        """What this one (the first) and `other` (the second) differ in, one clause; else None."""
        if self == other:
            return None
        parts = []
        if len(self) != len(other):
            parts.append(f"{len(self):,} symbols against {len(other):,}")
        for mine, theirs, which in ((self, other, "first"), (other, self, "second")):
            if only := sorted(set(mine._known) - set(theirs._known)):
                named = ", ".join(describe(symbol) for symbol in only[:NAMED])
                more = f" and {len(only) - NAMED:,} more" if len(only) > NAMED else ""
                parts.append(f"{named}{more} only in the {which}")
            if mine.unknown and not theirs.unknown:
                parts.append(f"an unknown symbol only in the {which}")
            if mine.lower and not theirs.lower:
                parts.append(f"lower-casing only in the {which}")
        return "; ".join(parts)

    @cached_property
    def _known(self) -> tuple[str, ...]:
        """The symbols less the unknown one."""
        return self.symbols[int(self.unknown) :]

    @cached_property
    def _codes(self) -> np.ndarray:
        return _codes("".join(self._known))


def describe(symbol: str) -> str:
    """How a message names a character: 'ä' (U+00E4)."""
    return f"{symbol!r} (U+{ord(symbol):04X})"


def _codes(text: str) -> np.ndarray:
    """`[n]` code points, one a character."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), CODES)


def _is_surrogate(symbol: str) -> bool:
    return "\ud800" <= symbol <= "\udfff"


def _fault(vocabulary: Vocabulary) -> str | None:
    known = vocabulary._known
    if vocabulary.unknown and vocabulary.symbols[:1] != (UNKNOWN,):
        return f"the first symbol must be the unknown one, {describe(UNKNOWN)}"
    if not known:
        return "it has no symbols"
    for symbol in known:
        if len(symbol) != 1:
            return f"the symbol {symbol!r} is not one character"
        if _is_surrogate(symbol):
            return f"the symbol {describe(symbol)} is half of a surrogate pair"
        if vocabulary.unknown and symbol == UNKNOWN:
            return f"the unknown symbol {describe(UNKNOWN)} is in it twice"
    for before, after in pairwise(known):
        if before >= after:
            return f"{describe(after)} comes after {describe(before)}, out of code point order"
    return None
