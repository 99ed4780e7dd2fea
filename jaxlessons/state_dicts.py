"""What is common to all state dicts: their values are arrays of finite numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxlessons.errors import UserError


def check_names(state_dict: Any, wanted: str) -> None:
    """UserError for what is no mapping by names; wanted: what it should be, to end the sentence."""
    if not isinstance(state_dict, Mapping):
        raise UserError(f"The state dict is of type {type(state_dict).__name__}: {wanted}.")
    for name in state_dict:
        if not isinstance(name, str):
            raise UserError(f"The state dict has the name {name!r}, which is no string: {wanted}.")


def as_float32(name: str, value: Any) -> np.ndarray:
    """The state dict's value of this name; UserError when it holds no finite numbers."""
    try:
        array = np.asarray(value)
        if array.dtype.kind in "cOSUMm":
            raise TypeError(f"it is of type {array.dtype}")
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).rstrip(".")
        raise UserError(f"The state dict's {name} is no array of numbers ({reason}).") from error
    if not np.isfinite(array).all():
        raise UserError(f"The state dict's {name} holds a value that is not finite in float32.")
    return array
