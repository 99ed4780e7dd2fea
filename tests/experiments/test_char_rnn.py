import io
import json
import math
import shutil
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import char_config, char_report, char_rnn, char_sample
from experiments.trained import find_checkpoint
from jaxlessons import checkpoint

WORDS = ("alpha ", "beta ", "gamma\n", "delta ", "été ")
SMALL = (
    "--preset lesson --cell gru --features 24 --embedding-size 8 --batch-size 4 --bptt 8 "
    "--min-frequency 1 --validation 0.1 --schedule constant --epochs 3 --lr 0.02 "
    "--steps-per-call 25"
)


def make_text(seed, words=WORDS):
    """A few words in random order: with SMALL 100 steps an epoch, in 4 calls of one length."""
    order = np.random.RandomState(seed).randint(0, len(words), 800)
    return "".join(words[k] for k in order)[:3567]


@pytest.fixture(scope="module")
def call(main_run):
    """call(folder, words): the exit code and what was printed, run in that folder."""

    def run(folder, command, interrupt_at=None, draw=False):
        with pytest.MonkeyPatch.context() as patch, Capture(patch) as output:
            patch.chdir(folder)
            words = ["char_rnn", *command.split()]
            # Drawing takes longer than all else in such a short run.
            undrawn = None if draw else (char_report, "draw")
            code = main_run(char_rnn.main, words, undrawn=undrawn, interrupt_at=interrupt_at)
        return SimpleNamespace(code=code, out=output.out(), err=output.err())

    return run


class Capture:
    """Standard output and error as text; capsys does not reach into module-scoped fixtures."""

    def __init__(self, patch):
        self.files = io.StringIO(), io.StringIO()
        patch.setattr(sys, "stdout", self.files[0])
        patch.setattr(sys, "stderr", self.files[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def out(self):
        return self.files[0].getvalue()

    def err(self):
        return self.files[1].getvalue()


@pytest.fixture(scope="module")
def trained(call, tmp_path_factory):
    """A folder with text.txt, in which a run named "a" has trained on it."""
    folder = tmp_path_factory.mktemp("char")
    (folder / "text.txt").write_text(make_text(0), encoding="utf-8")
    done = call(folder, f"{SMALL} --text text.txt --name a", draw=True)
    assert done.code == 0, done.err
    run = folder / "runs" / "char_rnn" / "a"
    return SimpleNamespace(folder=folder, run=run, out=done.out)


def arrays(path, step):
    about = checkpoint.read_about(path, step)
    model = char_config.make_model(about["model"])
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))["params"]
    return checkpoint.restore(path, shapes, step, part="params")


@pytest.mark.slow
def test_a_run_learns_and_leaves_its_whole_folder(trained):
    names = {path.name for path in trained.run.iterdir()}
    figures = {"curves.png", "reactions.png"}
    assert names == figures | {
        *("checkpoints", "config.json", "metrics.jsonl", "result.json", "samples.txt")
    }
    assert all((trained.run / f).read_bytes().startswith(b"\x89PNG") for f in figures)
    lines = (trained.run / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    result = json.loads((trained.run / "result.json").read_text())
    assert [record["epoch"] for record in records] == [1, 2, 3]
    best = min(record["validation_loss"] for record in records)
    assert result["best_validation_loss"] == best
    # That any of five words may come next is ln 5 nats in about 5.6 characters: 0.29 at best.
    assert 0.28 < best < 0.45 < records[0]["train_loss"]
    assert result["bits_per_character"] == pytest.approx(best / math.log(2))
    assert result["perplexity"] == pytest.approx(math.exp(best))
    assert f"{best:.4f} nats a character" in trained.out
    samples = (trained.run / "samples.txt").read_text(encoding="utf-8")
    assert all(f"== epoch {k}\n" in samples for k in (1, 2, 3))
    assert all(record["sample"] in samples for record in records)


@pytest.mark.slow
def test_the_validation_loss_is_that_of_each_stream_in_one_pass(trained):
    text, result = make_text(0), json.loads((trained.run / "result.json").read_text())
    held_back = text[int(len(text) * 0.9) :]
    assert result["validation_characters"] == len(held_back)
    step = round(result["best_epoch"] * 100)
    network = char_sample.load(trained.run / "checkpoints", step)
    tokens, targets = network.vocabulary.encode(held_back), len(held_back) - 1
    nats = []
    for lane in np.array_split(np.arange(targets), 4):
        logits, _ = network.model.apply(network.variables, jnp.asarray(tokens[None, lane]))
        wide = np.asarray(logits[0], np.float64)
        nats.append(np.log(np.exp(wide).sum(1)) - wide[np.arange(len(lane)), tokens[lane + 1]])
    assert len(np.concatenate(nats)) == targets
    assert result["best_validation_loss"] == pytest.approx(np.concatenate(nats).mean(), rel=1e-5)


@pytest.mark.slow
def test_ctrl_c_saves_and_resume_ends_bit_for_bit_like_an_unbroken_run(call, trained):
    words = f"{SMALL} --text text.txt --name broken"
    stopped = call(trained.folder, words, interrupt_at=125)
    assert stopped.code == 130
    # What is shown lags one call behind what is computed.
    assert "Stopped at step 150 of 300" in stopped.err
    assert call(trained.folder, "--resume --name broken").code == 0
    broken, whole = (trained.run.parent / name for name in ("broken", "a"))
    jax.tree.map(
        np.testing.assert_array_equal,
        arrays(broken / "checkpoints", 300),
        arrays(whole / "checkpoints", 300),
    )
    # An epoch that was broken off is two records; the rest is the same, but for the times.
    lines = [(path / "metrics.jsonl").read_text().splitlines() for path in (broken, whole)]
    ours, theirs = ([json.loads(line) for line in some] for some in lines)
    assert [record["step"] for record in ours] == [100, 150, 200, 300]
    for name in ("validation_loss", "sample", "train_loss"):
        assert [ours[0][name], ours[3][name]] == [theirs[0][name], theirs[2][name]]


@pytest.mark.slow
def test_sampling_takes_the_checkpoint_alone(call, trained, tmp_path):
    folder = trained.run / "checkpoints"
    step = find_checkpoint(folder, tmp_path, "char_rnn", None, best="loss")[1]
    shutil.copytree(folder / str(step), tmp_path / str(step))
    words = f"--sample beta --length 300 --checkpoint {tmp_path / str(step)}"
    done = call(tmp_path, words)
    assert done.code == 0, done.err
    written = done.out.removesuffix("\n")
    assert written.startswith("beta")
    assert len(written) == 304
    assert char_report.words_known(written, make_text(0)) > 0.8
    # The same seed writes the same, by default with the run's best network; another seed, other.
    assert call(trained.folder, "--name a --sample beta --length 300").out == done.out
    assert call(tmp_path, words + " --seed 1").out != done.out


@pytest.mark.slow
def test_many_samples_greedy_and_beams(call, trained):
    three = call(trained.folder, "--name a --sample alph --length 9 --samples 3").out
    assert [f"[{k}]\nalpha" in three for k in (1, 2, 3)] == [True] * 3
    greedy = call(trained.folder, "--name a --sample alph --length 2 --greedy")
    assert greedy.out == "alpha \n"
    beams = call(trained.folder, "--name a --sample alph --length 2 --beams 2").out
    assert beams.startswith("alpha \n[log probability -")
    scores = [float(line.split()[2]) for line in beams.splitlines() if line.startswith("[log")]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--sample Zeta?", "'z' (U+007A"),
        ("--sample beta --temperature 0", "temperature is 0"),
        ("--sample beta --temperature -1", "temperature is -1"),
        ("--sample beta --length 0", "--length is 0: it must be above 0"),
        ("--sample beta --checkpoint nowhere", "nowhere holds no checkpoint"),
        ("--sample beta --name nobody", "There is no trained network in"),
        ("--text text.txt --batch-size 9999", "is too short for 9,999 streams of 16"),
        ("--text short.txt", "too few to train on"),
        ("--text empty.txt", "empty.txt"),
        ("--text latin.txt", "its byte 0xE9 at offset 3"),
        ("--text missing.txt", "'missing.txt' is neither the name of a text"),
        ("--text text.txt --bptt 0", "--bptt is 0"),
        ("--text text.txt --cycles 3", "--cycles belongs to --schedule sgdr"),
        ("--text text.txt --schedule sgdr", "with sgdr name numbers from 1"),
        ("--text text.txt --dropout 1", "--dropout is 1.0"),
        ("--text text.txt --group-weight-decay nothing 0.1 --epochs 0.1", "'nothing' fits no"),
        ("--text text.txt --cell gru --backend cudnn", "for cell gru take one of auto"),
    ],
)
def test_wrong_input_gets_one_sentence(call, trained, words, message):
    (trained.folder / "short.txt").write_text("ab")
    (trained.folder / "empty.txt").write_text("")
    (trained.folder / "latin.txt").write_bytes("caf\xe9 and more".encode("latin-1"))
    done = call(trained.folder, words)
    assert done.code == 1
    assert done.err.splitlines()[-1].startswith("error: ")
    assert message in done.err.splitlines()[-1]


@pytest.mark.slow
def test_a_character_outside_the_vocabulary_is_named(call, trained):
    done = call(trained.folder, "--name a --sample be7a")
    assert done.code == 1
    assert "'be7a' has '7' (U+0037" in done.err
    assert "symbols that the network was trained on" in done.err


@pytest.mark.slow
def test_resume_with_another_text_is_refused(call, trained):
    words = f"{SMALL} --text other.txt --name other --epochs 1"
    path = trained.folder / "other.txt"
    path.write_text(make_text(1), encoding="utf-8")
    assert call(trained.folder, words, interrupt_at=50).code == 130

    path.write_text(make_text(1, (*WORDS, "zeta ")), encoding="utf-8")
    refused = call(trained.folder, "--resume --name other")
    assert refused.code == 1
    assert "has another vocabulary" in refused.err
    assert "'z'" in refused.err

    path.write_text(make_text(2), encoding="utf-8")
    refused = call(trained.folder, "--resume --name other")
    assert refused.code == 1
    assert "though its symbols are the same" in refused.err

    path.write_text(make_text(1), encoding="utf-8")
    refused = call(trained.folder, "--resume --name other --cell lstm")
    assert refused.code == 1
    assert "was begun with --cell gru" in refused.err

    (trained.folder / "moved").mkdir()
    path.rename(trained.folder / "moved" / "other.txt")
    assert "neither the name of a text" in call(trained.folder, "--resume --name other").err
    assert call(trained.folder, "--resume --name other --text moved/other.txt").code == 0


@pytest.mark.slow
def test_the_end_of_each_cycle_is_kept(call, trained):
    words = f"{SMALL} --text text.txt --name cycles --schedule sgdr --epochs 1 --cycles 2"
    done = call(trained.folder, f"{words} --weight-decay 1e-5 --group-weight-decay embedding 0")
    assert done.code == 0, done.err
    run = trained.run.parent / "cycles"
    # One epoch at a constant rate, then cycles of one epoch and of two.
    assert checkpoint.all_steps(run / "snapshots") == [200, 400]
    kept, last = arrays(run / "snapshots", 400), arrays(run / "checkpoints", 400)
    jax.tree.map(np.testing.assert_array_equal, kept, last)


@pytest.mark.slow
@pytest.mark.parametrize("batching", ["jittered", "sequential", "random"])
def test_every_batching_learns(call, trained, batching):
    words = f"{SMALL} --text text.txt --name {batching} --batching {batching} --epochs 3"
    done = call(trained.folder, words)
    assert done.code == 0, done.err
    result = json.loads((trained.run.parent / batching / "result.json").read_text())
    assert result["best_validation_loss"] < 0.5
