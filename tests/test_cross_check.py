from pathlib import Path

import pytest
from mocap_files import squat_frames, write_asf_amc

from puffer_phc.motion.asf_amc import load_amc
from puffer_phc.motion.performer import measure_performer
from puffer_phc.motion.retarget import retarget

pytest.importorskip("mujoco", reason="mujoco is not installed: mink solves on its model")
pytest.importorskip("mink", reason="mink, the independent solver, is not installed")

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


def test_another_solver_finds_nearly_the_same_pose(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import cross_check_retargeting

    recording = load_amc(write_asf_amc(tmp_path, squat_frames()))
    performer = measure_performer([recording])
    compared = cross_check_retargeting.compare(retarget(recording, performer), recording, performer.scale, 3)
    assert compared.mink_cm < compared.ours_cm < compared.mink_cm + 1.5
    assert compared.apart_cm < 3.0


def test_mink_reaches_targets_that_the_humanoid_can_reach(monkeypatch):
    """The check itself: targets taken from a pose are found again, so a distance that it reports is ours."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import cross_check_retargeting
    import numpy as np
    import torch

    from puffer_phc import rotations
    from puffer_phc.humanoid.kinematics import forward_kinematics, local_quats_from_dofs
    from puffer_phc.humanoid.skeleton import body_ids

    generator = torch.Generator().manual_seed(2)
    dofs = 0.3 * torch.randn(69, generator=generator, dtype=torch.float64)
    local = local_quats_from_dofs(torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64), dofs)
    positions = forward_kinematics(torch.tensor([0.3, -0.2, 1.0], dtype=torch.float64), local)[0]
    targets = positions[body_ids(cross_check_retargeting.JOINTS)].numpy()
    start = rotations.multiply(local, rotations.from_rotation_vector(0.2 * torch.randn(24, 3, generator=generator, dtype=torch.float64)))
    found = cross_check_retargeting.solve(targets, start[0].numpy(), start.numpy())
    assert np.linalg.norm(found - targets, axis=-1).max() < 0.002
