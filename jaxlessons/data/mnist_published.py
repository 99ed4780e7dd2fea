"""MNIST and Fashion-MNIST as they were published: the files, their hashes, the names of classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from jaxlessons.data.download import Source

Name = Literal["mnist", "fashion_mnist"]


class Published(NamedTuple):
    """One of the data sets. folder: torchvision's name for it; sources: by the names of the files.

    mean, std: over the training images, with pixels in 0..1.
    """

    title: str
    homepage: str
    folder: str
    classes: tuple[str, ...]
    mean: float
    std: float
    sources: Mapping[str, Source]


def _sources(url: str, *published: tuple[str, int, str]) -> dict[str, Source]:
    """By the file's name without its .gz."""
    return {name: Source(f"{url}{name}.gz", size, sha256) for name, size, sha256 in published}


PUBLISHED: dict[str, Published] = {
    "mnist": Published(
        "MNIST",
        "http://yann.lecun.com/exdb/mnist/",
        "MNIST",
        tuple("0123456789"),
        0.1307,
        0.3081,
        _sources(
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            (
                "train-images-idx3-ubyte",
                9_912_422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            (
                "train-labels-idx1-ubyte",
                28_881,
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            ),
            (
                "t10k-images-idx3-ubyte",
                1_648_877,
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            ),
            (
                "t10k-labels-idx1-ubyte",
                4_542,
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
        ),
    ),
    "fashion_mnist": Published(
        "Fashion-MNIST",
        "https://github.com/zalandoresearch/fashion-mnist",
        "FashionMNIST",
        (
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
        0.2860,
        0.3530,
        _sources(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            (
                "train-images-idx3-ubyte",
                26_421_880,
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            ),
            (
                "train-labels-idx1-ubyte",
                29_515,
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            ),
            (
                "t10k-images-idx3-ubyte",
                4_422_102,
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            ),
            (
                "t10k-labels-idx1-ubyte",
                5_148,
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
        ),
    ),
}
