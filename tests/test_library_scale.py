"""Large libraries: storage in half precision, clips that are built together or alone, and (slow) a file of AMASS's size."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic_motion import swaying_clip

from puffer_phc import build, rotations
from puffer_phc.config import Config, EnvConfig
from puffer_phc.motion.file import load_motion_file, save_motion_file
from puffer_phc.motion.library import MotionLibrary
from puffer_phc.motion.sampler import make_sampler
from puffer_phc.randomness import EnvRandom
from puffer_phc.resources import resource_root

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parent.parent
SAMPLES = load_motion_file(resource_root() / "sample_data" / "deepmimic.npz")
FAR_AWAY = [clip._replace(root_pos=clip.root_pos + np.array([60.0, -40.0, 0.0], "f4")) for clip in SAMPLES]


def everywhere(library):
    """All frames of all clips, and moments between them."""
    ids = torch.repeat_interleave(torch.arange(library.num_clips), library.num_frames)
    frames = torch.cat([torch.arange(count) for count in library.num_frames.tolist()])
    return torch.cat((ids, ids)), torch.cat((frames / 30.0, (frames + 0.4) / 30.0))


@pytest.mark.parametrize("clips", [SAMPLES, FAR_AWAY], ids=["here", "far away"])
def test_half_precision_costs_half_a_millimetre(clips):
    whole, half = MotionLibrary(clips, CPU), MotionLibrary(clips, CPU, is_half=True)
    ids, times = everywhere(whole)
    a, b = whole.at(ids, times), half.at(ids, times)
    assert (a.body.pos - b.body.pos).norm(dim=-1).max() < 0.6e-3
    assert (a.body.pos - b.body.pos).norm(dim=-1).mean() < 0.1e-3
    assert torch.equal(a.body.pos[:, 0], b.body.pos[:, 0])
    turn = rotations.angle(rotations.multiply(a.body.quat, rotations.conjugate(b.body.quat)))
    assert np.degrees(float(turn.max())) < 0.06
    assert (b.body.quat.norm(dim=-1) - 1).abs().max() < 1e-6
    assert (a.dof_pos - b.dof_pos).abs().max() < 2e-3
    for first, second in ((a.body.lin_vel, b.body.lin_vel), (a.body.ang_vel, b.body.ang_vel), (a.dof_vel, b.dof_vel)):
        assert ((first - second).abs() <= 1e-3 * first.abs() + 2e-3).all()
    assert torch.equal(whole.clearance(ids, times), half.clearance(ids, times))


def test_half_precision_takes_half_the_memory():
    whole, half = MotionLibrary(SAMPLES, CPU), MotionLibrary(SAMPLES, CPU, is_half=True)

    def size(library):
        return sum(value.numel() * value.element_size() for value in vars(library).values() if isinstance(value, torch.Tensor))

    assert size(half) < 0.52 * size(whole)


def test_the_option_stores_in_half_precision(tmp_path):
    save_motion_file(tmp_path / "a.npz", [swaying_clip(40, 0)])
    plain = build.load_motions(Config(env=EnvConfig(motion_file=str(tmp_path / "a.npz"))), CPU)
    half = build.load_motions(Config(env=EnvConfig(motion_file=str(tmp_path / "a.npz"), motion_precision="float16")), CPU)
    ids, times = torch.zeros(40, dtype=torch.long), torch.arange(40) / 30.0
    difference = (plain.nearest(ids, times).body.pos - half.nearest(ids, times).body.pos).abs().max()
    assert 0 < difference < 1e-3


def test_half_precision_compiles_as_one_graph():
    library = MotionLibrary(SAMPLES[:2], CPU, is_half=True)
    ids, times = torch.tensor([0, 1]), torch.tensor([0.51, 0.2])
    for look_up in (library.at, library.nearest):
        compiled = torch.compile(look_up, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(ids, times).body.pos, look_up(ids, times).body.pos)


def test_a_clip_is_the_same_among_thousands():
    clips = [swaying_clip(12 + index % 50, index) for index in range(600)]
    library = MotionLibrary(clips, CPU)
    for index in (0, 317, 599):
        alone = MotionLibrary([clips[index]], CPU)
        times = torch.arange(clips[index].num_frames + 2) / 30.0
        many = library.at(torch.full_like(times, index, dtype=torch.long), times)
        one = alone.at(torch.zeros_like(times, dtype=torch.long), times)
        torch.testing.assert_close(many.body.pos, one.body.pos, atol=1e-6, rtol=0)
        torch.testing.assert_close(many.dof_vel, one.dof_vel, atol=1e-5, rtol=0)
        torch.testing.assert_close(many.body.lin_vel, one.body.lin_vel, atol=1e-5, rtol=0)


def make_synthetic(path, clips, frames):
    script = ROOT / "scripts" / "make_synthetic_library.py"
    arguments = [resource_root() / "sample_data" / "deepmimic.npz", path, "--clips", clips, "--frames", frames]
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return subprocess.run([sys.executable, str(script), *map(str, arguments)], capture_output=True, text=True, env=environment)


def test_the_script_makes_what_is_asked_for(tmp_path):
    done = make_synthetic(tmp_path / "a.npz", 40, 3000)
    assert done.returncode == 0, done.stderr
    clips = load_motion_file(tmp_path / "a.npz")
    assert len(clips) == 40
    assert sum(clip.num_frames for clip in clips) == 3000
    steps = [np.abs(np.diff(clip.root_pos, axis=0)).max() for clip in clips]
    assert max(steps) < 0.4
    assert make_synthetic(tmp_path / "b.npz", 40, 300).returncode == 2
    assert not (tmp_path / "b.npz").exists()


@pytest.fixture(scope="module")
def amass_size(tmp_path_factory):
    """11,313 clips and 4 million frames."""
    path = tmp_path_factory.mktemp("amass") / "large.npz"
    assert make_synthetic(path, 11313, 4_000_000).returncode == 0
    return path


DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seconds_of(action):
    begin = time.perf_counter()
    result = action()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return result, time.perf_counter() - begin


@pytest.mark.slow
def test_a_file_of_the_size_of_amass(amass_size):
    """On a GPU within a minute, in less than 9 GB."""
    clips, read = seconds_of(lambda: load_motion_file(amass_size))
    library, laid = seconds_of(lambda: MotionLibrary(clips, DEVICE))
    if DEVICE.type == "cuda":
        assert torch.cuda.max_memory_allocated() < 16e9
    size = library.num_bytes
    print(f"read in {read:.1f} s, on {DEVICE} after {laid:.1f} s more, {size / 1e9:.2f} GB")
    assert library.num_clips == 11313
    assert library.num_frames.sum() == 4_000_000
    assert size < 9e9
    assert read + laid < (60 if DEVICE.type == "cuda" else 300)


@pytest.mark.slow
def test_a_tenth_of_it_at_a_time(amass_size):
    """Clips that are not there cost no time at load; each change computes those that come."""
    limit = 400_000
    clips, read = seconds_of(lambda: load_motion_file(amass_size))
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    library, opened = seconds_of(lambda: MotionLibrary(clips, DEVICE, max_frames=limit))
    sampler, prepared = seconds_of(lambda: make_sampler(EnvConfig(), library, EnvRandom(0, 4096, DEVICE)))
    changes = []
    for _ in range(3):
        _, seconds = seconds_of(sampler.change_residents)
        changes.append(seconds)
        taken = int(library.residents.num_rows[library.residents.clip_ids].sum())
        assert 0.99 * limit < taken <= limit
        assert library.residents.is_present[sampler.draw()[0]].all()
    size = library.num_bytes
    print(f"read in {read:.1f} s, library {opened:.2f} s, sampler {prepared:.2f} s, changes {[round(change, 2) for change in changes]} s")
    print(f"{len(library.residents.clip_ids)} clips there, {size / 1e9:.2f} GB on {DEVICE}")
    if DEVICE.type == "cuda":
        print(f"at most {torch.cuda.max_memory_allocated() / 1e9:.2f} GB at any time")
        assert torch.cuda.max_memory_allocated() < 3e9
    assert size < 0.9e9
    assert opened + prepared < 20
    assert max(changes) < 60
