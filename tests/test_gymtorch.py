"""gymtorch on memory that torch does not own: layouts, refusals, lifetimes, leaks. It is built once a run, in a copy of its folder."""

import ctypes
import gc
import importlib
import mmap
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

SOURCE = Path(__file__).resolve().parent.parent / "gymtorch"
FLOAT32, UINT32, UINT64, UINT8, INT16 = range(1, 6)
TYPES = {
    torch.float32: np.float32,
    torch.int32: np.int32,
    torch.int64: np.int64,
    torch.uint8: np.uint8,
    torch.int16: np.int16,
}


def build(folder):
    """Compile the extension as ``pip install --no-build-isolation ./gymtorch`` does, but in a copy, and without installing it."""
    shutil.copytree(SOURCE, folder / "source")
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder / "source", env={**os.environ, "MAX_JOBS": "1"})


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The folder with the built package, one for all processes of a test run."""
    if shutil.which(os.environ.get("CXX", "c++")) is None:
        pytest.skip("gymtorch needs a C++ compiler")
    if not Path(sysconfig.get_paths()["include"], "Python.h").is_file():
        pytest.skip("gymtorch needs Python's headers")
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if os.environ.get("PYTEST_XDIST_WORKER") else own) / "gymtorch_build"
    try:
        folder.mkdir()
    except FileExistsError:
        while not (folder / "log").exists():
            time.sleep(0.5)
    else:
        done = build(folder)
        (folder / "part").write_text(done.stdout + done.stderr if done.returncode else "", encoding="utf-8")
        (folder / "part").rename(folder / "log")
    assert (folder / "log").read_text(encoding="utf-8") == ""
    return folder / "source"


@pytest.fixture(scope="session")
def gymtorch(built):
    sys.path.insert(0, str(built))
    sys.modules.pop("gymtorch", None)
    importlib.invalidate_caches()
    yield importlib.import_module("gymtorch")
    sys.path.remove(str(built))
    for name in [name for name in sys.modules if name.split(".")[0] == "gymtorch"]:
        del sys.modules[name]


def description(array, code=FLOAT32, **changes):
    """What Isaac Gym gives for an array: attributes, the address as a number."""
    fields = {"device": -1, "dtype": code, "shape": array.shape, "data_address": array.ctypes.data, "own_data": False}
    return SimpleNamespace(**{**fields, **changes})


def numbers(*shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize("dtype", list(TYPES))
def test_memory_is_shared_in_every_type(gymtorch, dtype):
    array = np.arange(12, dtype=TYPES[dtype]).reshape(3, 4)
    tensor = gymtorch.wrap(array.ctypes.data, (3, 4), dtype)
    assert tensor.dtype == dtype and tensor.tolist() == array.tolist() and tensor.data_ptr() == array.ctypes.data
    array[1, 2] = 77
    assert tensor[1, 2] == 77
    tensor.mul_(2)
    assert array[1, 2] == 154
    assert gymtorch.unwrap(tensor) == (array.ctypes.data, (3, 4), dtype, -1)


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3, 4), (1, 2, 1, 2, 1, 2, 1, 2), (0,), (3, 0, 2)])
def test_shapes(gymtorch, shape):
    array = numbers(*shape)
    tensor = gymtorch.wrap(array.ctypes.data, shape, torch.float32)
    assert tuple(tensor.shape) == shape and tensor.is_contiguous()
    assert np.array_equal(tensor.numpy(), array)


def test_strides_and_offsets(gymtorch):
    array = numbers(6, 5)
    tensor = gymtorch.wrap(array.ctypes.data, (2, 3), torch.float32, strides=(10, 1), offset=6)
    assert np.array_equal(tensor.numpy(), array[1:5:2, 1:4])
    tensor[1, 2] = -1.0
    assert array[3, 3] == -1.0
    same = gymtorch.wrap(array.ctypes.data, (4, 3), torch.float32, strides=(0, 1))
    assert np.array_equal(same.numpy(), np.broadcast_to(array[0, :3], (4, 3)))


def test_isaac_gyms_tensors_and_parts_of_them(gymtorch):
    """REFERENCE: row-major strides of the whole, the offset Σ offset·stride, sizes the counts."""
    array = numbers(4, 13)
    assert np.array_equal(gymtorch.wrap_tensor(description(array)).numpy(), array)
    part = gymtorch.wrap_tensor(description(array), offsets=(1, 3), counts=(2, 4))
    assert np.array_equal(part.numpy(), array[1:3, 3:7]) and part.stride() == (13, 1)
    assert np.array_equal(gymtorch.wrap_tensor(description(array), offsets=(2, 0)).numpy(), array[2:])
    indices = np.arange(5, dtype=np.int32)
    assert gymtorch.wrap_tensor(description(indices, UINT32)).dtype == torch.int32
    assert gymtorch.wrap_tensor(description(array, data_address=0, shape=(0, 13))).shape == (0, 13)


def test_an_address_in_a_capsule(gymtorch):
    array = numbers(3)
    make = ctypes.pythonapi.PyCapsule_New
    make.restype, make.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    for name in (None, b"gym"):
        tensor = gymtorch.wrap_tensor(description(array, data_ptr=make(array.ctypes.data, name, None)))
        assert np.array_equal(tensor.numpy(), array)


def test_the_other_way_into_isaac_gyms_type(gymtorch):
    from stand_in import use_stand_in

    gymapi = use_stand_in()
    tensor = torch.arange(6, dtype=torch.int32).view(2, 3)
    found = gymtorch.unwrap_tensor(tensor)
    assert (found.device, found.dtype, found.shape, found.own_data) == (-1, gymapi.DTYPE_UINT32, (2, 3), False)
    assert found.data_address == tensor.data_ptr()
    again = gymtorch.wrap_tensor(found)
    again += 1
    assert tensor.tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"dtype": 0}, TypeError, "code 0"),
        ({"dtype": 6}, TypeError, "code 6"),
        ({"data_address": 0}, ValueError, "address is 0"),
        ({"data_address": 4097}, ValueError, "multiple"),
        ({"shape": (1,) * 9}, ValueError, "8 dimensions"),
        ({"shape": (-1, 2)}, ValueError, "beyond"),
        ({"shape": (2**40, 2**40)}, ValueError, "any memory"),
        ({"shape": (2**45,)}, ValueError, "not there"),
        ({"device": 0}, ValueError, "cuda:0"),
    ],
)
def test_descriptions_that_are_refused(gymtorch, changes, error, message):
    if "device" in changes and torch.cuda.is_available():
        pytest.skip("there is a cuda:0")
    with pytest.raises(error, match=message):
        gymtorch.wrap_tensor(description(numbers(2, 3), **changes))


def test_parts_that_are_none(gymtorch):
    array = numbers(4, 5)
    for part in ({"offsets": (1,)}, {"offsets": (0, 3), "counts": (4, 3)}, {"offsets": (-1, 0), "counts": (1, 1)}, {"counts": (1, -1)}):
        with pytest.raises(ValueError):
            gymtorch.wrap_tensor(description(array), **part)
    for arguments in ({"strides": (1,)}, {"strides": (-1, 1)}, {"offset": -1}, {"device": "meta"}):
        with pytest.raises(ValueError):
            gymtorch.wrap(array.ctypes.data, (2, 2), torch.float32, **arguments)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float64, torch.float16, torch.complex64])
def test_types_that_isaac_gym_has_not(gymtorch, dtype):
    with pytest.raises(TypeError, match="Isaac Gym has no"):
        gymtorch.wrap(numbers(4).ctypes.data, (1,), dtype)
    with pytest.raises(TypeError, match="Isaac Gym has no"):
        gymtorch.unwrap(torch.zeros(2, dtype=dtype))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"address": -4}, ValueError, "address -4"),
        ({"address": 2**64}, ValueError, "is none"),
        ({"address": 1.5}, TypeError, "float"),
        ({"offset": 2**62}, ValueError, "is none"),
        ({"offset": 0.5}, TypeError, "float"),
        ({"shape": (1.5,)}, TypeError, "float"),
        ({"shape": (2**70,)}, ValueError, "beyond any memory"),
        ({"strides": (2**70,)}, ValueError, "beyond any memory"),
        ({"dtype": "float32"}, TypeError, "Isaac Gym has no float32"),
        ({"dtype": None}, TypeError, "Isaac Gym has no None"),
        ({"device": "bogus"}, ValueError, "not on 'bogus'"),
        ({"device": "cuda:0"}, ValueError, "cuda:0"),
        ({"device": "cuda"}, ValueError, "cuda"),
    ],
)
def test_arguments_that_are_none_are_named_in_a_line(gymtorch, changes, error, message):
    words = {"address": numbers(4).ctypes.data, "shape": (1,), "dtype": torch.float32, **changes}
    with pytest.raises(error, match=message) as raised:
        gymtorch.wrap(**words)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("thing", [None, np.zeros(3, dtype=np.float32), [1.0]])
def test_what_is_no_tensor_is_not_unwrapped(gymtorch, thing):
    with pytest.raises(TypeError, match=f"not {type(thing).__name__}"):
        gymtorch.unwrap(thing)


def test_tensors_without_an_address_to_give(gymtorch):
    given_up = torch.zeros(5)
    given_up.untyped_storage().resize_(0)
    cases = {
        "not contiguous": torch.zeros(3, 4).t(),
        "given up": given_up,
        "no address": torch.zeros(3, device="meta"),
        "8 dimensions": torch.zeros((1,) * 9),
    }
    for message, tensor in cases.items():
        with pytest.raises(ValueError, match=message):
            gymtorch.unwrap(tensor)
    with pytest.raises(ValueError, match="no address"):
        gymtorch.unwrap(torch.eye(3).to_sparse())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="pages are looked at on Linux only")
def test_memory_that_its_owner_has_freed_is_refused(gymtorch):
    memory = mmap.mmap(-1, 1 << 20)
    address = np.frombuffer(memory, np.float32).ctypes.data
    gc.collect()
    assert gymtorch.wrap(address, (1 << 18,), torch.float32).sum() == 0.0
    with pytest.raises(ValueError, match="not there"):
        gymtorch.wrap(address, (1 << 36,), torch.float32)
    memory.close()
    with pytest.raises(ValueError, match="freed"):
        gymtorch.wrap(address, (4,), torch.float32)


class Owner:
    """An owner whose end can be seen."""

    def __init__(self):
        self.array = numbers(8)


def test_an_owner_lives_as_long_as_any_view_of_its_memory(gymtorch):
    owner = Owner()
    end = weakref.ref(owner)
    tensor = gymtorch.wrap(owner.array.ctypes.data, (2, 4), torch.float32, owner=owner)
    view = tensor[1, 1:]
    del owner, tensor
    gc.collect()
    assert end() is not None and view.tolist() == [5.0, 6.0, 7.0]
    del view
    gc.collect()
    assert end() is None


def test_a_refused_wrap_lets_its_owner_go(gymtorch):
    owner = Owner()
    end = weakref.ref(owner)
    with pytest.raises(ValueError):
        gymtorch.wrap(0, (2,), torch.float32, owner=owner)
    capsule = gymtorch._memory.lend(owner.array.ctypes.data, [8], [1], FLOAT32, -1, owner)
    del owner, capsule
    gc.collect()
    assert end() is None


def test_ten_thousand_cycles_leak_nothing(gymtorch):
    """Memory in use, from the kernel; 10,000 lost tensors would be two megabytes and more, lost numbers four hundred."""
    array = numbers(100, 100)

    def cycle(count):
        for _ in range(count):
            tensor = gymtorch.wrap_tensor(description(array))
            assert gymtorch.unwrap(tensor).address == array.ctypes.data

    cycle(1000)
    gc.collect()
    references, before = sys.getrefcount(array), resident_bytes()
    cycle(10_000)
    gc.collect()
    assert sys.getrefcount(array) == references
    assert resident_bytes() - before < 1_000_000


def resident_bytes():
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("resident memory is read from /proc")
    return int(statm.read_text().split()[1]) * mmap.PAGESIZE


def test_the_adapter_prefers_it_and_trains_no_worse(gymtorch):
    """The simulator on the stand-in, its memory through this extension."""
    from stand_in import use_stand_in

    use_stand_in()
    from puffer_phc.humanoid.mjcf import PhysicsOptions
    from puffer_phc.sim.isaac_gym import IsaacGymSimulator
    from puffer_phc.sim.isaac_loading import import_bridge

    simulator = IsaacGymSimulator(2, PhysicsOptions(), torch.device("cpu"))
    assert import_bridge().wrap is gymtorch.wrap_tensor
    for _ in range(3):
        simulator.step(torch.full((2, 69), 0.1))
    assert 0.8 < simulator.body.pos[0, 0, 2] < 0.95 and simulator.dof.pos.abs().max() > 0.02
    simulator.close()


@pytest.fixture
def warp():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return pytest.importorskip("warp", reason="the device memory of another owner is Warp's")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", list(TYPES))
def test_device_memory_of_warp(gymtorch, warp, dtype):
    array = warp.array(np.arange(24).reshape(4, 6).astype(TYPES[dtype]), device="cuda:0")
    whole = gymtorch.wrap(array.ptr, array.shape, dtype, "cuda:0", owner=array)
    assert whole.device == torch.device("cuda", 0) and whole.data_ptr() == array.ptr
    whole.mul_(2)
    torch.cuda.synchronize()
    assert np.array_equal(array.numpy(), 2 * np.arange(24).reshape(4, 6))
    part = gymtorch.wrap(array.ptr, (2, 3), dtype, "cuda:0", strides=(12, 2), offset=1, owner=array)
    assert part.tolist() == (2 * np.arange(24).reshape(4, 6))[::2, 1::2].tolist()
    memory = gymtorch.unwrap(whole)
    assert (memory.address, memory.shape, memory.dtype, memory.device) == (array.ptr, (4, 6), dtype, 0)
    back = warp.array(ptr=memory.address, shape=memory.shape, dtype=array.dtype, device="cuda:0")
    assert np.array_equal(back.numpy(), array.numpy())


@pytest.mark.gpu
def test_device_memory_outlives_its_names(gymtorch, warp):
    array = warp.array(np.arange(1 << 20, dtype=np.float32), device="cuda:0")
    tensor = gymtorch.wrap(array.ptr, array.shape, torch.float32, "cuda:0", owner=array)
    del array
    gc.collect()
    junk = [warp.zeros(1 << 20, dtype=float, device="cuda:0") for _ in range(8)]
    torch.cuda.synchronize()
    assert float(tensor[-1]) == (1 << 20) - 1 and len(junk) == 8


@pytest.mark.gpu
def test_memory_on_the_wrong_side_is_refused(gymtorch, warp):
    host = numbers(4)
    with pytest.raises(ValueError, match="cuda:0"):
        gymtorch.wrap(host.ctypes.data, (4,), torch.float32, "cuda:0")
    array = warp.zeros(4, dtype=float, device="cuda:0")
    with pytest.raises(ValueError):
        gymtorch.wrap(array.ptr, (4,), torch.float32, f"cuda:{torch.cuda.device_count()}")
    with pytest.raises(ValueError):
        gymtorch.wrap(array.ptr, (1 << 40,), torch.float32, "cuda:0")


@pytest.mark.gpu
def test_ten_thousand_cycles_leak_nothing_on_the_device(gymtorch, warp):
    array = warp.zeros((1000, 1000), dtype=float, device="cuda:0")
    gymtorch.wrap(array.ptr, array.shape, torch.float32, "cuda:0", owner=array)
    torch.cuda.synchronize()
    references, (free, _) = sys.getrefcount(array), torch.cuda.mem_get_info()
    for _ in range(10_000):
        tensor = gymtorch.wrap(array.ptr, array.shape, torch.float32, "cuda:0", owner=array)
        gymtorch.unwrap(tensor)
    del tensor
    gc.collect()
    assert sys.getrefcount(array) == references
    assert free - torch.cuda.mem_get_info()[0] < 4_000_000_000, "a tenth of what 10,000 copies take; other programs may use the GPU, too"
