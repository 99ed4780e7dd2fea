"""A torch.nn.RNN, GRU or LSTM state dict as parameters of `Recurrent`, which has their names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxlessons.errors import UserError
from jaxlessons.state_dicts import as_float32, check_names

CELLS = {1: "rnn", 3: "gru", 4: "lstm"}  # by the gates that a weight has rows for
WANTED = "give it the weights of one torch.nn.RNN, GRU or LSTM alone, such as weight_ih_l0"
NAME = re.compile(r"(weight_ih|weight_hh|bias_ih|bias_hh)_l(0|[1-9]\d*)(_reverse)?")


def recurrent_from_torch(state_dict: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The parameters of a `models.rnn.Recurrent`, float32, out of PyTorch's recurrent layer.

    state_dict: of a torch.nn.RNN, GRU or LSTM, its values arrays (whatever `np.asarray` takes). A
    prefix that all names share, such as "encoder.lstm.", is dropped. A layer made with bias=False
    gets zero biases.

    The `Recurrent` that takes them, by `apply({"params": params}, x)`, is that of
    `recurrent_settings`; the plain RNN's nonlinearity is in no state dict, and has to be given
    where it is relu, as does dropout. It has the batch first, whatever batch_first was, and a
    carry for each layer and direction, where PyTorch stacks them.

    Raises:
      UserError: when a name, a shape or a value is not that of such a layer, a weight is missing,
        or the LSTM has projections (proj_size).
    """
    params = _named(state_dict)
    for suffix in _suffixes(params):
        for kind in ("ih", "hh"):
            if f"weight_{kind}{suffix}" not in params:
                raise UserError(f"The state dict lacks weight_{kind}{suffix}.")
    biased = any(name.startswith("bias") for name in params)
    wanted = _shapes(params)
    for name, shape in wanted.items():
        if name not in params and not biased:
            params[name] = np.zeros(shape, np.float32)
        if name not in params:
            raise UserError(f"The state dict lacks {name}.")
        if params[name].shape != shape:
            raise UserError(
                f"The state dict's {name} is {list(params[name].shape)}: beside its other weights "
                f"it must be {list(shape)}."
            )
    return {name: params[name] for name in wanted}


def recurrent_settings(params: Mapping[str, Any]) -> dict[str, Any]:
    """cell, features, layers and bidirectional of the `Recurrent` that takes these parameters.

    `Recurrent(**recurrent_settings(params))`, with what `recurrent_from_torch` gave.
    """
    rows, features = np.shape(params["weight_hh_l0"])
    suffixes = _suffixes(params)
    bidirectional = "_l0_reverse" in suffixes
    return {
        "cell": CELLS[rows // features],
        "features": features,
        "layers": len(suffixes) // (1 + bidirectional),
        "bidirectional": bidirectional,
    }


def _named(state_dict: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Name without the prefix -> array."""
    check_names(state_dict, WANTED)
    shared = len({name.rpartition(".")[0] for name in state_dict}) == 1
    params = {}
    for full_name, value in state_dict.items():
        name = full_name.rpartition(".")[2] if shared else full_name
        if name.startswith("weight_hr"):
            raise UserError(
                f"The state dict has {full_name}: an LSTM with projections (proj_size) is not "
                "supported."
            )
        if not NAME.fullmatch(name):
            raise UserError(f"The state dict has {full_name!r}: {WANTED}.")
        params[name] = as_float32(full_name, value)
    if not params:
        raise UserError("The state dict is empty: there are no weights to take.")
    return params


def _suffixes(params: Mapping[str, Any]) -> list[str]:
    """["_l0", "_l0_reverse", "_l1", ...]: of every layer up to the last one named."""
    found = [match for name in params if (match := NAME.fullmatch(name))]
    # A layer takes two weights at least: of more layers than names, one is missing anyway.
    last = min(max(int(match[2]) for match in found), len(params))
    directions = ["", "_reverse"] if any(match[3] for match in found) else [""]
    return [f"_l{layer}{direction}" for layer in range(last + 1) for direction in directions]


def _shapes(params: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """Each parameter's shape, by the first layer's weights; the order is PyTorch's."""
    first, hidden = params["weight_ih_l0"], params["weight_hh_l0"]
    rows, features = hidden.shape if hidden.ndim == 2 else (0, 0)
    gates = rows // features if features else 0
    if rows != gates * features or gates not in CELLS:
        raise UserError(
            f"The state dict's weight_hh_l0 is {list(hidden.shape)}: it must be [gates * features, "
            "features] with 1 (RNN), 3 (GRU) or 4 gates (LSTM)."
        )
    if first.ndim != 2 or first.shape[1] < 1:
        raise UserError(
            f"The state dict's weight_ih_l0 is {list(first.shape)}: it must be [{rows}, in]."
        )
    suffixes = _suffixes(params)
    between = features * (2 if "_l0_reverse" in suffixes else 1)
    shapes: dict[str, tuple[int, ...]] = {}
    for suffix in suffixes:
        inputs = first.shape[1] if suffix.startswith("_l0") else between
        shapes |= {f"weight_ih{suffix}": (rows, inputs), f"weight_hh{suffix}": (rows, features)}
        shapes |= {f"bias_ih{suffix}": (rows,), f"bias_hh{suffix}": (rows,)}
    return shapes
