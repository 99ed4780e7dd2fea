"""The embedded data set is what it is meant to be: hard for a linear model, not for a ResNet."""

import json

import numpy as np
import pytest

from experiments import cifar_resnet, command_line
from jaxlessons.data import cifar10
from jaxlessons.data.download import Source

pytestmark = pytest.mark.slow


@pytest.fixture
def offline(monkeypatch, tmp_path):
    nowhere = Source((tmp_path / "nowhere" / "a.tar.gz").as_uri(), 1, "0" * 64)
    monkeypatch.setattr(cifar10, "ARCHIVE", nowhere)
    monkeypatch.chdir(tmp_path)


def test_a_linear_model_stays_below_60_percent():
    """Least squares on all 50,000 images' pixels, the best linear fit there is."""
    images = cifar10.shapes()

    def features(pixels):
        return np.concatenate([pixels.reshape(-1, 3072) / 255 - 0.5, np.ones((len(pixels), 1))], 1)

    gram, product = np.eye(3073), np.zeros((3073, 10))
    for part in np.array_split(np.arange(50_000), 20):
        x = features(images.train_images[part])
        gram += x.T @ x
        product += x.T @ np.eye(10)[images.train_labels[part]]
    guess = features(images.test_images) @ np.linalg.solve(gram, product)
    assert np.mean(np.argmax(guess, 1) == images.test_labels) < 0.6


def test_offline_the_job_says_so_and_its_resnet_passes_95_percent(
    offline, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("sys.argv", ["cifar_resnet", "--name", "x"])
    command_line.run(cifar_resnet.main)
    output = capsys.readouterr()
    assert "Data: shapes (made by a formula, since no data folder was given and " in output.out
    assert "could not be reached" in output.out
    assert "CIFAR-10" not in output.err  # the progress line
    result = json.loads((tmp_path / "runs" / "cifar_resnet" / "x" / "result.json").read_text())
    assert result["data"] == "shapes"
    assert result["test_accuracy"] > 0.95
