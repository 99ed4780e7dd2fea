"""What a checkpoint holds against what is wanted of it, leaf by leaf."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from jaxlessons.errors import UserError

# path -> (shape, dtype) of every array.
Arrays = dict[str, tuple[tuple[int, ...], str]]


def arrays(tree: Any) -> Arrays:
    """Those of a pytree; typed keys as the uint32 that orbax writes."""

    def plain(leaf: Any) -> Any:
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.eval_shape(jax.random.key_data, leaf) if is_key else leaf

    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): (
            plain(x).shape,
            str(plain(x).dtype),
        )
        for path, x in leaves
    }


def saved_arrays(tree: Any) -> Arrays:
    """The same of orbax' metadata."""
    leaves = jax.tree.leaves(tree)
    return {leaf.name: (tuple(leaf.shape), str(jnp.dtype(leaf.dtype))) for leaf in leaves}


def placed(leaf: Any) -> Any:
    """What orbax restores an array by. Without a place of its own it goes to the first device,
    and not where it was saved, which may be a GPU that is not here."""
    if isinstance(leaf, jax.Array):
        return ocp.utils.to_shape_dtype_struct(leaf)
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here)


def check_same(wanted: Arrays, saved: Arrays, where: Path) -> None:
    """UserError with what differs. Orbax drops leaves without a word when the target has fewer.

    A float that is wanted wider than it was saved is no difference: every bfloat16 is a float32.
    """
    differences = [
        f"{name} is {_describe(saved.get(name))} there and {_describe(wanted.get(name))} here"
        for name in sorted(wanted.keys() | saved.keys())
        if not _fits(saved.get(name), wanted.get(name))
    ]
    if differences:
        more = f", and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise UserError(
            f"{where} holds another model or optimizer: {'; '.join(differences[:3])}{more}; "
            "take the settings that it was made with, or another run."
        )


def _fits(saved: tuple[Any, str] | None, wanted: tuple[Any, str] | None) -> bool:
    if saved is None or wanted is None or saved[0] != wanted[0]:
        return False
    kinds = jnp.dtype(saved[1]), jnp.dtype(wanted[1])
    floats = all(jnp.issubdtype(kind, jnp.floating) for kind in kinds)
    return kinds[0] == kinds[1] or (floats and jnp.promote_types(*kinds) == kinds[1])


def _describe(array: tuple[tuple[int, ...], str] | None) -> str:
    return "missing" if array is None else f"{array[1]}{list(array[0])}"
