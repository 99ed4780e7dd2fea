"""The speedrun's script end to end, at small size."""

import dataclasses
import json
import os
import signal

import jax
import jax.monitoring
import numpy as np
import pytest

from experiments import cifar_speedrun, results_table, speedrun_config
from experiments.run_directory import RunDirectory
from experiments.speedrun_config import Config
from jaxlessons.data import cifar10
from jaxlessons.data.cifar10 import ImageSet
from jaxlessons.data.shapes import CLASSES, make_shapes


def images_of(count, tested):
    train, test = make_shapes(count, seed=0), make_shapes(tested, seed=1)
    return ImageSet("small", "a test", CLASSES, *train, *test, (0.5,) * 3, (0.25,) * 3)


@pytest.fixture
def run(run_in, monkeypatch):
    """run(words, images): the script on these images."""

    def call(words, images, **settings):
        monkeypatch.setattr(cifar10, "load", lambda data_dir: images)
        small = ["--peak-size", "32"] if "--peak-size" not in words else []
        return run_in(cifar_speedrun.main, ["cifar_speedrun", *words.split(), *small], **settings)

    return call


@pytest.mark.slow
def test_it_learns_shapes_and_tells_means_and_deviations(run, monkeypatch, tmp_path):
    images = images_of(1000, 100)
    result = run(
        "--optimizer muon --widths 8 16 16 --epochs 2 --batch-size 50 --seeds 2 --name mine",
        images,
    )
    assert result.code == 0, result.err
    folder = result.folder / "mine"
    names = {path.name for path in folder.iterdir()}
    figures = {"accuracies.png", "reliability.png"}
    assert names == {"config.json", "metrics.jsonl", "result.json", *figures}
    trials = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    found = json.loads((folder / "result.json").read_text())
    assert found["trainings"] == trials
    accuracies = [100 * trial["accuracy"] for trial in trials]
    assert [trial["seed"] for trial in trials] == [0, 1]
    assert trials[0] != trials[1]
    assert np.mean(accuracies) > 35  # chance is 10
    assert found["accuracy"] == pytest.approx([np.mean(accuracies), np.std(accuracies, ddof=1)])
    assert found["n"] == 2
    own = np.bincount(images.test_labels, minlength=10) / 100
    assert [c["share"] for c in found["classes"].values()] == pytest.approx(own.tolist())
    right = [c["accuracy"] for c in found["classes"].values()]
    assert 100 * np.dot(own, right) == pytest.approx(np.mean(accuracies))
    assert "expected calibration error" in result.out
    assert found["steps"] == 40
    assert (found["told"], found["examples"], found["parameters"]) == ("test", 100, 10_920)
    assert 0.8 < found["flops_xla"] / found["flops"] < 1.5
    rate = found["flops"] / found["seconds"][0]
    assert found["share_of_peak"] == pytest.approx(rate / found["peak_flops_per_second"])
    assert found["config"]["optimizer"] == "muon"
    assert f"small, test: {np.mean(accuracies):.2f} % mean accuracy" in result.out
    assert f"seed 1: accuracy {trials[1]['accuracy']:.2%}" in result.out
    assert "published" not in result.out  # these are no images of CIFAR-10
    monkeypatch.setattr(results_table, "RESULTS", tmp_path)
    name = "cifar_speedrun-94-muon-widths_8_16_16-2_epochs-cpu.json"
    assert results_table.record(folder).name == name
    row = results_table.tables([found])["cifar_speedrun"].splitlines()[-1]
    mean, deviation = found["accuracy"]
    what = "94, muon, widths 8 16 16, 2 epochs"
    assert row.startswith(f"| {what} | 10,920 | {mean:.2f} ± {deviation:.2f} % | 2 | ")


SHORT = "--optimizer nesterov --widths 4 6 4 --epochs 1 --batch-size 40 --validation 80"


@pytest.mark.slow
def test_validation_images_are_told_instead_and_not_trained_on(run, monkeypatch):
    seen = []
    original = cifar_speedrun.compile_parts

    def compile_parts(parts, plan, state, train, test, many):
        seen.extend([train, test])
        return original(parts, plan, state, train, test, many)

    monkeypatch.setattr(cifar_speedrun, "compile_parts", compile_parts)
    images = images_of(200, 50)
    result = run(f"{SHORT} --seeds 1 --warm-up", images)
    assert result.code == 0, result.err
    found = json.loads((result.folder / "94-nesterov" / "result.json").read_text())
    assert (found["told"], found["examples"], found["n"]) == ("validation", 80, 1)
    assert found["steps"] == 3
    train, told = (set(map(bytes, np.asarray(each))) for each in (seen[0].inputs, seen[1]))
    assert (len(train), len(told)) == (120, 80)
    assert train | told == set(map(bytes, images.train_images))


@pytest.mark.slow
def test_after_the_first_seed_nothing_is_compiled(run, monkeypatch):
    compiled, counts = [], []
    original = RunDirectory.append_metrics

    def note(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    def append(self, record):
        original(self, record)
        counts.append(len(compiled))

    monkeypatch.setattr(RunDirectory, "append_metrics", append)
    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        result = run(f"{SHORT} --seeds 3", images_of(200, 50))
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
    assert result.code == 0, result.err
    assert counts[0] > 0
    assert counts == [counts[0]] * 3
    assert "There is no GPU: " in result.out
    assert "Trainings: 3, of " in result.out


@pytest.mark.slow
def test_ctrl_c_says_where_the_seeds_so_far_are(run, monkeypatch):
    original = RunDirectory.append_metrics

    def append(self, record):
        original(self, record)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(RunDirectory, "append_metrics", append)
    result = run(f"{SHORT} --seeds 3 --name mine", images_of(200, 50))
    assert result.code == 130
    assert "Stopped: the seeds so far are in runs/cifar_speedrun/mine/metrics.jsonl." in result.err
    assert len((result.folder / "mine" / "metrics.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--seeds 0", "error: --seeds is 0: it must be above 0."),
        ("--epochs nan", "error: --epochs is nan: it must be above 0."),
        ("--target 97", "invalid choice '97' for argument '--target'"),
        ("--optimizer adam", "invalid choice 'adam' for argument '--optimizer'"),
        ("--momentum 1", "error: --momentum is 1.0: it must be from 0 to below 1."),
        ("--translate -1", "error: --translate is -1: it must be from 0 to below 32."),
        ("--cutout 33", "error: --cutout is 33: it must be from 0 to below 33."),
        ("--widths 8 0 8", "error: --widths is (8, 0, 8): each must be 1 or more."),
        ("--validation 200", "error: --validation is 200: there are 200 training images."),
        ("--batch-size 201", "error: The batch size is 201: it must be from 1 to the 200 training"),
        ("--batch-size 8 --name a/b", "error: --name is 'a/b': it must be a plain folder name."),
    ],
)
def test_a_sentence_and_a_code(run, words, sentence):
    result = run(words, images_of(200, 50))
    assert result.code not in (0, None)
    assert sentence in " ".join(result.err.replace("│", " ").split())
    assert "Traceback" not in result.err
    assert not result.folder.exists()


@pytest.mark.parametrize("target", ["94", "95", "96", "few"])
def test_help_shows_what_the_target_means(run, target):
    result = run(f"--help --target {target}", None)
    assert result.code == 0
    text = " ".join(result.out.replace("│", " ").split())
    for field in dataclasses.fields(Config):
        assert "--" + field.name.replace("_", "-") in text
    recipe = speedrun_config.asked_for(["--target", target])
    # On a CPU.
    assert (recipe.optimizer, recipe.widths, recipe.seeds) == ("nesterov", (16, 32, 32), 1)
    assert f"Length of each training. (default: {recipe.epochs})" in text
