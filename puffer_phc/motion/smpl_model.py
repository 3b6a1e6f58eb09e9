"""The neutral SMPL body, where the user has it: its skin, posed as a clip is, says how high the floor lies.

Loper et al. 2015, SMPL: A Skinned Multi-Person Linear Model. The published pickles were written by Python 2 and hold arrays inside objects
of chumpy and scipy.sparse. They are opened without either package and without running anything: ``plain_pickle``'s unpickler knows a few
names more here, and every class of those packages becomes a bag of attributes from which numbers are taken.
"""

import pickle
from pathlib import Path
from typing import IO, Any, Callable, ClassVar, Dict, Tuple

import numpy as np
import torch

from puffer_phc import rotations
from puffer_phc.errors import MotionFileError
from puffer_phc.humanoid.skeleton import NUM_BODIES, SMPL_ORDER, SMPL_TO_MJCF, UPRIGHT_TO_SMPL_REST
from puffer_phc.motion.file import Clip
from puffer_phc.motion.packed_stream import open_pickle
from puffer_phc.motion.plain_pickle import ADMITTED, PlainArray, PlainUnpickler, pickle_errors

FLOOR_FRAMES = 48
"""Frames, evenly spread over a clip, whose median lowest vertex is the floor."""

LARGEST_MODEL = 1 << 30
"""Bytes. The published models have 40 to 250 MB."""

_MJCF_TO_SMPL = np.argsort(SMPL_TO_MJCF)

_SMPL_PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)


class SmplModel:
    """The mean body as vertices bound to the 24 joints of ``SMPL_ORDER``, in SMPL's rest frame (y up)."""

    def __init__(self, vertices: np.ndarray, joints: np.ndarray, weights: np.ndarray, pose_directions: np.ndarray) -> None:
        self._vertices = vertices.astype(np.float32)
        self._joints = joints.astype(np.float32)
        self._weights = weights.astype(np.float32)
        self._pose_directions = pose_directions.reshape(-1, pose_directions.shape[-1]).astype(np.float32)

    def posed(self, smpl_quats: np.ndarray) -> np.ndarray:
        """(F, V, 3) m: vertices relative to the pelvis joint, from child-to-parent rotations (F, 24, 4) wxyz in SMPL's order and axes."""
        local = rotations.to_matrix(torch.from_numpy(np.ascontiguousarray(smpl_quats, dtype=np.float32))).numpy()
        bent = (local[:, 1:] - np.eye(3, dtype=np.float32)).reshape(len(local), -1)
        shaped = self._vertices + (bent @ self._pose_directions.T).reshape(len(local), *self._vertices.shape)
        turns, shifts = self._world(local)
        turns = np.einsum("vj,fjab->fvab", self._weights, turns, optimize=True)
        return np.einsum("fvab,fvb->fva", turns, shaped) + np.einsum("vj,fja->fva", self._weights, shifts, optimize=True)

    def _world(self, local: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """For each joint the rotation (F, 24, 3, 3) and shift (F, 24, 3) of what is bound to it, the pelvis joint at the origin."""
        turns, places = [local[:, 0]], [np.zeros((len(local), 3), dtype=np.float32)]
        for joint in range(1, NUM_BODIES):
            parent = _SMPL_PARENTS[joint]
            bone = self._joints[joint] - self._joints[parent]
            places.append(places[parent] + turns[parent] @ bone)
            turns.append(turns[parent] @ local[:, joint])
        turned = np.stack(turns, axis=1)
        return turned, np.stack(places, axis=1) - np.einsum("fjab,jb->fja", turned, self._joints)

    def floor(self, clip: Clip) -> float:
        """Height in m of the floor under a clip: the median over its frames of the lowest point of the skin."""
        frames = np.unique(np.linspace(0, clip.num_frames - 1, FLOOR_FRAMES).round().astype(np.int64))
        lowest = [self.posed(smpl_rotations(clip.local_quats[frame : frame + 1]))[0, :, 2].min() for frame in frames]
        return float(np.median(clip.root_pos[frames, 2] + np.array(lowest)))


def smpl_rotations(local_quats: np.ndarray) -> np.ndarray:
    """Child-to-parent rotations (F, 24, 4) in SMPL's order and axes from those of a clip."""
    quats = torch.from_numpy(local_quats[:, _MJCF_TO_SMPL].astype(np.float64))
    root = rotations.multiply(quats[:, :1], torch.from_numpy(UPRIGHT_TO_SMPL_REST).expand_as(quats[:, :1]))
    return torch.cat((root, quats[:, 1:][..., [0, 2, 3, 1]]), dim=1).numpy()


def load_smpl_model(path: Path) -> SmplModel:
    """The mean body of a SMPL pickle. Raises MotionFileError when the file is not one; runs nothing that the file holds."""
    content = _load(Path(path))
    label = f"body model '{path}'"
    if not isinstance(content, dict):
        raise MotionFileError(f"{label} is not a dictionary of arrays")
    missing = sorted({"v_template", "weights", "posedirs", "kintree_table"} - set(content))
    if missing or not {"J", "J_regressor"} & set(content):
        raise MotionFileError(f"{label} has no {', '.join(missing) or 'J or J_regressor'}; is it a SMPL model?")
    vertices, weights, directions = (_numbers(content[key], key, label) for key in ("v_template", "weights", "posedirs"))
    joints = (
        _numbers(content["J_regressor"], "J_regressor", label) @ vertices
        if "J_regressor" in content
        else _numbers(content["J"], "J", label)
    )
    count = len(vertices)
    expected = {
        "v_template": (count, 3),
        "weights": (count, NUM_BODIES),
        "posedirs": (count, 3, 9 * (NUM_BODIES - 1)),
        "joints": (NUM_BODIES, 3),
    }
    for (name, shape), found in zip(expected.items(), (vertices, weights, directions, joints)):
        if found.shape != shape or not np.isfinite(found).all():
            raise MotionFileError(f"{label}: {name} has shape {found.shape}, expected {shape} of finite numbers")
    parents = _numbers(content["kintree_table"], "kintree_table", label)[0][1:].astype(np.int64)
    if parents.tolist() != list(_SMPL_PARENTS[1:]):
        raise MotionFileError(f"{label}: joints hang together otherwise than {' '.join(SMPL_ORDER)}")
    return SmplModel(vertices, joints, weights, directions)


def _load(path: Path) -> Any:
    """What the pickle holds, bags of attributes included."""
    label = f"body model '{path}'"
    with pickle_errors(label, "a pickle"):
        if path.stat().st_size > LARGEST_MODEL:
            raise MotionFileError(f"{label} has {path.stat().st_size >> 20} MB, far more than any SMPL model")
        with open_pickle(path) as stream:
            return _ModelUnpickler(stream).load()


class _Bag:
    """Stands in for any object of chumpy or scipy.sparse: its attributes, and nothing that acts."""

    attributes: Dict[str, Any]

    def __new__(cls, *_: Any) -> "_Bag":
        """An empty bag, whatever the arguments; pickles make objects in more than one way."""
        bag = super().__new__(cls)
        bag.attributes = {}
        return bag

    def __init__(self, *_: Any) -> None:
        pass

    def fill(self, state: Any) -> None:
        """Take the attributes of a pickled state."""
        parts = state if isinstance(state, tuple) else (state,)
        for part in parts:
            if isinstance(part, dict):
                self.attributes.update({str(key): value for key, value in part.items()})


class _Old(PlainArray):
    """An array whose numbers Python 2 wrote as a text."""

    def __setstate__(self, state: Tuple[Any, ...]) -> None:
        data = state[-1]
        super().__setstate__((*state[:-1], data.encode("latin1") if isinstance(data, str) else data))


class _ObjectName:
    """Stands in for ``object`` where a pickle only names it."""


def _rebuilt(kind: type, *_: Any) -> Any:
    """What ``copyreg`` makes of an old object: a bag, or nothing."""
    if kind is not _Bag:
        raise pickle.UnpicklingError("rebuilds an object that no body model needs")
    return _Bag()


def _model_names() -> Dict[Tuple[str, str], Callable[..., Any]]:
    """What a body model may name besides what a motion may."""
    names: Dict[Tuple[str, str], Callable[..., Any]] = {**ADMITTED}
    for module in ("copy_reg", "copyreg"):
        names[module, "_reconstructor"] = _rebuilt
    for module in ("__builtin__", "builtins"):
        names[module, "object"] = _ObjectName
        names[module, "set"] = set
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        names[module, "_reconstruct"] = _Old
    return names


_MODEL_NAMES = _model_names()

_BAG_PACKAGES = ("chumpy", "scipy")


class _ModelUnpickler(PlainUnpickler):
    """The plain unpickler, to which objects of ``_BAG_PACKAGES`` are bags of attributes."""

    dispatch: ClassVar[Dict[int, Callable[..., None]]] = dict(PlainUnpickler.dispatch)

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(stream)
        self.encoding = "latin1"

    def find_class(self, module: str, name: str) -> Any:
        """What a name in the pickle stands for; refused unless it is admitted. No module is imported for it."""
        if module.split(".")[0] in _BAG_PACKAGES:
            return _Bag
        if (module, name) not in _MODEL_NAMES:
            raise pickle.UnpicklingError(f"asks for '{module}.{name}', which no body model needs; it was not run")
        return _MODEL_NAMES[module, name]

    def load_build(self) -> None:
        """Finish a bag, or what the plain unpickler may finish."""
        if type(self.stack[-2]) is _Bag:
            state = self.stack.pop()
            self.stack[-1].fill(state)
        else:
            super().load_build()

    dispatch[pickle.BUILD[0]] = load_build


def _numbers(value: Any, key: str, label: str) -> np.ndarray:
    """The array behind ``value``: itself, chumpy's constants and selections, or a sparse matrix."""
    try:
        return np.asarray(_dense(value), dtype=np.float64)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise MotionFileError(f"{label}: {key} is not an array ({type(error).__name__}: {error})") from error


def _dense(value: Any) -> np.ndarray:
    """An array from an array or a bag."""
    if not isinstance(value, _Bag):
        return np.asarray(value)
    held = value.attributes
    if "indptr" in held:
        return _from_compressed(
            *(np.asarray(held[name]) for name in ("data", "indices", "indptr", "_shape" if "_shape" in held else "shape"))
        )
    if "idxs" in held:
        chosen = _dense(held["a"]).reshape(-1)[np.asarray(held["idxs"])]
        return chosen.reshape([int(extent) for extent in np.asarray(held["preferred_shape"])]) if "preferred_shape" in held else chosen
    return _dense(held["x"])


def _from_compressed(data: np.ndarray, indices: np.ndarray, starts: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """A dense matrix from SciPy's compressed columns, or rows, whichever has as many starts as the matrix needs."""
    rows, columns = int(shape[0]), int(shape[1])
    if rows * columns > LARGEST_MODEL // 8:
        raise ValueError(f"a matrix of {rows} by {columns}")
    dense = np.zeros((rows, columns))
    outer = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    if len(starts) == columns + 1:
        dense[indices, outer] = data
    else:
        dense[outer, indices] = data
    return dense
