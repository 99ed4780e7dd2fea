import json
import re
import string
from collections import Counter

import numpy as np
import pytest

from jaxlessons.data.vocabulary import Vocabulary
from jaxlessons.errors import UserError

MIXED = "Ärger, 你好! e\u0301é 🙂🙃 \u00df\n\tÅ \U0001d518 👩‍🚀 привет"


def told(message):
    return pytest.raises(UserError, match=f"^{re.escape(message)}$")


def test_symbols_are_the_characters_in_code_point_order():
    vocabulary = Vocabulary.build("🙂b\nabä你a")
    assert vocabulary == Vocabulary(("\n", "a", "b", "ä", "你", "🙂"), lower=False, unknown=False)
    assert len(vocabulary) == 6
    tokens = vocabulary.encode("你ba🙂\n")
    assert tokens.dtype == np.int32
    assert tokens.tolist() == [4, 2, 1, 5, 0]
    assert vocabulary.decode([4, 2, 1, 5, 0]) == "你ba🙂\n"


def test_encoding_is_a_lookup_by_hand_and_comes_back_in_any_language():
    vocabulary = Vocabulary.build(MIXED)
    place = {symbol: index for index, symbol in enumerate(sorted(set(MIXED)))}
    assert vocabulary.encode(MIXED).tolist() == [place[symbol] for symbol in MIXED]
    assert vocabulary.decode(vocabulary.encode(MIXED)) == MIXED
    # A combining accent stays a character of its own.
    assert "\u0301" in vocabulary.symbols
    assert "é" in vocabulary.symbols


def test_rare_characters_become_the_unknown_symbol():
    text = "aaaa bbb cc d 你"
    vocabulary = Vocabulary.build(text, min_frequency=3)
    often = sorted(s for s, n in Counter(text).items() if n >= 3)
    assert vocabulary.symbols == ("�", *often) == ("�", " ", "a", "b")
    assert vocabulary.unknown
    assert vocabulary.encode("ab c你🙂\ud800").tolist() == [2, 3, 1, 0, 0, 0, 0]
    assert vocabulary.decode(np.array([2, 0, 3])) == "a�b"


def test_the_frequency_counted_is_that_of_the_text_as_it_is_looked_up():
    assert Vocabulary.build("AaBb", 2, lower=True).symbols == ("�", "a", "b")
    assert Vocabulary.build("AaBBb", 2).symbols == ("�", "B")
    assert Vocabulary.build("aab", 2, unknown=False).symbols == ("a",)
    assert Vocabulary.build("aab", 1, unknown=True).symbols == ("�", "a", "b")


def test_lower_casing_is_that_of_the_whole_text():
    text = "ÄΑΣ İSTANBUL Straße"
    vocabulary = Vocabulary.build(text, lower=True)
    assert vocabulary.decode(vocabulary.encode(text)) == text.lower()
    assert len(vocabulary.encode(text)) == len(text) + 1  # "İ" becomes two
    assert "ς" in vocabulary.symbols


def test_a_replacement_character_in_the_text_is_ordinary_unless_it_means_unknown():
    assert Vocabulary.build("a�z").symbols == ("a", "z", "�")
    vocabulary = Vocabulary.build("a�z", unknown=True)
    assert vocabulary.symbols == ("�", "a", "z")
    assert vocabulary.encode("�za").tolist() == [0, 2, 1]


def test_the_lessons_protocol_counts_as_torchtext_less_the_padding():
    often = string.ascii_lowercase + string.digits + string.punctuation[:16] + " \n"
    vocabulary = Vocabulary.build(often + (often * 2).upper() + "Ääëé", 3, lower=True)
    assert len(often) == 54
    assert vocabulary.symbols == ("�", *sorted(often))


def test_nothing_encodes_to_nothing():
    vocabulary = Vocabulary.build("abc")
    assert vocabulary.encode("").shape == (0,)
    assert vocabulary.decode([]) == ""


def test_a_vocabulary_outlives_json():
    for vocabulary in (
        Vocabulary.build(MIXED),
        Vocabulary.build(MIXED * 2 + "x", 2, lower=True),
        Vocabulary.build("a�", unknown=True),
        Vocabulary.build("a�"),
    ):
        assert Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json()))) == vocabulary


# What differs, for the message on resume.


@pytest.mark.parametrize(
    ("first", "second", "clause"),
    [
        (("abc",), ("cba",), None),
        (
            ("abc",),
            ("abcd",),
            "3 symbols against 4; 'd' (U+0064) only in the second",
        ),
        (
            ("abx",),
            ("aby",),
            "'x' (U+0078) only in the first; 'y' (U+0079) only in the second",
        ),
        (
            ("abcde",),
            ("a",),
            "5 symbols against 1; 'b' (U+0062), 'c' (U+0063), 'd' (U+0064) and 1 more only in the "
            "first",
        ),
        (("ab", 1, True), ("ab",), "lower-casing only in the first"),
        (("aabb",), ("aabb", 2), "2 symbols against 3; an unknown symbol only in the second"),
        # Equal symbols, but the same one means the unknown here and itself there.
        (
            ("�", 1, False, False),
            ("��a", 1, False, True),
            "1 symbols against 2; '�' (U+FFFD) only in the first; 'a' (U+0061) only in the second; "
            "an unknown symbol only in the second",
        ),
    ],
)
def test_a_difference_is_one_clause(first, second, clause):
    assert Vocabulary.build(*first).difference(Vocabulary.build(*second)) == clause


def test_the_first_character_without_a_symbol_of_its_own():
    plain = Vocabulary.build("beta")
    assert [plain.missing(text) for text in ("bate", "", "bezay", "Bet")] == [None, None, "z", "B"]
    lower = Vocabulary.build("abBCC", min_frequency=2, lower=True)  # a is rare, so unknown
    assert [lower.missing(text) for text in ("Bc", "CAB", "b\N{REPLACEMENT CHARACTER}")] == [
        None,
        "a",
        "\N{REPLACEMENT CHARACTER}",
    ]


# Bad input.


def test_a_character_outside_is_told_with_its_place():
    vocabulary = Vocabulary.build("the stars")
    with told(
        "The text has 'ü' (U+00FC) at position 7, which is not among the vocabulary's 7 symbols; "
        "leave it out, or train with a vocabulary that has it or an unknown symbol."
    ):
        vocabulary.encode("these süß")
    for symbol in ("\u0001", "🙂", "你"):
        with pytest.raises(UserError, match=re.escape(f"has {symbol!r} (U+{ord(symbol):04X}) at")):
            vocabulary.encode(symbol)
    with pytest.raises(UserError, match=re.escape("has '\\udcff' (U+DCFF) at position 1,")):
        vocabulary.encode("t\udcff")


def test_what_no_vocabulary_can_be_built_of_is_told():
    with told("The text is empty: a vocabulary needs at least one character."):
        Vocabulary.build("")
    with told("The minimum frequency is 0: it must be 1 or more."):
        Vocabulary.build("abc", 0)
    with told(
        "No character is 5 times in the text of 3 characters; give a longer text or a lower "
        "minimum frequency."
    ):
        Vocabulary.build("abc", 5)
    with told(
        "The text holds '\\udcff' (U+DCFF), half of a surrogate pair: it was not decoded as "
        "UTF-8; read it anew."
    ):
        Vocabulary.build("ab\udcff")


@pytest.mark.parametrize("token", [3, -1])
def test_a_token_outside_is_told(token):
    with told(
        f"Token {token} is outside the vocabulary of 3 symbols: the text was made with another "
        "vocabulary."
    ):
        Vocabulary.build("abc").decode([0, token, 1])


@pytest.mark.parametrize("tokens", [np.zeros((2, 2), np.int32), np.zeros(2)])
def test_tokens_are_a_row_of_integers(tokens):
    with pytest.raises(ValueError, match=r"tokens must be \[n\] integers"):
        Vocabulary.build("abc").decode(tokens)


GOOD = {"symbols": "ab", "lower": False, "unknown": False}


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (None, "it must hold symbols, lower, unknown"),
        ([1], "it must hold symbols, lower, unknown"),
        ({"symbols": "ab"}, "it must hold symbols, lower, unknown"),
        (GOOD | {"more": 1}, "it must hold symbols, lower, unknown"),
        (GOOD | {"symbols": ["a", "b"]}, "symbols must be a str, not list"),
        (GOOD | {"lower": 1}, "lower must be a bool, not int"),
        (GOOD | {"unknown": None}, "unknown must be a bool, not NoneType"),
        (GOOD | {"symbols": ""}, "it has no symbols"),
        (
            GOOD | {"symbols": "ba"},
            "'a' (U+0061) comes after 'b' (U+0062), out of code point order",
        ),
        (
            GOOD | {"symbols": "aa"},
            "'a' (U+0061) comes after 'a' (U+0061), out of code point order",
        ),
        (GOOD | {"unknown": True}, "the first symbol must be the unknown one, '�' (U+FFFD)"),
        (
            GOOD | {"symbols": "�a�", "unknown": True},
            "the unknown symbol '�' (U+FFFD) is in it twice",
        ),
        (
            GOOD | {"symbols": "a\ud800"},
            "the symbol '\\ud800' (U+D800) is half of a surrogate pair",
        ),
    ],
)
def test_nonsense_for_a_vocabulary_is_refused(value, fault):
    with told(f"This is no vocabulary: {fault}."):
        Vocabulary.from_json(value)


def test_a_symbol_is_one_character():
    with told("This is no vocabulary: the symbol 'ab' is not one character."):
        Vocabulary(("ab",))
