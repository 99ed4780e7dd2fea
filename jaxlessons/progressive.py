"""Training on data that changes with the phases: other images, sizes or batch sizes.

Each shape of a batch is compiled once. Progressive resizing, for a network that ends in a global
pool, from small images to large ones:

    phases = [Phase(2, 0.1, image_size=16), Phase(3, 0.1, "cosine", batch_size=64)]
    plan = progressive.make_plan(phases, sized, batch_size=128)
    optimizer = optim.phased_optimizer(phases, plan.steps_per_epoch)
    state = progressive.fit(state, make_train_step(model.apply, optimizer), plan)

where `sized(phase)` gives the examples at `phase.image_size`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jaxlessons import training
from jaxlessons.schedules import Phase, phase_steps
from jaxlessons.training import Examples, TrainState, TrainStep


class Stage(NamedTuple):
    """Neighbouring phases on the same data. began: the (step, epoch) at which it begins."""

    split: Examples
    batch_size: int
    began: tuple[int, int]
    end: int


class Plan(NamedTuple):
    """stages: in their order. steps_per_epoch: one a phase, for `optim` and `schedules`."""

    stages: list[Stage]
    steps_per_epoch: list[int]

    @property
    def total_steps(self) -> int:
        """Of all stages together."""
        return self.stages[-1].end


def make_plan(phases: Sequence[Phase], data: Callable[[Phase], Examples], batch_size: int) -> Plan:
    """What `phases` train on, and how many steps they take.

    data: phase -> its examples, by its `data` and `image_size`; called once for neighbours in
    which both are the same. batch_size: for phases without one of their own.

    Raises:
      UserError: for an empty list or something in it that is no Phase, or a batch size that is
        not within the examples.
    """
    phase_steps(phases, 1)  # refuses what is no list of phases, before their fields are read
    wanted = [(phase.data, phase.image_size, phase.batch_size or batch_size) for phase in phases]
    splits: list[Examples] = []
    for k, phase in enumerate(phases):
        same = k > 0 and wanted[k][:2] == wanted[k - 1][:2]
        splits.append(splits[-1] if same else data(phase))
    per_epoch = [
        training.steps_per_epoch(len(split.labels), size)
        for split, (_, _, size) in zip(splits, wanted, strict=True)
    ]
    stages: list[Stage] = []
    step = epoch = 0
    for k, steps in enumerate(phase_steps(phases, per_epoch)):
        if k > 0 and wanted[k] == wanted[k - 1]:
            stages[-1] = stages[-1]._replace(end=step + steps)
        else:
            if stages:
                # An epoch that was left unfinished is not gone on with on other data.
                last = stages[-1]
                epoch = last.began[1] - (last.began[0] - last.end) // per_epoch[k - 1]
            stages.append(Stage(splits[k], wanted[k][2], (step, epoch), step + steps))
        step += steps
    return Plan(stages, per_epoch)


def fit(
    state: TrainState,
    train_step: TrainStep,
    plan: Plan,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    **callbacks: Any,
) -> TrainState:
    """`training.fit` through all stages of the plan, from wherever `state` is in it.

    `state` is consumed. callbacks: `on_steps`, `on_epoch` and `steps_per_call`, as there. An
    epoch's number counts on over the stages.
    """
    for stage in plan.stages:
        if int(state.step) < stage.end and not should_stop():
            state = training.fit(
                state,
                train_step,
                stage.split,
                batch_size=stage.batch_size,
                total_steps=stage.end,
                began=stage.began,
                should_stop=should_stop,
                **callbacks,
            )
    return state
