"""Names in six invented languages: what there is to learn from where no real names can be had.

Each language has letters that its syllables begin with, vowels, letters that they end with, and
endings of names. They share some, and one of them has nearly half of the names, so that a
classifier's mistakes and its bias have something to show.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Language(NamedTuple):
    """share: of the names. The others are alternatives, separated by spaces; _ is nothing."""

    share: float
    starts: str
    vowels: str
    stops: str
    endings: str


LANGUAGES = {
    "Avelian": Language(0.44, "l m n v r s t k", "a e i o", "_ _ n l r", "ia elle ov a"),
    "Borgish": Language(0.22, "b g d k br gr st", "u o å", "rk ld g nd", "sen ung ov"),
    "Cendri": Language(0.14, "s ts ch y k m", "a i u o", "_ _ _ n", "ko moto ra a"),
    "Dwelt": Language(0.10, "w th d h wh l", "e ea i", "l n th _", "ton ley win"),
    "Esparan": Language(0.06, "p c r qu l m", "a o e ué", "_ s r n", "ez illo ano a"),
    "Fjonn": Language(0.04, "f fj h sk l m", "ö y i ø", "nn l r _", "sen dóttir ur"),
}


def make(count: int, seed: int) -> tuple[list[str], list[str]]:
    """`count` names, and the language of each, drawn from `seed`."""
    random = np.random.RandomState(seed)
    shares = [language.share for language in LANGUAGES.values()]
    labels = random.choice(list(LANGUAGES), count, p=shares)
    return [_name(random, LANGUAGES[label]) for label in labels], [str(label) for label in labels]


def _name(random: np.random.RandomState, language: Language) -> str:
    def one(of: str) -> str:
        return str(random.choice(of.split())).replace("_", "")

    syllables = random.randint(1, 4)
    parts = [part for _ in range(syllables) for part in language[1:4]]
    return "".join(map(one, [*parts, language.endings])).capitalize()
