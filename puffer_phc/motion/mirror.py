"""Left and right exchanged: twice the motion for nothing, and a policy that does not learn one side better than the other.

A clip is reflected in the world's x–z plane. The reflection of a rotation R is M R M with M = diag(1, −1, 1): the components of its
quaternion along x and z change sign. Limbs change places with their counterparts. The skeleton's own two sides differ by some millimetres
(it is a fitted human), so that the mirrored clip plays on the same skeleton and its joints lie some millimetres off the exact reflection.
"""

from typing import List, Sequence, Tuple

import numpy as np

from puffer_phc.humanoid.skeleton import BODY_NAMES
from puffer_phc.motion.file import Clip

SUFFIX = "_mirrored"

_SIDES = {"L_": "R_", "R_": "L_"}


def _counterpart(name: str) -> str:
    """The body on the other side; the trunk's bodies are their own."""
    return _SIDES.get(name[:2], name[:2]) + name[2:]


MIRROR_IDS: Tuple[int, ...] = tuple(BODY_NAMES.index(_counterpart(name)) for name in BODY_NAMES)
"""Gather indices: the mirrored body i moves as body ``MIRROR_IDS[i]`` did."""


def mirror_clip(clip: Clip) -> Clip:
    """The clip with left and right exchanged. Mirrored twice it is itself again, its name included."""
    name = clip.name[: -len(SUFFIX)] if clip.name.endswith(SUFFIX) else clip.name + SUFFIX
    root_pos = clip.root_pos * np.array([1.0, -1.0, 1.0], dtype=clip.root_pos.dtype)
    signs = np.array([1.0, -1.0, 1.0, -1.0], dtype=clip.local_quats.dtype)
    return clip._replace(name=name, root_pos=root_pos, local_quats=clip.local_quats[:, list(MIRROR_IDS)] * signs)


def with_mirrored(clips: Sequence[Clip]) -> List[Clip]:
    """``clips`` and after them the mirror images that are not among them yet, by name."""
    names = {clip.name for clip in clips}
    mirrored = (mirror_clip(clip) for clip in clips)
    return [*clips, *(clip for clip in mirrored if clip.name not in names)]
