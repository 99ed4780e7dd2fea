"""The loss of a style transfer, as a function of the picture, and the targets that it aims at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from jaxlessons.data.color import YIQ
from jaxlessons.minimize import Objective
from jaxlessons.models import vgg
from jaxlessons.models.vgg import VGG16
from jaxlessons.style_losses import content_loss, gram_matrix, style_loss, total_variation
from jaxlessons.style_settings import Settings

LUMINANCE = YIQ[0].astype("float32")
Features = Mapping[str, jax.Array]
Params = Mapping[str, Any]


class Region(struct.PyTreeNode):
    """A style and the part of the picture that it is for. Layers go by VGG16's names."""

    grams: dict[str, jax.Array]  # layer -> [channel, channel]
    masks: dict[str, jax.Array] | None  # layer -> [height, width] there; None is everywhere
    weight: jax.Array  # float32 scalar


class Targets(struct.PyTreeNode):
    """What the network saw in the content and in the styles."""

    content: jax.Array | None  # [height, width, channel] of the content layer
    regions: tuple[Region, ...]


def layers_needed(settings: Settings) -> list[str]:
    """VGG16's layers, from the first to the deepest that a loss reads."""
    read = list(settings.style_layers) if settings.style_weight else []
    read += [settings.content_layer] if settings.content_weight else []
    names = list(vgg.LAYERS)
    return names[: max(map(names.index, read)) + 1]


def smallest_side(settings: Settings) -> int:
    """Pixels that a picture's sides must have for the deepest layer to be at least 1 x 1."""
    return int(2 ** sum(name.endswith("pool") for name in layers_needed(settings)))


def make_objective(settings: Settings, mean: tuple[float, ...]) -> Objective:
    """(picture `[height, width, 3]` 0..1, (params, Targets)) -> (loss, its weighted parts)."""
    blocks = _blocks(layers_needed(settings))

    def losses(x: jax.Array, params: Params, targets: Targets, names: Sequence[str]) -> Any:
        x, features = _apply(settings, params, x, names)
        content = style = jnp.zeros([], jnp.float32)
        if settings.content_layer in names and targets.content is not None:
            content = content_loss(features[settings.content_layer][0], targets.content)
        for layer in (name for name in names if name in settings.style_layers):
            for region in targets.regions:
                mask = None if region.masks is None else region.masks[layer]
                loss = style_loss(
                    features[layer][0], region.grams[layer], settings.normalization, mask
                )
                style += region.weight * loss
        return x, content, style

    # The losses are made within the block, so that of its features only a few numbers and its
    # output have to be kept.
    run = jax.checkpoint(losses, static_argnums=3) if settings.remat else losses

    def objective(picture: jax.Array, data: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        params, targets = data
        if settings.color == "luminance":  # of what the point has in chroma nothing is shown
            picture = jnp.repeat(picture @ LUMINANCE[:, None], 3, axis=-1)
        x = vgg.preprocess(255 * picture[None], mean)
        content = style = jnp.zeros([], jnp.float32)
        for names in blocks:
            x, block_content, block_style = run(x, params, targets, names)
            content, style = content + block_content, style + block_style
        parts = {
            "content": settings.content_weight * content,
            "style": settings.style_weight * style,
            "variation": settings.tv_weight * total_variation(picture),
        }
        return jnp.sum(jnp.stack(list(parts.values()))), parts

    return objective


def make_features(settings: Settings, mean: tuple[float, ...]) -> Any:
    """(params, picture `[height, width, 3]` 0..1) -> the features that losses read, jitted."""
    names = layers_needed(settings)
    read = [x for x in names if x in (settings.content_layer, *settings.style_layers)]

    @jax.jit
    def features(params: Params, picture: jax.Array) -> dict[str, jax.Array]:
        x = vgg.preprocess(255 * picture[None], mean)
        found = _apply(settings, params, x, names)[1]
        return {layer: found[layer][0] for layer in read}

    return features


def make_targets(
    settings: Settings,
    content: Features,
    styles: Sequence[Features],
    weights: Sequence[float],
    masks: Sequence[Any] | None,
) -> Targets:
    """The targets, of the features of the content, `[height, width, channel]`, and of the styles.

    weights: of each style; their sum counts as 1. masks: `[height, width]` of each style, at the
    picture's size. Without masks the styles' Gram matrices are mixed: the sum of the losses to
    each differs from the loss to their mean by a constant.
    """
    share = [jnp.asarray(weight / sum(weights), jnp.float32) for weight in weights]
    layers = settings.style_layers if settings.style_weight else ()
    grams = [{x: gram_matrix(s[x], settings.normalization) for x in layers} for s in styles]
    regions: list[Region] = []
    if layers and masks is None:
        mixed = {
            x: jnp.sum(jnp.stack([g[x] * w for g, w in zip(grams, share, strict=True)]), axis=0)
            for x in layers
        }
        regions = [Region(mixed, None, jnp.ones([], jnp.float32))]
    elif layers and masks is not None:
        sizes = {x: content[x].shape[:2] for x in layers}
        for gram, weight, mask in zip(grams, share, masks, strict=True):
            whole = jnp.asarray(mask)
            small = {x: jax.image.resize(whole, size, "linear") for x, size in sizes.items()}
            # Each style's weight is its own: a small region is not to count for less.
            regions.append(Region(gram, small, weight * len(masks)))
    kept = content[settings.content_layer] if settings.content_weight else None
    return Targets(kept, tuple(regions))


def _apply(settings: Settings, params: Params, x: jax.Array, names: Sequence[str]) -> Any:
    network = VGG16(names[-1], names[0], settings.pool, jnp.dtype(settings.compute_dtype))
    own = {name: params[name] for name in names if name in params}
    return network.apply({"params": own}, x, return_features=True)


def _blocks(names: Sequence[str]) -> list[tuple[str, ...]]:
    """The layers by block, each with the pooling behind it."""
    blocks: dict[str, list[str]] = {}
    for name in names:
        blocks.setdefault(name.split("_")[0], []).append(name)
    return [tuple(block) for block in blocks.values()]
