"""The benchmark's workloads by this project, and the inputs and parameters that all sides share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import device_config, one_batch, style_config
from experiments.style_pictures import load_pictures, prepare
from jaxlessons import devices, generate, minimize, sequence_training, style_inputs, training
from jaxlessons.data import windows
from jaxlessons.devices import Layout
from jaxlessons.models import vgg
from jaxlessons.models.char import StatefulCharRNN
from jaxlessons.models.resnet import Resnet2
from jaxlessons.style_inputs import Inputs
from jaxlessons.style_objective import make_features, make_objective
from jaxlessons.style_settings import Settings
from jaxlessons.stylize import make_minimizer, targets_of

VOCABULARY = 85
# Evaluations in a call of the style transfer.
EVALUATIONS = 4
# Gives the figures that the libraries have to agree in.
Call = Callable[[], np.ndarray]


@dataclass(frozen=True)
class Sizes:
    """How large the workloads are."""

    batch_size: int = 256
    """Images a step."""
    image_size: int = 32
    """Their sides in pixels."""
    streams: int = 64
    """Streams of text a step."""
    bptt: int = 8
    """Characters of each a step."""
    features: int = 512
    """Hidden units of each of the LSTM's two layers."""
    length: int = 200
    """Characters to sample, in one text."""
    picture: int = 256
    """The painted picture's longer side in pixels."""
    devices: int | None = None
    """Devices that share a batch of images; otherwise those that a run of such batches takes."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """The type that products are computed in."""


def resnet2(sizes: Sizes) -> tuple[Resnet2, Any, np.ndarray, np.ndarray]:
    """The module without dropout, its variables, and a batch of random images with labels."""
    module = Resnet2(dropout=0.0, dtype=jnp.dtype(sizes.compute_dtype))
    random = np.random.default_rng(0)
    side = sizes.image_size
    images = random.standard_normal((sizes.batch_size, side, side, 3)).astype(np.float32)
    return module, _variables(module, images[:1]), images, np.arange(sizes.batch_size) % 10


def lstm(sizes: Sizes) -> tuple[StatefulCharRNN, Any]:
    """The language model without dropout, and its variables."""
    model = StatefulCharRNN(
        VOCABULARY, features=sizes.features, layers=2, dtype=jnp.dtype(sizes.compute_dtype)
    )
    return model, _variables(model, jnp.zeros((1, 1), jnp.int32))


def text(sizes: Sizes) -> np.ndarray:
    """A random window, int `[streams, bptt + 1]`."""
    return np.random.default_rng(1).integers(0, VOCABULARY, (sizes.streams, sizes.bptt + 1))


def prompt() -> np.ndarray:
    """What the sampled text begins with, int `[8]`."""
    return np.random.default_rng(2).integers(0, VOCABULARY, 8)


def style(sizes: Sizes) -> tuple[Settings, Any, Inputs, np.ndarray]:
    """The settings, a random VGG16's parameters, the pictures, and the start.

    Random weights take the time of trained ones, and need no download.
    """
    config = style_config.Config(size=sizes.picture, compute_dtype=sizes.compute_dtype)
    inputs = prepare(config, load_pictures(config))
    params = _variables(vgg.VGG16(), jnp.zeros((1, 32, 32, 3)))["params"]
    settings = style_config.settings(config)
    return settings, params, inputs, style_inputs.start(settings, inputs)


def _variables(module: Any, inputs: Any) -> Any:
    """Drawn as for a training, which is compiled quickly."""
    return training.create_state(module, optax.identity(), jax.random.key(0), inputs).variables


def train_resnet2(sizes: Sizes) -> Call:
    """A training step a call: SGD with momentum 0.9 and rate 0.01; gives the batch's loss."""
    layout = layout_of(sizes)
    module, variables, images, labels = resnet2(sizes)
    optimizer = optax.sgd(0.01, momentum=0.9)
    train_step = training.make_train_step(module.apply, optimizer, layout=layout)
    first = jnp.asarray(images[:1])
    made = training.create_state(module, optimizer, jax.random.key(0), first)
    state = made.replace(params=variables["params"], batch_stats=variables["batch_stats"])
    step = one_batch.repeated(train_step, images, labels, layout)
    return _trainer(step, layout.place(state))


def layout_of(sizes: Sizes) -> Layout:
    """The devices asked for, or those that a run with such batches of images takes."""
    count = sizes.devices or device_config.usual(sizes.batch_size)
    device_config.play(count)
    return devices.layout(count)


def _trainer(step: Callable[..., Any], state: Any, *inputs: Any) -> Call:
    """A call takes one step more, always of the same batch, and gives its loss."""

    def call() -> np.ndarray:
        nonlocal state
        state, sums = step(state, *inputs)
        total, count = jax.block_until_ready((state, sums))[1]["loss"]
        return np.asarray([total / count])

    return call


def run_resnet2(sizes: Sizes) -> Call:
    """The logits of a batch a call; gives those of the first image."""
    layout = layout_of(sizes)
    module, variables, images, _ = resnet2(sizes)
    variables, inputs = layout.replicate((variables, images))

    @jax.jit
    def forward(variables: Any, inputs: jax.Array) -> Any:
        return module.apply(variables, layout.share_batch(inputs))

    return lambda: np.asarray(forward(variables, inputs))[0]


def train_lstm(sizes: Sizes) -> Call:
    """A step of truncated backpropagation a call, with Adam at 1e-3; gives the window's loss."""
    model, variables = lstm(sizes)
    optimizer = optax.adam(1e-3)
    gather = partial(windows.gather, width=sizes.bptt)
    step = sequence_training.make_train_step(model.apply, optimizer, gather)
    rows = text(sizes)
    tokens = jnp.asarray(rows.reshape(-1), jnp.int32)
    starts = np.arange(sizes.streams, dtype=np.int32) * rows.shape[1]
    window = sequence_training.Window(
        jnp.asarray(starts), jnp.full(sizes.streams, sizes.bptt, jnp.int32)
    )
    made = sequence_training.create_state(model, optimizer, jax.random.key(0), sizes.streams)
    state = made.replace(params=variables["params"])
    return _trainer(step, state, tokens, window)


def sample_lstm(sizes: Sizes) -> Call:
    """`length` characters a call, one at a time, the likeliest each time; gives them."""
    model, variables = lstm(sizes)
    key, start = jax.random.key(0), prompt()
    return lambda: generate.generate(model.apply, variables, start, sizes.length, key, greedy=True)[
        0
    ]


def paint(sizes: Sizes) -> Call:
    """`EVALUATIONS` of the loss and its gradient a call, by L-BFGS; gives the first call's first
    loss, that of the start: from there each library's L-BFGS goes a way of its own."""
    settings, params, inputs, start = style(sizes)
    features = make_features(settings, vgg.MEAN)
    data = (params, targets_of(settings, features, params, inputs))
    method = make_minimizer(settings)
    descent = minimize.begin(method, jnp.asarray(start))
    each = 1 if jax.default_backend() == "cpu" else EVALUATIONS
    advance = minimize.make_call(method, make_objective(settings, vgg.MEAN), each)

    values: list[float] = []

    def call() -> np.ndarray:
        nonlocal descent
        for _ in range(EVALUATIONS // each):
            descent, record = advance(descent, data)
            values.extend(np.asarray(record["value"]).tolist())
        return np.asarray(values[:1])

    return call
