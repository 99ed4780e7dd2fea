"""Files of names: what is read, and the one sentence that each bad one gets."""

import gzip
import re

import pytest

from jaxlessons.data import name_files
from jaxlessons.errors import UserError


def told(message):
    return pytest.raises(UserError, match=f"^{re.escape(message)}$")


def write(path, content, packed=False):
    content = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(content) if packed else content)
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_names_keep_their_letters_quotes_and_commas(tmp_path, packed):
    content = (
        '\ufeff"Łukasiewicz","Polish"\r\nO\'Neill,Irish\n\n'
        '"Sammy, ""the Bull""", Italian \nNuñez,Spanish\n山田,Japanese\nSee ,Chinese\n'
    )
    # The suffix says nothing: what is gzipped begins as such files do.
    rows = name_files.read(write(tmp_path / "any.data", content, packed))
    assert rows.names == ["Łukasiewicz", "O'Neill", 'Sammy, "the Bull"', "Nuñez", "山田", "See"]
    assert rows.labels == ["Polish", "Irish", "Italian", "Spanish", "Japanese", "Chinese"]
    assert rows.lines == [1, 2, 4, 5, 6, 7]


def test_a_letter_and_its_accent_are_one_letter(tmp_path):
    rows = name_files.read(write(tmp_path / "a.csv", "Nun\u0303ez,a\nNu\u00f1ez,b\n"))
    assert rows.names == ["Nu\u00f1ez"] * 2


def test_a_header_is_no_name_but_a_name_further_down_may_be_called_so(tmp_path):
    rows = name_files.read(write(tmp_path / "a.csv", "Name,Label\nAbe,x\nName,Label\n"))
    assert rows.names == ["Abe", "Name"]
    assert rows.lines == [2, 3]


@pytest.mark.parametrize(
    "header", ["name,label", "Surname,Nationality", '"NAMES","Country"', "last_name, language "]
)
def test_a_first_row_that_names_the_columns_is_no_name(tmp_path, header):
    rows = name_files.read(write(tmp_path / "a.csv", f"\n{header}\nAbe,x\n"))
    assert rows == (["Abe"], ["x"], [3])


@pytest.mark.parametrize("first", ["name,x", "Abe,country", "label,name"])
def test_what_is_no_header_is_a_name(tmp_path, first):
    rows = name_files.read(write(tmp_path / "a.csv", f"{first}\nname,label\n"))
    assert rows.lines == [1, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: it must have lines of a name and a label."),
        (b"\n\n", "holds no names: it must have lines of a name and a label."),
        (b"name,label\n", "holds no names: it must have lines of a name and a label."),
        (
            b"Abe,x\nBob\n",
            "has 1 column at line 2, where a name and its label are expected: a name with a comma "
            'stands in double quotes ("Sammy, Jr.",English).',
        ),
        (
            b"Abe,x\n\nSammy, Jr.,English\n",
            "has 3 columns at line 3, where a name and its label are expected: a name with a comma "
            'stands in double quotes ("Sammy, Jr.",English).',
        ),
        (
            b"Abe,x\n ,y\n",
            "has an empty name at line 2: put it right or leave the line out.",
        ),
        (
            b'"",x\nBob,y\n',
            "has an empty name at line 1: put it right or leave the line out.",
        ),
        (
            b"Abe,\n",
            "has an empty label at line 1: put it right or leave the line out.",
        ),
        (
            b"Abe,x\nB\x00b,y\n",
            "has a name with the character U+0000, no letter, at line 2: put it right or leave the "
            "line out.",
        ),
        (
            b'Abe,x\nBob,y\n"Cy\n",z\nDan,x\n"E\nd",y\n',
            "has a name with the character U+000A, no letter, at line 6: put it right or leave the "
            "line out.",
        ),
        (
            b"Abe,x\n" + b"B" * 201 + b",y\n",
            "has a name of 201 characters, more than 200, at line 2: put it right or leave the "
            "line out.",
        ),
        (
            b'Abe,x\n"Bob,y\nCy,z\n',
            "is not CSV at line 2 (unexpected end of data): put that line right.",
        ),
        (
            b'Abe,x\n"B"ob,y\n',
            "is not CSV at line 2 (',' expected after '\"'): put that line right.",
        ),
        (
            b"Abe,x\nJos\xe9,y\n",
            "is not UTF-8: its byte 0xE9 at offset 9 can't be decoded; save it as UTF-8.",
        ),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_what_makes_no_sense_is_told_with_its_line(tmp_path, content, message, packed):
    path = write(tmp_path / "a.csv", content, packed)
    with told(f"{path} {message}"):
        name_files.read(path)


def test_a_field_without_end_is_told_too(tmp_path):
    path = write(tmp_path / "a.csv", b"Abe,x\n" + b"B" * 200_000)
    with told(
        f"{path} is not CSV at line 2 (field larger than field limit (131072)): put that "
        "line right."
    ):
        name_files.read(path)


def test_what_is_no_file_is_told(tmp_path):
    path = tmp_path / "none.csv"
    with told(
        f"{path} can't be read (No such file or directory); check its name and its permissions."
    ):
        name_files.read(path)
    with told(f"{tmp_path} is not a regular file; name a CSV file."):
        name_files.read(tmp_path)


@pytest.mark.parametrize("cut", [-1, -8, 12, 4])
def test_a_gzip_file_that_was_cut_is_told(tmp_path, cut):
    whole = gzip.compress(b"Abe,x\nBob,y\n")
    path = write(tmp_path / "a.csv.gz", whole[:cut])
    with pytest.raises(UserError) as caught:
        name_files.read(path)
    assert str(caught.value).startswith(f"{path} is not a whole gzip file (")
    assert str(caught.value).endswith("): it is truncated or altered; get it again.")


def test_a_gzip_file_that_was_altered_is_told(tmp_path):
    blob = bytearray(gzip.compress(b"Abe,x\nBob,y\n"))
    blob[-6] ^= 1
    path = write(tmp_path / "a.csv.gz", bytes(blob))
    with pytest.raises(UserError, match=r"is not a whole gzip file \(CRC check failed"):
        name_files.read(path)


def test_a_small_file_that_unpacks_to_a_large_one_is_refused(tmp_path, little_memory, monkeypatch):
    monkeypatch.setattr(name_files, "MAX_BYTES", 10**6)
    path = write(tmp_path / "a.csv.gz", 100 * gzip.compress(bytes(10**6)))
    with told(
        f"{path} unpacks to more than 1,000,000 bytes: a file of names may have so many; cut it."
    ):
        name_files.read(path)


def test_a_large_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "a.csv"
    with path.open("wb") as file:
        file.truncate(name_files.MAX_BYTES + 1)
    with told(f"{path} has more than 50,000,000 bytes: a file of names may have so many; cut it."):
        name_files.read(path)
