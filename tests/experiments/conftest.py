import os
import signal
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from experiments import cifar_cnn, cifar_resnet, command_line, report
from experiments.journal import Journal
from jaxlessons.data import cifar10
from jaxlessons.data.cifar10 import ImageSet
from jaxlessons.data.shapes import CLASSES, make_shapes

MAINS = {"cifar_cnn": cifar_cnn.main, "cifar_resnet": cifar_resnet.main}


@pytest.fixture(scope="session")
def small_images():
    """200 training and 50 test images of the embedded set, under a name of their own."""
    train, test = make_shapes(200, seed=0), make_shapes(50, seed=1)
    return ImageSet("small", "a test", CLASSES, *train, *test, (0.5,) * 3, (0.25,) * 3)


@pytest.fixture
def run(monkeypatch, tmp_path, capsys, small_images):
    """run(words, interrupt_at=step): the experiment's exit code, output and runs folder.

    Figures take most of such a short run: they are drawn only when asked for.
    """
    monkeypatch.setattr(cifar10, "load", lambda data_dir: small_images)
    monkeypatch.chdir(tmp_path)

    def call(command, interrupt_at=None, draw=False, by=signal.SIGINT):
        experiment, *words = command.split()
        monkeypatch.setattr(sys, "argv", [experiment, *words])
        with monkeypatch.context() as patch:
            if not draw:
                patch.setattr(report, "draw", lambda *_: {})
            if interrupt_at is not None:
                patch.setattr(Journal, "on_steps", _interrupting(interrupt_at, by))
            code = 0
            try:
                command_line.run(MAINS[experiment])
            except SystemExit as end:
                code = end.code or 0
        output = capsys.readouterr()
        folder = tmp_path / "runs" / experiment
        return SimpleNamespace(code=code, out=output.out, err=output.err, folder=folder)

    return call


def _interrupting(at, by):
    original = Journal.on_steps

    def on_steps(self, step, sums):
        original(self, step, sums)
        if step == at:
            os.kill(os.getpid(), by)

    return on_steps


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
