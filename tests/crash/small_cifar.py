"""experiments.cifar_cnn on 240 images that a formula makes; a process of its own begins with it."""

from experiments import cifar_cnn, command_line
from jaxlessons.data import cifar10
from jaxlessons.data.cifar10 import ImageSet
from jaxlessons.data.shapes import CLASSES, make_shapes


def load(data_dir):
    train, test = make_shapes(200, seed=0), make_shapes(40, seed=1)
    return ImageSet("small", "a test", CLASSES, *train, *test, (0.5,) * 3, (0.25,) * 3)


if __name__ == "__main__":
    cifar10.load = load
    command_line.run(cifar_cnn.main)
