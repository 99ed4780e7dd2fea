"""The layer table of a network: name, output shape, parameters, FLOPs."""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax


class Layer(NamedTuple):
    """One layer. shape: its output's for one example; parameters: trained ones.

    flops: multiplications and additions of one example in the forward pass, of convolutions and
    dense layers alone (elsewhere 0): twice the kernel's size for every place that it is applied.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int
    flops: int


def layer_table(module: nn.Module, inputs: Any) -> list[Layer]:
    """The layers that own parameters, in the order of the forward pass.

    inputs: an array or a `jax.ShapeDtypeStruct` `[batch, ...]`; nothing is computed. A layer that
    is applied several times has one row, with its parameters once and the FLOPs of all times; of
    one that returns several arrays the first one's shape is told.
    """
    outputs: list[tuple[nn.Module, tuple[int, ...]]] = []

    def record(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        result = call(*args, **kwargs)
        arrays = jax.tree.leaves(result)
        if context.method_name == "__call__" and arrays:
            outputs.append((context.module, arrays[0].shape))
        return result

    with nn.intercept_methods(record):
        variables = jax.eval_shape(module.init, jax.random.key(0), inputs)
    table: dict[str, Layer] = {}
    for layer, shape in outputs:
        own = _own_parameters(variables["params"], layer.path)
        if own:
            name, size = ".".join(layer.path), sum(array.size for array in own.values())
            flops = _flops(layer, own, shape) + (table[name].flops if name in table else 0)
            table[name] = Layer(name, shape[1:], size, flops)
    return list(table.values())


def format_table(table: list[Layer]) -> str:
    """The table as text, with the sums below it."""
    rows = [("layer", "output shape", "parameters", "FLOPs")]
    rows += [(x.name, str(list(x.shape)), f"{x.parameters:,}", f"{x.flops:,}") for x in table]
    parameters, flops = sum(x.parameters for x in table), sum(x.flops for x in table)
    rows.append(("total", "", f"{parameters:,}", f"{flops:,}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        f"{name:<{widths[0]}}  {shape:<{widths[1]}}  {size:>{widths[2]}}  {flops:>{widths[3]}}"
        for name, shape, size, flops in rows
    )


def _own_parameters(params: Any, path: tuple[str, ...]) -> dict[str, Any]:
    for name in path:
        params = params.get(name, {})
    return {name: value for name, value in params.items() if hasattr(value, "shape")}


def _flops(layer: nn.Module, own: dict[str, Any], shape: tuple[int, ...]) -> int:
    is_conv = "kernel" in own and own["kernel"].ndim == 4  # of whatever class it is
    if not (is_conv or isinstance(layer, nn.Dense)):
        return 0
    places = 1
    for size in shape[1:-1]:
        places *= size
    return 2 * places * own["kernel"].size
