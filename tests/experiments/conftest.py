import contextlib
import io
import json
import os
import shutil
import signal
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from names_files import LANGUAGES, SMALL, write
from PIL import Image

from experiments import (
    cifar_cnn,
    cifar_inception,
    cifar_resnet,
    command_line,
    device_config,
    names_report,
    report,
)
from experiments import names as names_of_people
from experiments.journal import Journal
from jaxlessons import weights
from jaxlessons.data import cifar10
from jaxlessons.data.cifar10 import ImageSet
from jaxlessons.data.name_files import read
from jaxlessons.data.shapes import CLASSES, make_shapes
from jaxlessons.models import vgg
from jaxlessons.weights import Weights

MAINS = {
    "cifar_cnn": cifar_cnn.main,
    "cifar_resnet": cifar_resnet.main,
    "cifar_inception": cifar_inception.main,
}


@pytest.fixture(autouse=True)
def one_core(monkeypatch):
    """So that how many devices a CPU plays does not depend on the machine."""
    monkeypatch.setattr(device_config, "cores", lambda: 1)


@pytest.fixture(scope="session")
def small_images():
    """200 training and 50 test images of the embedded set, under a name of their own."""
    train, test = make_shapes(200, seed=0), make_shapes(50, seed=1)
    return ImageSet("small", "a test", CLASSES, *train, *test, (0.5,) * 3, (0.25,) * 3)


# As in test_cifar, whose tests share what is compiled for it: fifteen steps, five an epoch.
SIMPLE = "cifar_cnn --model simple --epochs 3 --batch-size 32 --validation 40"


def run_main(main, words, *, undrawn=None, interrupt_at=None, by=signal.SIGINT):
    """The exit code of a script's main, called with these words.

    undrawn: (module, what in it draws), which is left out. interrupt_at: the step after which the
    signal comes.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words)
        if undrawn is not None:
            patch.setattr(*undrawn, lambda *_: {})
        if interrupt_at is not None:
            patch.setattr(Journal, "on_steps", _interrupting(interrupt_at, by))
        try:
            command_line.run(main)
        except SystemExit as end:
            return end.code or 0
        return 0


def _interrupting(at, by):
    original = Journal.on_steps

    def on_steps(self, step, sums):
        original(self, step, sums)
        if step == at:
            os.kill(os.getpid(), by)

    return on_steps


@pytest.fixture(scope="session")
def main_run():
    """`run_main`, for fixtures of a module's scope."""
    return run_main


@pytest.fixture
def run_in(monkeypatch, tmp_path, capsys):
    """run_in(main, words, ...): as `run_main`, in a folder of the test's own, with its output."""
    monkeypatch.chdir(tmp_path)

    def call(main, words, **settings):
        code = run_main(main, words, **settings)
        output = capsys.readouterr()
        folder = tmp_path / "runs" / words[0]
        return SimpleNamespace(code=code, out=output.out, err=output.err, folder=folder)

    return call


@pytest.fixture
def run(run_in, monkeypatch, small_images):
    """run(words, interrupt_at=step): the experiment's exit code, output and runs folder.

    Figures take most of such a short run: they are drawn only when asked for.
    """
    monkeypatch.setattr(cifar10, "load", lambda data_dir: small_images)

    def call(command, draw=False, **settings):
        words = command.split()
        return run_in(
            MAINS[words[0]], words, undrawn=None if draw else (report, "draw"), **settings
        )

    return call


@pytest.fixture(scope="session")
def _begun(tmp_path_factory, small_images):
    """SIMPLE's runs "whole", finished, and "stopped", interrupted so that it stopped at step 9."""
    root = tmp_path_factory.mktemp("begun")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cifar10, "load", lambda data_dir: small_images)
        patch.chdir(root)
        for name, interrupt_at in (("whole", None), ("stopped", 8)):
            words = f"{SIMPLE} --name {name}".split()
            drawing = (report, "draw")
            run_main(cifar_cnn.main, words, undrawn=drawing, interrupt_at=interrupt_at)
    return root / "runs" / "cifar_cnn"


@pytest.fixture
def begun(_begun, tmp_path):
    """begun(name): the test's own copy of SIMPLE's run "whole" or "stopped", for `run` to find."""
    return lambda name: shutil.copytree(_begun / name, tmp_path / "runs" / "cifar_cnn" / name)


@pytest.fixture
def narrow_vgg16(monkeypatch):
    """VGG16 with four channels a layer, and made-up weights."""
    monkeypatch.setattr(vgg, "LAYERS", dict.fromkeys(vgg.LAYERS, 4))
    random = np.random.RandomState(0)
    params = {
        name: {
            "kernel": random.normal(0, 0.3, shape).astype(np.float32),
            "bias": np.full(4, 0.1, np.float32),
        }
        for name, shape in vgg.kernel_shapes().items()
    }
    monkeypatch.setattr(weights, "vgg16", lambda file=None: Weights(params, vgg.MEAN, "made up"))


@pytest.fixture
def whole_folder():
    """(folder, what else is in it): asserts that a run left that and its figures, each a PNG."""

    def check(folder, others):
        pictures = {path.name for path in folder.glob("*.png")}
        common = {"config.json", "metrics.jsonl", "result.json", "checkpoints"}
        assert {path.name for path in folder.iterdir()} == common | others
        assert pictures == {name for name in others if name.endswith(".png")}
        for name in pictures:
            assert (folder / name).read_bytes().startswith(b"\x89PNG")

    return check


@pytest.fixture
def parameters():
    """(run's folder, its step) -> every array of the checkpoint's parameters, by name."""
    import orbax.checkpoint as ocp

    def read(folder, step, kind="checkpoints", collection="params"):
        with ocp.CheckpointManager(folder / kind) as manager:
            tree = manager.restore(step, args=ocp.args.StandardRestore())
        from flax.traverse_util import flatten_dict

        return {k: np.asarray(v) for k, v in flatten_dict(tree[collection], sep=".").items()}

    return read


@pytest.fixture(scope="session")
def disc_photos(tmp_path_factory):
    """Red photos with a bright disc somewhere, and blue ones: 16 and 6 of each."""
    root = tmp_path_factory.mktemp("photos") / "discs"
    random = np.random.RandomState(0)
    rows, columns = np.mgrid[0:32, 0:40]
    for split, count in (("train", 16), ("valid", 6)):
        for channel, name in ((0, "red"), (2, "blue")):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                photo = random.randint(0, 60, (32, 40, 3))
                centre = random.randint(6, 26), random.randint(10, 30)
                disc = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < 36
                photo[disc, channel] = 250
                Image.fromarray(photo.astype(np.uint8)).save(root / split / name / f"{i:02}.png")
    return root


@pytest.fixture
def narrow_vgg(monkeypatch):
    """VGG16 with six channels a layer, fewer layers, and weights that let a colour through."""
    kept = [
        name for name in vgg.LAYERS if name.endswith(("conv1", "pool")) or name == "block5_conv3"
    ]
    monkeypatch.setattr(vgg, "LAYERS", dict.fromkeys(kept, 6))
    random, params = np.random.RandomState(1), {}
    for name, shape in vgg.kernel_shapes().items():
        kernel = random.normal(0, 0.15 * shape[2] ** -0.5, shape)
        kernel[1, 1] += np.resize(np.eye(shape[2]), (shape[2], 6))
        params[name] = {
            "kernel": kernel.astype(np.float32),
            "bias": np.full(6, 0.1, np.float32),
        }
    found = Weights(params, vgg.MEAN, "made up")
    monkeypatch.setattr(weights, "vgg16", lambda file: found)
    return found


@pytest.fixture(scope="session")
def trained_names(main_run, tmp_path_factory):
    """A folder with two files, from which a run named "a" was trained; what was printed."""
    folder = tmp_path_factory.mktemp("names")
    train = write(folder / "train.csv", 900, 0)
    known = read(train)
    # Two names of both files, one of them with another label, and a letter that training lacks.
    more = [("Żukur", "Fjonn"), (known.names[0], known.labels[0])]
    more += [(known.names[1], next(x for x in LANGUAGES if x != known.labels[1]))]
    # And one longer than any of them, in letters that they have.
    more += [(known.names[0].lower() * 9, known.labels[0])]
    write(folder / "test.csv", 300, 1, more)
    files = f"--train-file {folder / 'train.csv'} --test-file {folder / 'test.csv'}"
    words = f"names {SMALL} {files} --name a --runs-dir {folder / 'runs'}".split()
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main_run(names_of_people.main, words) == 0
    run = folder / "runs" / "names" / "a"
    result = json.loads((run / "result.json").read_text())
    return SimpleNamespace(folder=folder, run=run, files=files, out=out.getvalue(), result=result)


@pytest.fixture
def run_names(run_in):
    """run(words, interrupt_at=step): code and output, in a folder of the test's own, undrawn."""

    def call(command, **settings):
        return run_in(
            names_of_people.main,
            f"names {command}".split(),
            undrawn=(names_report, "draw"),
            **settings,
        )

    return call
