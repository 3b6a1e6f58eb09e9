"""The values that go in and out of ``gymapi``: attributes that exist can be set, to their types, and no others."""

import ctypes
from enum import IntEnum

import numpy as np


class DofDriveMode(IntEnum):
    DOF_MODE_NONE = 0
    DOF_MODE_POS = 1
    DOF_MODE_VEL = 2
    DOF_MODE_EFFORT = 3


class SimType(IntEnum):
    SIM_PHYSX = 0
    SIM_FLEX = 1


class UpAxis(IntEnum):
    UP_AXIS_Y = 0
    UP_AXIS_Z = 1


class IndexDomain(IntEnum):
    DOMAIN_ACTOR = 0
    DOMAIN_ENV = 1
    DOMAIN_SIM = 2


class TensorDataType(IntEnum):
    DTYPE_FLOAT32 = 1
    DTYPE_UINT32 = 2
    DTYPE_UINT64 = 3
    DTYPE_UINT8 = 4
    DTYPE_INT16 = 5


class Strict:
    """A record of the attributes of ``defaults()``."""

    @staticmethod
    def defaults():
        raise NotImplementedError

    def __init__(self):
        self.__dict__.update(self.defaults())

    def __setattr__(self, name, value):
        if name not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} has no attribute {name}")
        expected = type(self.__dict__[name])
        accepted = (float, int) if expected is float else (expected,)
        if not isinstance(value, accepted) or (isinstance(value, bool) and expected is not bool):
            raise TypeError(f"{type(self).__name__}.{name} takes {expected.__name__}, not {value!r}")
        self.__dict__[name] = value


class Vec3(Strict):
    @staticmethod
    def defaults():
        return {"x": 0.0, "y": 0.0, "z": 0.0}

    def __init__(self, x=0.0, y=0.0, z=0.0):
        super().__init__()
        self.x, self.y, self.z = x, y, z

    def tuple(self):
        return self.x, self.y, self.z


class Quat(Strict):
    @staticmethod
    def defaults():
        return {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}

    def __init__(self, x=0.0, y=0.0, z=0.0, w=1.0):
        super().__init__()
        self.x, self.y, self.z, self.w = x, y, z, w


class Transform(Strict):
    @staticmethod
    def defaults():
        return {"p": Vec3(), "r": Quat()}


class PhysXParams(Strict):
    @staticmethod
    def defaults():
        return {
            "bounce_threshold_velocity": 0.2,
            "contact_offset": 0.02,
            "default_buffer_size_multiplier": 2.0,
            "max_depenetration_velocity": 100.0,
            "max_gpu_contact_pairs": 1024 * 1024,
            "num_position_iterations": 4,
            "num_subscenes": 0,
            "num_threads": 0,
            "num_velocity_iterations": 1,
            "rest_offset": 0.001,
            "solver_type": 1,
            "use_gpu": True,
        }


class SimParams(Strict):
    @staticmethod
    def defaults():
        return {
            "dt": 1.0 / 60.0,
            "gravity": Vec3(0.0, -9.8, 0.0),
            "num_client_threads": 0,
            "physx": PhysXParams(),
            "substeps": 2,
            "up_axis": UpAxis.UP_AXIS_Y,
            "use_gpu_pipeline": False,
        }


class PlaneParams(Strict):
    @staticmethod
    def defaults():
        return {"distance": 0.0, "dynamic_friction": 1.0, "normal": Vec3(0.0, 1.0, 0.0), "restitution": 0.0, "static_friction": 1.0}


class AssetOptions(Strict):
    @staticmethod
    def defaults():
        return {
            "angular_damping": 0.5,
            "armature": 0.0,
            "default_dof_drive_mode": 0,
            "density": 1000.0,
            "disable_gravity": False,
            "fix_base_link": False,
            "linear_damping": 0.0,
            "max_angular_velocity": 64.0,
            "max_linear_velocity": 1000.0,
        }


class RigidBodyProperties(Strict):
    @staticmethod
    def defaults():
        return {"com": Vec3(), "mass": 0.0}


class RigidShapeProperties(Strict):
    @staticmethod
    def defaults():
        return {"filter": 0, "friction": 1.0, "restitution": 0.0}


DOF_PROPERTIES = np.dtype(
    [
        ("hasLimits", "?"),
        ("lower", "<f4"),
        ("upper", "<f4"),
        ("driveMode", "<i4"),
        ("stiffness", "<f4"),
        ("damping", "<f4"),
        ("velocity", "<f4"),
        ("effort", "<f4"),
        ("friction", "<f4"),
        ("armature", "<f4"),
    ]
)


class Tensor(Strict):
    """An address with a shape; ``data_ptr`` has the address in a capsule."""

    @staticmethod
    def defaults():
        return {"data_address": 0, "device": -1, "dtype": TensorDataType.DTYPE_FLOAT32, "own_data": False, "shape": ()}

    def __setattr__(self, name, value):
        super().__setattr__(name, tuple(value) if name == "shape" else value)

    @property
    def ndim(self):
        return len(self.shape)

    @property
    def data_ptr(self):
        make = ctypes.pythonapi.PyCapsule_New
        make.restype, make.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
        return make(self.data_address, None, None)
