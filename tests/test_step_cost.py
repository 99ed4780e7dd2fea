"""What a step costs, counted in the program and not by a clock: it fails when the work grows.

Counted is the program as it is handed to the compiler, so that nothing has to be compiled. A loop's
body counts once there.
"""

import re
from collections import Counter
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlessons import generate, minimize, sequence_training, summary, training
from jaxlessons.data import windows
from jaxlessons.models import conv, vgg
from jaxlessons.models.char import StatefulCharRNN
from jaxlessons.models.convnet import SimpleNet
from jaxlessons.models.resnet import Resnet2
from jaxlessons.style_objective import Region, Targets, layers_needed, make_objective
from jaxlessons.style_settings import Settings
from jaxlessons.stylize import make_minimizer
from jaxlessons.training import Examples, Place, TrainState

COMPILATION = "/jax/core/compile/backend_compile_duration"
IMAGES, STREAMS, BPTT, FEATURES, VOCABULARY, EMBEDDED, SIDE = 32, 4, 8, 64, 85, 42, 64


def count(lowered):
    """products: convolutions and matrix products. loops. flops and bytes as XLA counts them."""
    operations = Counter(re.findall(r"stablehlo\.(\w+)\b", lowered.as_text()))
    cost = lowered.cost_analysis()
    return SimpleNamespace(
        products=operations["convolution"] + operations["dot_general"],
        loops=operations["while"],
        flops=cost["flops"],
        bytes=cost["bytes accessed"],
    )


def whole(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.int32)


def real(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def abstract_state(module, optimizer, inputs):
    """The shapes of a state: nothing is compiled to draw its numbers."""
    variables = jax.eval_shape(module.init, jax.random.key(0), inputs)
    params = variables["params"]
    return TrainState(
        step=whole(),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=jax.eval_shape(optimizer.init, params),
        key=jax.eval_shape(lambda: jax.random.key(0)),
    )


@pytest.fixture(scope="module")
def model():
    return StatefulCharRNN(VOCABULARY, EMBEDDED, FEATURES, layers=2)


def resnet2_step():
    """(the step's cost, its operations by the formula, numbers an image passes through memory as,
    layers with a kernel)."""
    # Without dropout, whose random numbers are drawn in loops.
    module, optimizer = Resnet2(dropout=0.0), optax.sgd(0.01, momentum=0.9)
    state = abstract_state(module, optimizer, real(1, 32, 32, 3))
    step = training.make_train_step(module.apply, optimizer)
    batch = Examples(real(IMAGES, 32, 32, 3), whole(IMAGES))
    found = count(step.lower(state, batch, Place(whole(IMAGES), whole())))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    layers = [layer for layer in summary.layer_table(module, real(1, 32, 32, 3)) if layer.flops]
    formula = IMAGES * (3 * sum(layer.flops for layer in layers) - layers[0].flops)
    assert found.loops == 0
    # A parameter as 9: its gradient, its momentum and the sums of the three.
    numbers = (found.bytes / 4 - 9 * parameters) / IMAGES
    return found, formula, numbers, layers


def test_a_step_of_resnet2_is_three_products_a_layer_and_no_more(monkeypatch):
    monkeypatch.setattr(conv, "_is_plain", lambda *_: False)
    found, formula, numbers, layers = resnet2_step()
    # Forward, and the gradients of the kernel and, but for the images, of what went in.
    assert found.products == 3 * len(layers) - 1
    # XLA leaves out what falls on the padding: of a 2x2 image, more than half.
    assert 0.7 * formula < found.flops < 0.8 * formula
    assert 4.3e6 < numbers < 4.7e6


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="only a CPU has other convolutions")
def test_what_is_faster_on_a_cpu_is_not_much_more_work():
    found, formula, numbers, _ = resnet2_step()
    # Zeros in the wider kernels are computed too; what falls on the padding is partly left out.
    assert 0.8 * formula < found.flops < 0.9 * formula
    assert 13.3e6 < numbers < 14.7e6


def test_a_step_of_the_language_model_multiplies_in_its_loop_only_what_it_must(model):
    optimizer = optax.adam(1e-3)
    state = abstract_state(model, optimizer, whole(STREAMS, 1))
    carry = jax.eval_shape(model.apply, state.variables, whole(STREAMS, 1))[1]
    state = state.replace(carry=carry)
    gather = partial(windows.gather, width=BPTT)
    step = sequence_training.make_train_step(model.apply, optimizer, gather)
    window = sequence_training.Window(whole(STREAMS), whole(STREAMS))
    found = count(step.lower(state, whole(500), window))
    # A layer: what goes in and what is carried, forward; the gradients of both and of both
    # weights. Then the output's three.
    assert (found.products, found.loops) == (2 * 6 + 3, 2 * 2)
    gates = 4 * FEATURES
    outside = (
        STREAMS
        * BPTT
        * (3 * gates * (EMBEDDED + FEATURES) + 2 * gates * FEATURES + 3 * FEATURES * VOCABULARY)
    )
    inside = STREAMS * 2 * 2 * gates * FEATURES
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    # Adam takes a dozen operations a parameter.
    assert 1 < found.flops / (2 * (outside + inside)) < 1 + 12 * parameters / (outside + inside)


def test_a_sampled_character_is_five_products(model):
    variables = jax.eval_shape(model.init, jax.random.key(0), whole(1, 1))
    logits, carry = jax.eval_shape(model.apply, variables, whole(1, 1))
    state = generate._State(real(1, VOCABULARY), carry, whole())
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))
    options = generate._Options(greedy=True)
    found = count(generate._write.lower(model.apply, variables, state, keys, options, 100))
    assert logits.shape == (1, 1, VOCABULARY)
    # Two layers, each with what goes in and, in a loop over the one step, what is carried; then
    # the output.
    assert (found.products, found.loops) == (5, 3)
    products = EMBEDDED * 4 * FEATURES + 3 * FEATURES * 4 * FEATURES + FEATURES * VOCABULARY
    assert 1 < found.flops / (2 * products) < 1.1


def test_an_evaluation_of_the_style_loss_is_two_products_a_layer():
    settings = Settings()
    names = layers_needed(settings)
    network = vgg.VGG16(names[-1])
    params = jax.eval_shape(network.init, jax.random.key(0), real(1, SIDE, SIDE, 3))["params"]
    sides = {name: SIDE // 2**i for i, name in enumerate(settings.style_layers)}
    grams = {name: real(vgg.LAYERS[name], vgg.LAYERS[name]) for name in sides}
    content = real(SIDE // 8, SIDE // 8, vgg.LAYERS[settings.content_layer])
    data = (params, Targets(content, (Region(grams, None, real()),)))
    objective = make_objective(settings, vgg.MEAN)
    method = make_minimizer(settings)
    descent = jax.eval_shape(partial(minimize.begin, method), real(SIDE, SIDE, 3))
    found = count(minimize.make_call(method, objective, 1).lower(descent, data))
    table = summary.layer_table(network, real(1, SIDE, SIDE, 3))
    formula = 2 * sum(layer.flops for layer in table)
    formula += 3 * sum(2 * (side * vgg.LAYERS[n]) ** 2 for n, side in sides.items())
    assert 0.9 * formula < found.flops < 1.05 * formula


def test_steps_and_evaluations_of_all_batches_are_compiled_once():
    module, optimizer = SimpleNet((4,)), optax.sgd(0.1)
    images = jnp.asarray(np.random.RandomState(0).rand(23, 4, 4, 3), jnp.float32)
    split = Examples(images, jnp.arange(23) % 10)
    state = training.create_state(module, optimizer, jax.random.key(0), images[:1])
    train = training.make_train_step(module.apply, optimizer)
    evaluation = training.make_eval_step(module.apply)
    compiled = []
    listener = lambda event, seconds, **_: compiled.append(event)  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        counts = []
        for _ in range(2):
            fit = partial(training.fit, batch_size=5, total_steps=int(state.step) + 8)
            state = fit(state, train, split)
            training.evaluate(evaluation, state.variables, split, batch_size=10)
            counts.append(compiled.count(COMPILATION))
    finally:
        jax.monitoring.clear_event_listeners()
    assert counts[0] > 0
    assert counts[1] == counts[0]
