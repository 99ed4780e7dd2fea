"""Averages of the parameters over training, and the batch statistics that belong to them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct, traverse_util

from jaxlessons.errors import UserError
from jaxlessons.phase import is_count, is_number

Path = tuple[str, ...]
Moments = dict[Path, tuple[jax.Array, jax.Array]]
NAMES = ("mean", "var")


class Average(struct.PyTreeNode):
    """params: the mean so far, shaped as the network's; count: int32, how many went into it."""

    params: Any
    count: jax.Array


class Averager(NamedTuple):
    """An average as part of training, for `training.make_train_step`.

    init: params -> Average. update: (average, params, step) -> Average, where step counts the
    steps finished, from 1; jittable.
    """

    init: Callable[[Any], Average]
    update: Callable[[Average, Any, jax.Array], Average]


def swa_init(params: Any) -> Average:
    """An average that nothing has gone into yet; until then it holds a copy of `params`."""
    return Average(jax.tree.map(jnp.array, params), jnp.zeros([], jnp.int32))


def swa_update(average: Average, params: Any) -> Average:
    """The equal-weight mean (w n + p)/(n + 1) of all n + 1 so far (Izmailov et al., 2018)."""
    n = average.count
    mean = jax.tree.map(
        lambda w, p: ((w * n + p) / (n + 1)).astype(w.dtype), average.params, params
    )
    return Average(mean, n + 1)


def ema_update(average: Average, params: Any, decay: float) -> Average:
    """The exponential moving average, each weight `decay` times the next one's.

    Weights sum to 1 from the first update on, so there is no bias to the start:
    w <- w + (p - w) (1 - decay)/(1 - decay^n) at the n-th (Kingma and Ba, 2014, section 3).
    """
    n = average.count + 1
    # expm1, because 1 - decay^n loses its digits where decay is near 1.
    weight = jnp.minimum(1.0, (1 - decay) / -jnp.expm1(n * math.log(decay)))
    mean = jax.tree.map(
        lambda w, p: ((1 - weight) * w + weight * p).astype(w.dtype), average.params, params
    )
    return Average(mean, n)


def swa(start: int, every: int = 1) -> Averager:
    """Stochastic weight averaging: what there is `every` steps, 2 `every`, ... after step `start`.

    Raises:
      UserError: when start is below 0 or every below 1.
    """
    if start != 0 and not is_count(start):
        raise UserError(f"swa: start is {start!r}: it must be a step, 0 or more.")
    if not is_count(every):
        raise UserError(f"swa: every is {every!r}: it must be 1 step or more.")

    def update(average: Average, params: Any, step: jax.Array) -> Average:
        due = (step > start) & ((step - start) % every == 0)
        return jax.lax.cond(due, swa_update, lambda average, _: average, average, params)

    return Averager(swa_init, update)


def ema(decay: float) -> Averager:
    """The exponential moving average of every step; raises UserError for a decay not in (0, 1)."""
    if not is_number(decay) or not 0 < decay < 1:
        raise UserError(f"ema: decay is {decay!r}: it must lie between 0 and 1.")

    def update(average: Average, params: Any, step: jax.Array) -> Average:
        return ema_update(average, params, decay)

    return Averager(swa_init, update)


def recalibrate_batch_stats(
    apply: Callable[..., Any],
    variables: Mapping[str, Any],
    inputs: jax.Array,
    *,
    batch_size: int = 500,
    prepare: Callable[[jax.Array], jax.Array] = lambda inputs: inputs,
    key: jax.Array | None = None,
) -> Any:
    """Batch norm's mean and variance over all `inputs` `[n, ...]`, in one pass, for new params.

    Averaged parameters have no batch statistics of their own. Every batch goes through the
    network once, as in training, and the batches' statistics are pooled by their sizes: mean
    E[m_b], variance E[v_b + m_b^2] - E[m_b]^2, in the form of Chan et al. (1979) that keeps its
    digits. So what the first batch norm sees gets its exact mean and (biased) variance, and each
    later one the exact ones of its own inputs, which depend on the batches before it. The last
    batch may be smaller. (Within a batch flax's BatchNorm loses digits where the mean is large
    against the deviation, unless its `use_fast_variance` is off.)

    apply: a Flax module's, called with `train=True`; every module with batch statistics must
    be like flax's BatchNorm: a "mean" and a "var" that move as
    r <- momentum r + (1 - momentum) batch. prepare: raw inputs -> the network's.
    key: for dropout, where there is any; by default a fixed one.

    Returns:
      `variables["batch_stats"]`, renewed; {} for a network without batch norm.

    Raises:
      UserError: when there are no inputs, or a module's statistics are none of batch norm's.
    """
    old = variables.get("batch_stats", {})
    if not jax.tree.leaves(old):
        return old
    count = len(inputs)
    if count < 1 or batch_size < 1:
        raise UserError(f"There are no batch statistics in {count} inputs by {batch_size}.")
    key = jax.random.key(0) if key is None else key
    zeros = jax.tree.map(jnp.zeros_like, old)
    pool, pooled = _make_pool(apply, prepare), _by_module(zeros)
    for start in range(0, count, batch_size):
        batch = inputs[start : start + batch_size]
        params = variables.get("params", {})
        pooled = pool(params, zeros, pooled, jnp.float32(start), batch, key)
    named = {(*p, name): m for p, ms in pooled.items() for name, m in zip(NAMES, ms, strict=True)}
    return traverse_util.unflatten_dict(named)


@functools.lru_cache(maxsize=8)
def _make_pool(
    apply: Callable[..., Any], prepare: Callable[[jax.Array], jax.Array]
) -> Callable[..., Moments]:
    """The jitted step over a batch; kept, so that a second recalibration compiles nothing."""

    @jax.jit
    def pool(
        params: Any, zeros: Any, pooled: Moments, seen: jax.Array, batch: jax.Array, key: jax.Array
    ) -> Moments:
        called: dict[Path, nn.Module] = {}
        with nn.intercept_methods(_note_modules(called)):
            _, updated = apply(
                {"params": params, "batch_stats": zeros},
                prepare(batch),
                train=True,
                rngs={"dropout": key},
                mutable=["batch_stats"],
            )
        stats = _batch_moments(zeros, updated["batch_stats"], called)
        return {path: _pool(pooled[path], stats[path], seen, len(batch)) for path in stats}

    return pool


def _note_modules(called: dict[Path, nn.Module]) -> Callable[..., Any]:
    """An interceptor that writes down every module that has a momentum, by its path."""

    def interceptor(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if not hasattr(module, "momentum") or context.method_name != "__call__":
            return call(*args, **kwargs)
        # A second trace, as nn.scan makes one, is of another object.
        if module.path in called and called[module.path] is module:
            raise UserError(
                f"{_name(module.path)} is called more than once in a step: what its statistics "
                "then are a mixture of can't be told, so it can't be recalibrated."
            )
        outputs = call(*args, **kwargs)
        called[module.path] = module  # only now, for a subclass may call its parent's
        return outputs

    return interceptor


def _name(path: Path) -> str:
    return "/".join(path) or "The network"


def _by_module(batch_stats: Any) -> Moments:
    """path of a module -> its (mean, var)."""
    modules: dict[Path, dict[str, jax.Array]] = {}
    for (*path, name), value in traverse_util.flatten_dict(batch_stats).items():
        modules.setdefault(tuple(path), {})[name] = value
    for path, stats in modules.items():
        if set(stats) != set(NAMES):
            raise UserError(
                f"{_name(path)} has the batch statistics {', '.join(sorted(stats))}: only modules "
                "with a mean and a var can be recalibrated."
            )
    return {path: (stats["mean"], stats["var"]) for path, stats in modules.items()}


def _batch_moments(zeros: Any, updated: Any, called: Mapping[Path, nn.Module]) -> Moments:
    """The batch's own statistics, from running ones that moved towards them from `zeros`."""
    before, moments = _by_module(zeros), {}
    for path, (mean, var) in _by_module(updated).items():
        momentum = getattr(called.get(path), "momentum", None)
        if momentum is None or not momentum < 1:
            raise UserError(
                f"{_name(path)} has momentum {momentum}: to be recalibrated a module needs one "
                "below 1, as flax's BatchNorm has."
            )
        # A module that is frozen hands back the very arrays it was given.
        if var is before[path][1]:
            raise UserError(
                f"{_name(path)} keeps its batch statistics in training: it can't be recalibrated."
            )
        moments[path] = (mean / (1 - momentum), var / (1 - momentum))
    return moments


def _pool(
    pooled: tuple[jax.Array, jax.Array],
    batch: tuple[jax.Array, jax.Array],
    seen: jax.Array,
    size: int,
) -> tuple[jax.Array, jax.Array]:
    """Mean and variance of `seen` examples and `size` more, together."""
    share = size / (seen + size)
    apart = batch[0] - pooled[0]
    mean = pooled[0] + share * apart
    var = (1 - share) * pooled[1] + share * batch[1] + share * (1 - share) * apart**2
    return mean, var
