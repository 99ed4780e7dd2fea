"""The fused backend: equal to the plain scan, and with nothing in its loops but what must be."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons.models.rnn import Recurrent

BATCH, TIME, INPUTS, FEATURES = 5, 40, 3, 6


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_over_many_steps_it_equals_the_scan_in_every_gradient(cell, case, differentiated, close):
    fused = Recurrent(cell, FEATURES, bidirectional=True, backend="fused")
    arguments = case(fused, BATCH, TIME, INPUTS)
    lengths = np.array([40, 1, 0, 17, 39])
    expected = differentiated(fused.clone(backend="scan"), *arguments, lengths)
    close(differentiated(fused, *arguments, lengths), expected)


def gradient(layer, case):
    params, x, carry = case(layer, BATCH, TIME, INPUTS)

    def total(params, x):
        return jnp.sum(layer.apply({"params": params}, x, carry)[0])

    return jax.make_jaxpr(jax.grad(total, (0, 1)))(params, x).jaxpr


def equations(jaxpr, loops=0):
    """(equation, how many loops it is in), of a jaxpr and all within it."""
    for equation in jaxpr.eqns:
        yield equation, loops
        inner = loops + (equation.primitive.name in ("scan", "while"))
        for value in equation.params.values():
            if isinstance(value, jax.extend.core.ClosedJaxpr | jax.extend.core.Jaxpr):
                yield from equations(getattr(value, "jaxpr", value), inner)


@pytest.mark.parametrize(("cell", "gates"), [("rnn", 1), ("gru", 3), ("lstm", 4)])
def test_each_loop_holds_one_product_and_no_weight_gradient(cell, gates, case):
    rows = gates * FEATURES
    layer = Recurrent(cell, FEATURES, backend="fused")
    jaxpr = gradient(layer, case)
    products = [
        (tuple(sorted(eqn.outvars[0].aval.shape)), loops)
        for eqn, loops in equations(jaxpr)
        if eqn.primitive.name == "dot_general"
    ]
    inside = sorted(shape for shape, loops in products if loops)
    outside = sorted(shape for shape, loops in products if not loops)
    # W_hh h forward, and back through it.
    assert inside == sorted([tuple(sorted((BATCH, rows))), (BATCH, FEATURES)])
    weights = [tuple(sorted((rows, size))) for size in (INPUTS, FEATURES)]
    of_all_steps = [tuple(sorted((TIME, BATCH, size))) for size in (rows, INPUTS)]
    assert outside == sorted([*weights, *of_all_steps])
    assert not carried(jaxpr) & {(rows, FEATURES), (rows, INPUTS), (rows,)}
    # The guard sees the plain scan's weight gradients, which are added up step by step.
    assert {(rows, FEATURES), (rows, INPUTS)} <= carried(
        gradient(layer.clone(backend="scan"), case)
    )


def carried(jaxpr):
    """Shapes of what the loops hand from step to step."""
    shapes = set()
    for eqn, _ in equations(jaxpr):
        if eqn.primitive.name == "scan":
            count = eqn.params["num_carry"]
            shapes |= {variable.aval.shape for variable in eqn.outvars[:count]}
    return shapes


def test_without_a_gradient_the_compiled_loop_saves_no_gates(case):
    layer = Recurrent("lstm", FEATURES, backend="fused")
    params, x, carry = case(layer, BATCH, TIME, INPUTS)

    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def run(params, x, carry):
        return layer.apply({"params": params}, x, carry)

    text = run.lower(params, x, carry).compile().as_text()
    (loop,) = [line for line in text.splitlines() if " while(" in line]
    assert loop.count(f"f32[{TIME},{BATCH},{4 * FEATURES}]") == 1  # the input product
    assert loop.count(f"f32[{TIME},{BATCH},{FEATURES}]") == 1  # the outputs


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_no_step_copies_the_buffer_of_all_steps(cell, case):
    layer = Recurrent(cell, FEATURES, backend="fused")
    params, x, _ = case(layer, BATCH, TIME, INPUTS)

    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def run(params, x):
        return jax.grad(lambda p: jnp.sum(layer.apply({"params": p}, x)[0] ** 2))(params)

    text = run.lower(params, x).compile().as_text()
    buffer = f"f32[{TIME},{len(params['weight_hh_l0'])},{BATCH}]"
    lines = [line for line in text.splitlines() if f"= {buffer}" in line]
    assert any(" dynamic-update-slice(" in line for line in lines)
    # What a step takes from its loop's state; it may be copied ahead of the loop.
    assert not [line for line in lines if " copy(%get-tuple-element" in line]
