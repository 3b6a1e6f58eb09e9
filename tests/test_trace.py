"""Traces: every instant of a clip, as the evaluation judges it."""

import dataclasses

import pytest
import torch
from kinematic_simulator import KinematicSimulator
from synthetic_motion import swaying_library

from puffer_phc.config import EnvConfig
from puffer_phc.evaluate.evaluation import evaluate
from puffer_phc.evaluate.trace import AFTERMATH_SECONDS, record

CONFIG = EnvConfig(freeze_hand=True, freeze_toe=True)
MOTIONS = swaying_library(40, 60, 50)


class Stumbling(KinematicSimulator):
    """Follows its reference, but from step ``at`` on is ``far`` m away from it."""

    at, far, count = 10, 0.3, 0

    def step(self, target):
        self.count += 1
        if self.count >= self.at:
            self.disturbance[:, 0] = self.far if self.count == self.at else 0.0
        super().step(target)


def test_an_oracle_is_on_its_reference_at_every_instant():
    simulator = KinematicSimulator(2)
    traces = record(lambda observation, _: simulator.oracle(observation), simulator, MOTIONS, CONFIG, [2, 0])
    assert [(trace.name, len(trace.pos), trace.num_frames) for trace in traces] == [("sway_2", 50, 49), ("sway_0", 40, 39)]
    for trace in traces:
        assert float(trace.distances[1:].max()) < 2e-3, "the first instant is lifted out of the floor"
        assert trace.strict_failure is None and trace.relaxed_failure is None
        reference = MOTIONS.at(torch.full((1,), trace.clip_id), torch.tensor([1.0]))
        torch.testing.assert_close(trace.ref_pos[30], reference.body.pos[0], atol=1e-5, rtol=0.0)


@pytest.mark.parametrize(("far", "strict", "relaxed"), [(0.3, 10, None), (0.6, 10, 10)])
def test_failures_are_where_the_evaluation_has_them(far, strict, relaxed):
    """An oracle comes back at once, so that only one instant is off; a trace ends a second after a relaxed failure."""
    simulator = Stumbling(1)
    simulator.far = far
    (trace,) = record(lambda observation, _: simulator.oracle(observation), simulator, MOTIONS, CONFIG, [1])
    assert (trace.strict_failure, trace.relaxed_failure) == (strict, relaxed)
    simulator = Stumbling(1)
    simulator.far = far
    result = evaluate(lambda observation, _: simulator.oracle(observation), simulator, MOTIONS, CONFIG, [1])
    assert float(result.strict_failure_times) == pytest.approx(strict * trace.control_dt), "what a table says and what a page shows"
    assert int(result.strict_frames) == strict - 1
    assert int(result.played_frames) == (59 if relaxed is None else relaxed - 1)
    assert len(trace.pos) == (60 if relaxed is None else relaxed + round(AFTERMATH_SECONDS * 30) + 1)


def test_a_state_that_is_no_number_is_infinitely_far():
    simulator = KinematicSimulator(1)
    (trace,) = record(lambda observation, _: simulator.oracle(observation), simulator, MOTIONS, dataclasses.replace(CONFIG), [0])
    trace.pos[5] = torch.nan
    assert trace.strict_failure == trace.relaxed_failure == 5
