"""Checkpoints: whole, plain, refused when damaged."""

import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Dict, Type

import pytest
import torch

from puffer_phc.errors import CheckpointError
from puffer_phc.learn.checkpoint import (
    Checkpoint,
    compact,
    load_checkpoint,
    load_policy,
    save_checkpoint,
)
from puffer_phc.learn.policy import LSTMActorPolicy, LSTMCriticPolicy, PHCPolicy
from puffer_phc.learn.run_folder import load_newest, save_in_run


def make_checkpoint(policy: PHCPolicy) -> Checkpoint:
    return Checkpoint({"env": {"action_mode": "residual"}}, policy.state_dict(), 20, 7, {"iteration": 3})


def make_policy(width: int = 16, kind: Type[PHCPolicy] = PHCPolicy) -> PHCPolicy:
    return kind(20, 7, layer_sizes=(width,), hidden_size=8, recurrent_size=32)


def action(policy: PHCPolicy, observations: torch.Tensor) -> torch.Tensor:
    """Of the second step, which remembers the first."""
    _, memory = policy.mean_action(observations, policy.no_memory(len(observations)))
    return policy.mean_action(observations.flip(0), memory)[0]


def values(policy: PHCPolicy, observations: torch.Tensor) -> torch.Tensor:
    """Of the second step, likewise."""
    _, _, memory = policy.act(observations, policy.no_memory(len(observations)))
    return policy.value(observations.flip(0), memory)


def test_round_trip(tmp_path: Path) -> None:
    policy, other = make_policy(), make_policy()
    save_checkpoint(tmp_path / "model.pt", make_checkpoint(policy))
    loaded = load_checkpoint(tmp_path / "model.pt")
    load_policy(other, loaded, "model.pt")
    assert loaded.trainer == {"iteration": 3} and loaded.config == {"env": {"action_mode": "residual"}}
    assert all(torch.equal(a, b) for a, b in zip(policy.state_dict().values(), other.state_dict().values()))
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]


def test_other_architecture_is_named(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model.pt", make_checkpoint(make_policy(16)))
    with pytest.raises(CheckpointError, match="does not fit this policy"):
        load_policy(make_policy(32), load_checkpoint(tmp_path / "model.pt"), "model.pt")


def test_missing_damaged_and_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with pytest.raises(CheckpointError, match="does not exist"):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match=r"is not a file; the newest of a run is latest\.pt in it"):
        load_checkpoint(tmp_path)
    save_checkpoint(path, make_checkpoint(make_policy()))
    with pytest.raises(CheckpointError, match=r"is not a run's folder but a file; .* with -c"):
        load_newest(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="format"):
        load_checkpoint(path)


class Bomb:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("bomb-went-off"),))


def test_code_in_a_file_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.pt").write_bytes(pickle.dumps({"format": 1, "policy": Bomb()}))
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "model.pt")
    torch.save({"format": 1, "policy": Bomb()}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "model.pt")
    assert not (tmp_path / "bomb-went-off").exists()


def test_unwritable_folder_leaves_the_old_file_whole(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model.pt", make_checkpoint(make_policy()))
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_checkpoint(blocker / "model.pt", make_checkpoint(make_policy()))
    assert load_checkpoint(tmp_path / "model.pt").observation_size == 20


@pytest.mark.parametrize("kind", [PHCPolicy, LSTMActorPolicy, LSTMCriticPolicy])
def test_compact_checkpoint_acts_the_same_and_keeps_a_new_critic(tmp_path: Path, kind: Type[PHCPolicy]) -> None:
    policy, other = make_policy(kind=kind), make_policy(kind=kind)
    save_checkpoint(tmp_path / "full.pt", make_checkpoint(policy))
    save_checkpoint(tmp_path / "small.pt", compact(make_checkpoint(policy), with_critic=False))
    loaded = load_checkpoint(tmp_path / "small.pt")
    observations = torch.randn(10, 20)
    with_our_actor = make_policy(kind=kind)
    with_our_actor.load_state_dict(other.state_dict())
    load_policy(other, loaded, "small.pt")
    for name, weight in with_our_actor.state_dict().items():
        assert name.startswith(("critic", "value_head")) == (name not in loaded.policy)
        if name not in loaded.policy:
            assert torch.equal(weight, other.state_dict()[name])
    assert loaded.trainer is None
    assert (tmp_path / "small.pt").stat().st_size < 0.75 * (tmp_path / "full.pt").stat().st_size
    torch.testing.assert_close(action(other, observations), action(policy, observations), rtol=1e-2, atol=1e-4)
    load_policy(other, compact(make_checkpoint(policy), with_critic=True), "small.pt")
    torch.testing.assert_close(values(other, observations), values(policy, observations), rtol=1e-2, atol=1e-4)


def test_a_compact_checkpoint_without_its_critic_names_no_folders(tmp_path: Path) -> None:
    config = {"env": {"motion_file": str(tmp_path / "motions.npz"), "backend": "auto"}, "train": {"data_dir": str(tmp_path), "seed": 1}}
    checkpoint = make_checkpoint(make_policy())._replace(config=config)
    assert compact(checkpoint, with_critic=True).config == config
    published = {"env": {"motion_file": "motions.npz", "backend": "auto"}, "train": {"data_dir": tmp_path.name, "seed": 1}}
    assert compact(checkpoint, with_critic=False).config == published


def test_a_flipped_bit_anywhere_in_a_record_is_noticed(tmp_path: Path) -> None:
    """Torch itself does not look at the checksums of its own files."""
    path = tmp_path / "model.pt"
    policy = make_policy()
    save_checkpoint(path, make_checkpoint(policy))
    whole = path.read_bytes()
    place = whole.index(policy.state_dict()["mean_head.weight"].numpy().tobytes())
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    assert torch.load(path, weights_only=True)["format"] == 2
    with pytest.raises(CheckpointError, match="checksum"):
        load_checkpoint(path)


def test_a_damaged_latest_gives_way_to_the_newest_whole_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for iteration in (1, 2, 3):
        save_in_run(tmp_path, make_checkpoint(make_policy()), iteration, keep=3)
    assert load_newest(tmp_path)[0] == tmp_path / "latest.pt"
    for name in ("latest.pt", "model_00000003.pt"):
        (tmp_path / name).unlink()
        (tmp_path / name).write_bytes(b"half a file")
    assert load_newest(tmp_path)[0] == tmp_path / "model_00000002.pt"
    assert "latest.pt" in caplog.text and "model_00000002.pt" in caplog.text
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(CheckpointError, match=r"latest\.pt' does not exist"):
        load_newest(tmp_path)


def test_latest_is_whole_where_the_file_system_has_no_second_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    save_in_run(tmp_path, make_checkpoint(make_policy()), 1, keep=3)
    save_in_run(tmp_path, make_checkpoint(make_policy())._replace(observation_size=21), 2, keep=3)
    assert load_checkpoint(tmp_path / "latest.pt").observation_size == 21
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest.pt", "model_00000001.pt", "model_00000002.pt"]


def hostile_contents() -> Dict[str, Any]:
    good = {"format": 2, "version": "0", **make_checkpoint(make_policy())._asdict()}
    nested: Any = []
    for _ in range(100):
        nested = [nested]
    return {
        "a tensor larger than its memory": {**good, "policy": {"a": torch.zeros(1).expand(10**12)}},
        "a sparse tensor": {**good, "policy": {"a": torch.zeros(3).to_sparse()}},
        "bytes": {**good, "config": {"env": {"a": bytearray(10)}}},
        "deep nesting": {**good, "trainer": {"a": nested}},
        "a list for a dictionary": {**good, "policy": []},
        "a text for a size": {**good, "observation_size": "20"},
        "a number for a section": {**good, "config": {"env": 3}},
        "names that are numbers": {**good, "policy": {3: torch.zeros(3)}},
    }


@pytest.mark.parametrize("case", sorted(hostile_contents()))
def test_contents_that_no_checkpoint_has_are_refused(tmp_path: Path, case: str) -> None:
    torch.save(hostile_contents()[case], tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
        load_checkpoint(tmp_path / "model.pt")


def test_packed_records_are_refused(tmp_path: Path) -> None:
    """They could unpack to any size."""
    save_checkpoint(tmp_path / "model.pt", make_checkpoint(make_policy()))
    with zipfile.ZipFile(tmp_path / "model.pt") as stored, zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    with pytest.raises(CheckpointError, match="not stored as they are"):
        load_checkpoint(tmp_path / "packed.pt")


def test_a_carried_run_in_parts_is_joined_and_resumed(tmp_path: Path) -> None:
    """The two commands of the script's own help."""
    pytest.importorskip("mujoco.batch", reason="training needs the MuJoCo backend")
    from faulty import make_trainer

    make_trainer(tmp_path, 3).fit()
    repository = Path(__file__).resolve().parent.parent
    small = tmp_path / "carried" / "latest.pt"
    command = [sys.executable, str(repository / "scripts" / "compact_checkpoint.py"), str(tmp_path / "run" / "latest.pt"), str(small)]
    environment = {**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--with-critic", "--part-megabytes", "0.02"], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    parts = sorted(small.parent.glob("latest.pt.part*"))
    assert len(parts) >= 2 and f"in {len(parts)} parts" in done.stdout
    assert max(part.stat().st_size for part in parts) <= 20_000
    small.unlink()
    small.write_bytes(b"".join(part.read_bytes() for part in parts))
    checkpoint = load_newest(small.parent)[1]
    assert checkpoint.trainer is not None and checkpoint.trainer["iteration"] == 2 and "optimizer" not in checkpoint.trainer
    small.write_bytes(b"".join(part.read_bytes() for part in parts[:-1]))
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(small)


def test_a_compact_checkpoint_of_the_original_size_has_34_megabytes(tmp_path: Path) -> None:
    policy = PHCPolicy(934, 69, layer_sizes=(2048, 1536, 1024, 1024, 512), hidden_size=512)
    assert sum(parameter.numel() for parameter in policy.parameters()) > 16_900_000
    bins = {name: torch.rand(5000, dtype=torch.float64) for name in ("probabilities", "failures", "visits")}
    trainer = {
        "iteration": 3,
        "global_step": 4,
        "rate_factor": 1.0,
        "optimizer": {},
        "ranks": [{"sampler": bins, "env": torch.zeros(10**6)}],
    }
    whole = Checkpoint({}, policy.state_dict(), 934, 69, trainer, {})
    save_checkpoint(tmp_path / "small.pt", compact(whole, with_critic=True))
    assert (tmp_path / "small.pt").stat().st_size < 34.1e6
