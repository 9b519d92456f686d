// Compares our declaration of the DLPack exchange API with a packaged dlpack.h, at compile time.

#include "adalora/dlpack_abi.hpp"

#include <dlpack/dlpack.h>

#include <cstddef>

namespace ours = adalora::dlpack;

#define SAME_SIZE(Ours, Theirs) \
  static_assert(sizeof(Ours) == sizeof(Theirs) && alignof(Ours) == alignof(Theirs))
#define SAME_PLACE(Ours, our_member, Theirs, their_member)                      \
  static_assert(offsetof(Ours, our_member) == offsetof(Theirs, their_member) && \
                sizeof(Ours::our_member) == sizeof(Theirs::their_member))

SAME_SIZE(ours::Device, DLDevice);
SAME_PLACE(ours::Device, type, DLDevice, device_type);
SAME_PLACE(ours::Device, id, DLDevice, device_id);

SAME_SIZE(ours::DataType, DLDataType);
SAME_PLACE(ours::DataType, code, DLDataType, code);
SAME_PLACE(ours::DataType, bits, DLDataType, bits);
SAME_PLACE(ours::DataType, lanes, DLDataType, lanes);

SAME_SIZE(ours::Tensor, DLTensor);
SAME_PLACE(ours::Tensor, data, DLTensor, data);
SAME_PLACE(ours::Tensor, device, DLTensor, device);
SAME_PLACE(ours::Tensor, ndim, DLTensor, ndim);
SAME_PLACE(ours::Tensor, dtype, DLTensor, dtype);
SAME_PLACE(ours::Tensor, shape, DLTensor, shape);
SAME_PLACE(ours::Tensor, strides, DLTensor, strides);
SAME_PLACE(ours::Tensor, byte_offset, DLTensor, byte_offset);

SAME_SIZE(ours::Version, DLPackVersion);
SAME_PLACE(ours::Version, major, DLPackVersion, major);
SAME_PLACE(ours::Version, minor, DLPackVersion, minor);

SAME_SIZE(ours::ExchangeHeader, DLPackExchangeAPIHeader);
SAME_PLACE(ours::ExchangeHeader, version, DLPackExchangeAPIHeader, version);
SAME_PLACE(ours::ExchangeHeader, previous, DLPackExchangeAPIHeader, prev_api);

SAME_SIZE(ours::ExchangeApi, DLPackExchangeAPI);
SAME_PLACE(ours::ExchangeApi, header, DLPackExchangeAPI, header);
SAME_PLACE(ours::ExchangeApi, managed_tensor_allocator, DLPackExchangeAPI,
           managed_tensor_allocator);
SAME_PLACE(ours::ExchangeApi, managed_tensor_from_py_object_no_sync, DLPackExchangeAPI,
           managed_tensor_from_py_object_no_sync);
SAME_PLACE(ours::ExchangeApi, managed_tensor_to_py_object_no_sync, DLPackExchangeAPI,
           managed_tensor_to_py_object_no_sync);
SAME_PLACE(ours::ExchangeApi, dltensor_from_py_object_no_sync, DLPackExchangeAPI,
           dltensor_from_py_object_no_sync);
SAME_PLACE(ours::ExchangeApi, current_work_stream, DLPackExchangeAPI, current_work_stream);

static_assert(ours::kMajorVersion == DLPACK_MAJOR_VERSION);
static_assert(ours::kCpu == static_cast<int>(kDLCPU) && ours::kCuda == static_cast<int>(kDLCUDA));
static_assert(ours::kInt == static_cast<int>(kDLInt) && ours::kFloat == static_cast<int>(kDLFloat));
static_assert(ours::kBfloat == static_cast<int>(kDLBfloat));
static_assert(ours::kBool == static_cast<int>(kDLBool));

int main() { return 0; }
