"""The loss against a swept setting, and what it suggests; `lr_find` makes such curves."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# A fall of the loss counts from this many standard errors on: of curves that are nothing but
# noise about one in a hundred has such a fall.
STANDARD_ERRORS = 3.5


class Sweep(NamedTuple):
    """The steps of a sweep before it diverged, and what they suggest.

    values: `[steps]`; losses: `[steps]`, each that of its batch before the step with its value;
    smoothed: `[steps]`, see `sweep`; diverged_at: the value of the step that diverged, or None;
    name: of what was swept.

    The suggestions read the smoothed loss, and leave out its first tenth, where the average is
    over too few steps. Each is None when the loss never fell.
    """

    values: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    diverged_at: float | None = None
    name: str = "learning rate"

    def is_geometric(self) -> bool:
        """Whether each value is the same multiple of the last: its axis is then the log's."""
        if np.any(self.values <= 0):
            return False
        steps = np.diff(np.log(self.values))
        return bool(np.allclose(steps, steps[0], rtol=1e-3))

    def fell(self) -> bool:
        """Whether the loss fell by more than its noise.

        The lowest mean of k losses in a row, k a tenth of them and at least 3, must be below the
        mean of the first k by 3.5 standard errors of such a difference. The noise is estimated
        by the median second difference, which a steady trend leaves alone.
        """
        width = max(3, len(self.losses) // 10)
        means = np.convolve(self.losses, np.full(width, 1 / width), mode="valid")
        noise = np.median(np.abs(np.diff(self.losses, 2))) / (0.6745 * np.sqrt(6))
        return bool(means[0] - means.min() > STANDARD_ERRORS * noise * np.sqrt(2 / width))

    def steepest(self) -> float | None:
        """Where d smoothed/d log(value) is most negative, on the way down to the minimum.

        Without the log where the values are not geometric.
        """
        if not self.fell():
            return None
        axis = np.log(self.values) if self.is_geometric() else self.values
        slope = np.gradient(self.smoothed, axis)[self._start() : self._lowest() + 1]
        return float(self.values[self._start() + int(np.argmin(slope))])

    def valley(self) -> float | None:
        """Two thirds into the longest valley, as fastai v2 describes its default.

        The valley is the longest subsequence of steps, not necessarily neighbours, in which each
        loss is below the one before; the suggestion is two thirds of the way from its first step
        to its last. (fastai's own code goes half the way.)
        """
        if not self.fell():
            return None
        first, last = _longest_fall(self.smoothed[self._start() :])
        return float(self.values[self._start() + first + round((last - first) * 2 / 3)])

    def minimum(self) -> float | None:
        """The value of the lowest smoothed loss."""
        return float(self.values[self._lowest()]) if self.fell() else None

    def minimum_tenth(self) -> float | None:
        """A tenth of the value of the lowest smoothed loss: the lesson's rule of thumb."""
        lowest = self.minimum()
        return None if lowest is None else lowest / 10

    def suggestions(self) -> dict[str, float]:
        """All of them by name; empty when the loss never fell.

        In a sweep that is not geometric a tenth has no meaning, and "minimum" takes its place.
        """
        found = {"steepest": self.steepest(), "valley": self.valley()}
        if self.is_geometric():
            found["minimum/10"] = self.minimum_tenth()
        else:
            found["minimum"] = self.minimum()
        return {name: value for name, value in found.items() if value is not None}

    def describe(self) -> str:
        """The suggestions in one sentence, or that there are none and what to do."""
        found = ", ".join(f"{name} {value:.2g}" for name, value in self.suggestions().items())
        if found:
            return f"Suggested {self.name}: {found}."
        return (
            f"The loss never fell for a {self.name} from {self.values[0]:.3g} to "
            f"{self.values[-1]:.3g}, so none is suggested: sweep other values, or more steps."
        )

    def _start(self) -> int:
        return len(self.smoothed) // 10

    def _lowest(self) -> int:
        return self._start() + int(np.argmin(self.smoothed[self._start() :]))


def _longest_fall(curve: np.ndarray) -> tuple[int, int]:
    """The first and last index of the longest strictly decreasing subsequence.

    Where several are as long, it starts late: behind a plateau and not on it.
    """
    length, first = np.ones(len(curve), int), np.arange(len(curve))
    for i in range(1, len(curve)):
        higher = np.flatnonzero(curve[:i] > curve[i])[::-1]
        if higher.size:
            before = higher[np.argmax(length[higher])]
            length[i], first[i] = length[before] + 1, first[before]
    last = int(np.argmax(length))
    return int(first[last]), last
