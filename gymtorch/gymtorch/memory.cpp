// Memory that another library owns, checked and described in DLPack's form, which torch takes over without a copy.
//
// DLPack instead of torch's own Python headers: those compile for half a minute. Nothing here needs CUDA's headers: torch itself knows
// which device an address belongs to.

#include <ATen/Context.h>
#include <ATen/dlpack.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#include <cerrno>
#endif

namespace py = pybind11;

namespace {

constexpr std::size_t kMaxDimensions = 8;  // Isaac Gym's tensors have no more.

// Isaac Gym's TensorDataType: its unsigned types hold what torch calls int32 and int64.
DLDataType data_type(int code) {
    switch (code) {
        case 1: return {kDLFloat, 32, 1};
        case 2: return {kDLInt, 32, 1};
        case 3: return {kDLInt, 64, 1};
        case 4: return {kDLUInt, 8, 1};
        case 5: return {kDLInt, 16, 1};
        default: throw py::type_error("data type code " + std::to_string(code) + " is unknown; there are 1 float32, 2 int32, 3 int64, 4 uint8, 5 int16");
    }
}

void check_layout(const std::vector<int64_t>& shape, const std::vector<int64_t>& strides) {
    if (shape.size() > kMaxDimensions) {
        throw py::value_error("a tensor has at most 8 dimensions here, not " + std::to_string(shape.size()));
    }
    if (strides.size() != shape.size()) {
        throw py::value_error(std::to_string(strides.size()) + " strides do not fit " + std::to_string(shape.size()) + " dimensions");
    }
    for (std::size_t axis = 0; axis < shape.size(); ++axis) {
        if (shape[axis] < 0 || strides[axis] < 0) {
            throw py::value_error("sizes and strides must not be negative, but dimension " + std::to_string(axis) + " has size " +
                                  std::to_string(shape[axis]) + " and stride " + std::to_string(strides[axis]));
        }
    }
}

// Bytes from the first element to the end of the last one; 0 where there is no element. Throws where that is no address.
uint64_t extent(const std::vector<int64_t>& shape, const std::vector<int64_t>& strides, uint64_t item_size) {
    const uint64_t limit = std::numeric_limits<int64_t>::max() / item_size - 1;
    uint64_t last = 0;
    for (std::size_t axis = 0; axis < shape.size(); ++axis) {
        if (shape[axis] == 0) {
            return 0;
        }
    }
    for (std::size_t axis = 0; axis < shape.size(); ++axis) {
        const uint64_t steps = static_cast<uint64_t>(shape[axis]) - 1, stride = static_cast<uint64_t>(strides[axis]);
        if (stride != 0 && steps > (limit - last) / stride) {
            throw py::value_error("the shape reaches beyond any memory");
        }
        last += steps * stride;
    }
    return (last + 1) * item_size;
}

// Host memory that is not mapped, for example of a large buffer whose owner has freed it, would end the process when it is read.
void check_host(uint64_t address, uint64_t bytes) {
#ifdef __linux__
    const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE)), first = address / page * page;
    if (msync(reinterpret_cast<void*>(first), address + bytes - first, MS_ASYNC) != 0 && errno == ENOMEM) {
        throw py::value_error("the memory is not there: no page is mapped at the address, or not as many as the shape needs; has its owner freed it?");
    }
#else
    (void)address;
    (void)bytes;
#endif
}

// Both ends have to belong to the device: memory that was freed belongs to none.
void check_device(uint64_t address, uint64_t bytes, int device) {
    for (const uint64_t end : {address, address + bytes - 1}) {
        c10::Device found(c10::kCPU);
        try {
            found = at::globalContext().getDeviceFromPtr(reinterpret_cast<void*>(end), c10::kCUDA);
        } catch (const c10::Error& error) {
            throw py::value_error("the memory is not on cuda:" + std::to_string(device) + ": " + error.msg());
        }
        if (found.index() != device) {
            throw py::value_error("the memory is on " + found.str() + ", not on cuda:" + std::to_string(device));
        }
    }
}

void check_memory(uint64_t address, uint64_t bytes, uint64_t item_size, int device) {
    if (address == 0) {
        throw py::value_error("the address is 0: there is no memory, or its owner has given it up");
    }
    if (address % item_size != 0) {
        throw py::value_error("address " + std::to_string(address) + " is not a multiple of the item size " + std::to_string(item_size));
    }
    if (device < 0) {
        check_host(address, bytes);
    } else {
        check_device(address, bytes, device);
    }
}

// A DLPack tensor with the numbers that it points to, and what it keeps alive.
struct Loan {
    DLManagedTensor managed{};
    std::vector<int64_t> shape, strides;
    py::object owner;
};

void give_back(DLManagedTensor* managed) {
    auto* const loan = static_cast<Loan*>(managed->manager_ctx);
    if (Py_IsInitialized()) {
        py::gil_scoped_acquire lock;
        delete loan;
    }
}

// Torch renames the capsules that it takes over; one that it did not take is given back here.
void drop_capsule(PyObject* capsule) {
    if (PyCapsule_IsValid(capsule, "dltensor")) {
        give_back(static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule, "dltensor")));
    }
}

py::object lend(uint64_t address, std::vector<int64_t> shape, std::vector<int64_t> strides, int code, int device, py::object owner) {
    const DLDataType type = data_type(code);
    check_layout(shape, strides);
    const uint64_t item_size = type.bits / 8, bytes = extent(shape, strides, item_size);
    if (bytes != 0) {
        check_memory(address, bytes, item_size, device);
    }
    auto loan = std::make_unique<Loan>();
    loan->shape = std::move(shape);
    loan->strides = std::move(strides);
    loan->owner = std::move(owner);
    DLTensor& tensor = loan->managed.dl_tensor;
    tensor.data = reinterpret_cast<void*>(address);
    tensor.device.device_type = device < 0 ? kDLCPU : kDLCUDA;
    tensor.device.device_id = device < 0 ? 0 : device;
    tensor.ndim = static_cast<int32_t>(loan->shape.size());
    tensor.dtype = type;
    tensor.shape = loan->shape.data();
    tensor.strides = loan->strides.data();
    loan->managed.manager_ctx = loan.get();
    loan->managed.deleter = &give_back;
    PyObject* const capsule = PyCapsule_New(&loan->managed, "dltensor", &drop_capsule);
    if (capsule == nullptr) {
        throw py::error_already_set();
    }
    loan.release();
    return py::reinterpret_steal<py::object>(capsule);
}

uint64_t capsule_address(const py::capsule& capsule) {
    return reinterpret_cast<uint64_t>(PyCapsule_GetPointer(capsule.ptr(), PyCapsule_GetName(capsule.ptr())));
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
    module.def("lend", &lend, py::arg("address"), py::arg("shape"), py::arg("strides"), py::arg("code"), py::arg("device"), py::arg("owner"),
               "A DLPack capsule of the memory: strides in elements, device -1 for the host; owner stays alive until the memory is given back.");
    module.def("capsule_address", &capsule_address, py::arg("capsule"), "The address in a capsule.");
}
