"""--swa-start, --ema, --snapshots, --tta and --lr-find, against the same figures by hand."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import cifar_config, cifar_lr_find, report
from jaxlessons import checkpoint, optim
from jaxlessons.data import augment
from jaxlessons.models.convnet import SimpleNet

# 160 training images: five steps an epoch, fifteen in all.
SIMPLE = "cifar_cnn --model simple --epochs 3 --batch-size 32 --validation 40 --name x"


def result(run, words):
    found = run(f"{SIMPLE} {words}")
    assert found.code == 0, found.err
    folder = found.folder / "x"
    return found, folder, json.loads((folder / "result.json").read_text())


@pytest.fixture(scope="session")
def probabilities(small_images):
    """(parameters by name, images) -> softmax of SimpleNet's logits, for the small test images."""

    def predict(params, images):
        nested = {}
        for name, value in params.items():
            layer, kind = name.split(".")
            nested.setdefault(layer, {})[kind] = value
        inputs = augment.normalize(images, small_images.mean, small_images.std)
        return np.asarray(jax.nn.softmax(SimpleNet().apply({"params": nested}, inputs)))

    return predict


def scores(probabilities, labels):
    own = probabilities[np.arange(len(labels)), labels]
    return np.mean(probabilities.argmax(1) == labels), -np.mean(np.log(own))


@pytest.mark.slow
def test_swa_averages_from_its_start_and_evaluates_both_networks(
    run, parameters, probabilities, small_images
):
    found, folder, final = result(run, "--swa-start 1 --swa-every 0.4 --keep 99 --augment")
    assert final["averaged"]["networks"] == 5  # after steps 7, 9, 11, 13 and 15
    averaged = parameters(folder, 15, "averaged")
    raw = parameters(folder, 15)
    assert any(np.abs(averaged[name] - raw[name]).max() > 1e-4 for name in raw)
    images, labels = small_images.test_images, small_images.test_labels
    for params, (accuracy, loss) in (
        (averaged, (final["averaged"]["test_accuracy"], final["averaged"]["test_loss"])),
        (raw, (final["test_accuracy"], final["test_loss"])),
    ):
        by_hand = scores(probabilities(params, images), labels)
        np.testing.assert_allclose((accuracy, loss), by_hand, rtol=1e-5)
    assert f"test accuracy {final['averaged']['test_accuracy']:.2%}" in found.out.splitlines()[-1]
    assert "validation_accuracy" in final["averaged"]


@pytest.mark.slow
def test_a_network_with_batch_norm_gets_statistics_for_its_average(run, parameters):
    words = "--model bn --epochs 2 --batch-size 32 --validation 0 --name x --ema 0.5"
    found = run(f"cifar_cnn {words}")
    assert found.code == 0, found.err
    folder = found.folder / "x"
    steps = checkpoint.latest_step(folder / "checkpoints")
    with_average = parameters(folder, steps, collection="batch_stats")
    averaged = parameters(folder, steps, "averaged", collection="batch_stats")
    assert with_average.keys() == averaged.keys()
    assert all(np.abs(averaged[name] - with_average[name]).max() > 0 for name in averaged)
    final = json.loads((folder / "result.json").read_text())
    assert final["averaged"]["networks"] == steps


@pytest.mark.slow
def test_an_average_survives_a_stop_bit_for_bit(run, parameters):
    words = "--swa-start 1 --swa-every 0.2 --snapshots 2 --preset lesson --epochs 3"
    whole = run(f"{SIMPLE} {words}".replace("--name x", "--name whole"))
    assert whole.code == 0, whole.err
    stopped = run(f"{SIMPLE} {words}".replace("--name x", "--name stopped"), interrupt_at=8)
    assert stopped.code == 130
    resumed = run("cifar_cnn --resume --name stopped")
    assert resumed.code == 0, resumed.err
    for part in ("averaged", "snapshots"):
        expected = parameters(whole.folder / "whole", 15, part)
        found = parameters(whole.folder / "stopped", 15, part)
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array)
    results = [
        json.loads((whole.folder / name / "result.json").read_text())
        for name in ("whole", "stopped")
    ]
    for part in ("averaged", "snapshots"):
        assert results[0][part] == results[1][part]


@pytest.mark.slow
def test_snapshots_are_the_ends_of_the_last_cycles_and_their_mean_predicts(
    run, parameters, probabilities, small_images
):
    # The lesson: two epochs at one rate, then two cycles of an epoch each.
    words = "--model simple --preset lesson --batch-size 8 --validation 40 --augment --snapshots 2"
    folder = run(f"cifar_cnn {words} --name x").folder / "x"
    final = json.loads((folder / "result.json").read_text())
    steps = checkpoint.all_steps(folder / "snapshots")
    assert steps == [60, 80]
    images, labels = small_images.test_images, small_images.test_labels
    members = [probabilities(parameters(folder, step, "snapshots"), images) for step in steps]
    accuracy, loss = scores(np.mean(members, axis=0), labels)
    assert final["snapshots"]["networks"] == 2
    assert final["snapshots"]["test_accuracy"] == accuracy
    assert final["snapshots"]["test_loss"] == pytest.approx(loss, rel=1e-5)


def test_more_snapshots_than_cycles_are_refused(run):
    found = run(f"{SIMPLE} --preset lesson --snapshots 3")
    assert found.code == 1
    assert (
        "--snapshots is 3: the schedule lesson of simple has 2 cycles, take as many at" in found.err
    )
    assert not found.folder.exists()


def test_a_network_trained_with_flips_is_averaged_over_the_mirror_image(
    run, parameters, probabilities, small_images
):
    found, folder, final = result(run, "--tta 4 --augment flip")
    images, labels = small_images.test_images, small_images.test_labels
    params = parameters(folder, 15)
    views = [probabilities(params, view) for view in (images, images[:, :, ::-1])]
    accuracy, loss = scores(np.mean(views, axis=0), labels)
    assert final["tta"] == {
        "views": 1,
        "test_accuracy": accuracy,
        "test_loss": pytest.approx(loss, rel=1e-5),
    }
    last = found.out.splitlines()[-1]
    assert last.startswith("averaged over the image and 1 augmented: test accuracy")


@pytest.mark.slow
def test_views_of_a_network_trained_with_crops_are_random_and_repeatable(run):
    _, _, first = result(run, "--tta 3 --augment flip crop")
    assert first["tta"]["views"] == 3
    assert first["tta"]["test_loss"] != first["test_loss"]
    second = run(f"{SIMPLE} --tta 3 --augment flip crop".replace("--name x", "--name y"))
    again = json.loads((second.folder / "y" / "result.json").read_text())
    assert again["tta"] == first["tta"]


@pytest.mark.parametrize(
    ("words", "views"),
    [
        ("", 0),
        ("cutout", 0),
        ("flip", 1),
        ("alternating_flip cutout", 1),
        ("crop", 3),
        ("flip crop", 3),
        ("crop alternating_flip", 3),
    ],
)
def test_a_view_is_mirrored_only_where_the_training_was(words, views):
    config = cifar_config.Config(augment=tuple(words.split()), tta=3)
    change, found = report.tta_views(config)
    assert found == views
    # A step at the edge of a plane that grows to the right: a mirror image falls.
    images = np.tile(np.arange(64, 96, dtype=np.uint8)[None, None, :, None], (60, 32, 1, 1))
    changed = np.asarray(change(jax.random.key(0), images)).astype(int)
    falls = changed[:, 16, 12, 0] > changed[:, 16, 20, 0]
    if views == 3:
        assert falls.any() == ("flip" in words)
        assert not falls.all()
        assert len(np.unique(changed[:, 16, 16])) > 3  # and it is moved
    elif views:
        np.testing.assert_array_equal(changed, images[:, :, ::-1])


def test_without_flips_and_crops_there_is_no_view_to_average_over(run):
    assert result(run, "--tta 4 --augment")[2]["tta"] is None


def test_without_the_flags_nothing_is_averaged(run):
    found, folder, final = result(run, "")
    assert final["averaged"] is final["snapshots"] is final["tta"] is None
    assert not (folder / "averaged").exists()
    assert "test accuracy" in found.out
    assert "averaged over" not in found.out


def test_lr_find_prints_suggestions_draws_and_trains_nothing(run):
    found = run("cifar_cnn --model simple --batch-size 32 --validation 40 --lr-find")
    assert found.code == 0, found.err
    folder = found.folder / "simple-lr-find"
    assert [path.name for path in folder.iterdir()] == ["lr_find.png"]
    assert "Suggested learning rate: steepest" in found.out
    assert str(folder.relative_to(folder.parents[2]) / "lr_find.png") in found.out


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "sgd"},
        {"optimizer": "sgd", "decoupled": True},
        {"optimizer": "adam", "clip_norm": 0.5},
        {"optimizer": "adamw"},
        {"optimizer": "lamb"},
    ],
    ids=lambda settings: " ".join(map(str, settings.values())),
)
def test_lr_find_sweeps_with_the_optimizer_that_the_run_has(settings):
    config = cifar_config.Config(
        schedule="constant", lr=0.03, momentum=0.8, weight_decay=0.2, **settings
    )
    whole = optim.phased_optimizer(cifar_config.phases(config, []), 10, clip_norm=config.clip_norm)
    swept = cifar_lr_find.optimizer_at(config, jnp.float32(0.03))
    ends = []
    for optimizer in (whole, swept):
        params = {"w": jnp.array([1.0, -2.0, 3.0])}
        state = optimizer.init(params)
        for scale in (1.0, -0.5):
            grads = {"w": scale * jnp.array([0.3, 0.1, -0.6])}
            updates, state = optimizer.update(grads, state, params)
            params = optax.apply_updates(params, updates)
        ends.append(params["w"])
    np.testing.assert_allclose(*ends, rtol=1e-6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--ema 0.9 --swa-start 1", "--ema and --swa-start are two kinds of average: leave one"),
        ("--ema 1", "--ema is 1.0: it must lie between 0 and 1."),
        ("--swa-start 3", "--swa-start is 3.0: it must lie within the 3 epochs."),
        ("--swa-start -1", "--swa-start is -1.0: it must lie within the 3 epochs."),
        ("--swa-start 1 --swa-every 0", "--swa-every is 0.0: it must be above 0."),
        ("--tta -1", "--tta is -1: it must be 0 or more."),
        ("--snapshots -1", "--snapshots is -1: it must be 0 or more."),
    ],
)
def test_averages_without_meaning_are_refused(run, words, message):
    found = run(f"{SIMPLE} {words}")
    assert found.code == 1
    assert message in found.err
    assert found.err.count("\n") == 1
