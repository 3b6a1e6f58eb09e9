"""The recurrent part: single steps against sequences, resets in the middle, and PufferLib's states."""

from typing import Type

import pytest
import torch

from puffer_phc.learn.policy import LSTMActorPolicy, LSTMCriticPolicy, PHCPolicy
from puffer_phc.learn.recurrent import Recurrent, forgotten

POLICIES = [PHCPolicy, LSTMActorPolicy, LSTMCriticPolicy]
T, S = 7, 4
STARTS = torch.zeros(T, S, dtype=torch.bool)
STARTS[3, 0] = STARTS[0, 1] = STARTS[5, 2] = STARTS[6, 2] = True


def make_policy(kind: Type[PHCPolicy]) -> PHCPolicy:
    torch.manual_seed(0)
    return kind(5, 2, layer_sizes=(16,), hidden_size=8, recurrent_size=6)


def make_lstm() -> Recurrent:
    torch.manual_seed(1)
    return Recurrent(3, 6, torch.nn.Identity())


def test_a_step_is_torchs_lstm_cell() -> None:
    lstm, inputs, memory = make_lstm(), torch.randn(1, S, 3), torch.randn(S, 12)
    with torch.no_grad():
        lstm.cell.bias_ih.normal_()
        lstm.cell.bias_hh.normal_()
    outputs, after = lstm(inputs, memory)
    hidden, cell = lstm.cell(inputs[0], (memory[:, :6], memory[:, 6:]))
    torch.testing.assert_close(outputs[0], hidden)
    torch.testing.assert_close(after, torch.cat((hidden, cell), dim=-1))


@pytest.mark.parametrize("kind", POLICIES)
def test_single_steps_equal_one_pass_over_the_sequence_with_resets_in_the_middle(kind: Type[PHCPolicy]) -> None:
    policy, observations = make_policy(kind), torch.randn(T, S, 5)
    first = memory = torch.randn(S, policy.memory_size)
    means, values = [], []
    for step in range(T):
        mean, value, memory = policy.act(observations[step], forgotten(memory, STARTS[step]))
        means.append(mean)
        values.append(value)
    whole = policy.unroll(observations, first, STARTS)
    torch.testing.assert_close(whole.mean, torch.stack(means))
    torch.testing.assert_close(whole.value, torch.stack(values))
    torch.testing.assert_close(whole.memory, memory)


def test_an_episode_that_begins_in_the_middle_is_as_one_that_begins_a_sequence() -> None:
    lstm, inputs = make_lstm(), torch.randn(T, S, 3)
    outputs, _ = lstm(inputs, torch.full((S, 12), float("nan")), STARTS)
    alone, _ = lstm(inputs[3:, :1], torch.zeros(1, 12))
    torch.testing.assert_close(outputs[3:, :1], alone)
    assert outputs[:3, 0].isnan().all(), "the past is there until the reset"


def test_no_gradient_passes_a_reset() -> None:
    lstm = make_lstm()
    inputs, memory = torch.randn(T, S, 3, requires_grad=True), torch.randn(S, 12, requires_grad=True)
    outputs, _ = lstm(inputs, memory, STARTS)
    outputs[-1].sum().backward()
    assert inputs.grad is not None and memory.grad is not None
    reaches = inputs.grad.abs().sum(-1) > 0
    last_start = (STARTS * torch.arange(T).unsqueeze(1)).amax(0)
    assert torch.equal(reaches, torch.arange(T).unsqueeze(1) >= last_start)
    assert (memory.grad.abs().sum(-1) > 0).tolist() == [False, False, False, True]


def test_weights_are_orthogonal_and_biases_zero() -> None:
    cell = make_lstm().cell
    torch.testing.assert_close(cell.weight_hh.T @ cell.weight_hh, torch.eye(6), atol=1e-5, rtol=0)
    assert cell.bias_ih.abs().max() == 0 and cell.bias_hh.abs().max() == 0


@pytest.mark.parametrize("kind", POLICIES)
def test_pufferlibs_states_carry_the_memory(kind: Type[PHCPolicy]) -> None:
    policy, observations = make_policy(kind), torch.randn(T, S, 5)
    whole = policy.unroll(observations, policy.no_memory(S))
    state = {"lstm_h": None, "lstm_c": None}
    for step in range(T):
        distribution, value = policy.forward_eval(observations[step], state)
        torch.testing.assert_close(distribution.mean, whole.mean[step])
        torch.testing.assert_close(value.squeeze(-1), whole.value[step])
    sequence_state = {"lstm_h": None, "lstm_c": None}
    distribution, value = policy(observations.transpose(0, 1), sequence_state)
    torch.testing.assert_close(distribution.mean, whole.mean.transpose(0, 1).flatten(0, 1))
    torch.testing.assert_close(value, whole.value.transpose(0, 1))
    if policy.memory_size:
        for found in (state, sequence_state):
            torch.testing.assert_close(torch.cat((found["lstm_h"], found["lstm_c"]), dim=-1), whole.memory)


@pytest.mark.parametrize("kind", POLICIES)
def test_a_sequence_compiles_into_one_graph(kind: Type[PHCPolicy]) -> None:
    policy, observations = make_policy(kind), torch.randn(T, S, 5)
    compiled = torch.compile(policy.unroll, fullgraph=True, backend="eager")
    memory = torch.randn(S, policy.memory_size)
    torch.testing.assert_close(compiled(observations, memory, STARTS), policy.unroll(observations, memory, STARTS))
