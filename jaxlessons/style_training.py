"""Training of a network that paints any photo in one style, on the losses of a style transfer.

Johnson, Alahi and Fei-Fei, Perceptual losses for real-time style transfer (2016): what `stylize`
minimises over the pixels of one picture is here the mean over a batch of a network's pictures, each
with its own photo as the content, and is minimised over the network's parameters.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxlessons import loop, metrics, train_state, training
from jaxlessons.metrics import Sums
from jaxlessons.style_objective import (
    Params,
    Region,
    Targets,
    layers_needed,
    make_features,
    make_objective,
    make_targets,
)
from jaxlessons.style_settings import Settings
from jaxlessons.train_state import TrainState
from jaxlessons.training import EvalStep, Examples

Regions = tuple[Region, ...]


class Data(NamedTuple):
    """What every step sees.

    photos: uint8 `[n, height, width, 3]`. vgg: VGG16's parameters. regions: the style, as
    `make_regions` gives it.
    """

    photos: jax.Array
    vgg: Params
    regions: Regions


# (pictures, photos, vgg, regions), `[batch, height, width, 3]` 0..1 -> (loss, parts) `[batch]`.
Losses = Callable[[jax.Array, jax.Array, Params, Regions], tuple[jax.Array, dict[str, jax.Array]]]
# (state, data, rows `[batch]` of the photos) -> (state, sums); the old state is consumed.
StyleStep = Callable[[TrainState, Data, jax.Array], tuple[TrainState, Sums]]


def needed(settings: Settings, params: Mapping[str, Any]) -> Params:
    """Of VGG16's parameters those of the layers that the losses read, on the device."""
    own = {name: params[name] for name in layers_needed(settings) if name in params}
    return jax.tree.map(jnp.asarray, own)


def make_regions(
    settings: Settings, mean: tuple[float, ...], vgg: Params, style: jax.Array
) -> Regions:
    """The style's Gram matrices, of a picture `[height, width, 3]` 0..1; () for style_weight 0."""
    if not settings.style_weight:
        return ()
    alone = dataclasses.replace(settings, content_weight=0.0)
    seen = make_features(alone, mean)(vgg, style)
    return make_targets(alone, {}, [seen], [1.0], None).regions


def make_losses(settings: Settings, mean: tuple[float, ...]) -> Losses:
    """The objective of `style_objective`, of every picture of a batch."""
    objective = make_objective(settings, mean)
    alone = dataclasses.replace(settings, style_weight=0.0)
    features = make_features(alone, mean) if settings.content_weight else None

    def losses(picture: jax.Array, photo: jax.Array, vgg: Params, regions: Regions) -> Any:
        content = None if features is None else features(vgg, photo)[settings.content_layer]
        return objective(picture, (vgg, Targets(content, regions)))

    return jax.vmap(losses, in_axes=(0, 0, None, None))


def make_train_step(
    apply: Callable[..., Any],
    optimizer: optax.GradientTransformation,
    losses: Losses,
    augment: Callable[[jax.Array, jax.Array], jax.Array],
) -> StyleStep:
    """One jitted step: gather the photos, augment, gradient, update. It donates the state.

    apply: a Flax module's, photos 0..1 -> pictures 0..1 of their size. augment: (key, photos
    0..255) -> photos 0..1. The sums are "loss" and its weighted parts.
    """

    def step(state: TrainState, data: Data, rows: jax.Array) -> tuple[TrainState, Sums]:
        key = jax.random.fold_in(state.key, state.step)
        photos = augment(key, jnp.take(data.photos, rows, axis=0))

        def objective(params: Any) -> tuple[jax.Array, Sums]:
            pictures = apply({"params": params}, photos)
            each, parts = losses(pictures, photos, data.vgg, data.regions)
            return jnp.mean(each), _sums(each, parts)

        grads, sums = jax.grad(objective, has_aux=True)(state.params)
        return train_state.update(state, grads, optimizer), sums

    return jax.jit(step, donate_argnums=0)


def make_eval_step(
    apply: Callable[..., Any], losses: Losses, prepare: Callable[[jax.Array], jax.Array]
) -> EvalStep:
    """The step of `evaluate`; prepare: photos 0..255 -> photos 0..1."""

    @jax.jit
    def step(
        seen: tuple[Any, Data], photos: jax.Array, labels: jax.Array, mask: jax.Array
    ) -> tuple[jax.Array, Sums]:
        variables, data = seen
        photos = prepare(photos)
        pictures = apply({"params": variables["params"]}, photos)
        return pictures, _sums(*losses(pictures, photos, data.vgg, data.regions), mask)

    return step


def evaluate(
    eval_step: EvalStep, variables: Any, data: Data, batch_size: int
) -> tuple[dict[str, float], np.ndarray]:
    """(mean loss and parts over `data.photos`, the pictures): every photo counts once."""
    split = Examples(data.photos, jnp.arange(len(data.photos)))
    return training.evaluate(eval_step, (variables, data), split, batch_size)


def fit(
    state: TrainState,
    train_step: StyleStep,
    data: Data,
    *,
    batch_size: int,
    total_steps: int,
    steps_per_call: int | None = None,
    **callbacks: Any,
) -> TrainState:
    """Trains from `state`, which is consumed, until `total_steps` or until asked to stop.

    As `training.fit`, which tells of the order, the callbacks `on_steps`, `on_epoch` and
    `should_stop`, steps_per_call and what is raised.
    """
    count = len(data.photos)
    per_epoch = training.steps_per_epoch(count, batch_size)

    def rows(state: TrainState, epoch: int) -> np.ndarray:
        order = training.epoch_order(state.key, epoch, count)
        return order[: per_epoch * batch_size].reshape(per_epoch, batch_size)

    return loop.run(
        state,
        train_step,
        data,
        rows,
        per_epoch=per_epoch,
        total_steps=total_steps,
        steps_per_call=steps_per_call or (1 if jax.default_backend() == "cpu" else 50),
        **callbacks,
    )


def _sums(each: jax.Array, parts: dict[str, jax.Array], mask: jax.Array | None = None) -> Sums:
    return {k: metrics.masked_sum(v, mask) for k, v in {"loss": each, **parts}.items()}
