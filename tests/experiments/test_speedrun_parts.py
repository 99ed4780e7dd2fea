"""The speedrun's parts: rates, steps, what stays frozen, what is counted."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import speedrun_report
from experiments.cifar_speedrun import make_network, make_parts
from experiments.speedrun_config import defaults, published
from experiments.speedrun_optimizer import Plan, course, make_optimizer, make_plan
from experiments.speedrun_program import xla_flops
from jaxlessons import training
from jaxlessons.data.cifar10 import ImageSet
from jaxlessons.data.shapes import CLASSES, make_shapes
from jaxlessons.models.speedrun_net import whitening_kernel
from jaxlessons.training import Examples, TrainState

TINY = dataclasses.replace(
    defaults("94", "nesterov"),
    widths=(4, 6, 4),
    batch_size=8,
    epochs=1.7,
    whitening_epochs=1,
    lr=200.0,
    cutout=5,
    compute_dtype="float32",
)


def images_of(count, tested):
    train, test = make_shapes(count, seed=0), make_shapes(tested, seed=1)
    return ImageSet("small", "a test", CLASSES, *train, *test, (0.5,) * 3, (0.25,) * 3)


def test_the_recipes_are_the_published_ones():
    nesterov, muon = defaults("94", "nesterov"), defaults("94")
    assert make_plan(nesterov, 50_000) == Plan(48, 476, 144)
    assert make_plan(muon, 50_000) == Plan(25, 200, 75)
    assert muon.optimizer == "muon"
    # Decoupled, they are the rates and the decay of gradients summed over a batch.
    longer = 1024 * (1 + 1 / (1 - muon.momentum))
    assert muon.lr / longer == pytest.approx(0.67, rel=1e-4)
    assert muon.lr * muon.bias_scale / longer == pytest.approx(0.053, rel=1e-3)
    assert muon.weight_decay * muon.batch_size / longer == pytest.approx(2e-6 * 2000, rel=1e-3)
    assert defaults("96").optimizer == "nesterov"
    assert defaults("96", "muon").widths == (128, 512, 512)
    assert defaults("96", "muon").epochs == 31
    assert defaults("96", "muon").lr == muon.lr


def test_only_a_recipe_as_it_is_has_a_published_accuracy():
    muon = defaults("94")
    assert published(muon) == (94.01, 200)
    assert published(dataclasses.replace(muon, seeds=3, compute_dtype="float32")) == (94.01, 200)
    assert published(dataclasses.replace(muon, epochs=2.0)) is None
    assert published(dataclasses.replace(muon, validation=5000)) is None
    assert published(defaults("96", "muon")) is None
    assert published(defaults("few")) is None


def test_there_is_always_a_step_and_no_rounding_adds_one():
    config = dataclasses.replace(TINY, epochs=1e-9, whitening_epochs=0.0)
    assert make_plan(config, 80) == Plan(10, 1, 0)
    config = dataclasses.replace(TINY, epochs=2.2, whitening_epochs=1.1)
    assert make_plan(config, 80) == Plan(10, 22, 11)


def test_a_bias_that_is_frozen_from_the_start_does_not_decay():
    transform = make_optimizer(defaults("94"), Plan(per_epoch=4, total=8, whitening=0))
    params = {"whiten": {"bias": jnp.ones(3)}}
    grads = {"whiten": {"bias": jnp.zeros(3)}}
    updates, _ = transform.update(grads, transform.init(params), params)
    assert not np.any(updates["whiten"]["bias"])


def test_the_rate_rises_and_falls_in_lines():
    nesterov = course(defaults("94", "nesterov"), 476)
    np.testing.assert_allclose(nesterov[[0, 109, 475]], [0.2, 1.0, 1 - 0.93 * 366 / 367], rtol=1e-5)
    np.testing.assert_allclose(nesterov[50], 0.2 + 0.8 * 50 / 109, rtol=1e-5)
    np.testing.assert_allclose(nesterov[200], 1 - 0.93 * (200 - 109) / 367, rtol=1e-5)
    np.testing.assert_allclose(course(defaults("94"), 200), 1 - np.arange(200) / 200, atol=1e-6)


def sgd_by_hand(p, grads, rates, decay, momentum):
    """torch.optim.SGD with nesterov=True, in float64; rates and decay are a step's own."""
    buffer = 0
    for gradient, (lr, weight_decay) in zip(grads, zip(rates, decay, strict=True), strict=True):
        whole = gradient + weight_decay * p
        buffer = momentum * buffer + whole
        p = p - lr * (whole + momentum * buffer)
    return p


@pytest.mark.parametrize("optimizer", ["nesterov", "muon"])
def test_each_group_is_trained_at_its_own_rate_and_decays_alike(optimizer):
    sizes = {"widths": (64, 256, 64), "batch_size": 512}
    config = dataclasses.replace(defaults("94", optimizer), warmup=0.3, **sizes)
    plan = Plan(per_epoch=4, total=10, whitening=6)
    shapes = {
        "whiten": {"kernel": (2, 2, 3, 4), "bias": (4,)},
        "group1": {"conv1": {"kernel": (3, 3, 4, 4)}, "norm1": {"bias": (4,)}},
        "head": {"kernel": (4, 2)},
    }
    random = np.random.RandomState(0)

    def is_shape(leaf):
        return isinstance(leaf, tuple)

    params = jax.tree.map(random.standard_normal, shapes, is_leaf=is_shape)
    history = [
        jax.tree.map(lambda s: 0.01 * random.standard_normal(s), shapes, is_leaf=is_shape)
        for _ in range(plan.total)
    ]
    transform = make_optimizer(config, plan)
    now = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
    state, update = transform.init(now), jax.jit(transform.update)
    for grads in history:
        grads = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), grads)
        updates, state = update(grads, state, now)
        now = optax.apply_updates(now, updates)
    np.testing.assert_array_equal(now["whiten"]["kernel"], np.float32(params["whiten"]["kernel"]))

    longer = 1 + 1 / 0.15
    rate = config.lr / (1024 * longer)
    decay = config.weight_decay * 512 / (1024 * longer)
    usual = course(config, plan.total)
    frozen = np.where(np.arange(10) < 6, usual, 0)
    if optimizer == "muon":
        frozen = np.maximum(0, 1 - np.arange(10) / 6)
    bias = rate * config.bias_scale
    groups = {
        ("whiten", "bias"): (bias if optimizer == "muon" else rate, frozen),
        ("group1", "norm1", "bias"): (bias, usual),
        # Muon's is published for 256 inputs, and here there are 64.
        ("head", "kernel"): (rate / 4 if optimizer == "muon" else rate, usual),
    }
    if optimizer == "nesterov":
        groups["group1", "conv1", "kernel"] = (rate, usual)
    for path, (highest, shares) in groups.items():
        leaf, found, grads = params, now, history
        for name in path:
            leaf, found, grads = leaf[name], found[name], [g[name] for g in grads]
        summed = [512 * gradient for gradient in grads]
        expected = sgd_by_hand(leaf, summed, highest * shares, [decay / highest] * 10, 0.85)
        assert np.abs(expected - leaf).max() > 1e-3, path
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5, err_msg=str(path))
    if optimizer == "muon":  # the last rate is a tenth of the highest
        kernel = np.asarray(now["group1"]["conv1"]["kernel"])
        assert np.linalg.norm(kernel) == pytest.approx(2, abs=0.3)


@pytest.fixture(scope="module")
def trained():
    """Carries of TINY after the whitening, its first five steps and its last four; by scans and
    by a loop of single steps."""
    images = images_of(40, 10)
    plan = make_plan(TINY, 40)
    optimizer = make_optimizer(TINY, plan)
    module = make_network(TINY, 10)
    parts = make_parts(TINY, plan, images, optimizer)
    train = Examples(jnp.asarray(images.train_images), jnp.asarray(images.train_labels))
    state = training.create_state(module, optimizer, jax.random.key(3), jnp.zeros((1, 32, 32, 3)))
    carry, places = jax.jit(parts.begin)(state, train)
    scanned, looped = [carry], [carry]
    for advance, start, end in zip(
        parts.advance, (0, plan.whitening), (plan.whitening, plan.total), strict=True
    ):
        call = jax.jit(advance, static_argnums=4)
        scanned.append(call(scanned[-1], train, places, start, end - start))
        carry = looped[-1]
        for step in range(start, end):
            carry = call(carry, train, places, step, 1)
        looped.append(carry)
    return plan, places, train, scanned, looped


def assert_same_course(found, expected, start):
    """That they differ by little of the way from `start`: rounding turns over which pixel of four
    is the largest, and a filter of few gradients follows."""
    ways, gaps = [], []
    for one, other, before in zip(*map(jax.tree.leaves, (found, expected, start)), strict=True):
        ways.append(np.linalg.norm(other - before))
        gaps.append(np.linalg.norm(one - other))
        assert gaps[-1] <= 0.1 * ways[-1] + 1e-6
    assert np.linalg.norm(gaps) <= 0.005 * np.linalg.norm(ways)


@pytest.mark.slow
def test_the_scans_take_the_steps_of_a_plain_loop(trained):
    plan, _, _, scanned, looped = trained
    assert (plan.whitening, plan.total) == (5, 9)
    for a, b in zip(scanned, looped, strict=True):
        assert int(a.state.step) == int(b.state.step)
        assert_same_course(*((c.state.variables, c.slow) for c in (a, b, scanned[0])))
    assert int(scanned[-1].state.step) == 9
    moved = jax.tree.map(
        lambda a, b: float(jnp.abs(a - b).max()), scanned[0].state.params, scanned[-1].state.params
    )
    assert moved["group2"]["conv1"]["kernel"] > 1e-2


@pytest.mark.slow
def test_every_epoch_sees_each_image_once_in_an_order_of_its_own(trained):
    _, places, _, _, _ = trained
    rows = np.asarray(places.rows)
    assert rows.shape == (9, 8)
    assert sorted(rows[:5].ravel()) == list(range(40))
    assert len(set(rows[5:].ravel())) == 32
    assert (rows[:4] != rows[5:]).any()
    np.testing.assert_array_equal(places.epoch, [0] * 5 + [1] * 4)


@pytest.mark.slow
def test_the_filters_stay_as_they_were_whitened_and_their_bias_moves_only_at_first(trained):
    _, _, train, scanned, _ = trained
    biases = [np.asarray(carry.state.params["whiten"]["bias"]) for carry in scanned]
    kernels = [np.asarray(carry.state.params["whiten"]["kernel"]) for carry in scanned]
    # An eigenvector's sign is a matter of rounding.
    expected = whitening_kernel((train.inputs / 255 - 0.5) / 0.25)
    np.testing.assert_allclose(np.abs(kernels[0]), np.abs(expected), rtol=0.01, atol=2e-3)
    # Lookahead's mean of two that are the same rounds.
    for later in kernels[1:]:
        np.testing.assert_allclose(later, kernels[0], rtol=1e-6)
    assert not biases[0].any()
    assert np.abs(biases[1]).max() > 1e-4
    np.testing.assert_array_equal(biases[1], biases[2])


@pytest.mark.slow
def test_the_slow_weights_are_those_of_the_last_fifth_step(trained):
    _, _, _, scanned, looped = trained
    assert_same_course(scanned[2].slow, looped[1].slow, scanned[0].slow)
    fast = scanned[2].state.params["group2"]["conv1"]["kernel"]
    assert np.abs(fast - scanned[2].slow["params"]["group2"]["conv1"]["kernel"]).max() > 1e-3


def test_operations_are_those_counted_by_hand_and_those_published():
    module = make_network(dataclasses.replace(TINY, widths=(8, 16, 32)), 10)
    whiten, first = 31 * 31 * 12 * 24, 31 * 31 * 9 * 24 * 8
    rest = 15 * 15 * 9 * 8 * 8 + 15 * 15 * 9 * 8 * 16 + 7 * 7 * 9 * 16 * 16
    rest += 7 * 7 * 9 * 16 * 32 + 3 * 3 * 9 * 32 * 32 + 32 * 10
    found = speedrun_report.count_flops(module, Plan(4, 10, 3), batch_size=5, predicted=7)
    training_flops = 5 * (10 * whiten + (3 * 3 + 2 * 7) * first + 3 * 10 * rest)
    assert found == 2 * (training_flops + 6 * 7 * (whiten + first + rest))
    # Jordan's 0.36 PFLOP, in which the first convolution is never spared.
    config = defaults("94", "nesterov")
    plan = make_plan(config, 50_000)._replace(whitening=476)
    found = speedrun_report.count_flops(make_network(config, 10), plan, 1024, 10_000)
    assert found / 1e15 == pytest.approx(0.36, abs=0.005)


@pytest.mark.slow
def test_xla_counts_a_scans_body_once_and_about_what_is_counted_on_paper(trained):
    plan, places, train, scanned, _ = trained
    parts = make_parts(TINY, plan, images_of(40, 10), make_optimizer(TINY, plan))

    def counted(many):
        call = jax.jit(parts.advance[0], static_argnums=4)
        return xla_flops(call.lower(scanned[0], train, places, jnp.int32(0), many))

    assert counted(5) == pytest.approx(counted(1), rel=0.05)
    step = Plan(plan.per_epoch, 1, 1)
    on_paper = speedrun_report.count_flops(make_network(TINY, 10), step, 8, predicted=0)
    assert 0.8 < counted(1) / on_paper < 1.6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "optimizer", "dtype"),
    [("94", "muon", "bfloat16"), ("94", "nesterov", "float32"), ("96", "nesterov", "bfloat16")],
)
def test_every_recipe_makes_a_scan_that_keeps_its_types(target, optimizer, dtype):
    """Traced at full size, not computed: a carry that changed its type could not be scanned."""
    config = dataclasses.replace(defaults(target, optimizer), compute_dtype=dtype)
    plan, images = make_plan(config, 50_000), images_of(20, 10)
    transform, module = make_optimizer(config, plan), make_network(config, 10)
    parts = make_parts(config, plan, images, transform)
    train = Examples(
        jax.ShapeDtypeStruct((50_000, 32, 32, 3), jnp.uint8),
        jax.ShapeDtypeStruct((50_000,), jnp.int32),
    )
    example = jnp.zeros((1, 32, 32, 3))

    def create_state(key):
        variables = module.init(key, example)
        return TrainState(
            jnp.int32(0), **variables, opt_state=transform.init(variables["params"]), key=key
        )

    state = jax.eval_shape(create_state, jax.random.key(0))
    carry, places = jax.eval_shape(parts.begin, state, train)
    assert places.rows.shape == (plan.total, config.batch_size)
    many = plan.total - plan.whitening
    after = jax.eval_shape(
        lambda carry, train, places: parts.advance[1](carry, train, places, 0, many),
        carry,
        train,
        places,
    )
    same = jax.tree.map(lambda a, b: a.shape == b.shape and a.dtype == b.dtype, carry, after)
    assert all(jax.tree.leaves(same))
    test = jax.ShapeDtypeStruct((10_000, 32, 32, 3), jnp.uint8)
    logits = jax.eval_shape(parts.predict, after, test)
    assert (logits.shape, logits.dtype) == ((10_000, 10), jnp.float32)
