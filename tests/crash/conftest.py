from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from crash_processes import Case, Run, environment

WORDS = ("alpha ", "beta ", "gamma\n", "delta ", "été ")
CHAR = (
    "--preset lesson --cell gru --features 16 --embedding-size 8 --batch-size 4 --bptt 8 "
    "--min-frequency 1 --validation 0.1 --schedule cosine --epochs 20 --lr 0.02 --dropout 0.1 "
    "--output-dropout 0.1 --steps-per-call 10 --text text.txt"
)
CIFAR = (
    "--model bn --preset quick --epochs 12 --batch-size 40 --validation 40 --ema 0.9 --optimizer "
    "adam --lr 0.001"
)
CASES = {
    "char": Case(("-m", "experiments.char_rnn"), "char_rnn", tuple(CHAR.split())),
    "cifar": Case(
        (str(Path(__file__).with_name("small_cifar.py")),), "cifar_cnn", tuple(CIFAR.split())
    ),
}


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """runs(case, name, seed): a run in a folder that all these tests share."""
    folder = tmp_path_factory.mktemp("crash")
    order = np.random.RandomState(0).randint(0, len(WORDS), 800)
    text = "".join(WORDS[k] for k in order)[:1200]
    (folder / "text.txt").write_text(text, encoding="utf-8")
    own = environment(tmp_path_factory.mktemp("children_compiled"))
    taken = set()

    def run(case, name, seed=0, **more):
        assert (case, name) not in taken, (
            f"{case}-{name} was begun before, by another test or in vain"
        )
        taken.add((case, name))
        return replace(Run(CASES[case], folder, f"{case}-{name}", seed, own), **more)

    return run


@pytest.fixture(scope="session")
def unbroken(runs):
    """unbroken(case, seed): the run that nobody stopped, trained once."""
    found = {}

    def run(case, seed=0):
        if (case, seed) not in found:
            whole = runs(case, f"whole-{seed}", seed)
            with whole.begin() as process:
                assert process.end() == 0, process.err
            found[case, seed] = whole
        return found[case, seed]

    return run
