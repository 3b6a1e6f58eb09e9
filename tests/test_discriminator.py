"""The discriminator: its gradient, its losses, its rewards on the samples they belong to, and what it remembers."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Dict, Tuple

import pytest
import torch
from variants import make_trainer, small_config

from puffer_phc.config import Config, DiscriminatorConfig, EnvConfig
from puffer_phc.errors import TrainingError
from puffer_phc.learn.discriminator import Discriminator, discriminator_losses, style_reward
from puffer_phc.learn.distributed import World
from puffer_phc.learn.policy import PHCPolicy
from puffer_phc.learn.recovery import STEP_FACTOR, fault
from puffer_phc.learn.rollout import Rollout
from puffer_phc.learn.running_norm import RunningScale, moments
from puffer_phc.learn.seen import SeenSteps
from puffer_phc.learn.style import Style
from puffer_phc.resolve import resolve

CPU = torch.device("cpu")
SIZE, NUM_STEPS, NUM_ENVS = 6, 8, 4
NO_PENALTIES = DiscriminatorConfig(grad_penalty=0.0, logit_reg=0.0, weight_decay=0.0)


def make_discriminator(is_difference: bool = False) -> Discriminator:
    torch.manual_seed(0)
    discriminator = Discriminator(SIZE, (16, 8), is_difference)
    discriminator.norm.update(moments(torch.randn(100, SIZE) * 3.0 + 1.0))
    return discriminator


class Gaussians:
    """An observer whose demonstrations are normal numbers around ``mean``."""

    def __init__(self, mean: float, is_difference: bool = False) -> None:
        self.mean, self.is_difference, self.observation = mean, is_difference, torch.zeros(NUM_ENVS, SIZE)

    def demonstrations(self, count: int, generator: torch.Generator) -> torch.Tensor:
        return self.mean + torch.randn(count, SIZE, generator=generator)


def make_style(observer: Gaussians, **discriminator: object) -> Tuple[Style, Rollout]:
    """Over a rollout of numbered rows, which comes with it: the first column is the row's place in time, the second its environment."""
    config = Config(env=EnvConfig(num_envs=NUM_ENVS), discriminator=DiscriminatorConfig(layer_sizes=(16,), batch_size=32, **discriminator))
    config = replace(config, train=replace(config.train, batch_size=NUM_STEPS * NUM_ENVS, minibatch_size=16, bptt_horizon=4, device="cpu"))
    seen = SeenSteps(observer, NUM_STEPS)  # type: ignore[arg-type]
    seen.steps.normal_(generator=torch.Generator().manual_seed(1))
    seen.steps[..., 0] = torch.arange(NUM_STEPS).unsqueeze(1)
    seen.steps[..., 1] = torch.arange(NUM_ENVS)
    rollout = Rollout(NUM_STEPS, NUM_ENVS, 4, PHCPolicy(5, 2, (8,), 8), seen)
    rollout.rewards.uniform_(generator=torch.Generator().manual_seed(2))
    return Style(resolve(config, CPU), seen, rollout.rewards, World()), rollout


def test_original_dimensions_have_the_original_number_of_parameters() -> None:
    assert sum(p.numel() for p in Discriminator(1960, (1024, 512), False).parameters()) == 2_533_377


def test_the_gradient_written_out_is_autograds_and_so_is_its_derivative() -> None:
    discriminator = make_discriminator()
    seen = torch.randn(20, SIZE)
    logits, gradient = discriminator.with_gradient(seen)
    inputs = discriminator.norm(seen).requires_grad_(True)
    hidden = inputs
    for layer in discriminator.layers:
        hidden = layer(hidden).relu()
    expected_logits = discriminator.logit(hidden).squeeze(-1)
    (expected,) = torch.autograd.grad(expected_logits.sum(), inputs, create_graph=True)
    torch.testing.assert_close(logits, expected_logits)
    torch.testing.assert_close(discriminator(seen), expected_logits)
    torch.testing.assert_close(gradient, expected)
    weights = [layer.weight for layer in (*discriminator.layers, discriminator.logit)]
    ours = torch.autograd.grad(gradient.square().sum(-1).mean(), weights, retain_graph=True)
    theirs = torch.autograd.grad(expected.square().sum(-1).mean(), weights)
    for one, other in zip(ours, theirs):
        torch.testing.assert_close(one, other)


def test_losses_of_an_undecided_discriminator() -> None:
    discriminator = make_discriminator()
    with torch.no_grad():
        discriminator.logit.weight.zero_()
    options = DiscriminatorConfig(grad_penalty=3.0, logit_reg=7.0, weight_decay=0.5)
    losses = discriminator_losses(discriminator, torch.randn(9, SIZE), torch.randn(5, SIZE), False, options)
    layers = sum(layer.weight.square().sum().item() for layer in discriminator.layers)
    assert losses.prediction.item() == pytest.approx(math.log(2.0))
    assert losses.penalty == 0.0
    assert losses.total.item() == pytest.approx(math.log(2.0) + 0.5 * layers, rel=1e-5)
    with torch.no_grad():
        discriminator.logit.weight.zero_()
        discriminator.logit.weight[0, 0] = 2.0
    heavier = discriminator_losses(discriminator, torch.randn(9, SIZE), torch.randn(5, SIZE), False, replace(options, grad_penalty=0.0))
    assert (heavier.total - heavier.prediction).item() == pytest.approx(7.0 * 4.0 + 0.5 * (layers + 4.0), rel=1e-5)


def test_each_kind_has_half_of_the_weight_and_the_penalty_is_where_it_should_be() -> None:
    discriminator, options = make_discriminator(), replace(NO_PENALTIES, grad_penalty=10.0)
    agent, real = torch.randn(9, SIZE), torch.randn(5, SIZE)
    agent_logits, agent_slopes = discriminator.with_gradient(agent)
    real_logits, real_slopes = discriminator.with_gradient(real)
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits
    expected = 0.5 * (cross_entropy(agent_logits, torch.zeros(9)) + cross_entropy(real_logits, torch.ones(5)))
    on_real, on_agent = (slopes.square().sum(-1).mean() for slopes in (real_slopes, agent_slopes))
    amp = discriminator_losses(discriminator, agent, real, False, options)
    add = discriminator_losses(discriminator, agent, real, True, options)
    for losses, penalty in ((amp, on_real), (add, on_agent)):
        torch.testing.assert_close(losses.prediction, expected)
        torch.testing.assert_close(losses.penalty, penalty)
        torch.testing.assert_close(losses.total, expected + 10.0 * penalty)
    assert amp.agent_accuracy == (agent_logits < 0).float().mean()
    assert amp.demo_accuracy == (real_logits > 0).float().mean()


def test_bf16_changes_little() -> None:
    discriminator = make_discriminator()
    arguments = (torch.randn(200, SIZE), torch.randn(100, SIZE), True, DiscriminatorConfig(grad_penalty=5.0))
    exact = discriminator_losses(discriminator, *arguments)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = discriminator_losses(discriminator, *arguments)
    assert all(value.dtype == torch.float32 for value in rough)
    torch.testing.assert_close(rough.total, exact.total, rtol=0.02, atol=0.02)


def test_losses_compile_into_one_graph() -> None:
    discriminator = make_discriminator()
    compiled = torch.compile(discriminator_losses, fullgraph=True, backend="eager")
    arguments = (discriminator, torch.randn(9, SIZE), torch.randn(5, SIZE), True, DiscriminatorConfig(grad_penalty=5.0))
    torch.testing.assert_close(tuple(compiled(*arguments)), tuple(discriminator_losses(*arguments)))


def test_the_style_reward_is_phcs() -> None:
    logits = torch.linspace(-20.0, 20.0, 101)
    expected = -torch.log((1.0 - logits.double().sigmoid()).clamp_min(1e-4))
    torch.testing.assert_close(style_reward(logits).double(), expected, rtol=1e-5, atol=1e-6)


def test_zero_stays_zero_in_units_of_what_is_usual() -> None:
    scale = RunningScale(2)
    scale.update(moments(torch.tensor([[3.0, -2.0], [4.0, 2.0]])))
    torch.testing.assert_close(scale(torch.zeros(1, 2)), torch.zeros(1, 2))
    torch.testing.assert_close(scale(torch.tensor([[math.sqrt(12.5), 2.0]])), torch.ones(1, 2), rtol=1e-4, atol=1e-4)


def test_style_rewards_land_on_the_samples_they_belong_to() -> None:
    style, rollout = make_style(Gaussians(0.0), task_weight=0.3, style_weight=0.8, reward_scale=1.5)
    style.take_in()
    before = rollout.rewards.clone()
    style.reward()
    assert before.std() > 0.1
    alone = torch.tensor(
        [[style_reward(style.discriminator(rollout.seen.steps[t, n])).item() for n in range(NUM_ENVS)] for t in range(NUM_STEPS)]
    )
    assert alone.std() > 0.01
    torch.testing.assert_close(rollout.rewards, 0.3 * before + 0.02 * 0.8 * 1.5 * alone, rtol=1e-4, atol=1e-5)
    assert style.update(1.0)["environment/style_reward"].item() == pytest.approx(1.5 * alone.mean().item(), rel=1e-4)


def test_without_style_weight_rewards_stay_what_they_are() -> None:
    style, rollout = make_style(Gaussians(0.0), task_weight=1.0, style_weight=0.0)
    before = rollout.rewards.clone()
    style.reward()
    assert torch.equal(rollout.rewards, before)


@pytest.mark.parametrize("variant", ["AMP", "ADD"])
def test_a_rollout_records_the_state_that_each_action_led_to(tmp_path: Path, variant: str) -> None:
    trainer = make_trainer(tmp_path, small_config(tmp_path, variant, 5))
    observer, seen = trainer.env.env.style, []
    observe = observer.observe

    def watched(*arguments: object) -> None:
        observe(*arguments)
        seen.append(observer.observation.clone())

    observer.observe = watched
    trainer.collect()
    assert trainer.rollout.dones.any(), "episodes ended on the way"
    assert torch.equal(trainer.rollout.seen.steps, torch.stack(seen))
    assert trainer.rollout.seen.steps.std() > 0.0


def test_a_discriminator_learns_to_tell_two_kinds_apart() -> None:
    style, rollout = make_style(Gaussians(4.0), learning_rate=0.01, grad_penalty=0.1)
    style.take_in()
    before = style.update(1.0)
    for _ in range(100):
        style.take_in()
        after = style.update(1.0)
    assert after["losses/disc_loss"] < 0.5 * before["losses/disc_loss"]
    assert after["losses/disc_agent_acc"] > 0.95 and after["losses/disc_demo_acc"] > 0.95
    real = Gaussians(4.0).demonstrations(50, torch.Generator().manual_seed(9))
    simulated = rollout.seen.steps.flatten(0, 1)
    assert style_reward(style.discriminator(real)).mean() > 3.0 * style_reward(style.discriminator(simulated)).mean()


def test_a_spoilt_discriminator_is_counted_never_saved_and_taken_back(tmp_path: Path) -> None:
    config = small_config(tmp_path, "ADD", 7, divergence_patience=1)
    trainer = make_trainer(tmp_path, replace(config, train=replace(config.train, checkpoint_interval=1)))
    assert isinstance(trainer.style, Style)
    bias, skipped = trainer.style.discriminator.logit.bias, []
    collect, report = trainer.collect, trainer.reporter.on_iteration

    def spoil_once() -> None:
        if trainer.iteration == 2 and not trainer.recovery.rollbacks:
            bias.data.fill_(math.nan)
            with pytest.raises(TrainingError, match="weights are not finite"):
                trainer.save()
        collect()

    def note(step: int, metrics: Dict[str, float]) -> None:
        skipped.append(metrics["losses/disc_skipped_steps"])
        report(step, metrics)

    trainer.collect, trainer.reporter.on_iteration = spoil_once, note
    assert trainer.fit()
    assert skipped[2] > 0 and sum(skipped) == skipped[2]
    assert trainer.recovery.rollbacks == 1 and bias.isfinite().all()
    assert trainer.style.optimizer.rate.item() == pytest.approx(STEP_FACTOR * trainer.config.discriminator.learning_rate)


def test_a_gradient_of_the_discriminator_that_is_not_finite_is_a_fault() -> None:
    metrics = {"losses/total_loss": 1.0, "losses/skipped_steps": 0.0, "losses/disc_skipped_steps": 3.0}
    assert fault(metrics, 100) == "3 gradients of the discriminator were not finite and left out"


def test_penalties_flatten_the_discriminator() -> None:
    slopes = []
    for penalty in (0.0, 20.0):
        style, _ = make_style(Gaussians(4.0), learning_rate=0.01, grad_penalty=penalty)
        for _ in range(50):
            style.take_in()
            figures = style.update(1.0)
        slopes.append(float(figures["losses/disc_grad_penalty"]))
    assert slopes[1] < 0.2 * slopes[0]


def test_the_memory_holds_what_earlier_rollouts_showed() -> None:
    style, rollout = make_style(Gaussians(0.0), replay_size=20, replay_rate=0.25)
    rollout.seen.steps.fill_(0.0)
    style.take_in()
    assert (style.own_state()["memory"] == 0.0).all()
    for iteration in range(1, 6):
        rollout.seen.steps.fill_(float(iteration))
        style.take_in()
        kept = style.own_state()["memory"][:, 0].tolist()
        assert kept.count(float(iteration)) == 5
    assert sorted(kept) == [2.0] * 5 + [3.0] * 5 + [4.0] * 5 + [5.0] * 5


def test_statistics_are_of_both_kinds_and_those_of_differences_of_the_agent_alone() -> None:
    both, rollout = make_style(Gaussians(100.0))
    both.take_in()
    mean = rollout.seen.steps.mean((0, 1))
    assert (both.discriminator.norm.mean[2:] > 40.0).all() and (both.discriminator.norm.mean[2:] < 60.0).all()
    agent, _ = make_style(Gaussians(100.0, is_difference=True))
    agent.take_in()
    assert (agent.discriminator.norm.mean - mean).abs().max() < 2.0
