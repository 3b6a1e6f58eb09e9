"""Checkpoints: whole, plain, refused when damaged."""

import pickle
from pathlib import Path

import pytest
import torch

from puffer_phc.errors import CheckpointError
from puffer_phc.learn.checkpoint import Checkpoint, compact, load_checkpoint, load_policy, save_checkpoint
from puffer_phc.learn.policy import PHCPolicy


def make_checkpoint(policy: PHCPolicy) -> Checkpoint:
    return Checkpoint({"env": {"action_mode": "residual"}}, policy.state_dict(), 20, 7, {"iteration": 3})


def make_policy(width: int = 16) -> PHCPolicy:
    return PHCPolicy(20, 7, layer_sizes=(width,), hidden_size=8)


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
    save_checkpoint(path, make_checkpoint(make_policy()))
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


def test_compact_checkpoint_acts_the_same_and_keeps_a_new_critic(tmp_path: Path) -> None:
    policy, other = make_policy(), make_policy()
    save_checkpoint(tmp_path / "full.pt", make_checkpoint(policy))
    save_checkpoint(tmp_path / "small.pt", compact(make_checkpoint(policy), with_critic=False))
    loaded = load_checkpoint(tmp_path / "small.pt")
    observations = torch.randn(10, 20)
    own_values = other.value(observations)
    load_policy(other, loaded, "small.pt")
    assert loaded.trainer is None
    assert (tmp_path / "small.pt").stat().st_size < 0.6 * (tmp_path / "full.pt").stat().st_size
    torch.testing.assert_close(other.mean_action(observations), policy.mean_action(observations), rtol=1e-2, atol=1e-4)
    torch.testing.assert_close(other.value(observations), own_values)
    load_policy(other, compact(make_checkpoint(policy), with_critic=True), "small.pt")
    torch.testing.assert_close(other.value(observations), policy.value(observations), rtol=1e-2, atol=1e-4)
