"""The same style transfer in PyTorch, with its L-BFGS, to be measured against; needs PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxlessons.style_objective import layers_needed
from jaxlessons.style_settings import Settings

try:
    import torch
except ImportError:
    torch = None


class TorchTransfer:
    """A picture in PyTorch, and the loss of `style_objective` with the lesson's scaling.

    params: VGG16's. content, style, start: `[height, width, 3]` float32, 0 to 1. mean: of the
    network's inputs, blue, green, red.
    """

    def __init__(
        self,
        settings: Settings,
        params: Mapping[str, Any],
        mean: tuple[float, ...],
        content: np.ndarray,
        style: np.ndarray,
        start: np.ndarray,
    ) -> None:
        self.settings = settings
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.mean = torch.tensor(mean, device=self.device).reshape(1, 3, 1, 1)
        self.layers = layers_needed(settings)
        self.weights = {
            name: (self._tensor(p["kernel"], 3, 2, 0, 1), self._tensor(p["bias"]))
            for name, p in params.items()
            if name in self.layers
        }
        with torch.no_grad():
            self.content = self._features(self._picture(content))[settings.content_layer]
            seen = self._features(self._picture(style))
            self.grams = {name: self._gram(seen[name]) for name in settings.style_layers}
        self.picture = self._picture(start).requires_grad_()
        self.method = torch.optim.LBFGS([self.picture], history_size=settings.memory)
        self.values: list[float] = []

    def advance(self, evaluations: int) -> None:
        """So many evaluations more; the loss of each goes into `values`."""
        # A step begins with the evaluation that the last one left out: as many moves as those.
        self.method.param_groups[0].update(max_iter=evaluations, max_eval=2 * evaluations)
        found: list[Any] = []

        def closure() -> Any:
            self.method.zero_grad()
            loss = self.loss()
            loss.backward()
            found.append(loss.detach())
            return loss

        self.method.step(closure)
        self.values += [float(loss) for loss in found]

    def loss(self) -> Any:
        """The loss of the picture as it is."""
        features = self._features(self.picture)
        s = self.settings
        mse = torch.nn.functional.mse_loss
        style = sum(mse(self._gram(features[name]), gram) for name, gram in self.grams.items())
        content = mse(features[s.content_layer], self.content)
        return s.content_weight * content + s.style_weight * style

    def peak_bytes(self) -> int | None:
        """The most that PyTorch has held on the GPU; it doesn't count on a CPU."""
        return torch.cuda.max_memory_allocated() if self.device == "cuda" else None

    def _features(self, picture: Any) -> dict[str, Any]:
        x, found = 255 * picture.flip(1) - self.mean, {}
        for name in self.layers:
            if name in self.weights:
                kernel, bias = self.weights[name]
                x = torch.nn.functional.conv2d(x, kernel, bias, padding=1).relu()
            else:
                x = torch.nn.functional.max_pool2d(x, 2)
            found[name] = x
        return found

    def _gram(self, features: Any) -> Any:
        flat = features.flatten(2)[0]
        return flat @ flat.T / flat.numel()

    def _picture(self, array: np.ndarray) -> Any:
        return self._tensor(array[None], 0, 3, 1, 2)

    def _tensor(self, array: Any, *axes: int) -> Any:
        array = np.asarray(array, np.float32)
        plain = np.ascontiguousarray(array.transpose(axes) if axes else array)
        # By way of bytes, so that a PyTorch without NumPy will do.
        flat = torch.frombuffer(bytearray(plain.tobytes()), dtype=torch.float32)
        return flat.reshape(plain.shape).to(self.device)
