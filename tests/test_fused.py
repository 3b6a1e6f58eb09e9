"""Compiled parts of the environment: one graph each, and no end of a run where torch keeps no more of them."""

import functools
from dataclasses import replace

import pytest
import torch
from kinematic_simulator import KinematicSimulator
from synthetic_motion import swaying_library
from variants import make_trainer, small_config
from waiting import looking_costs

from puffer_phc import build
from puffer_phc.config import Config, EnvConfig, TrainConfig
from puffer_phc.env.fused import Fused
from puffer_phc.env.imitation import ImitationEnv
from puffer_phc.env.puffer import PufferImitation
from puffer_phc.evaluate.evaluation import evaluate
from puffer_phc.motion.sampler import make_sampler
from puffer_phc.randomness import EnvRandom

MOTIONS = swaying_library(12, 10, 8)


@pytest.fixture(autouse=True)
def without_a_compiler(monkeypatch):
    """Torch traces, guards and counts as ever, but runs the graphs as they are."""
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    yield
    torch._dynamo.reset()


def figures(num_envs, compiled):
    simulator = KinematicSimulator(num_envs)
    return evaluate(lambda observation, starts: simulator.oracle(observation), simulator, MOTIONS, EnvConfig(), compiled=compiled)


def test_evaluations_with_more_numbers_of_environments_than_torch_compiles_for(caplog):
    with torch._dynamo.config.patch(recompile_limit=2):
        for num_envs in (2, 3, 4, 5):
            assert torch.equal(figures(num_envs, compiled=True).error_sums, figures(num_envs, compiled=False).error_sums)
    assert "goes on uncompiled: it has been compiled for too many shapes" in caplog.text


def test_evaluating_again_compiles_nothing_again(caplog):
    for _ in range(12):
        figures(3, compiled=True)
    assert "too many shapes" not in caplog.text


def test_rows_that_restart_a_few_at_a_time_on_a_cpu(caplog):
    num_envs, sampler = 24, EnvConfig()
    random = EnvRandom(0, num_envs, torch.device("cpu"))
    env = ImitationEnv(KinematicSimulator(num_envs), MOTIONS, make_sampler(sampler, MOTIONS, random), sampler, None)
    adapter = PufferImitation(env)
    adapter.compile()
    numbers = set()
    for _ in range(40):
        adapter.step(torch.zeros(num_envs, env.action_size))
        numbers.add(int(adapter.truncations.sum()))
    assert len(numbers) > 8
    assert "too many shapes" not in caplog.text


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_what_a_discriminator_sees_is_compiled_for_fewer_shapes_than_torch_keeps(tmp_path, caplog, precision):
    """One of each: a step, the rewards of a step, what is drawn of a rollout, demonstrations, and the last few rows of two memories."""
    pytest.importorskip("mujoco", reason="training needs the MuJoCo backend")
    config = small_config(tmp_path, "AMP", 5, precision=precision)
    config = replace(config, discriminator=replace(config.discriminator, batch_size=11, replay_size=42, replay_rate=0.07))
    trainer = make_trainer(tmp_path, config)
    with looking_costs(), torch._dynamo.config.patch(recompile_limit=6):
        trainer.env.compile()
        for _ in range(3):
            trainer.collect()
            trainer.update(trainer.advantages())
            trainer.take_in()
            trainer.env.reset()
    assert "too many shapes" not in caplog.text


class LaunchError(RuntimeError):
    """What code that torch's compilers made raises when it runs."""

    __module__ = "torch._inductor.runtime"


def test_a_step_whose_compiled_code_breaks_down_when_it_has_run_counts_once(monkeypatch):
    def break_down_at_the_end(graph, inputs):
        def run(*arguments):
            graph.forward(*arguments)
            raise LaunchError("no such launch")

        return run

    def steps_of(compiled):
        sampler = EnvConfig()
        env = ImitationEnv(
            KinematicSimulator(3), MOTIONS, make_sampler(sampler, MOTIONS, EnvRandom(0, 3, torch.device("cpu"))), sampler, None
        )
        adapter = PufferImitation(env)
        if compiled:
            adapter.compile()
        results = []
        for _ in range(12):
            adapter.step(torch.zeros(3, env.action_size))
            results += [part.clone() for part in env.result]
        return [*results, env.steps, env.times, *adapter.snapshot()["statistics"].values()]

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=break_down_at_the_end))
    with looking_costs():
        assert all(map(torch.equal, steps_of(compiled=True), steps_of(compiled=False)))


@pytest.mark.parametrize(("backend", "is_recorded"), [("mujoco_warp", True), ("isaac_gym", False)])
def test_what_follows_the_physics_is_recorded_only_where_resets_can_be(monkeypatch, backend, is_recorded):
    """Isaac Gym's ``set_state`` looks at which rows there are, and on a GPU no recording survives that."""
    recorded = []
    monkeypatch.setattr(ImitationEnv, "record", lambda env: recorded.append(env))
    monkeypatch.setattr(build, "make_simulator", lambda env, num_envs, device: KinematicSimulator(num_envs))
    config = Config(env=EnvConfig(backend=backend, num_envs=3), train=TrainConfig(compile=True))
    adapter = build.make_environment(config, MOTIONS)
    assert recorded == ([adapter.env] if is_recorded else [])


def test_other_errors_come_through():
    def broken(x):
        return x @ torch.ones(3, 5)

    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        Fused(broken)(torch.ones(2, 2))


def test_a_compiler_that_breaks_down_ends_nothing(monkeypatch, caplog):
    def give_up(graph, inputs):
        raise AssertionError("no such layout")

    def twice(x):
        return 2 * x

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=give_up))
    assert torch.equal(Fused(twice)(torch.ones(3)), torch.full((3,), 2.0))
    assert "twice goes on uncompiled" in caplog.text and "no such layout" in caplog.text
