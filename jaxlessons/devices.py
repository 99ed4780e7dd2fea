"""Data parallelism: where a run's state, data and batches live when it has several devices.

Every device has a share of each batch and all of the parameters; XLA adds the gradients up. The
program is the one for a single device: what is said here is only where its arrays are, so batch
norm's statistics are those of the whole batch, and the result does not depend on the devices but
for the order in which numbers are added up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxlessons.errors import UserError

T = TypeVar("T")
AXIS = "data"  # the mesh's only axis, over which batches are shared out


@dataclass(frozen=True)
class Layout:
    """mesh: the devices, along the axis "data"; None for the default device, where nothing needs
    to be said. shard_optimizer: whether the optimizer's state is shared out too, as in ZeRO's
    first stage (Rajbhandari et al., 2019), and not kept whole by every device."""

    mesh: Mesh | None = None
    shard_optimizer: bool = False

    @property
    def count(self) -> int:
        """The number of devices."""
        return 1 if self.mesh is None else self.mesh.size

    def check_batch(self, batch_size: int) -> None:
        """UserError for a batch that can't be shared out evenly."""
        if batch_size % self.count:
            raise UserError(
                f"A batch of {batch_size} can't be shared out evenly among {self.count} devices: "
                "take a multiple of these."
            )

    def place(self, state: T) -> T:
        """A `TrainState` onto the devices: whole, but for `carry` and what is to be shared out."""
        if self.mesh is None:
            return state
        return jax.tree.map(_put, state, self._of_state(state))

    def constrain(self, state: T) -> T:
        """Under jit: the state of the step's end lives where that of its beginning does."""
        if self.mesh is None:
            return state
        return jax.lax.with_sharding_constraint(state, self._of_state(state))

    def replicate(self, tree: Any) -> Any:
        """Arrays whole onto every device, or under jit whole on every device."""
        if self.mesh is None:
            return jax.tree.map(jnp.asarray, tree)
        return jax.tree.map(lambda leaf: _put(leaf, self._sharding()), tree)

    def take_steps(self, array: np.ndarray, rows: np.ndarray) -> jax.Array:
        """The host's `array[rows]` for rows `[steps, batch]`, shared out by the batch.

        A process reads what its own devices get, and no more.
        """
        self.check_batch(rows.shape[1])

        def part(index: Any) -> np.ndarray:
            return array[rows[index[:2]]]

        shape = (*rows.shape, *array.shape[1:])
        return jax.make_array_from_callback(shape, self._sharding(None, AXIS), part)

    def gather(self, tree: T) -> T:
        """What is whole on every device, on this process's first one alone."""
        if self.mesh is None:
            return tree
        return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), tree)

    def share_steps(self, inputs: T) -> T:
        """The inputs of some steps: `[steps, batch]` shared out by the batch, `[steps]` whole.

        Raises UserError as `check_batch`.
        """
        if self.mesh is None:
            return jax.tree.map(jnp.asarray, inputs)

        def put(leaf: Any) -> jax.Array:
            leaf = np.asarray(leaf)
            spec = (None, AXIS) if leaf.ndim > 1 else ()
            if spec:
                self.check_batch(leaf.shape[1])
            return _put(leaf, self._sharding(*spec))

        return jax.tree.map(put, inputs)

    def share_batch(self, batch: T) -> T:
        """Under jit: arrays `[batch, ...]` shared out; filled up with zeros to a multiple."""
        if self.mesh is None:
            return batch

        def share(leaf: jax.Array) -> jax.Array:
            short = -leaf.shape[0] % self.count
            if short:
                leaf = jnp.pad(leaf, ((0, short), *[(0, 0)] * (leaf.ndim - 1)))
            return jax.lax.with_sharding_constraint(leaf, self._sharding(AXIS))

        return jax.tree.map(share, batch)

    def _sharding(self, *spec: str | None) -> NamedSharding:
        assert self.mesh is not None
        return NamedSharding(self.mesh, PartitionSpec(*spec))

    def _of_state(self, state: Any) -> Any:
        """The state's sharding, leaf by leaf."""
        whole = jax.tree.map(lambda leaf: self._sharding(), state)
        shared: dict[str, Any] = {}
        if state.carry is not None:
            shared["carry"] = jax.tree.map(lambda leaf: self._sharding(AXIS), state.carry)
        if self.shard_optimizer:
            shared["opt_state"] = jax.tree.map(self._of_moment, state.opt_state)
        return whole.replace(**shared)

    def _of_moment(self, leaf: Any) -> NamedSharding:
        """Along its first axis that the devices divide; whole where there is none."""
        axis = next((i for i, n in enumerate(leaf.shape) if n and n % self.count == 0), None)
        return self._sharding() if axis is None else self._sharding(*[None] * axis, AXIS)


# One device, the default one.
SINGLE = Layout()


def layout(count: int | None = None, shard_optimizer: bool = False) -> Layout:
    """On the first `count` devices; all unless given.

    Raises:
      UserError: when there are fewer.
    """
    found = jax.devices()
    if count is not None and not 1 <= count <= len(found):
        raise UserError(
            f"There are {len(found)} devices ({found[0].device_kind}): {count} can't be used."
        )
    if count == 1 and jax.process_count() == 1:
        return SINGLE
    # Auto: XLA finds out how what lies between the arrays placed here is shared out.
    chosen = np.array(found[:count])
    return Layout(Mesh(chosen, (AXIS,), axis_types=(AxisType.Auto,)), shard_optimizer)


def is_main() -> bool:
    """Whether this is the process that writes and speaks for all."""
    return jax.process_index() == 0


def wait_for_all(name: str) -> None:
    """Until every process has come here; name: of the place."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def highest(number: int) -> int:
    """The highest of the processes' numbers; all must ask."""
    if jax.process_count() == 1:
        return number
    return int(np.max(multihost_utils.process_allgather(np.int32(number))))


def from_main(text: str) -> str:
    """The main process's text, of up to 4096 bytes; all must ask."""
    if jax.process_count() == 1:
        return text
    blank = np.zeros(4096, np.uint8)
    content = np.frombuffer(text.encode(), np.uint8)
    blank[: len(content)] = content
    return bytes(multihost_utils.broadcast_one_to_all(blank)).rstrip(b"\0").decode()


def _put(leaf: Any, sharding: NamedSharding) -> jax.Array:
    """Also a typed key, and onto devices of other processes, which put the same there."""
    if isinstance(leaf, jax.core.Tracer):
        return jax.lax.with_sharding_constraint(leaf, sharding)
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _put(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])
