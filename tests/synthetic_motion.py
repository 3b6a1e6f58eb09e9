"""Small made-up motions and states for tests of the environment."""

import numpy as np
import torch

from puffer_phc import rotations
from puffer_phc.humanoid.skeleton import NUM_BODIES
from puffer_phc.motion.file import Clip
from puffer_phc.motion.library import MotionLibrary
from puffer_phc.state import BodyState


def swaying_clip(num_frames, seed=0):
    """A humanoid that walks a curve while all of its joints swing."""
    random = np.random.default_rng(seed)
    seconds = np.arange(num_frames) / 30.0
    amplitude, phase = 0.3 * random.normal(size=(1, NUM_BODIES, 3)), random.uniform(0.0, 6.0, (1, NUM_BODIES, 3))
    vectors = amplitude * np.sin(2.0 * seconds[:, None, None] + phase)
    vectors[:, 0] = np.stack((0.0 * seconds, 0.0 * seconds, 1.5 * seconds + seed), axis=-1)
    root_pos = np.stack((0.8 * seconds, 0.1 * seconds, 0.95 + 0.0 * seconds), axis=-1)
    local_quats = rotations.from_rotation_vector(torch.from_numpy(vectors)).float().numpy()
    return Clip(f"sway_{seed}", root_pos.astype(np.float32), local_quats, 30.0, "made up", "none needed")


def swaying_library(*num_frames):
    return MotionLibrary([swaying_clip(count, seed) for seed, count in enumerate(num_frames)], torch.device("cpu"))


def random_quats(generator, *shape):
    return rotations.normalize(torch.randn(*shape, 4, generator=generator))


def random_body(seed, *rows):
    generator = torch.Generator().manual_seed(seed)

    def draw():
        return torch.randn(*rows, NUM_BODIES, 3, generator=generator)

    return BodyState(draw(), random_quats(generator, *rows, NUM_BODIES), draw(), draw())


def turned(body, heading, offset):
    """All of ``body`` (..., B, ·) turned by ``heading`` rad about the vertical and then moved by ``offset`` (3,) m."""
    yaw = rotations.yaw(torch.as_tensor(float(heading)))
    return BodyState(
        rotations.rotate(yaw, body.pos) + torch.as_tensor(offset),
        rotations.multiply(yaw.expand_as(body.quat), body.quat),
        rotations.rotate(yaw, body.lin_vel),
        rotations.rotate(yaw, body.ang_vel),
    )


def flipped(body, seed):
    """The same rotations, about half of the quaternions with the other sign."""
    signs = torch.randint(0, 2, body.quat.shape[:-1], generator=torch.Generator().manual_seed(seed)) * 2.0 - 1.0
    return body._replace(quat=body.quat * signs.unsqueeze(-1))
