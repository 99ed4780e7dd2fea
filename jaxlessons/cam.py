"""Class activation maps: where in an image a network saw its class.

Zhou et al., Learning deep features for discriminative localization (2015), for networks that end
in global average pooling; Selvaraju et al., Grad-CAM (2017), for any.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlessons.errors import UserError


def class_activation_map(
    features: jax.Array, classes: jax.Array | int, kernel: jax.Array | None = None
) -> jax.Array:
    """The map of one class an image, `[batch, height, width]`.

    features `[batch, height, width, channel]`: without a kernel the class maps themselves, one
    channel a class, as a convolutional head gives them (`models.vgg.ClassMaps`). kernel
    `[channel, num_classes]`: the weights of the dense layer that follows global average pooling,
    and the map is sum_c features_c kernel_c. Either way its mean over the image, plus the dense
    layer's bias, is the class's logit. classes: an index for each image, or one for all.

    Raises:
      UserError: when the shapes don't fit.
    """
    if features.ndim != 4:
        raise UserError(
            f"The features have the shape {list(features.shape)}: they must be "
            "[batch, height, width, channel], as they are before pooling."
        )
    classes = jnp.broadcast_to(jnp.asarray(classes), features.shape[:1])
    if kernel is None:
        return jnp.take_along_axis(features, classes[:, None, None, None], axis=-1)[..., 0]
    if kernel.ndim != 2 or kernel.shape[0] != features.shape[-1]:
        raise UserError(
            f"The kernel has the shape {list(kernel.shape)}: for features of "
            f"{features.shape[-1]} channels it must be [{features.shape[-1]}, num_classes]."
        )
    return jnp.einsum("bhwc,cb->bhw", features, kernel[:, classes])


def grad_cam(
    module: nn.Module,
    variables: Any,
    inputs: jax.Array,
    layer: str,
    classes: jax.Array | int,
    **apply_kwargs: Any,
) -> jax.Array:
    """relu(sum_c a_c A_c), `[batch, height, width]`, a_c the mean over the image of dlogit/dA_c.

    A `[batch, height, width, channel]` is the output of the submodule `layer`, named by its path
    as in the parameters ("trunk/block5_conv3"), and the logit is that of each image's class. Any
    linen module will do that returns logits `[batch, num_classes]`, or a tuple that starts with
    them; apply_kwargs go to its `apply`. For a network that ends in global average pooling and one
    dense layer this is the class activation map's positive part over its number of places.

    Raises:
      UserError: when no submodule has that name, or its output is no image or made twice.
    """
    path = tuple(layer.split("/"))
    classes = jnp.broadcast_to(jnp.asarray(classes), inputs.shape[:1])

    def logit_and_output(change: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """The sum over the batch of the classes' logits, where `change` is added to the output."""
        logits, output = _intercepted(module, variables, inputs, path, change, apply_kwargs)
        return jnp.sum(jnp.take_along_axis(logits, classes[:, None], axis=-1)), output

    shape = jax.eval_shape(lambda: logit_and_output(None)[1])
    zero = jnp.zeros(shape.shape, shape.dtype)
    gradient, output = jax.grad(logit_and_output, has_aux=True)(zero)
    importance = jnp.mean(gradient, axis=(1, 2))
    return nn.relu(jnp.einsum("bhwc,bc->bhw", output, importance))


def _intercepted(
    module: nn.Module,
    variables: Any,
    inputs: jax.Array,
    path: tuple[str, ...],
    change: jax.Array | None,
    apply_kwargs: dict[str, Any],
) -> tuple[jax.Array, jax.Array]:
    """(logits, the submodule's own output) with `change` added to what the submodule returns."""
    seen: list[str] = []
    outputs: list[jax.Array] = []
    depth = 0

    def add(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        nonlocal depth
        if context.method_name == "__call__":
            seen.append("/".join(context.module.path))
        if context.method_name != "__call__" or context.module.path != path:
            return call(*args, **kwargs)
        depth += 1
        output = call(*args, **kwargs)
        depth -= 1
        if depth:  # a class that calls its parent's __call__: the outer one is the layer's
            return output
        outputs.append(output)
        return output if change is None else output + change

    with nn.intercept_methods(add):
        result = module.apply(variables, inputs, **apply_kwargs)
    name = "/".join(path)
    if not outputs:
        raise UserError(f"There is no layer {name!r}: those called are {_listed(seen)}.")
    if len(outputs) > 1 or getattr(outputs[0], "ndim", 0) != 4:
        what = (
            f"is called {len(outputs)} times"
            if len(outputs) > 1
            else "does not return [batch, height, width, channel]"
        )
        raise UserError(f"The layer {name!r} {what}: Grad-CAM needs one with one image for output.")
    return (result[0] if isinstance(result, tuple) else result), outputs[0]


def _listed(names: list[str]) -> str:
    return ", ".join(dict.fromkeys(name for name in names if name))


def upsample(maps: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Maps `[batch, h, w]` -> `[batch, *size]`, bilinear between the middles of their places."""
    return jax.image.resize(maps, (maps.shape[0], *size), "bilinear")


def hottest_box(maps: jax.Array, share: float) -> jax.Array:
    """The window with the highest mean, `share` of each side: `[batch, 4]` int32 in places.

    A box is (top, left, bottom, right), the last two exclusive. For a window to the pixel first
    `upsample` the maps to the images' size.
    """
    if not 0 < share <= 1:
        raise UserError(f"The share of a side is {share}: it must be above 0 and at most 1.")
    height, width = (max(1, round(share * side)) for side in maps.shape[1:])
    # Sums over windows by running sums along each axis: no window is added up by itself.
    sums = _window_sums(_window_sums(maps.astype(jnp.float32), height, 1), width, 2)
    place = jnp.argmax(sums.reshape(len(maps), -1), axis=1)
    top, left = jnp.divmod(place, sums.shape[2])
    return jnp.stack([top, left, top + height, left + width], axis=1)


def _window_sums(maps: jax.Array, length: int, axis: int) -> jax.Array:
    padding = [(1, 0) if i == axis else (0, 0) for i in range(3)]
    total = jnp.cumsum(jnp.pad(maps, padding), axis=axis)
    end = total.shape[axis]
    return jax.lax.slice_in_dim(total, length, end, axis=axis) - jax.lax.slice_in_dim(
        total, 0, end - length, axis=axis
    )


def zoom(images: jax.Array, boxes: jax.Array) -> jax.Array:
    """Each image's box `[batch, 4]`, as `hottest_box` gives it, at the whole image's size; float32.

    Bilinear, and smoothed beforehand where a box is larger than its image.
    """
    shape = images.shape[1:]

    def one(image: jax.Array, box: jax.Array) -> jax.Array:
        start, end = box[:2].astype(jnp.float32), box[2:].astype(jnp.float32)
        scale = jnp.array(shape[:2], jnp.float32) / (end - start)
        return jax.image.scale_and_translate(
            image.astype(jnp.float32), shape, (0, 1), scale, -start * scale, "bilinear"
        )

    return jax.vmap(one)(images, boxes)
