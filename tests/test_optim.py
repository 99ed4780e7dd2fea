import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlessons.optim import phased_optimizer
from jaxlessons.schedules import Phase, lr_schedule

STEPS = 6
FLAT = {"epochs": STEPS, "lr": 0.05}
TWO_PHASES = {"momentum": (0.9, 0.6), "momentum_decay": "linear", "lr_decay": "linear"}
CASES = {
    "plain sgd": [Phase(**FLAT, momentum=0)],
    "sgd": [Phase(**FLAT)],
    "sgd, coupled decay": [Phase(**FLAT, weight_decay=0.3, decoupled=False)],
    "sgd, decoupled decay": [Phase(**FLAT, weight_decay=0.3)],
    "nesterov": [Phase(**FLAT, optimizer="nesterov", momentum=0.8)],
    "nesterov, coupled decay": [
        Phase(**FLAT, optimizer="nesterov", momentum=0.8, weight_decay=0.3, decoupled=False)
    ],
    "nesterov, decoupled decay": [
        Phase(**FLAT, optimizer="nesterov", momentum=0.8, weight_decay=0.3)
    ],
    "adam": [Phase(**FLAT, optimizer="adam")],
    "adam, betas": [Phase(**FLAT, optimizer="adam", momentum=0.7, beta2=0.95)],
    "adam, coupled decay": [Phase(**FLAT, optimizer="adam", weight_decay=0.3, decoupled=False)],
    "adam, decoupled decay": [Phase(**FLAT, optimizer="adam", weight_decay=0.3)],
    "adamw": [Phase(**FLAT, optimizer="adamw", weight_decay=0.3)],
    "rmsprop": [Phase(**FLAT, optimizer="rmsprop")],
    "rmsprop, alpha and no momentum": [Phase(**FLAT, optimizer="rmsprop", momentum=0, beta2=0.8)],
    "rmsprop, coupled decay": [
        Phase(**FLAT, optimizer="rmsprop", momentum=0.5, weight_decay=0.3, decoupled=False)
    ],
    "rmsprop, decoupled decay": [
        Phase(**FLAT, optimizer="rmsprop", momentum=0.5, weight_decay=0.3)
    ],
    "sgd, two phases": [Phase(3, (0.1, 0.04), **TWO_PHASES), Phase(3, 0.04, momentum=0.6)],
    "adam, two phases": [
        Phase(3, (0.1, 0.04), **TWO_PHASES, optimizer="adam"),
        Phase(3, 0.04, momentum=0.6, optimizer="adam"),
    ],
}


def sines(shape, phase):
    index = np.arange(np.prod(shape), dtype=np.float64)
    return np.sin(phase + index * index + index).reshape(shape).astype(np.float32)


def path(phases, jit=True, **settings):
    """The weights after each step on the problem of stored/make_training.py."""
    inputs, targets, start = sines((5, 3), 0.1), 3 * sines((5, 2), 0.5), sines((3, 2), 0.9)
    optimizer = phased_optimizer(phases, 1, **settings)

    def step(params, state):
        grads = jax.grad(lambda p: 0.5 * jnp.sum((inputs @ p["w"] - targets) ** 2))(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    step = jax.jit(step) if jit else step
    params = {"w": jnp.asarray(start)}
    state, weights = optimizer.init(params), []
    for _ in range(STEPS):
        params, state = step(params, state)
        weights.append(np.ravel(params["w"]))
    return np.array(weights)


@pytest.mark.parametrize("case", CASES)
def test_weights_follow_torch_step_by_step(case, stored):
    expected = stored("training")["optimizers"][case]
    np.testing.assert_allclose(path(CASES[case]), expected, rtol=2e-4, atol=2e-5)


def test_jit_changes_nothing():
    phases = CASES["sgd, two phases"]
    np.testing.assert_allclose(path(phases), path(phases, jit=False), rtol=1e-5, atol=1e-6)


def steps_on(phases, grads, start=0.0, per_epoch=1, **settings):
    """The update at each step to one weight with the given gradients, the weight kept."""
    optimizer = phased_optimizer(phases, per_epoch, **settings)
    params = jnp.float32(start)
    state, updates = optimizer.init(params), []
    update = jax.jit(optimizer.update)
    for grad in grads:
        change, state = update(jnp.float32(grad), state, params)
        updates.append(float(change))
    return np.array(updates)


def test_the_rate_follows_its_schedule_over_every_boundary():
    phases = [
        Phase(1.5, (0.1, 0.9), "linear", momentum=0),
        Phase(0.01, 0.5, momentum=0),
        Phase(1, (0.9, 0.1), "cosine", momentum=0),
    ]
    expected = -np.asarray(jax.jit(lr_schedule(phases, 4))(np.arange(14)))
    np.testing.assert_allclose(steps_on(phases, np.ones(14), per_epoch=4), expected, rtol=1e-6)
    assert expected[6] == -0.5


def test_momentum_survives_a_phase_of_the_same_optimizer_and_no_other():
    same = [Phase(2, 1.0, momentum=0.5), Phase(2, 0.1, momentum=0.5)]
    np.testing.assert_allclose(steps_on(same, np.ones(4)), [-1, -1.5, -0.175, -0.1875], rtol=1e-6)
    # Adam's first step is the rate, whatever the gradient; sgd then begins with an empty buffer.
    other = [*same[:1], Phase(2, 0.1, optimizer="adam"), *same[:1]]
    expected = [-1, -1.5, -0.1, -0.1, -1, -1.5]
    np.testing.assert_allclose(steps_on(other, np.ones(6)), expected, rtol=1e-5)


def test_weight_decay_belongs_to_its_phase():
    decays = [
        Phase(1, 0.1, momentum=0, weight_decay=0.5),
        Phase(1, 0.1, momentum=0, weight_decay=0.25, decoupled=False),
        Phase(1, 0.1, momentum=0),
    ]
    expected = [-0.1 * (1 + 0.5 * 2), -0.1 * (1 + 0.25 * 2), -0.1]
    np.testing.assert_allclose(steps_on(decays, np.ones(3), start=2.0), expected, rtol=1e-6)


def test_beta2_belongs_to_its_phase():
    # Constant gradients make Adam's step the rate for any beta2; the second is a jump.
    phases = [Phase(1, 1.0, optimizer="adam", momentum=0, beta2=0.5)]
    second = np.sqrt((0.5 * 0.5 * 1 + 0.5 * 9) / 0.75)
    np.testing.assert_allclose(steps_on(phases, [1.0, 3.0]), [-1, -3 / second], rtol=1e-5)
    phases.append(Phase(1, 1.0, optimizer="adam", momentum=0, beta2=0.9))
    second = np.sqrt((0.9 * 0.5 * 1 + 0.1 * 9) / (1 - 0.9**2))
    np.testing.assert_allclose(steps_on(phases, [1.0, 3.0]), [-1, -3 / second], rtol=1e-5)


@pytest.mark.parametrize(("size", "kept"), [(10.0, 0.2), (2.0, 1.0), (0.5, 1.0)])
def test_clipping_scales_the_gradient_before_the_coupled_decay(size, kept):
    phases = [Phase(1, 1.0, momentum=0, weight_decay=0.5, decoupled=False)]
    optimizer = phased_optimizer(phases, 1, clip_norm=2.0)
    params = {"a": jnp.array([4.0]), "b": jnp.array([-2.0, 0.0])}
    grads = {"a": jnp.array([0.6 * size]), "b": jnp.array([0.0, 0.8 * size])}
    updates, _ = jax.jit(optimizer.update)(grads, optimizer.init(params), params)
    np.testing.assert_allclose(updates["a"], [-(0.6 * size * kept + 2)], rtol=1e-6)
    np.testing.assert_allclose(updates["b"], [1.0, -0.8 * size * kept], rtol=1e-6)


def by_hand(rule, lrs, decay=0.0):
    """The weights after each step, in float64; rule: (step, grad, weights) -> direction."""
    inputs, targets, start = sines((5, 3), 0.1), 3 * sines((5, 2), 0.5), sines((3, 2), 0.9)
    weights, result = start.astype(np.float64), []
    for step, lr in enumerate(lrs):
        grad = inputs.T @ (inputs @ weights - targets)
        weights = weights - lr * (rule(step, grad, weights) + decay * weights)
        result.append(weights.ravel())
    return np.array(result)


def test_lion_follows_its_paper():
    # Chen et al., Symbolic discovery of optimization algorithms (2023), algorithm 2.
    momentum = np.zeros((3, 2))

    def rule(step, grad, weights):
        nonlocal momentum
        sign = np.sign(0.8 * momentum + 0.2 * grad)
        momentum = 0.95 * momentum + 0.05 * grad
        return sign

    phase = Phase(**FLAT, optimizer="lion", momentum=0.8, beta2=0.95, weight_decay=0.2)
    expected = by_hand(rule, [0.05] * STEPS, decay=0.2)
    np.testing.assert_allclose(path([phase]), expected, rtol=1e-4, atol=1e-5)


def test_lamb_follows_its_paper():
    # You et al., Large batch optimization for deep learning (2019): the decay is inside the ratio.
    first, second = np.zeros((3, 2)), np.zeros((3, 2))

    def rule(step, grad, weights):
        nonlocal first, second
        first, second = 0.7 * first + 0.3 * grad, 0.9 * second + 0.1 * grad**2
        unbiased = first / (1 - 0.7 ** (step + 1)), second / (1 - 0.9 ** (step + 1))
        direction = unbiased[0] / (np.sqrt(unbiased[1]) + 1e-6) + 0.3 * weights
        return direction * np.linalg.norm(weights) / np.linalg.norm(direction)

    phase = Phase(**FLAT, optimizer="lamb", momentum=0.7, beta2=0.9, weight_decay=0.3)
    expected = by_hand(rule, [0.05] * STEPS)
    np.testing.assert_allclose(path([phase]), expected, rtol=1e-4, atol=1e-5)


def optax_path(optimizer):
    """The weights after each step of a plain optax optimizer on the same problem."""
    inputs, targets, start = sines((5, 3), 0.1), 3 * sines((5, 2), 0.5), sines((3, 2), 0.9)
    params = {"w": jnp.asarray(start)}
    state, weights = optimizer.init(params), []
    for _ in range(STEPS):
        grads = jax.grad(lambda p: 0.5 * jnp.sum((inputs @ p["w"] - targets) ** 2))(params)
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        weights.append(np.ravel(params["w"]))
    return np.array(weights)


@pytest.mark.parametrize(
    ("phase", "optimizer"),
    [
        ({"optimizer": optax.radam, "beta2": 0.9}, optax.radam(0.05, b1=0.9, b2=0.9)),
        ({"optimizer": optax.yogi, "momentum": 0.5}, optax.yogi(0.05, b1=0.5)),
        ({"optimizer": optax.adabelief}, optax.adabelief(0.05)),
        ({"optimizer": optax.adamax}, optax.adamax(0.05)),
        ({"optimizer": optax.adagrad}, optax.adagrad(0.05)),
        ({"optimizer": optax.sm3, "momentum": 0.3}, optax.sm3(0.05, momentum=0.3)),
        ({"optimizer": optax.nadamw, "weight_decay": 0.3}, optax.nadamw(0.05, weight_decay=0.3)),
        # Without a decay in the phase, there is none, whatever the factory's own default.
        ({"optimizer": optax.lars, "momentum": 0.8}, optax.lars(0.05, momentum=0.8)),
        ({"optimizer": optax.adamw}, optax.adamw(0.05, weight_decay=0)),
    ],
)
def test_any_optax_factory_is_an_optimizer(phase, optimizer):
    found = path([Phase(**(FLAT | phase))])
    np.testing.assert_allclose(found, optax_path(optimizer), rtol=1e-4, atol=1e-5)


def test_a_factory_without_weight_decay_gets_that_of_its_phase():
    phase = Phase(1, 0.1, optimizer=optax.sign_sgd, weight_decay=0.5)
    np.testing.assert_allclose(steps_on([phase], [3.0], start=2.0), [-0.1 * (1 + 1)], rtol=1e-6)
    phase = Phase(1, 0.1, optimizer=optax.sign_sgd, weight_decay=0.5, decoupled=False)
    np.testing.assert_allclose(steps_on([phase], [-0.9], start=2.0), [-0.1], rtol=1e-6)


def test_a_frozen_phase_leaves_the_parameters_and_the_state_alone():
    phases = [Phase(1, 1.0, momentum=0.5), Phase(2, 0), Phase(1, 1.0, momentum=0.5)]
    expected = [-1, 0, 0, -1.5]
    np.testing.assert_allclose(steps_on(phases, np.ones(4), start=7.0), expected, rtol=1e-6)
