"""The order of an epoch's examples, with and without groups."""

import jax
import numpy as np

from jaxlessons.epoch_order import epoch_order, grouped_order

GROUPS = np.random.RandomState(0).randint(0, 4, 103)


def test_neighbours_in_their_groups_share_a_batch():
    rows = grouped_order(GROUPS, 10)(jax.random.key(0), 3, 103)
    assert len(rows) == 100
    assert len(set(rows.tolist())) == 100
    batches = GROUPS[rows].reshape(10, 10)
    mixed = [batch for batch in batches if len(set(batch.tolist())) > 1]
    assert len(mixed) <= 3  # one at most between each group and the next
    # The batches of a group don't come one after another.
    first = batches.max(axis=1)
    assert (np.diff(first) < 0).sum() > 1


def test_each_epoch_has_its_own_batches_and_leaves_others_out():
    order = grouped_order(GROUPS, 10)
    epochs = [order(jax.random.key(0), epoch, 103) for epoch in range(6)]
    again = order(jax.random.key(0), 2, 103)
    np.testing.assert_array_equal(epochs[2], again)
    sets = [{frozenset(b.tolist()) for b in rows.reshape(10, 10)} for rows in epochs]
    assert not sets[0] & sets[1]
    left_out = [set(range(103)) - set(rows.tolist()) for rows in epochs]
    assert len({row for rows in left_out for row in rows}) > 10
    # Nor are they the last group's, which they would be if they were cut off behind the sorting.
    assert {int(GROUPS[row]) for rows in left_out for row in rows} == {0, 1, 2, 3}
    other = order(jax.random.key(1), 0, 103)
    assert not np.array_equal(other, epochs[0])


def test_one_group_is_a_plain_permutation():
    rows = grouped_order(np.zeros(40, int), 10)(jax.random.key(0), 1, 40)
    plain = epoch_order(jax.random.key(0), 1, 40)
    assert sorted(rows.tolist()) == list(range(40))
    found, expected = ({tuple(b) for b in r.reshape(4, 10).tolist()} for r in (rows, plain))
    assert found == expected
