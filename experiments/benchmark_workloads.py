"""What the benchmark times: each workload by this project, and by PyTorch, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from experiments import benchmark_ours as ours
from experiments import benchmark_torch
from experiments.benchmark_ours import EVALUATIONS, VOCABULARY, Call, Sizes
from jaxlessons import summary
from jaxlessons.models import vgg
from jaxlessons.style_objective import layers_needed

# To which losses and logits agree: products are rounded, and each step goes on from the last.
TOLERANCE = {"float32": 2e-3, "bfloat16": 5e-2}


@dataclass(frozen=True)
class Workload:
    """One line of the benchmark.

    items: how many `unit`s a call works through. flops: a call's multiplications and additions in
    convolutions and matrix products, by the formula and not by the program. makes: by side (ours,
    torch, torch compiled) what makes its call; the first call compiles, and each gives figures
    that agree to `rtol`.
    """

    name: str
    unit: str
    items: int
    flops: float
    makes: Mapping[str, Callable[[], Call]]
    rtol: float


def _sides(mine: Callable[[Sizes], Call], theirs: Callable[..., Call], sizes: Sizes) -> dict:
    """Partials of functions of a module, which can be sent to another process."""
    makes = {"ours": partial(mine, sizes)}
    if benchmark_torch.torch is not None:
        makes["torch"] = partial(theirs, sizes, False)
        makes["torch compiled"] = partial(theirs, sizes, True)
    return makes


def resnet2_training(sizes: Sizes) -> Workload:
    """The lesson's residual network: loss, gradient and SGD with momentum."""
    flops, stem = _resnet2_flops(sizes)
    return Workload(
        "Resnet2 training",
        "images",
        sizes.batch_size,
        # Twice as much again backwards, but for the gradient of the images.
        sizes.batch_size * (3 * flops - stem),
        _sides(ours.train_resnet2, _torch_trains_resnet2, sizes),
        TOLERANCE[sizes.compute_dtype],
    )


def _torch_trains_resnet2(sizes: Sizes, compiled: bool) -> Call:
    _, variables, images, labels = ours.resnet2(sizes)
    return benchmark_torch.resnet2_training(
        variables, images, labels, sizes.compute_dtype, compiled
    )


def resnet2_inference(sizes: Sizes) -> Workload:
    """The residual network's logits, in evaluation mode."""
    return Workload(
        "Resnet2 inference",
        "images",
        sizes.batch_size,
        sizes.batch_size * _resnet2_flops(sizes)[0],
        _sides(ours.run_resnet2, _torch_runs_resnet2, sizes),
        TOLERANCE[sizes.compute_dtype],
    )


def _torch_runs_resnet2(sizes: Sizes, compiled: bool) -> Call:
    _, variables, images, _ = ours.resnet2(sizes)
    return benchmark_torch.resnet2_inference(variables, images, sizes.compute_dtype, compiled)


def _resnet2_flops(sizes: Sizes) -> tuple[int, int]:
    """An image's, forward: of all layers, and of the first alone."""
    image = jax.ShapeDtypeStruct((1, sizes.image_size, sizes.image_size, 3), jnp.float32)
    table = summary.layer_table(ours.Resnet2(), image)
    return sum(layer.flops for layer in table), table[0].flops


def lstm_training(sizes: Sizes) -> Workload:
    """The lesson's language model: a window's loss, its gradient and Adam."""
    characters = sizes.streams * sizes.bptt
    return Workload(
        "LSTM training",
        "characters",
        characters,
        3 * characters * _lstm_flops(sizes),
        _sides(ours.train_lstm, _torch_trains_lstm, sizes),
        TOLERANCE[sizes.compute_dtype],
    )


def _torch_trains_lstm(sizes: Sizes, compiled: bool) -> Call:
    params = ours.lstm(sizes)[1]["params"]
    return benchmark_torch.lstm_training(params, ours.text(sizes), sizes.compute_dtype, compiled)


def lstm_sampling(sizes: Sizes) -> Workload:
    """One text by the language model, character by character, always the likeliest."""
    return Workload(
        "LSTM sampling",
        "characters",
        sizes.length,
        sizes.length * _lstm_flops(sizes),
        _sides(ours.sample_lstm, _torch_samples_lstm, sizes),
        0.0,
    )


def _torch_samples_lstm(sizes: Sizes, compiled: bool) -> Call:
    params = ours.lstm(sizes)[1]["params"]
    return benchmark_torch.lstm_sampling(
        params, ours.prompt(), sizes.length, sizes.compute_dtype, compiled
    )


def _lstm_flops(sizes: Sizes) -> int:
    """A character's, forward: four gates of two layers, and the output."""
    embedded, hidden = 42, sizes.features
    gates = 4 * hidden * (embedded + hidden) + 4 * hidden * (hidden + hidden)
    return 2 * (gates + hidden * VOCABULARY)


def style_transfer(sizes: Sizes) -> Workload:
    """Evaluations of content and style loss with their gradient, and L-BFGS's moves."""
    settings, _, inputs, _ = ours.style(sizes)
    picture = jax.ShapeDtypeStruct((1, *inputs.content.shape), jnp.float32)
    network = vgg.VGG16(layers_needed(settings)[-1])
    forward = sum(layer.flops for layer in summary.layer_table(network, picture))
    return Workload(
        "style transfer",
        "evaluations",
        EVALUATIONS,
        # Forward, and the gradient of what goes in; that of the weights is not needed.
        EVALUATIONS * 2 * forward,
        _sides(ours.paint, _torch_paints, sizes),
        TOLERANCE[sizes.compute_dtype],
    )


def _torch_paints(sizes: Sizes, compiled: bool) -> Call:
    settings, params, inputs, start = ours.style(sizes)
    pictures = (inputs.content, inputs.styles[0], start)
    return benchmark_torch.painting(settings, params, vgg.MEAN, pictures, EVALUATIONS, compiled)


WORKLOADS: dict[str, Callable[[Sizes], Workload]] = {
    "resnet2_training": resnet2_training,
    "resnet2_inference": resnet2_inference,
    "lstm_training": lstm_training,
    "lstm_sampling": lstm_sampling,
    "style": style_transfer,
}


def check_agreement(name: str, first: Mapping[str, np.ndarray], rtol: float) -> None:
    """Raises AssertionError where a side's figures are not ours."""
    scale = float(np.abs(first["ours"]).max())
    for side, found in first.items():
        np.testing.assert_allclose(
            found, first["ours"], rtol=rtol, atol=rtol * scale, err_msg=f"{name}, {side}"
        )
