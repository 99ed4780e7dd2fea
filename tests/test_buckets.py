"""Batches as wide as they need to be: the same figures, in one program."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons import optim, training
from jaxlessons.buckets import bucket_of, bucket_widths, in_buckets
from jaxlessons.models.names import NameClassifier
from jaxlessons.schedules import Phase
from jaxlessons.training import Examples, Place


def test_the_widths_rise_by_the_root_of_two_up_to_the_longest():
    assert bucket_widths(20) == (8, 10, 15, 20)
    assert bucket_widths(19) == (7, 10, 14, 19)
    assert bucket_widths(20, 1) == (20,)
    assert bucket_widths(2) == (1, 2)
    assert bucket_widths(1) == (1,)
    assert bucket_widths(20, 3000) == bucket_widths(20, 20)
    assert bucket_widths(20, 3000)[0] == 1
    for longest in range(1, 200):
        widths = bucket_widths(longest, 5)
        assert widths[-1] == longest
        assert list(widths) == sorted(set(widths))
        for below, width in pairwise(widths):
            assert below >= (width - 1) / np.sqrt(2)


def test_each_length_has_the_first_width_that_holds_it():
    lengths = np.array([1, 8, 9, 10, 11, 15, 16, 20])
    np.testing.assert_array_equal(bucket_of(lengths, (8, 10, 15, 20)), [0, 0, 1, 1, 2, 2, 3, 3])


@pytest.fixture(scope="module")
def names():
    """64 rows of 1 to 9 tokens, of which the first tells the label."""
    random = np.random.RandomState(0)
    tokens = random.randint(0, 6, (64, 9)).astype(np.int32)
    lengths = random.randint(1, 10, 64)
    labels = (tokens[:, 0] % 2).astype(np.int32)
    tokens[np.arange(9)[None] >= lengths[:, None]] = -1
    return Examples(jnp.asarray(tokens), jnp.asarray(labels)), lengths


@pytest.fixture(scope="module")
def network():
    return NameClassifier(6, 2, 4, 5, layers=1)


def started(network, names, **settings):
    optimizer = optim.phased_optimizer([Phase(9, 0.05, optimizer="sgd")], 8)
    state = training.create_state(network, optimizer, jax.random.key(0), names.inputs[:1])
    return state, training.make_train_step(network.apply, optimizer, **settings)


@pytest.mark.slow
def test_a_step_in_buckets_is_the_step_itself_and_compiled_once(network, names):
    split, lengths = names
    widths = bucket_widths(9)
    state, step = started(network, split)
    plain, _ = started(network, split)
    narrow = in_buckets(step, widths)
    order = np.argsort(lengths, kind="stable")
    seen = set()
    for start in (0, 20, 40, 56):
        rows = order[start : start + 8]
        seen.add(int(bucket_of(lengths[rows].max(), widths)))
        place = Place(jnp.asarray(rows), jnp.int32(0))
        state, sums = narrow(state, split, place)
        plain, expected = step(plain, split, place)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
            (state.params, sums),
            (plain.params, expected),
        )
    assert seen == {0, 1, 2, 3}
    assert narrow._cache_size() == 1


@pytest.mark.parametrize("longest", [1, 4, 5, 9])
def test_the_step_sees_the_narrowest_batch_that_holds_all_its_tokens(longest):
    tokens = np.full((6, 9), -1, np.int32)
    tokens[2, :longest] = 0
    tokens[4, :9] = 0  # not in the batch
    widths = []

    def spy(state, split, place):
        widths.append(split.inputs.shape[1])
        return state + split.inputs.shape[1], {}

    split = Examples(jnp.asarray(tokens), jnp.zeros(6, jnp.int32))
    place = Place(jnp.array([2, 0, 1]), jnp.int32(0))
    state, _ = in_buckets(spy, (4, 5, 9))(jnp.int32(0), split, place)
    assert int(state) == min(width for width in (4, 5, 9) if width >= longest)
    assert sorted(widths) == [4, 5, 9]  # each branch is traced once


@pytest.mark.slow
def test_training_in_buckets_learns_and_ends_the_same_in_scans_of_steps(network, names):
    split, lengths = names
    widths = bucket_widths(9)
    order = training.grouped_order(bucket_of(lengths, widths), 8)
    ends = []
    for per_call in (1, 4):
        state, step = started(network, split)
        records = []
        state = training.fit(
            state,
            in_buckets(step, widths),
            split,
            batch_size=8,
            total_steps=64,
            steps_per_call=per_call,
            order=order,
            on_epoch=lambda end, records=records: records.append(end.metrics["loss"]),
        )
        assert records[-1] < records[0]
        ends.append(state.params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ends[0], ends[1]
    )
