#pragma once
/// The structs of the DLPack 1.x C exchange API through which the bindings read tensors.
///
/// DLPack freezes this layout for every 1.x version, so the core needs neither its header nor one
/// of torch. tests/csrc/test_native.py compares every size and offset with a packaged dlpack.h.

#include <cstddef>
#include <cstdint>

namespace adalora::dlpack {

inline constexpr std::uint32_t kMajorVersion = 1;

enum DeviceType : std::int32_t { kCpu = 1, kCuda = 2 };

enum TypeCode : std::uint8_t { kInt = 0, kFloat = 2, kBfloat = 4, kBool = 6 };

struct Device {
  std::int32_t type;
  std::int32_t id;
};

struct DataType {
  std::uint8_t code;
  std::uint8_t bits;
  std::uint16_t lanes;
};

/// A borrowed view: `shape` and `strides` belong to the tensor it was read from.
struct Tensor {
  void* data;
  Device device;
  std::int32_t ndim;
  DataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;  ///< In elements.
  std::uint64_t byte_offset;
};

struct Version {
  std::uint32_t major;
  std::uint32_t minor;
};

struct ExchangeHeader {
  Version version;
  ExchangeHeader* previous;
};

/// Members that the core does not call are plain addresses here: only their place matters.
struct ExchangeApi {
  ExchangeHeader header;
  void* managed_tensor_allocator;
  void* managed_tensor_from_py_object_no_sync;
  void* managed_tensor_to_py_object_no_sync;
  int (*dltensor_from_py_object_no_sync)(void* py_object, Tensor* out);
  int (*current_work_stream)(std::int32_t device_type, std::int32_t device_id, void** out_stream);
};

static_assert(sizeof(void*) == 8, "the core is written for 64-bit machines");
static_assert(sizeof(Tensor) == 48 && offsetof(Tensor, shape) == 24);
static_assert(sizeof(ExchangeApi) == 56 &&
              offsetof(ExchangeApi, dltensor_from_py_object_no_sync) == 40);

}  // namespace adalora::dlpack
