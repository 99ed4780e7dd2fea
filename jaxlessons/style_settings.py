"""What a style transfer can be asked for: every setting, its default, and what makes no sense."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args, get_origin, get_type_hints

from jaxlessons.errors import UserError
from jaxlessons.models import vgg

# The last convolutions of VGG16's blocks, after their ReLU: the lesson's `block_ends`.
BLOCK_ENDS = ("block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3", "block5_conv3")


@dataclass(frozen=True)
class Settings:
    """How a picture is made; the defaults of `stylize` and of the command line alike."""

    content_layer: str = "block4_conv2"
    """The layer whose features are the content, block1_conv1 to block5_pool; the lesson's combined
    picture has block4_conv3, its bird block5_conv1 (its layer 37) and block4_conv3 (32)."""
    style_layers: tuple[str, ...] = BLOCK_ENDS
    """The layers whose Gram matrices are the style."""
    content_weight: float = 1.0
    """Of the content loss; 0 for style alone."""
    style_weight: float = 4.0
    """Of the style loss, summed over its layers; 0 for content alone."""
    tv_weight: float = 0.0
    """Of the total variation, which smooths."""
    normalization: Literal["lesson", "gatys"] = "lesson"
    """How Gram matrices and their loss are scaled: by height * width * channels and as a mean, as
    the lesson and d2l do, or as Gatys et al. (2015) do."""
    pool: Literal["max", "avg"] = "max"
    """The network's pooling; avg is smoother, as Gatys et al. liked."""
    optimizer: Literal["lbfgs", "adam"] = "lbfgs"
    """The method that minimises the loss."""
    lr: float = 0.02
    """Adam's rate, in units of a picture from 0 to 1."""
    memory: int = 10
    """Steps that L-BFGS remembers."""
    evaluations: int = 1000
    """Evaluations of the loss and its gradient, over all scales together."""
    init: Literal["noise", "content", "blend"] = "noise"
    """Start from uniform noise smoothed by an 8x8 median filter and halved in contrast, as the
    lesson does, from the content, or from the two mixed."""
    blend: float = 0.5
    """Share of the noise where the start is a blend."""
    scales: int = 1
    """Sizes, from coarse to fine: each is twice the one before it, the last is the content's."""
    average: float = 0.0
    """Decay of the iterates' exponential moving average, which is then the picture; 0 takes the
    last iterate."""
    color: Literal["style", "luminance", "histogram"] = "style"
    """Whose colours: the style's; the content's, of which only the luminance is painted; or the
    content's, whose mean and covariance the style's pixels are given before they are learnt from
    (Gatys et al., Preserving color in neural artistic style transfer, 2016)."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """The type that the network computes in; the losses and the picture are float32."""
    remat: bool = False
    """Compute each block's features again in the backward pass. It saves little, a twentieth by
    the compiler's count on a CPU: the peak is within the first block."""
    seed: int = 0
    """Start of the noise."""


def check(settings: Settings) -> None:
    """Raises UserError, naming the setting, for a value that makes no sense."""
    s = settings
    layers = (("content_layer", s.content_layer), *(("style_layers", x) for x in s.style_layers))
    for field, name in layers:
        if name not in vgg.LAYERS:
            raise UserError(f"{field} has {name!r}: it must be of {', '.join(vgg.LAYERS)}.")
    for field, kind in get_type_hints(Settings).items():
        value = getattr(s, field)
        if get_origin(kind) is Literal and value not in get_args(kind):
            raise UserError(f"{field} is {value!r}: it must be one of {', '.join(get_args(kind))}.")
    for field in ("content_weight", "style_weight", "tv_weight"):
        value = getattr(s, field)
        if not 0 <= value < math.inf:
            raise UserError(f"{field} is {value}: it must be 0 or more.")
    if s.content_weight == 0 and (s.style_weight == 0 or not s.style_layers):
        raise UserError(
            "The picture would be made of nothing: set content_weight, or style_weight with at "
            "least one of style_layers, above 0."
        )
    for field, low in (("evaluations", s.scales), ("memory", 1), ("scales", 1)):
        if getattr(s, field) < low:
            raise UserError(f"{field} is {getattr(s, field)}: it must be {low} or more.")
    for field, fine, text in (
        ("lr", 0 < s.lr < math.inf, "above 0"),
        ("blend", 0 <= s.blend <= 1, "from 0 to 1"),
        ("average", 0 <= s.average < 1, "from 0 to below 1"),
        ("seed", 0 <= s.seed < 2**32, "from 0 to below 2^32"),
    ):
        if not fine:
            raise UserError(f"{field} is {getattr(s, field)}: it must be {text}.")
