// The device of the CUDA module where kernels are emulated: memory of the CPU, without a stream.

#include "bindings/cuda/call.hpp"

#include "bindings/tensor.hpp"

namespace adalora::bindings {

void require_device(const dlpack::Device& device, const Argument& argument) {
  if (device.type != dlpack::kCpu) throw_value_error(argument, "on the CPU", "another device");
}

Call::Call() {}
Call::~Call() {}
cuda::Stream Call::stream() const { return {}; }

}  // namespace adalora::bindings
