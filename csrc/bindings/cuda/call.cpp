#include "bindings/cuda/call.hpp"

#include "bindings/tensor.hpp"

namespace adalora::bindings {

namespace {

constexpr int kUnknown = -1;

/// The device of this thread's call, and the argument that determined it. Reading a tensor releases
/// the interpreter's lock for a moment, so threads of several devices can be in calls at once.
thread_local int call_device = kUnknown;
thread_local std::string chosen_by;

std::string name_of(const dlpack::Device& device) {
  return device.type == dlpack::kCuda ? "cuda:" + std::to_string(device.id)
         : device.type == dlpack::kCpu
             ? "the CPU"
             : "device type " + std::to_string(device.type) + " (DLPack's numbering)";
}

}  // namespace

void require_device(const dlpack::Device& device, const Argument& argument) {
  if (call_device == kUnknown && device.type == dlpack::kCuda) {
    call_device = device.id;
    chosen_by = argument.text();
    return;
  }
  if (device.type == dlpack::kCuda && device.id == call_device) return;
  const std::string expected = call_device == kUnknown ? "on a CUDA device"
                                                       : "on cuda:" + std::to_string(call_device) +
                                                             " as " + chosen_by + " is";
  throw_value_error(argument, expected, "a tensor on " + name_of(device));
}

Call::Call() { call_device = kUnknown; }
Call::~Call() { call_device = kUnknown; }

cuda::Stream Call::stream() const {
  void* const handle = current_stream({dlpack::kCuda, call_device});
  return {static_cast<cudaStream_t>(handle), call_device};
}

}  // namespace adalora::bindings
