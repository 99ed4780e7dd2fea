"""94% on CIFAR-10 in the least time on one GPU, and 95%, 96%, or 94% with few parameters.

    python -m experiments.cifar_speedrun                         # 94%, Muon, 25 seeds
    python -m experiments.cifar_speedrun --optimizer nesterov    # the same without Muon
    python -m experiments.cifar_speedrun --target 96

After Jordan, 94% on CIFAR-10 in 3.29 seconds on a single GPU (2024), and the Muon of Jordan et al.
(2024): a whitened frozen stem, images mirrored in every other epoch, an identity to begin with,
decoupled rates, lookahead, and six views of each test image.

The clock runs from the whitening to the test images' logits. Images stay on the device as bytes
and are augmented there, all steps are two compiled scans (before and after the whitening's bias is
frozen), whose state is donated, and the host waits for nothing but the end. Compiling is timed
apart; JAX_ENABLE_COMPILATION_CACHE=false keeps it from being spared by what an earlier run left.

On a CPU each step is a call of its own, since in a scan XLA runs convolutions on one thread, and
by default a narrow network is trained for 3 epochs, once; the whole recipe would take hours.

Choose settings by --validation 5000; without it the accuracy is that of the test images.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from experiments import command_line, peak, speedrun_config, speedrun_report
from experiments.run_directory import RunDirectory
from experiments.speedrun_config import Config
from experiments.speedrun_optimizer import Plan, make_optimizer, make_plan
from experiments.speedrun_program import PREDICTED, Carry, Parts, Program, compile_parts
from experiments.splits import split
from experiments.stopping import Stopped, handling
from jaxlessons import lookahead, losses, training, tta
from jaxlessons.data import augment, cifar10
from jaxlessons.data.cifar10 import ImageSet
from jaxlessons.models.speedrun_net import SpeedrunNet, whitening_kernel
from jaxlessons.train_state import TrainState, make_create_state
from jaxlessons.training import Examples, Place

WHITENED = 5000  # training images that the whitening is made from
FLIPS, ORDERS = 2**30, 2**30 + 1  # streams of a training's key, apart from its steps'


def make_network(config: Config, classes: int, train_whitening: bool = True) -> SpeedrunNet:
    """The network; its parameters are the same with and without `train_whitening`."""
    return SpeedrunNet(
        config.widths,
        classes,
        config.residual,
        config.norm_momentum,
        unit_head=config.optimizer == "muon",
        random_bias=config.optimizer == "muon",
        train_whitening=train_whitening,
        dtype=jnp.dtype(config.compute_dtype),
    )


def make_augment(config: Config, normalize: Callable[[jax.Array], jax.Array]) -> Callable[..., Any]:
    """(key of the flips, key, batch of bytes, place) -> the batch that the network sees."""

    def change(flip_key: jax.Array, key: jax.Array, batch: Examples, place: Place) -> Examples:
        crop_key, cutout_key = jax.random.split(key)
        x = augment.alternating_flip(flip_key, batch.inputs, place.rows, place.epoch)
        x = normalize(augment.random_crop(crop_key, x, pad=config.translate))
        if config.cutout:
            x = augment.cutout(cutout_key, x, size=config.cutout, inside=True)
        return batch._replace(inputs=x)

    return change


def places(key: jax.Array, count: int, plan: Plan, batch_size: int) -> Place:
    """All steps' places among `count` images, by the key of the training; `[steps, ...]` each."""
    epochs = math.ceil(plan.total / plan.per_epoch)
    keys = jax.random.split(jax.random.fold_in(key, ORDERS), epochs)
    orders = jax.vmap(partial(jax.random.permutation, x=count))(keys)
    rows = orders[:, : plan.per_epoch * batch_size].reshape(-1, batch_size)
    epoch = jnp.arange(plan.total, dtype=jnp.int32) // plan.per_epoch
    return Place(rows[: plan.total], epoch)


def make_parts(config: Config, plan: Plan, images: ImageSet, optimizer: Any) -> Parts:
    """What a training consists of."""
    normalize = partial(augment.normalize, mean=images.mean, std=images.std)
    change = make_augment(config, normalize)

    def begin(state: TrainState, train: Examples) -> tuple[Carry, Place]:
        kernel = whitening_kernel(normalize(train.inputs[:WHITENED]))
        whiten = state.params["whiten"] | {"kernel": kernel}
        state = state.replace(params=state.params | {"whiten": whiten})
        carry = Carry(state, state.variables if config.lookahead else None)
        return carry, places(state.key, len(train.labels), plan, config.batch_size)

    def step(module: SpeedrunNet, train: Examples, carry: Carry, place: Place) -> Carry:
        own_step = training.make_train_step(
            module.apply,
            optimizer,
            loss=partial(losses.cross_entropy, label_smoothing=config.label_smoothing),
            augment=partial(change, jax.random.fold_in(carry.state.key, FLIPS)),
        )
        state, _ = own_step(carry.state, train, place)
        if not config.lookahead:
            return Carry(state, None)
        slow, fast = lookahead.update(carry.slow, state.variables, state.step, plan.total)
        return Carry(state.replace(**fast), slow)

    def advance(
        module: SpeedrunNet, carry: Carry, train: Examples, all_places: Place, first: Any, many: int
    ) -> Carry:
        if many == 1:
            return step(module, train, carry, jax.tree.map(lambda array: array[first], all_places))
        own = jax.tree.map(
            lambda array: jax.lax.dynamic_slice_in_dim(array, first, many), all_places
        )
        return jax.lax.scan(lambda c, p: (step(module, train, c, p), None), carry, own)[0]

    def predict(carry: Carry, test: jax.Array) -> jax.Array:
        variables = carry.slow if config.lookahead else carry.state.variables
        batches = math.ceil(len(test) / PREDICTED)
        size = math.ceil(len(test) / batches)
        filled = jnp.pad(test, ((0, batches * size - len(test)), (0, 0), (0, 0), (0, 0)))

        def logits(x: jax.Array) -> Any:
            return networks[1].apply(variables, normalize(x), train=False)

        grouped = filled.reshape(batches, size, *test.shape[1:])
        found = jax.lax.map(partial(tta.mirror_and_shift, logits), grouped)
        return found.reshape(batches * size, -1)[: len(test)]

    networks = [make_network(config, len(images.classes), trains) for trains in (True, False)]
    first, second = (partial(advance, module) for module in networks)
    return Parts(begin, (first, second), predict)


def figures(
    config: Config,
    plan: Plan,
    module: SpeedrunNet,
    program: Program,
    state: TrainState,
    told: Examples,
) -> dict[str, Any]:
    """What can be said of the compiled training before it runs, for result.json."""
    return {
        "told": "validation" if config.validation else "test",
        "examples": len(told.labels),
        "parameters": optax.tree.size(state.params),
        "flops": speedrun_report.count_flops(module, plan, config.batch_size, len(told.labels)),
        "flops_xla": program.flops,
        "peak_flops_per_second": peak.matmul_peak(
            jnp.dtype(config.compute_dtype), config.peak_size
        ),
        "compile_seconds": round(program.compile_seconds, 1),
        "from_cache": program.from_cache,
    }


def timed(
    program: Program, state: TrainState, train: Examples, told: Examples
) -> tuple[float, np.ndarray]:
    """(seconds, logits `[n, classes]`) of one training; the host waits for its end alone."""
    jax.block_until_ready(state)
    began = time.perf_counter()
    logits = jax.block_until_ready(program.run(state, train, told.inputs))
    return time.perf_counter() - began, np.asarray(logits)


def main() -> None:
    """Compiles, trains with each seed, and tells mean and deviation."""
    default = speedrun_config.asked_for(sys.argv[1:])
    prog = "python -m experiments.cifar_speedrun"
    config = tyro.cli(Config, default=default, prog=prog, description=__doc__)
    speedrun_config.check(config)
    images = cifar10.load(config.data_dir)
    print(f"Data: {images.name} ({images.source}).")
    splits = split(images, config.validation)
    train, told = splits.train, splits.validation or splits.test
    plan = make_plan(config, len(train.labels))
    optimizer = make_optimizer(config, plan)
    module = make_network(config, len(images.classes))
    parts = make_parts(config, plan, images, optimizer)

    make_state, example = make_create_state(module, optimizer), jnp.zeros((1, 32, 32, 3))

    def create_state(seed: int) -> TrainState:
        return make_state(jax.random.key(seed), example)

    default_name = f"{config.target}-{config.optimizer}"
    run = RunDirectory.new(config.runs_dir, "cifar_speedrun", config.name, default_name)
    run.write_config(config, images.name)

    def stop(number: int, _frame: Any) -> None:
        raise Stopped(number, f"\n{speedrun_report.stopped(run)}")

    with handling(stop):
        on_cpu = jax.default_backend() == "cpu"
        state = create_state(0)
        program = compile_parts(parts, plan, state, train, told.inputs, 1 if on_cpu else None)
        found = {"data_source": images.source} | figures(config, plan, module, program, state, told)
        print(speedrun_report.outlook(found, config.seeds, on_cpu), flush=True)
        if config.warm_up:
            timed(program, create_state(config.seeds), train, told)
        predicted, labels = [], np.asarray(told.labels)
        for seed in range(config.seeds):
            seconds, logits = timed(program, create_state(seed), train, told)
            predicted.append(logits)
            record = speedrun_report.record(seed, logits, labels, seconds)
            run.append_metrics(record | {"step": plan.total})
            print(speedrun_report.line(record), flush=True)
        speedrun_report.finish(run, config, images, plan, found, predicted, labels)


if __name__ == "__main__":
    command_line.run(main)
