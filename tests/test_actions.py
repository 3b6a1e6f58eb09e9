import math
from dataclasses import replace

import pytest
import torch

from puffer_phc.config import EnvConfig
from puffer_phc.env.actions import ActionMap
from puffer_phc.humanoid.mjcf import PhysicsOptions
from puffer_phc.humanoid.skeleton import HAND_BODIES, NUM_DOFS, TOE_BODIES, dof_ids
from puffer_phc.sim.pd import pd_gains
from puffer_phc.state import BodyState, DofState, Reference

RESIDUAL = EnvConfig(torque_limit=1e6)
ABSOLUTE = replace(RESIDUAL, action_mode="absolute")
GAINS = pd_gains(PhysicsOptions(), torch.device("cpu"))
FROZEN = dof_ids(HAND_BODIES + TOE_BODIES)
FREE = [dof for dof in range(NUM_DOFS) if dof not in FROZEN]
KNEES_Y = [4, 16]


def reference(pos=0.2, vel=1.0):
    empty = torch.zeros(2, 24, 3)
    body = BodyState(empty, torch.zeros(2, 24, 4), empty, empty)
    generator = torch.Generator().manual_seed(0)
    dof_pos, joint_velocity = (scale * torch.rand(2, NUM_DOFS, generator=generator) for scale in (pos, vel))
    return Reference(body, dof_pos, torch.full((2, NUM_DOFS), torch.nan), torch.zeros(2, 6), joint_velocity)


def at_rest(pos=0.0):
    zeros = torch.zeros(2, NUM_DOFS)
    return DofState(zeros + pos, zeros, zeros, zeros)


def target(config, action, ahead=None, gains=GAINS, dof=None):
    actions = ActionMap(config, gains)
    action = torch.as_tensor(action, dtype=torch.float32).expand(2, actions.action_size)
    return actions.target(action, ahead or reference(), dof or at_rest())


@pytest.mark.parametrize("hand, toe, size", [(False, False, 69), (True, False, 63), (False, True, 63), (True, True, 57)])
@pytest.mark.parametrize("config", [RESIDUAL, ABSOLUTE])
def test_frozen_joints_take_no_action(config, hand, toe, size):
    config = replace(config, freeze_hand=hand, freeze_toe=toe)
    assert ActionMap(config, GAINS).action_size == size
    moved = (target(config, 0.1) - target(config, 0.0)).abs()[0] > 1e-6
    frozen = dof_ids((HAND_BODIES if hand else ()) + (TOE_BODIES if toe else ()))
    assert [dof for dof in range(NUM_DOFS) if not moved[dof]] == sorted(frozen)


def test_each_action_moves_its_own_joint_component():
    actions = ActionMap(ABSOLUTE, GAINS)
    for column, dof in enumerate(FREE):
        action = torch.zeros(2, actions.action_size)
        action[:, column] = 0.1
        moved = actions.target(action, reference(), at_rest())[0].nonzero().flatten().tolist()
        assert moved == [dof]


def test_residual_is_reference_lead_and_action():
    ahead = reference()
    lead = GAINS.damping / GAINS.stiffness * ahead.joint_velocity
    torch.testing.assert_close(target(RESIDUAL, 0.0), ahead.dof_pos + lead)
    torch.testing.assert_close(target(replace(RESIDUAL, velocity_lead=0.0), 0.0), ahead.dof_pos)
    torch.testing.assert_close(target(replace(RESIDUAL, velocity_lead=0.5), 0.0), ahead.dof_pos + 0.5 * lead)
    expected = ahead.dof_pos + lead
    expected[:, FREE] += 0.5 * 0.3
    torch.testing.assert_close(target(RESIDUAL, 0.3), expected)


def test_lead_follows_the_gains():
    gains = pd_gains(PhysicsOptions(stiffness_scale=2.0, damping_scale=3.0), torch.device("cpu"))
    ahead = reference()
    usual, scaled = (target(RESIDUAL, 0.0, gains=g) - ahead.dof_pos for g in (GAINS, gains))
    torch.testing.assert_close(scaled, 1.5 * usual, atol=1e-6, rtol=1e-5)


def test_absolute_is_the_originals_scale_and_ignores_the_reference():
    moved = target(ABSOLUTE, 0.1)
    expected = torch.zeros(2, NUM_DOFS)
    expected[:, FREE] = 0.1 * math.pi
    expected[:, KNEES_Y] = 0.5
    torch.testing.assert_close(moved, expected)
    torch.testing.assert_close(target(ABSOLUTE, 0.1, reference(pos=0.5, vel=3.0)), moved)


@pytest.mark.parametrize("config", [RESIDUAL, ABSOLUTE])
def test_action_scale_overrides_both_modes(config):
    change = target(replace(config, action_scale=0.2), 0.5) - target(config, 0.0)
    torch.testing.assert_close(change[:, FREE], torch.full((2, len(FREE)), 0.1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("config", [RESIDUAL, ABSOLUTE])
def test_actions_beyond_one_are_clipped(config):
    for beyond, limit in ((3.0, 1.0), (-100.0, -1.0)):
        torch.testing.assert_close(target(config, beyond), target(config, limit))


def test_torque_limit_bounds_what_the_drive_is_asked_for():
    for limit in (50.0, 500.0):
        clamped = target(replace(ABSOLUTE, torque_limit=limit), 1.0, dof=at_rest(0.1))
        torque = GAINS.stiffness * (clamped - 0.1)
        assert torque.abs().max() <= limit * (1 + 1e-5)
        assert torque.abs().max() >= limit * (1 - 1e-5)


def test_compiles_into_one_graph():
    actions = ActionMap(RESIDUAL, GAINS)
    action = torch.rand(2, actions.action_size)
    compiled = torch.compile(actions.target, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(action, reference(), at_rest()), actions.target(action, reference(), at_rest()))
