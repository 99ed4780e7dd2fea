"""A style transfer that was stopped goes on bit for bit; and what is refused, in which words."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons import checkpoint
from jaxlessons.errors import UserError
from jaxlessons.models import vgg
from jaxlessons.style_settings import Settings
from jaxlessons.stylize import saved_shape, stylize

SHALLOW = Settings(content_layer="block1_conv1", style_layers=("block1_conv1",), style_weight=10.0)
# Two scales of four evaluations each.
LBFGS = dataclasses.replace(SHALLOW, evaluations=8, scales=2, memory=3)
ADAM = dataclasses.replace(LBFGS, optimizer="adam", average=0.7, color="luminance")
SIZE = (11, 14)


def picture(height, width, seed):
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)


CONTENT, STYLE = picture(*SIZE, 0), picture(9, 9, 1)


@pytest.fixture(scope="module")
def params(by_formula):
    return by_formula(vgg.VGG16("block1_conv1"), jnp.zeros((1, 8, 8, 3)))["params"]


@pytest.fixture(scope="module")
def unbroken(params, tmp_path_factory):
    """settings -> (the whole way, a folder with its descent after every call, what was told)."""
    found = {}

    def run(settings):
        if settings not in found:
            folder, told = tmp_path_factory.mktemp("descents"), []

            def on_call(progress):
                checkpoint.save(folder, progress.descent, step=progress.done, keep=None)
                told.append((progress.done, jax.eval_shape(lambda: progress.descent)))

            found[settings] = (
                stylize(CONTENT, [STYLE], params, settings, per_call=1, on_call=on_call),
                folder,
                told,
            )
        return found[settings]

    return run


def go_on(settings, folder, done, params, **given):
    descent = checkpoint.restore(folder, saved_shape(settings, SIZE, done), done)
    given = {"per_call": 1, **given}
    return stylize(CONTENT, [STYLE], params, settings, begun=(done, descent), **given)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [LBFGS, ADAM], ids=["lbfgs", "adam"])
@pytest.mark.parametrize("done", [2, 4, 7], ids=["coarse", "between", "fine"])
def test_from_a_checkpoint_it_goes_on_bit_for_bit(settings, done, unbroken, params):
    whole, folder, _ = unbroken(settings)
    made = go_on(settings, folder, done, params)
    np.testing.assert_array_equal(made.picture, whole.picture)
    for name, values in whole.history.items():
        np.testing.assert_array_equal(made.history[name], values[done:])


@pytest.mark.slow
@pytest.mark.parametrize("settings", [LBFGS, ADAM], ids=["lbfgs", "adam"])
def test_the_saved_shapes_are_those_of_every_descent(settings, unbroken):
    told = unbroken(settings)[2]
    assert [done for done, _ in told] == list(range(1, 9))
    for done, shapes in told:
        assert saved_shape(settings, SIZE, done) == shapes
        assert shapes.state.point.shape == ((6, 7, 3) if done <= 4 else (11, 14, 3))


def test_after_the_last_evaluation_there_is_the_picture_and_nothing_to_do(unbroken, params):
    whole, folder, _ = unbroken(ADAM)
    told = []
    made = go_on(ADAM, folder, 8, params, on_call=told.append)
    np.testing.assert_array_equal(made.picture, whole.picture)
    assert not told
    for name, values in whole.history.items():
        np.testing.assert_array_equal(made.history[name], values[:0])
        assert made.history[name].dtype == values.dtype


@pytest.mark.slow
@pytest.mark.parametrize("done", [1, 3, 6])
def test_with_another_number_a_call_no_evaluation_is_lost_or_added(done, unbroken, params):
    whole, folder, _ = unbroken(LBFGS)
    told = []
    made = go_on(LBFGS, folder, done, params, per_call=4, on_call=told.append)
    assert [len(values) for values in made.history.values()] == [8 - done] * 6
    assert told[-1].done == 8
    np.testing.assert_array_equal(made.history["scale"], whole.history["scale"][done:])
    np.testing.assert_allclose(made.history["value"], whole.history["value"][done:], rtol=1e-4)
    np.testing.assert_allclose(made.picture, whole.picture, atol=1e-4)


@pytest.mark.slow
def test_a_checkpoint_of_other_settings_is_refused(unbroken):
    folder = unbroken(LBFGS)[1]
    for settings, size in ((ADAM, SIZE), (LBFGS, (14, 11))):
        with pytest.raises(UserError, match="holds another model or optimizer"):
            checkpoint.restore(folder, saved_shape(settings, size, 2), 2)


ALL = ", ".join(vgg.LAYERS)
NOTHING = (
    "The picture would be made of nothing: set content_weight, or style_weight with at least one "
    "of style_layers, above 0."
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"content_layer": "block6_conv1"},
            f"content_layer has 'block6_conv1': it must be of {ALL}.",
        ),
        (
            {"style_layers": ("block1_conv1", "conv")},
            f"style_layers has 'conv': it must be of {ALL}.",
        ),
        ({"content_weight": -1.0}, "content_weight is -1.0: it must be 0 or more."),
        ({"style_weight": float("nan")}, "style_weight is nan: it must be 0 or more."),
        ({"tv_weight": float("inf")}, "tv_weight is inf: it must be 0 or more."),
        ({"content_weight": 0, "style_weight": 0, "tv_weight": 1}, NOTHING),
        ({"content_weight": 0, "style_layers": ()}, NOTHING),
        ({"evaluations": 0}, "evaluations is 0: it must be 1 or more."),
        ({"evaluations": 2, "scales": 3}, "evaluations is 2: it must be 3 or more."),
        ({"memory": 0}, "memory is 0: it must be 1 or more."),
        ({"scales": 0}, "scales is 0: it must be 1 or more."),
        ({"lr": 0.0}, "lr is 0.0: it must be above 0."),
        ({"lr": float("inf")}, "lr is inf: it must be above 0."),
        ({"blend": 1.5}, "blend is 1.5: it must be from 0 to 1."),
        ({"average": 1.0}, "average is 1.0: it must be from 0 to below 1."),
        ({"seed": -1}, "seed is -1: it must be from 0 to below 2^32."),
        ({"seed": 2**32}, "seed is 4294967296: it must be from 0 to below 2^32."),
        ({"normalization": "d2l"}, "normalization is 'd2l': it must be one of lesson, gatys."),
        ({"pool": "mean"}, "pool is 'mean': it must be one of max, avg."),
        ({"optimizer": "sgd"}, "optimizer is 'sgd': it must be one of lbfgs, adam."),
        ({"init": "style"}, "init is 'style': it must be one of noise, content, blend."),
        ({"color": "grey"}, "color is 'grey': it must be one of style, luminance, histogram."),
        (
            {"compute_dtype": "float16"},
            "compute_dtype is 'float16': it must be one of float32, bfloat16.",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_settings_without_sense_are_refused(changes, message, params):
    with pytest.raises(UserError) as caught:
        stylize(CONTENT, [STYLE], params, dataclasses.replace(SHALLOW, **changes))
    assert str(caught.value) == message


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_a_loss_that_is_no_number_stops_it_at_once(optimizer, params):
    broken = jax.tree.map(lambda x: np.full_like(x, np.nan), params)
    settings = dataclasses.replace(SHALLOW, optimizer=optimizer)
    told = []
    with pytest.raises(UserError) as caught:
        stylize(CONTENT, [STYLE], broken, settings, on_call=told.append)
    assert str(caught.value) == (
        "The loss is not finite after 1 evaluations: take a lower lr, smaller weights or "
        "compute_dtype float32."
    )
    assert not told
