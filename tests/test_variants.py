"""Train, resume, evaluate, play, shrink and share work for every policy and every kind of reward."""

import json
import os
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List

import pytest
import torch
import torch.multiprocessing as multiprocessing
from variants import CPU, HORIZON, NUM_ENVS, VARIANTS, command_line, make_trainer, motion_file, small_config, weights

from puffer_phc import build
from puffer_phc.commands.play import make_play_session
from puffer_phc.commands.train import take_up
from puffer_phc.errors import CheckpointError
from puffer_phc.learn.checkpoint import compact, load_checkpoint, load_policy
from puffer_phc.learn.distributed import World
from puffer_phc.learn.style import Style
from puffer_phc.main import main

pytest.importorskip("mujoco", reason="training needs the MuJoCo backend")

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
every_variant = pytest.mark.parametrize("variant", VARIANTS)
NOT_PLAIN = [variant for variant in VARIANTS if variant != "PHCPolicy"]
"""Of the plain one, test_trainer.py and test_distributed.py say as much."""


@pytest.mark.parametrize("variant", NOT_PLAIN)
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path, variant: str) -> None:
    whole = make_trainer(tmp_path, small_config(tmp_path, variant, 5))
    whole.fit()
    make_trainer(tmp_path, small_config(tmp_path, variant, 3)).fit()
    checkpoint = load_checkpoint(tmp_path / "run" / "latest.pt")
    second = make_trainer(tmp_path, small_config(tmp_path, variant, 5))
    load_policy(second.policy, checkpoint, "latest.pt")
    assert checkpoint.trainer is not None
    second.load_state(checkpoint.trainer)
    assert second.global_step < whole.global_step
    second.fit()
    assert torch.equal(weights(second), weights(whole))
    assert torch.equal(second.collector.memory, whole.collector.memory)
    if isinstance(whole.style, Style) and isinstance(second.style, Style):
        for name, tensor in whole.style.discriminator.state_dict().items():
            assert torch.equal(second.style.discriminator.state_dict()[name], tensor), name
        assert torch.equal(second.style.own_state()["memory"], whole.style.own_state()["memory"])


@every_variant
def test_the_update_begins_with_the_policy_that_acted(tmp_path: Path, variant: str) -> None:
    """The ratio of the new to the old probability is one before the first step, whatever ended inside the segments."""
    trainer = make_trainer(tmp_path, small_config(tmp_path, variant, 5))
    trainer.collect()
    trainer.take_in()
    trainer.collect()
    assert trainer.rollout.starts.view(-1, trainer.rollout.segment_length, NUM_ENVS)[:, 1:].any()
    losses = trainer.updater.minibatch_losses(torch.arange(trainer.rollout.num_segments), trainer.rollout.rewards, trainer.rollout.values)
    assert losses.approx_kl.abs() < 1e-5
    assert losses.clip_fraction == 0.0
    torch.testing.assert_close(losses.value, torch.zeros(()), atol=1e-6, rtol=0.0)


@every_variant
def test_every_mode(tmp_path: Path, variant: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    motions = ["-m", motion_file(tmp_path)]
    sizes = ["--env.num_envs", "4", "--train.batch_size", "64", "--policy.layer_sizes", "16", "--policy.hidden_size", "8"]
    options = [*command_line(variant), *sizes, "--rnn.hidden_size", "8", "--env.backend", "mujoco_cpu", "--train.data_dir", "runs"]
    assert main([*options, *motions, "--train.total_timesteps", "192", "--train.eval_interval", "2", "--debug"]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert main(["--resume", str(run), "--train.total_timesteps", "256", "--debug"]) == 0
    latest = str(run / "latest.pt")
    assert main(["--mode", "eval", "-c", latest, *motions, "--env.num_envs", "2", "--output", "whole", "--debug"]) == 0

    import compact_checkpoint

    monkeypatch.setattr(sys, "argv", ["compact_checkpoint.py", latest, "small.pt"])
    assert compact_checkpoint.main() == 0
    assert main(["--mode", "eval", "-c", "small.pt", *motions, "--env.num_envs", "2", "--output", "small", "--debug"]) == 0
    whole, small = (json.loads(next(Path(folder).glob("*.json")).read_text()) for folder in ("whole", "small"))
    assert small["eval/mpjpe_all"] == pytest.approx(whole["eval/mpjpe_all"], rel=0.05)
    capsys.readouterr()
    assert main(["--mode", "play", "-c", "small.pt", *motions, "--viewer", "none", "--play.num_envs", "2", "--debug"]) == 0
    assert sorted(line.split(":")[0] for line in capsys.readouterr().out.splitlines()) == ["sway_0", "sway_1"]
    assert main([*options, *motions, "--train.total_timesteps", "64", "--train.eval_interval", "0", "-c", "small.pt", "--debug"]) == 0


@pytest.mark.parametrize("variant", NOT_PLAIN)
def test_both_engines_show_the_same_to_policy_and_discriminator(tmp_path: Path, variant: str) -> None:
    """Warp on a CPU does what it does on a GPU; after a few steps contacts amplify what rounding leaves."""
    pytest.importorskip("mujoco_warp")
    config, rollouts = small_config(tmp_path, variant, 5), []
    for backend in ("mujoco_cpu", "mujoco_warp"):
        trainer = make_trainer(tmp_path, replace(config, env=replace(config.env, backend=backend)))
        trainer.collect()
        rollouts.append(trainer.rollout)
        trainer.env.close()
    (ours, theirs), num_steps = rollouts, 3
    for name in ("observations", "actions", "values", "rewards", "starts"):
        torch.testing.assert_close(getattr(ours, name)[:num_steps], getattr(theirs, name)[:num_steps], rtol=1e-3, atol=2e-3)
    if ours.seen is not None and theirs.seen is not None:
        rows = torch.arange(num_steps * NUM_ENVS)
        torch.testing.assert_close(ours.seen.windows(rows), theirs.seen.windows(rows), rtol=1e-3, atol=2e-3)
        assert ours.seen.windows(rows).std() > 0.01


@pytest.mark.parametrize(
    ("variant", "discriminator", "env", "line"),
    [
        ("AMP", {}, {"num_amp_obs_steps": 4}, "the run's discriminator sees something else or has other layers"),
        ("AMP", {}, {"use_amp_obs": False, "use_add_obs": True}, "the run's discriminator sees something else or has other layers"),
        ("ADD", {"layer_sizes": (8,)}, {}, "the run's discriminator sees something else or has other layers"),
        ("ADD", {"replay_size": 7}, {}, "discriminator.replay_size is 7, the run's memory has 40 rows"),
        ("AMP", {}, {"use_amp_obs": False}, "the run had a discriminator, which would be lost without env.use_amp_obs or env.use_add_obs"),
        ("ADD", {}, {"use_add_obs": False}, "the run had a discriminator, which would be lost without env.use_amp_obs or env.use_add_obs"),
        ("PHCPolicy", {}, {"use_amp_obs": True}, "the run had no discriminator"),
    ],
)
def test_a_run_does_not_go_on_with_another_discriminator(
    tmp_path: Path, variant: str, discriminator: Dict[str, Any], env: Dict[str, Any], line: str
) -> None:
    config = small_config(tmp_path, variant, 3)
    trainer = make_trainer(tmp_path, config)
    trainer.collect()
    trainer.take_in()
    trainer.save()
    state = load_checkpoint(tmp_path / "run" / "latest.pt").trainer
    assert state is not None
    other = replace(config, discriminator=replace(config.discriminator, **discriminator), env=replace(config.env, **env))
    with pytest.raises(CheckpointError, match=f"does not fit these options or motions \\({line}\\); start from it with -c"):
        take_up(make_trainer(tmp_path, other), state, tmp_path / "run")


def test_a_compact_checkpoint_says_that_its_discriminator_is_gone(tmp_path: Path) -> None:
    config = small_config(tmp_path, "ADD", 3)
    trainer = make_trainer(tmp_path, config)
    trainer.save()
    whole = load_checkpoint(tmp_path / "run" / "latest.pt")
    for checkpoint, is_gone in ((whole, False), (compact(whole, with_critic=True), True)):
        second = make_trainer(tmp_path, config)
        take_up(second, checkpoint.trainer, tmp_path / "run")
        assert any("the discriminator starts anew" in line for line in second.reporter.messages) == is_gone


@pytest.mark.parametrize("theirs", ["PHCPolicy", "LSTMActorPolicy", "LSTMCriticPolicy"])
def test_a_checkpoint_of_another_kind_of_policy_is_named(tmp_path: Path, theirs: str) -> None:
    trainer = make_trainer(tmp_path, small_config(tmp_path, theirs, 1))
    trainer.save()
    ours = "LSTMActorPolicy" if theirs != "LSTMActorPolicy" else "PHCPolicy"
    path, sizes = tmp_path / "run" / "latest.pt", (trainer.policy.observation_size, trainer.policy.action_size)
    with pytest.raises(CheckpointError, match=f"holds a {theirs}, base.policy_name asks for a {ours}"):
        build.saved_policy(small_config(tmp_path, ours, 1), *sizes, CPU, load_checkpoint(path), path)


@every_variant
def test_a_played_episode_is_the_same_after_a_reset(tmp_path: Path, variant: str) -> None:
    trainer = make_trainer(tmp_path, small_config(tmp_path, variant, 2))
    with torch.no_grad():
        trainer.policy.mean_head.weight.mul_(30.0)
        trainer.policy.obs_norm.count.fill_(1.0)
    trainer.save()
    motions = build.load_motions(trainer.config, CPU)
    session = make_play_session(trainer.config, motions, tmp_path / "run" / "latest.pt", tmp_path, "none")

    def played() -> torch.Tensor:
        session.post("reset")
        session.obey()
        for _ in range(4):
            session.step()
        return session.frame().body_pos

    assert torch.equal(played(), played())
    assert session.act.memory is not None
    assert bool(session.act.memory.any()) == (VARIANTS[variant][0] == "LSTMActorPolicy")
    session.close()


@pytest.mark.parametrize("variant", ["LSTMActorPolicy", "LSTMCriticPolicy", "AMP"])
def test_rows_whose_clip_leaves_the_device_forget_it(tmp_path: Path, variant: str) -> None:
    config = small_config(tmp_path, variant, 1, motion_resample_interval=1)
    config = replace(config, env=replace(config.env, max_resident_frames=61, termination_distance=100.0))
    trainer = make_trainer(tmp_path, config)
    moved = 0
    for _ in range(6):
        trainer.collect()
        clips, memory = trainer.env.env.clip_ids.clone(), trainer.collector.memory.clone()
        trainer.change_residents()
        gone = trainer.env.env.clip_ids != clips
        moved += int(gone.sum())
        assert trainer.collector.memory[gone].abs().sum() == 0
        assert torch.equal(trainer.collector.memory[~gone], memory[~gone])
    assert moved > 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def one_update(world: World, folder: Path, variant: str) -> Dict[str, Any]:
    """Collect and update once, the whole batch in one minibatch, with this process's share of the environments."""
    num_envs = NUM_ENVS // world.size
    sizes = {"minibatch_size": num_envs * HORIZON, "update_epochs": 1}
    trainer = make_trainer(folder, small_config(folder, variant, 5, num_envs, **sizes), world)
    trainer.collect()
    trainer.take_in()
    trainer.collect()
    trainer.update(trainer.advantages())
    results = {"gradient": trainer.updater.optimizer.gradient.clone(), "weights": weights(trainer), "memory": trainer.collector.memory}
    if isinstance(trainer.style, Style):
        trainer.take_in()
        parts = [tensor.double().flatten() for tensor in trainer.style.discriminator.state_dict().values()]
        results.update({"style": torch.cat(parts), "style_gradient": trainer.style.optimizer.gradient.clone()})
    return results


def worker(rank: int, port: int, folder: Path) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    world = World.from_environment("cpu")
    torch.save({variant: one_update(world, folder, variant) for variant in NOT_PLAIN}, folder / f"rank{rank}.pt")
    world.close()


def test_two_processes_with_half_the_environments_each_train_as_one(tmp_path: Path) -> None:
    motion_file(tmp_path)
    multiprocessing.spawn(worker, args=(free_port(), tmp_path), nprocs=2)
    halves: List[Dict[str, Any]] = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2)]
    for variant in NOT_PLAIN:
        whole = one_update(World(), tmp_path, variant)
        memories = torch.cat([half[variant]["memory"] for half in halves])
        torch.testing.assert_close(memories, whole["memory"], rtol=1e-4, atol=1e-5)
        for half in halves:
            if "style" in whole:  # each process draws rows and demonstrations of its own
                assert half[variant]["style_gradient"].norm() > 1e-3
                continue
            torch.testing.assert_close(half[variant]["gradient"], whole["gradient"], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(half[variant]["weights"], whole["weights"], rtol=1e-4, atol=1e-5)
        for name in set(whole) - {"memory"}:
            assert torch.equal(halves[0][variant][name], halves[1][variant][name]), name
        assert whole["gradient"].norm() > 1e-2
