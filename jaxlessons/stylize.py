"""Neural style transfer: one picture's content in the manner of others (Gatys et al., 2015).

The picture itself is what is learnt: its pixels are changed until VGG16 sees in it the content
picture's features and the style's Gram matrices.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlessons import minimize, style_inputs, style_settings
from jaxlessons.data import color, images
from jaxlessons.errors import UserError
from jaxlessons.minimize import Descent, Minimizer
from jaxlessons.models import vgg
from jaxlessons.style_inputs import Inputs
from jaxlessons.style_losses import content_loss as content_loss
from jaxlessons.style_losses import gram_matrix as gram_matrix
from jaxlessons.style_losses import style_loss as style_loss
from jaxlessons.style_losses import total_variation as total_variation
from jaxlessons.style_objective import Targets, make_features, make_objective, make_targets
from jaxlessons.style_settings import Settings

Record = dict[str, np.ndarray]

# The history of no evaluation.
NO_RECORD: Record = {
    **{name: np.zeros(0, np.float32) for name in ("content", "style", "value", "variation")},
    "taken": np.zeros(0, bool),
    "scale": np.zeros(0, int),
}


class Progress(NamedTuple):
    """What is told after each call to the device.

    done: evaluations so far, over all scales; record: the arrays of this call's evaluations, as
    in `Stylized.history`; descent: what to save, to go on from here another time. picture: makes
    the picture as it is now. Both are to be used before the next call, which consumes the descent.
    """

    done: int
    record: Record
    descent: Descent
    picture: Callable[[], np.ndarray]


class Stylized(NamedTuple):
    """A picture and how it came about.

    picture: float32 `[height, width, 3]`, 0 to 1. history: arrays of one number an evaluation:
    `value` (the loss of the point tried), its weighted parts `content`, `style` and `variation`,
    `taken` (whether the point was kept), `scale`. The picture's own loss is that of the last point
    kept, but for the clipping to 0 to 1, and for `average`, which is never evaluated. memory: bytes
    that the largest compiled call takes, its inputs and outputs included, by the compiler's count;
    0 where none was made.
    """

    picture: np.ndarray
    history: Record
    memory: int


def stylize(
    content: np.ndarray,
    styles: Sequence[np.ndarray],
    params: Any,
    settings: Settings = Settings(),  # noqa: B008, it can't be changed
    *,
    mean: tuple[float, ...] = vgg.MEAN,
    weights: Sequence[float] | None = None,
    masks: Sequence[np.ndarray] | None = None,
    style_size: int | None = None,
    per_call: int | None = None,
    begun: tuple[int, Descent] | None = None,
    on_call: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Stylized:
    """The content in the manner of the styles.

    The same seed gives the same picture on one device; on a GPU that takes
    XLA_FLAGS=--xla_gpu_deterministic_ops=true.

    content: `[height, width, 3]` uint8, or float from 0 to 1; the picture has its size. styles:
    likewise, of any size; none where the style's weight is 0. params, mean: VGG16's, as
    `weights.vgg16()` gives them. weights: how much of each style; equal unless given. masks:
    `[height, width]` for each style, 0 to 1, the part of the picture that it is for. style_size:
    the styles' longer side in pixels, for larger or smaller brush strokes; unless given, each is
    scaled to cover the content and cropped (the lesson's scale_match). per_call: evaluations of
    the loss in one compiled call, at most, since they divide a scale's; unless given 1 on a CPU,
    else 10. begun: (`done`, `descent`) of an earlier Progress, to go on from there, which is
    consumed; the history is of the evaluations since.
    should_stop: asked after each call; the picture is then what there is.

    Raises:
      UserError: for settings that make no sense, pictures too small for the layers, styles,
        weights and masks that don't go together, or a loss that isn't finite.
    """
    style_settings.check(settings)
    inputs = style_inputs.prepare(settings, content, styles, weights, masks, style_size)
    if begun is not None and begun[0] >= settings.evaluations:  # stopped after its last call
        return Stylized(_finish(settings, inputs, begun[1]), NO_RECORD, 0)
    history: list[Record] = []
    memory = 0
    for scale, done, now, descent, record, size in _calls(
        settings, inputs, params, mean, per_call, begun
    ):
        if not np.isfinite(descent.state.value):
            raise UserError(
                f"The loss is not finite after {done} evaluations: take a lower lr, smaller "
                "weights or compute_dtype float32."
            )
        memory = max(memory, size)
        history.append(record | {"scale": np.full(len(record["value"]), scale)})
        picture = functools.partial(_finish, settings, now, descent)
        on_call(Progress(done, history[-1], descent, picture))
        if should_stop():
            break
    merged = {name: np.concatenate([record[name] for record in history]) for name in history[0]}
    return Stylized(picture(), merged, memory)


def saved_shape(settings: Settings, size: tuple[int, int], done: int) -> Descent:
    """The shapes of the descent after `done` evaluations, for `checkpoint.restore`.

    size: (height, width) of the content.
    """
    halvings = settings.scales - 1 - _scale_of(settings, done - 1)
    shape = (*style_inputs.scaled(size, halvings), 3)
    return jax.eval_shape(
        functools.partial(minimize.begin, make_minimizer(settings)), jnp.zeros(shape, jnp.float32)
    )


def _calls(
    settings: Settings,
    inputs: Inputs,
    params: Any,
    mean: tuple[float, ...],
    per_call: int | None,
    begun: tuple[int, Descent] | None,
) -> Iterator[tuple[int, int, Inputs, Descent, Record, int]]:
    """After each call: scale, evaluations done, inputs at the scale, descent, record, memory."""
    features, objective = make_features(settings, mean), make_objective(settings, mean)
    minimizer = make_minimizer(settings)
    params = jax.tree.map(jnp.asarray, params)
    done, descent = begun or (0, None)
    for scale in range(_scale_of(settings, done), settings.scales):
        now = style_inputs.at_scale(inputs, settings.scales - 1 - scale)
        targets = targets_of(settings, features, params, now)
        if descent is None:
            descent = minimize.begin(minimizer, jnp.asarray(style_inputs.start(settings, now)))
        elif done == _end(settings, scale - 1):
            start = images.resize(_point(settings, descent), *now.content.shape[:2])
            descent = minimize.begin(minimizer, jnp.asarray(start))
        # Divides what is left, too, which after a stop with another per_call is less.
        whole, left = (_end(settings, scale) - n for n in (_end(settings, scale - 1), done))
        each = _per_call(math.gcd(whole, left), per_call)
        call = minimize.make_call(minimizer, objective, each, settings.average or 0.99)
        compiled = call.lower(descent, (params, targets)).compile()
        size = minimize.call_bytes(compiled)
        while done < _end(settings, scale):
            descent, record = compiled(descent, (params, targets))
            done += each
            record = jax.tree.map(np.asarray, record)
            yield scale, done, now, descent, record, size


def targets_of(settings: Settings, features: Any, params: Any, now: Inputs) -> Targets:
    """The targets at the inputs' scale, by `make_features`; what they are made of is forgotten."""
    seen = [features(params, style) for style in now.styles]
    return make_targets(settings, features(params, now.content), seen, now.weights, now.masks)


def make_minimizer(settings: Settings) -> Minimizer:
    """The method that the settings name."""
    if settings.optimizer == "adam":
        return minimize.adam(settings.lr)
    return minimize.lbfgs(settings.memory)


def _end(settings: Settings, scale: int) -> int:
    """Evaluations to the scale's end: as many for each, what is left over goes to the last ones."""
    return settings.evaluations * (scale + 1) // settings.scales


def _scale_of(settings: Settings, done: int) -> int:
    """The scale that the evaluation after `done` others belongs to."""
    return sum(done >= _end(settings, scale) for scale in range(settings.scales))


def _per_call(budget: int, most: int | None) -> int:
    """The largest number of evaluations that divides the budget, up to `most`."""
    most = most or (1 if jax.default_backend() == "cpu" else 10)
    return max(n for n in range(1, min(most, budget) + 1) if budget % n == 0)


def _point(settings: Settings, descent: Descent) -> np.ndarray:
    point = descent.average.params if settings.average else descent.state.point
    return np.asarray(point, np.float32)


def _finish(settings: Settings, inputs: Inputs, descent: Descent) -> np.ndarray:
    """The point as a picture: in the content's colours where these were asked for, and clipped."""
    picture = _point(settings, descent)
    if settings.color == "luminance":
        picture = color.with_chroma_of(picture, inputs.colors)
    return np.clip(picture, 0, 1).astype(np.float32)
