"""Two processes train as one: sums over gloo on the CPU, and the trainer on the real engine."""

import contextlib
import os
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
import torch
import torch.multiprocessing as multiprocessing
from synthetic_motion import swaying_clip

from puffer_phc import build
from puffer_phc.commands.session import settled
from puffer_phc.config import Config
from puffer_phc.errors import ConfigError
from puffer_phc.learn.checkpoint import load_checkpoint, load_policy
from puffer_phc.learn.distributed import World
from puffer_phc.learn.rollout import Deterministic
from puffer_phc.learn.running_norm import moments
from puffer_phc.learn.trainer import Trainer
from puffer_phc.motion.file import save_motion_file
from puffer_phc.resolve import resolve

pytest.importorskip("mujoco", reason="the training processes need the MuJoCo backend")

TOTAL_ENVS, HORIZON = 4, 8


class Silent:
    """A reporter that drops all but messages."""

    def __init__(self) -> None:
        self.messages: List[str] = []

    def on_iteration(self, step: int, metrics: Dict[str, float]) -> None: ...

    def on_evaluation(self, step: int, summary: Dict[str, float]) -> None: ...

    def message(self, text: str) -> None:
        self.messages.append(text)

    def close(self) -> None: ...


def make_config(world: World, folder: Path, **train: Any) -> Config:
    """A small run with this process's share of the environments; the whole batch is one minibatch."""
    num_envs = TOTAL_ENVS // world.size
    config = Config()
    config = replace(
        config,
        env=replace(config.env, num_envs=num_envs, backend="mujoco_cpu", motion_file=str(folder / "motion.npz"), max_resident_frames=65),
        policy=replace(config.policy, layer_sizes=(16,), hidden_size=8),
        train=replace(
            config.train, batch_size=num_envs * HORIZON, minibatch_size=num_envs * HORIZON, update_epochs=1, device="cpu", **train
        ),
    )
    return resolve(config, torch.device("cpu"))


def one_iteration(world: World, folder: Path) -> Dict[str, Any]:
    """Collect and update once."""
    config = make_config(world, folder)
    motions = build.load_motions(config, torch.device("cpu"), world)
    env = build.make_environment(config, motions, world)
    policy = build.make_policy(config, env.env.observation_size, env.env.action_size, torch.device("cpu"))
    trainer = Trainer(config, env, policy, folder, Silent(), None, world)
    trainer.collect()
    trainer.take_in()
    env.change_residents()
    with counted_exchanges() as in_rollout:
        trainer.collect()
    with counted_exchanges() as in_update:
        trainer.update(trainer.advantages())
    env.close()
    return {
        "exchanges": (len(in_rollout), len(in_update)),
        "gradient": trainer.updater.optimizer.gradient.clone(),
        "parameters": torch.cat([p.detach().flatten() for p in policy.parameters()]),
        "mean": policy.obs_norm.mean.clone(),
        "variance": policy.obs_norm.variance.clone(),
        "probabilities": env.sampler.probabilities.clone(),
        "clips": env.env.clip_ids.clone(),
        "residents": motions.residents.clip_ids,
    }


@contextlib.contextmanager
def counted_exchanges() -> Iterator[List[str]]:
    """The names of what processes exchange in the block, one for each time."""
    calls: List[str] = []

    def counted(name: str, original: Any) -> Any:
        return lambda *arguments, **options: (calls.append(name), original(*arguments, **options))[1]

    with pytest.MonkeyPatch.context() as patch:
        for name in ("all_reduce", "broadcast", "all_gather_object"):
            patch.setattr(torch.distributed, name, counted(name, getattr(torch.distributed, name)))
        yield calls


def worker(rank: int, port: int, folder: Path) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    world = World.from_environment("cpu")
    result = one_iteration(world, folder)
    world.close()
    torch.save({**result, "threads": thread_names()}, folder / f"rank{rank}.pt")


def thread_names() -> List[str]:
    """The names of this process's threads, the engine's among them; none where the system doesn't list them."""
    return [(task / "comm").read_text() for task in Path("/proc/self/task").glob("*")]


def shard_worker(rank: int, port: int, folder: Path) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    world = World.from_environment("cpu")
    options = {"shard_clips": True, "lr_scaling": "linear", "motion_resample_interval": 1}
    config = make_config(world, folder, total_timesteps=2 * TOTAL_ENVS * HORIZON, **options)
    motions = build.load_motions(config, torch.device("cpu"), world)
    env = build.make_environment(config, motions, world)
    policy = build.make_policy(config, env.env.observation_size, env.env.action_size, torch.device("cpu"))
    evaluator = build.Evaluator(config, motions, world)
    trainer = Trainer(config, env, policy, folder, Silent(), build.training_evaluation(evaluator, env), world)
    trainer.fit()
    result = evaluator(Deterministic(policy))
    scale = trainer.updater.optimizer.rate / make_config(World(), folder).train.learning_rate
    torch.save({"own": motions.names, "all": list(result.names), "scale": float(scale)}, folder / f"shard{rank}.pt")
    world.close()


def make_trainer(world: World, folder: Path, num_iterations: int) -> Trainer:
    """A run of ``num_iterations`` in shards with a sampler that learns: the processes' states differ in every part."""
    steps = TOTAL_ENVS * HORIZON
    config = make_config(world, folder, shard_clips=True, total_timesteps=num_iterations * steps, eval_interval=0, checkpoint_interval=1)
    motions = build.load_motions(config, torch.device("cpu"), world)
    env = build.make_environment(config, motions, world)
    policy = build.make_policy(config, env.env.observation_size, env.env.action_size, torch.device("cpu"))
    return Trainer(config, env, policy, folder / "run", Silent(), None, world)


def resume_worker(rank: int, port: int, folder: Path) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    world = World.from_environment("cpu")
    whole = make_trainer(world, folder, 6)
    whole.fit()
    expected = {name: value.clone() for name, value in whole.policy.state_dict().items()}
    times = whole.env.env.times.clone()
    make_trainer(world, folder, 4).fit()
    world.gather("both have written")
    second = make_trainer(world, folder, 6)
    checkpoint = load_checkpoint(folder / "run" / "latest.pt")
    load_policy(second.policy, checkpoint, "latest.pt")
    second.load_state(checkpoint.trainer or {})
    second.fit()
    found = second.policy.state_dict()
    equal = all(torch.equal(found[name], value) for name, value in expected.items()) and torch.equal(second.env.env.times, times)
    torch.save({"equal": equal, "times": times, "iteration": second.iteration}, folder / f"resume{rank}.pt")
    world.close()


def reduce_worker(rank: int, port: int, folder: Path) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    world = World.from_environment("cpu")
    rows = torch.arange(40.0).reshape(10, 4).square()
    combined = world.combined(moments(rows[:3] if rank == 0 else rows[3:]))
    results = {
        "combined": list(combined),
        "mean": world.mean_(torch.tensor([float(rank), 4.0])),
        "gathered": world.gather(f"from {rank}"),
        "is_main": world.is_main,
    }
    torch.save(results, folder / f"reduce{rank}.pt")
    world.close()


def stopping_worker(rank: int, port: int, folder: Path) -> None:
    """The second process is asked to stop in the middle of an evaluation, and trains on afterwards."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    world = World.from_environment("cpu")
    config = make_config(world, folder, total_timesteps=8 * TOTAL_ENVS * HORIZON, eval_interval=1)
    motions = build.load_motions(config, torch.device("cpu"), world)
    env = build.make_environment(config, motions, world)
    policy = build.make_policy(config, env.env.observation_size, env.env.action_size, torch.device("cpu"))
    evaluator, steps = build.Evaluator(config, motions, world), []

    def evaluation(act: Any) -> Dict[str, float]:
        def counted(observations: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
            steps.append(trainer.iteration)
            if rank == 1 and len(steps) == 5:
                trainer.stop()
            return act(observations, starts)

        return build.training_evaluation(evaluator, env)(counted)

    trainer = Trainer(config, env, policy, folder, Silent(), evaluation, world)
    done = trainer.fit()
    torch.save({"done": done, "iteration": trainer.iteration, "steps": len(steps)}, folder / f"stopping{rank}.pt")
    world.close()


def failing_worker(rank: int, port: int, folder: Path) -> None:
    """The second process fails where the first waits for its part of a sum."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    started, failure = time.monotonic(), "none"
    try:
        with settled(make_config(World(size=2), folder)) as session:
            session.world.gather(rank)
            if rank == 1:
                raise ConfigError("one process alone found something wrong")
            session.world.sum_(torch.ones(2))
    except Exception as error:
        failure = type(error).__name__
    left = {"failure": failure, "seconds": time.monotonic() - started, "is_member": torch.distributed.is_initialized()}
    torch.save({**left, "threads": thread_names()}, folder / f"failing{rank}.pt")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def two_processes(function: Any, folder: Path, name: str) -> List[Dict[str, Any]]:
    multiprocessing.spawn(function, args=(free_port(), folder), nprocs=2)
    return [torch.load(folder / f"{name}{rank}.pt") for rank in range(2)]


def test_a_launch_that_waits_leaves_pythons_lock_to_the_thread_that_saves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two processes on GPUs. Torch's own launcher of compiled kernels, where it has one, keeps the lock."""
    from torch._inductor import config

    if not hasattr(config, "static_cuda_launcher_default"):
        pytest.skip("this torch has no such launcher, or another way to choose it")
    launched = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    monkeypatch.setattr(os, "environ", launched)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *_, **__: None)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    assert config.static_cuda_launcher_default()
    World.from_environment("cuda")
    assert not config.static_cuda_launcher_default()


def test_sums_means_moments_and_gathering(tmp_path: Path) -> None:
    rows = torch.arange(40.0).reshape(10, 4).square()
    for rank, result in enumerate(two_processes(reduce_worker, tmp_path, "reduce")):
        torch.testing.assert_close(torch.stack(result["combined"][1:]), torch.stack(moments(rows)[1:]))
        assert result["combined"][0] == 10
        assert result["mean"].tolist() == [0.5, 4.0]
        assert result["gathered"] == ["from 0", "from 1"]
        assert result["is_main"] is (rank == 0)


def test_an_error_ends_the_membership_and_the_others_wait_no_longer(tmp_path: Path) -> None:
    save_motion_file(tmp_path / "motion.npz", [swaying_clip(40)])
    waiting, failing = two_processes(failing_worker, tmp_path, "failing")
    assert failing["failure"] == "ConfigError" and waiting["failure"] not in ("none", "ConfigError")
    for result in (waiting, failing):
        assert not result["is_member"] and result["seconds"] < 60
        assert [name for name in result["threads"] if "gloo" in name or "tcpstore" in name] == []


def test_an_evaluation_of_several_processes_ends_where_one_is_asked_to_stop(tmp_path: Path) -> None:
    save_motion_file(tmp_path / "motion.npz", [swaying_clip(40), swaying_clip(60, seed=1)])
    first, second = two_processes(stopping_worker, tmp_path, "stopping")
    for result in (first, second):
        assert not result["done"] and result["iteration"] == 1
    assert (load_checkpoint(tmp_path / "latest.pt").trainer or {})["evaluation_due"], "it comes first on resuming"
    assert second["steps"] == 5


def test_two_processes_with_half_the_environments_each_train_as_one(tmp_path: Path) -> None:
    save_motion_file(tmp_path / "motion.npz", [swaying_clip(40), swaying_clip(60, seed=1)])
    whole = one_iteration(World(), tmp_path)
    halves = two_processes(worker, tmp_path, "rank")
    assert torch.equal(torch.cat([half["clips"] for half in halves]), whole["clips"])
    assert halves[0]["residents"] == halves[1]["residents"] == whole["residents"] != []
    for half in halves:
        for name in ("gradient", "parameters", "mean", "variance", "probabilities"):
            torch.testing.assert_close(half[name], whole[name], rtol=1e-5, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")
        assert half["exchanges"][0] == 0 < half["exchanges"][1], "nobody waits for another in a rollout"
    assert whole["gradient"].norm() > 1e-2
    assert torch.equal(halves[0]["parameters"], halves[1]["parameters"])
    lasting = [name for half in halves for name in half["threads"] if "gloo" in name or "tcpstore" in name]
    assert lasting == [], "threads of a left group live on into the interpreter's end, where they can abort it"


def test_clips_in_shards_are_trained_on_apart_and_evaluated_together(tmp_path: Path) -> None:
    clips = [swaying_clip(40 + 5 * seed, seed) for seed in range(3)]
    save_motion_file(tmp_path / "motion.npz", clips)
    first, second = two_processes(shard_worker, tmp_path, "shard")
    assert (first["own"], second["own"]) == (["sway_0", "sway_2"], ["sway_1"])
    assert first["all"] == second["all"] == ["sway_0", "sway_1", "sway_2"]
    assert 1.3 < first["scale"] <= 2.0


def test_two_processes_go_on_bit_for_bit_and_one_goes_on_with_all_clips(tmp_path: Path) -> None:
    save_motion_file(tmp_path / "motion.npz", [swaying_clip(40 + 5 * seed, seed) for seed in range(3)])
    first, second = two_processes(resume_worker, tmp_path, "resume")
    assert first["equal"] and second["equal"]
    assert first["iteration"] == second["iteration"] == 5
    assert not torch.equal(first["times"], second["times"])
    alone = make_trainer(World(), tmp_path, 7)
    uniform = alone.env.sampler.probabilities.clone()
    checkpoint = load_checkpoint(tmp_path / "run" / "latest.pt")
    load_policy(alone.policy, checkpoint, "latest.pt")
    state = checkpoint.trainer or {}
    assert state["moment"]["num_processes"] == 2 and state["ranks"][0]["sampler"]["probabilities"].shape != uniform.shape
    alone.load_state(state)
    assert torch.equal(alone.env.sampler.probabilities, uniform)
    assert any("samplers start anew" in line for line in alone.reporter.messages)
    assert alone.fit() and alone.iteration == 6
