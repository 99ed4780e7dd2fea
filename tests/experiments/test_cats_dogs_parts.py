"""The cats-and-dogs experiment's rates, its network in parts, its views, and what it shows."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import cats_dogs_config, cats_dogs_report, cats_dogs_setup
from experiments.cats_dogs_config import Config
from experiments.run_directory import RunDirectory
from jaxlessons import cam
from jaxlessons.errors import UserError
from jaxlessons.models import vgg


def test_the_rates_fall_from_block_to_block():
    groups = cats_dogs_config.groups(Config(unfreeze="block3", fine_lr=0.1, rate_ratio=0.5))
    rates = {pattern: [phase.lr for phase in phases] for pattern, phases in groups.items()}
    assert rates == {
        "trunk/block5_": [0.0, 0.05],
        "trunk/block4_": [0.0, 0.025],
        "trunk/block3_": [0.0, 0.0125],
    }
    assert cats_dogs_config.groups(Config(unfreeze="none")) == {"trunk": 0}


@pytest.fixture
def network(narrow_vgg):
    config = Config(size=32, unfreeze="block4")
    return config, cats_dogs_setup.make_network(config, 2, narrow_vgg)


@pytest.mark.slow
def test_frozen_and_trained_parts_make_the_whole_network(network, disc_photos):
    config, network = network
    images = cats_dogs_setup.load_photos(dataclasses.replace(config, data_dir=disc_photos))
    photos = jnp.asarray(images.train_images)
    views = cats_dogs_setup.Views(network, photos[:5], seed=0, name="five")
    below, last = views.features(0)
    assert below.shape == (5, 4, 4, 6)
    assert last.shape == (5, 2, 2, 6)
    setup = SimpleNamespace(optimizer=SimpleNamespace(init=lambda params: ()))
    state = cats_dogs_setup.create_state(config, network, setup)
    whole = network.whole_params(state.params)
    assert set(whole["trunk"]) == set(vgg.kernel_shapes())
    logits, features = network.whole.apply(
        {"params": whole}, network.prepare(photos[:5]), return_features=True
    )
    np.testing.assert_allclose(below, features["block3_pool"], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(last, features["block5_conv3"], rtol=1e-5, atol=1e-4)
    top = network.top.apply({"params": state.params}, below)
    np.testing.assert_allclose(top, logits, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_views_are_the_photo_and_then_others_the_same_each_time(network, disc_photos, monkeypatch):
    config, network = network
    images = cats_dogs_setup.load_photos(dataclasses.replace(config, data_dir=disc_photos))
    photos = jnp.asarray(images.train_images[:24])  # as many as the runs of test_cats_dogs train on
    views = cats_dogs_setup.Views(network, photos, seed=0, name="x")
    plain, changed = views.features(0).last, views.features(1).last
    assert not np.allclose(plain, changed, rtol=0.01)
    assert not np.allclose(views.features(2).last, changed, rtol=0.01)
    again = cats_dogs_setup.Views(network, photos, seed=0, name="x")
    np.testing.assert_array_equal(again.features(1).last, changed)
    other = cats_dogs_setup.Views(network, photos, seed=1, name="x")
    assert not np.allclose(other.features(1).last, changed, rtol=0.01)
    # Batches that don't fit the number of photos change nothing.
    monkeypatch.setattr(cats_dogs_setup, "BATCH", 12)
    small = cats_dogs_setup.Views(network, photos, seed=0, name="x")
    np.testing.assert_allclose(small.features(0).last, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_looking_counts_every_photo_once_and_its_maps_are_the_heads(network, disc_photos):
    config, network = network
    images = cats_dogs_setup.load_photos(dataclasses.replace(config, data_dir=disc_photos))
    kernel = 0.001 * np.ones((3, 3, 6, 2)) * [1, -1]
    head = {"class_maps": {"kernel": kernel, "bias": np.zeros(2)}}
    params = {"trunk": network.trunk_params, "head": head}
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    look = cats_dogs_report.make_look(network, params)
    many, few = look(images.train_images), look(images.train_images[:5])
    assert many.maps.shape == (32, 2, 2, 2)
    np.testing.assert_allclose(many.maps[:5], few.maps, rtol=1e-4, atol=1e-4)
    logits = many.maps.mean((1, 2))
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(many.probabilities, expected, rtol=1e-4, atol=1e-6)
    assert (many.guesses == 0).all()
    boxes, crops = cats_dogs_report.zoom_in(images.train_images, many, 0.5)
    heat = cam.upsample(jnp.asarray(many.maps[..., 0]), (32, 32))
    np.testing.assert_array_equal(boxes, cam.hottest_box(heat, 0.5))
    assert crops.shape == images.train_images.shape


def test_the_weights_of_a_run_are_those_that_it_was_begun_with(tmp_path):
    run = RunDirectory(tmp_path)
    # Killed ahead of its file: nothing was trained by others.
    cats_dogs_report.check_source(run, "a")
    cats_dogs_report.check_source(run, "a")
    with pytest.raises(UserError, match="was begun with a as VGG16's weights"):
        cats_dogs_report.check_source(run, "b")
    for damaged in ("", "[1]", "{"):
        (tmp_path / cats_dogs_report.SOURCE_FILE).write_text(damaged)
        with pytest.raises(UserError, match=r"weights\.json can't be read as the weights' source"):
            cats_dogs_report.check_source(run, "a")


def test_the_figure_shows_the_surest_of_each_class_and_then_the_worst():
    own = np.array([0.9, 0.8, 0.99, 0.6, 0.7, 0.3, 0.1, 0.95] + [0.55] * 6)
    labels = np.array([0, 0, 0, 0, 1, 1, 0, 0] + [1] * 6)
    sections = cats_dogs_report.hits_and_misses(own > 0.5, own, labels)
    hits, worst = sections.values()
    assert hits.tolist() == [2, 4, 7, 8, 0, 9, 1, 10]
    assert worst[:3].tolist() == [6, 5, 13]
    assert list(sections) == ["the surest hits", "the misses, and the least sure hits"]
