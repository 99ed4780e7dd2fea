"""What a classifier makes of its data's shares, and whether its probabilities can be believed.

A model amplifies what its data hold: of the cooks in a data set 67 % were women, of those that a
model saw in the pictures 84 % (Zhao et al., 2017; lesson 13). Here the shares are those of the
classes, in the labels of the test split and in what is predicted for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxlessons import metrics, plotting


def measure(
    probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str]
) -> dict[str, Any]:
    """For result.json, of probabilities `[n, classes]` and labels `[n]`.

    "classes" has for each its share in the labels and in the predictions, and the share of its
    examples that was recognised (None where there are none). "confusion": for each true class that
    occurs how often which was predicted. "bias_amplification": None where all classes have an
    equal share of the labels, so that there is nothing to amplify.
    """
    labels, predicted = np.asarray(labels), np.argmax(probabilities, axis=1)
    count = len(classes)
    matrix = metrics.confusion_matrix(predicted, labels, count)
    own, named = matrix.sum(axis=1), matrix.sum(axis=0)
    data, guessed = own / own.sum(), named / named.sum()
    found = metrics.accuracy_by_group(predicted, labels, labels, count)
    rows = zip(classes, data.tolist(), guessed.tolist(), found.tolist(), strict=True)
    return {
        "balanced_accuracy": metrics.balanced_accuracy(predicted, labels, count),
        "expected_calibration_error": metrics.expected_calibration_error(probabilities, labels),
        "bias_amplification": (metrics.bias_amplification(own, named) if np.ptp(own) > 0 else None),
        "classes": {
            name: {"share": a, "predicted": b, "accuracy": None if math.isnan(c) else c}
            for name, a, b, c in rows
        },
        "confusion": {
            classes[k]: {classes[j]: count for j, count in enumerate(row) if count}
            for k, row in enumerate(matrix.tolist())
            if any(row)
        },
    }


def table(found: Mapping[str, Any]) -> str:
    """What `measure` found, to be read: the classes by their share, and the figures below."""
    classes = found["classes"]
    width = max(map(len, ("class", *classes)))
    lines = [f"{'class':{width}}  share in the data  predicted  recall"]
    for name, row in sorted(classes.items(), key=lambda item: -item[1]["share"]):
        right = "-" if row["accuracy"] is None else f"{row['accuracy']:.1%}"
        lines.append(f"{name:{width}}  {row['share']:17.1%}  {row['predicted']:9.1%}  {right:>6}")
    lines.append(
        f"Balanced accuracy {found['balanced_accuracy']:.2%}; {_amplified(found)}; expected "
        f"calibration error {found['expected_calibration_error']:.1%}."
    )
    return "\n".join(lines)


def _amplified(found: Mapping[str, Any]) -> str:
    """What the large classes gain, or where there are none, the class that gains or loses most."""
    if (gain := found["bias_amplification"]) is not None:
        return (
            f"classes with more than an equal share of the labels get {_points(gain, 'more')} of "
            "the predictions"
        )
    gaps = {name: row["predicted"] - row["share"] for name, row in found["classes"].items()}
    name = max(gaps, key=lambda name: abs(gaps[name]))
    return f"{name} is predicted {_points(gaps[name], 'more often')} than it occurs"


def _points(gain: float, more: str) -> str:
    return f"{100 * abs(gain):.1f} points {more if gain >= 0 else more.replace('more', 'less')}"


def draw(probabilities: np.ndarray, labels: np.ndarray, title: str) -> Any:
    """The reliability curve."""
    error = metrics.expected_calibration_error(probabilities, np.asarray(labels))
    found = metrics.reliability(probabilities, np.asarray(labels))
    return plotting.plot_reliability(found, f"{title}\nexpected calibration error {error:.1%}")
