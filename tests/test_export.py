"""The exported policy: onnxruntime and torch agree, it knows its normaliser and its scale, and its body is the one that was trained."""

import dataclasses
import json
import subprocess
import sys

import mujoco
import numpy as np
import pytest
import torch
from playing import save_policy

from puffer_phc import build
from puffer_phc.commands.export import OPSET, export, make_actor
from puffer_phc.config import BaseConfig, Config, EnvConfig, PolicyConfig, RnnConfig, TrainConfig
from puffer_phc.env.actions import ActionMap
from puffer_phc.errors import ConfigError
from puffer_phc.learn.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from puffer_phc.resolve import resolve
from puffer_phc.resources import resource_root
from puffer_phc.sim.pd import pd_gains

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

CPU = torch.device("cpu")
LOUDER = {"PHCPolicy": 200.0, "LSTMActorPolicy": 1500.0, "LSTMCriticPolicy": 30.0}
"""What makes some of a new policy's actions, and not all, go beyond their bounds."""


def saved(path, **base):
    """A checkpoint with statistics and weights that matter, of an absolute policy, which it returns."""
    config = Config(
        base=BaseConfig(**base),
        env=EnvConfig(action_mode="absolute", freeze_toe=False, kp_scale=1.5),
        policy=PolicyConfig(layer_sizes=(32, 24), hidden_size=16),
        rnn=RnnConfig(hidden_size=12),
        train=TrainConfig(device="cpu", seed=3),
    )
    config = resolve(config, CPU)
    actions = ActionMap(config.env, pd_gains(build.physics_options(config.env), CPU))
    policy = build.make_policy(config, 934, actions.action_size, CPU)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        policy.mean_head.weight.mul_(LOUDER[type(policy).__name__])
        policy.obs_norm.mean.copy_(torch.randn(934, generator=generator))
        policy.obs_norm.variance.copy_(torch.rand(934, generator=generator) + 0.1)
    save_checkpoint(path, Checkpoint(dataclasses.asdict(config), policy.state_dict(), 934, actions.action_size, None))
    return policy


@pytest.mark.parametrize("policy_name", ["PHCPolicy", "LSTMActorPolicy", "LSTMCriticPolicy"])
def test_onnxruntime_and_torch_agree_for_any_number_of_rows(tmp_path, policy_name):
    policy = saved(tmp_path / "policy.pt", policy_name=policy_name)
    files = export(tmp_path / "policy.pt", tmp_path / "out" / "policy.onnx")
    session = onnxruntime.InferenceSession(str(files.onnx), providers=["CPUExecutionProvider"])
    actor = make_actor(load_checkpoint(tmp_path / "policy.pt"), tmp_path / "policy.pt")
    generator = torch.Generator().manual_seed(2)
    for rows in (1, 2, 7):
        observation = 3.0 * torch.randn(rows, 934, generator=generator)
        memory = [torch.randn(rows, 24, generator=generator)] if policy_name == "LSTMActorPolicy" else []
        with torch.no_grad():
            expected = actor(observation, *memory)
            mean, _ = policy.mean_action(observation, memory[0] if memory else policy.no_memory(rows))
        given = {"observation": observation.numpy(), **({"memory": memory[0].numpy()} if memory else {})}
        found = session.run(None, given)
        assert len(found) == len(expected) == 2 + len(memory)
        for ours, theirs in zip(expected, found):
            np.testing.assert_allclose(theirs, ours.numpy(), atol=1e-5, rtol=0.0)
        np.testing.assert_allclose(found[0], mean.clamp(-1.0, 1.0).numpy(), atol=1e-5, rtol=0.0)
        assert np.abs(found[0]).max() == 1.0 and np.abs(found[0]).mean() < 0.95, "some actions are clipped, and not all"
    names = ["observation", *(["memory"] if memory else [])]
    assert [given.name for given in session.get_inputs()] == names, "what a critic remembers is no part of acting"
    assert session.get_modelmeta().custom_metadata_map["memory_size"] == ("24" if memory else "0")
    model = onnx.load(str(files.onnx))
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [OPSET]
    assert [path.name for path in files.onnx.parent.iterdir()] and not list(files.onnx.parent.glob("*.data"))


def test_the_offset_is_the_action_on_the_free_joints_times_the_original_scale(tmp_path):
    saved(tmp_path / "policy.pt")
    files = export(tmp_path / "policy.pt", tmp_path / "policy.onnx")
    session = onnxruntime.InferenceSession(str(files.onnx), providers=["CPUExecutionProvider"])
    action, offset = session.run(None, {"observation": np.random.default_rng(0).normal(size=(3, 934)).astype(np.float32)})
    metadata = session.get_modelmeta().custom_metadata_map
    joints = json.loads(metadata["joints"])
    assert action.shape == (3, 63) and offset.shape == (3, 69) and len(joints) == 69
    free = [index for index, name in enumerate(joints) if not name.startswith(("L_Hand", "R_Hand"))]
    scale = np.array([5.0 if joints[index] in ("L_Knee_y", "R_Knee_y") else np.pi for index in free])
    np.testing.assert_allclose(offset[:, free], action * scale, atol=1e-5)
    assert not offset[:, [index for index in range(69) if index not in free]].any()
    assert metadata["action_mode"] == "absolute" and float(metadata["control_seconds"]) == pytest.approx(1 / 30)
    assert "zero + target_offset" in metadata["target"]


def test_the_body_beside_it_has_the_drives_of_the_training(tmp_path):
    saved(tmp_path / "policy.pt")
    files = export(tmp_path / "policy.pt", tmp_path / "policy.onnx")
    model = mujoco.MjModel.from_xml_path(str(files.mjcf))
    metadata = onnxruntime.InferenceSession(str(files.onnx)).get_modelmeta().custom_metadata_map
    np.testing.assert_allclose(model.actuator_gainprm[:, 0], json.loads(metadata["stiffness"]), rtol=1e-6)
    np.testing.assert_allclose(-model.actuator_biasprm[:, 2], json.loads(metadata["damping"]), rtol=1e-6)
    assert model.actuator_gainprm[0, 0] == pytest.approx(1.5 * 800.0)


def test_mistakes_are_one_line(tmp_path):
    save_policy(tmp_path / "policy.pt")
    with pytest.raises(ConfigError, match=r"policy\.bin"):
        export(tmp_path / "policy.pt", tmp_path / "policy.bin")
    script = resource_root() / "scripts" / "export_policy.py"
    done = subprocess.run([sys.executable, script, tmp_path / "nowhere.pt", tmp_path / "x.onnx"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "nowhere.pt" in done.stderr
    assert not list(tmp_path.glob("x.*"))


def test_a_missing_package_is_named_with_what_brings_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ConfigError, match=r"onnxscript: pip install 'puffer-phc\[onnx\]'"):
        export(tmp_path / "policy.pt", tmp_path / "policy.onnx")
