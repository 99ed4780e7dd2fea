"""Plans over phases by their numbers, and training through them batch by batch."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons import optim, progressive, training
from jaxlessons.data import augment
from jaxlessons.errors import UserError
from jaxlessons.models.convnet import ConvBnNet
from jaxlessons.schedules import Phase, lr_schedule, total_steps
from jaxlessons.training import Examples

RANDOM = np.random.RandomState(0)


def examples(count, size=4, seed=0):
    random = np.random.RandomState(seed)
    images = random.randint(0, 256, (count, size, size, 3)).astype(np.uint8)
    return Examples(jnp.asarray(images), jnp.asarray(random.randint(0, 3, count), jnp.int32))


class Data:
    """data(phase), which remembers what it was asked for."""

    def __init__(self, counts=None):
        self.asked, self.counts = [], counts or {}

    def __call__(self, phase):
        self.asked.append((phase.data, phase.image_size))
        count = self.counts.get(phase.data, 100)
        return Examples(np.zeros([count, 1]), np.zeros(count))


def test_neighbours_on_the_same_data_are_one_stage_and_the_rest_begin_where_they_should():
    phases = [
        Phase(2, 0.1, image_size=8),
        Phase(1, 0.1, "cosine", image_size=8),
        Phase(1.5, 0.1, image_size=16),  # round(7.5) is 8: two epochs begun
        Phase(1, 0.1, image_size=16, batch_size=10),
        Phase(0.25, 0.1, image_size=16, batch_size=10),  # round(2.5) is 2
        Phase(0.01, 0.1, data="other"),  # at least one step
        Phase(1, 0.1, data="other", batch_size=20),  # the default, written out
        Phase(1, 0.1, image_size=8),
    ]
    data = Data(counts={"other": 70})
    plan = progressive.make_plan(phases, data, batch_size=20)
    assert data.asked == [(None, 8), (None, 16), ("other", None), (None, 8)]
    assert plan.steps_per_epoch == [5, 5, 5, 10, 10, 3, 3, 5]
    assert [stage[1:] for stage in plan.stages] == [
        (20, (0, 0), 15),
        (20, (15, 3), 23),
        (10, (23, 5), 35),
        (20, (35, 7), 39),
        (20, (39, 9), 44),
    ]
    assert plan.total_steps == 44 == total_steps(phases, plan.steps_per_epoch)
    assert [len(stage.split.labels) for stage in plan.stages] == [100, 100, 100, 70, 100]
    assert plan.stages[1].split is plan.stages[2].split


def test_phases_without_settings_of_their_own_are_one_stage():
    plan = progressive.make_plan([Phase(1, 0.1), Phase(0.5, 0.2), Phase(2, 0.1)], Data(), 30)
    assert [stage[1:] for stage in plan.stages] == [(30, (0, 0), 11)]  # 3 + round(1.5) + 6
    assert plan.total_steps == 11


def test_the_schedules_follow_the_steps_of_each_phases_own_epoch():
    phases = [
        Phase(2, (0.0, 1.0), "linear"),
        Phase(1, (1.0, 0.5), "cosine", batch_size=10),
        Phase(3, (0.5, 0.1), "linear", batch_size=50),
    ]
    plan = progressive.make_plan(phases, Data(), 20)
    rate = np.asarray(lr_schedule(phases, plan.steps_per_epoch)(np.arange(27)))
    cosine = 0.5 + 0.25 * (1 + np.cos(np.pi * np.arange(10) / 10))
    expected = [*np.arange(10) / 10, *cosine, *(0.5 - 0.4 * np.arange(6) / 6), 0.1]
    assert plan.total_steps == 26
    np.testing.assert_allclose(rate, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ([], "The list of phases is empty: give at least one Phase."),
        (Phase(1, 0.1), "phases is a single Phase: put it into a list."),
        ([Phase(1, 0.1), 3], "Number 1 in the list of phases is 3: it must be a Phase."),
        (
            [Phase(1, 0.1), Phase(1, 0.1, batch_size=101)],
            "The batch size is 101: it must be from 1 to the 100 training examples.",
        ),
        (
            [Phase(1, 0.1, data="few")],
            "The batch size is 20: it must be from 1 to the 19 training examples.",
        ),
    ],
)
def test_phases_that_make_no_plan_are_refused(phases, message):
    with pytest.raises(UserError) as caught:
        progressive.make_plan(phases, Data(counts={"few": 19}), 20)
    assert str(caught.value) == message


class Net(nn.Module):
    """For images of any size; small and quick to compile, with all that can go wrong on resume."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.Conv(4, (3, 3))(x)).mean((1, 2))
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        return nn.Dense(3)(nn.Dropout(0.2, deterministic=not train)(x))


SPLITS = {4: examples(30), 6: examples(26, size=6, seed=1)}
PHASES = [
    Phase(2, 0.1, image_size=4),  # 3 steps an epoch: 0 to 6
    Phase(1.5, (0.1, 0.05), "linear", image_size=6),  # 2 steps an epoch: 6 to 9
    Phase(1, 0.05, "cosine", image_size=6, batch_size=5),  # 5 steps: 9 to 14
    Phase(1, 0.05, image_size=4),  # as at first: 14 to 17
]
# The (size, batch, epoch) of every step, written out from the comments above.
EXPECTED = (
    [(4, 10, epoch) for epoch in (0, 0, 0, 1, 1, 1)]
    + [(6, 10, epoch) for epoch in (2, 2, 3)]
    + [(6, 5, 4)] * 5
    + [(4, 10, 5)] * 3
)


class Run:
    """Training through PHASES, and what its steps saw."""

    def __init__(self):
        self.traced, self.seen = [], []
        self.plan = progressive.make_plan(PHASES, lambda phase: SPLITS[phase.image_size], 10)
        optimizer = optim.phased_optimizer(PHASES, self.plan.steps_per_epoch)

        def change(key, batch, place):
            self.traced.append(batch.inputs.shape)
            return batch._replace(inputs=augment.random_flip(key, batch.inputs) / 128 - 1)

        self.step = training.make_train_step(Net().apply, optimizer, augment=change)
        key = jax.random.key(0)
        self._first = training.create_state(Net(), optimizer, key, jnp.zeros((2, 4, 4, 3)))

    def state(self):
        return jax.tree.map(jnp.copy, self._first)

    def recorded_step(self, state, split, place):
        self.seen.append((split, np.array(place.rows), int(place.epoch)))
        return self.step(state, split, place)

    def recorded_end(self, end):
        self.ends.append((end.epoch, int(end.state.step)))

    def fit(self, state, **settings):
        settings = {"on_epoch": self.recorded_end, "steps_per_call": 1, **settings}
        return progressive.fit(state, self.recorded_step, self.plan, **settings)


@pytest.fixture(scope="module")
def run():
    return Run()


@pytest.fixture(scope="module")
def whole(run):
    """The final state of an unbroken run, what its steps saw, and what it reported."""
    run.seen, run.ends = [], []
    return run.fit(run.state()), run.seen, run.ends


@pytest.mark.slow
def test_every_stage_trains_on_its_own_data_in_its_own_batches_and_epochs(run, whole):
    final, seen, _ = whole
    assert int(final.step) == 17
    assert [(split.inputs.shape[1], len(rows), epoch) for split, rows, epoch in seen] == EXPECTED
    assert all(split.inputs is SPLITS[split.inputs.shape[1]].inputs for split, _, _ in seen)
    into = 0
    for k, (split, rows, epoch) in enumerate(seen):
        into = into + 1 if k and seen[k - 1][2] == epoch else 0
        order = training.epoch_order(final.key, epoch, len(split.labels))
        np.testing.assert_array_equal(rows, order[into * len(rows) : (into + 1) * len(rows)])


@pytest.mark.slow
def test_each_shape_is_compiled_once(run, whole):
    assert run.traced == [(10, 4, 4, 3), (10, 6, 6, 3), (5, 6, 6, 3)]
    assert run.step._cache_size() == 3


def test_the_epochs_count_on_over_the_stages_and_one_cut_short_is_told_too(whole):
    assert whole[2] == [(1, 3), (2, 6), (3, 8), (4, 9), (5, 14), (6, 17)]


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a.replace(key=0), b.replace(key=0))


@pytest.mark.parametrize("stop", [1, 5, 6, 7, 8, 9, 12, 14, 15])
def test_a_run_stopped_in_any_stage_and_resumed_is_bit_for_bit_the_unbroken_one(run, whole, stop):
    run.seen, run.ends = [], []
    state = run.fit(run.state(), should_stop=lambda: len(run.seen) >= stop)
    assert int(state.step) == stop
    assert_same(run.fit(state), whole[0])
    assert [epoch for _, _, epoch in run.seen] == [epoch for _, _, epoch in EXPECTED]
    assert run.ends == whole[2]


def test_a_finished_run_takes_no_further_step(run, whole):
    run.seen = []
    assert_same(run.fit(jax.tree.map(jnp.copy, whole[0])), whole[0])
    assert run.seen == []


@pytest.mark.slow
def test_a_network_with_a_global_pool_learns_from_small_images_and_goes_on_with_large_ones():
    # Broad stripes, a checkerboard that vanishes in the small images, and nothing.
    labels, index = np.arange(96) % 3, np.arange(16)
    stripes = np.tile(np.where(index % 8 < 4, 60.0, -60.0), (16, 1))
    board = 60.0 * (-1) ** (index[:, None] + index)
    kinds = np.stack([stripes, board, np.zeros((16, 16))])[labels]
    images = 128 + kinds[..., None] + RANDOM.normal(0, 15, (96, 16, 16, 3))
    images = images.clip(0, 255).astype(np.uint8)

    def data(phase):
        sized = augment.resize(images, phase.image_size)
        return Examples(jnp.asarray(sized), jnp.asarray(labels, jnp.int32))

    def prepare(images):
        return images / 128 - 1

    def change(key, batch, place):
        return batch._replace(inputs=prepare(batch.inputs))

    phases = [Phase(4, 0.1, image_size=8), Phase(4, 0.1, "cosine", image_size=16)]
    plan = progressive.make_plan(phases, data, 16)
    module = ConvBnNet((4, 8), num_classes=3)
    optimizer = optim.phased_optimizer(phases, plan.steps_per_epoch)
    first = prepare(plan.stages[0].split.inputs[:1])
    state = training.create_state(module, optimizer, jax.random.key(0), first)
    step = training.make_train_step(module.apply, optimizer, augment=change)
    ends = []
    state = progressive.fit(state, step, plan, on_epoch=lambda end: ends.append(end.metrics))
    # On small images two of the kinds are one: a loss of 2/3 log 2 = 0.46 at best, 1.10 at first.
    assert 0.4 < ends[3]["loss"] < 0.7
    assert 0.55 < ends[3]["accuracy"] < 0.8
    eval_step = training.make_eval_step(module.apply, prepare=prepare)
    means, _ = training.evaluate(eval_step, state.variables, plan.stages[1].split)
    assert means["accuracy"] == 1.0
    assert means["loss"] < 0.1
