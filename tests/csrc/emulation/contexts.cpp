// The contexts of the emulated devices, and the functions of the driver that make them current. A
// device has a context while somebody retains it; a thread without one is on device 0.

#include <map>
#include <string_view>
#include <vector>

#include "cuda/driver.hpp"
#include "cuda_runtime.h"

namespace {

struct Context {
  int device;
};

std::map<int, int> retained;
thread_local std::vector<Context*> current;

int retain(Context** context, int device) {
  ++retained[device];
  static std::map<int, Context> contexts;
  *context = &contexts.try_emplace(device, Context{device}).first->second;
  return 0;
}

int release(int device) {
  --retained[device];
  return 0;
}

int push(Context* context) {
  current.push_back(context);
  return 0;
}

int pop(Context** context) {
  *context = current.back();
  current.pop_back();
  return 0;
}

}  // namespace

bool emulation::has_context(int device) { return retained[device] > 0; }

cudaError_t cudaGetDevice(int* device) {
  *device = current.empty() ? 0 : current.back()->device;
  return cudaSuccess;
}

void* adalora::cuda::driver_function(const char* name) {
  const std::string_view wanted = name;
  if (wanted == "cuDevicePrimaryCtxRetain") return reinterpret_cast<void*>(retain);
  if (wanted == "cuDevicePrimaryCtxRelease_v2") return reinterpret_cast<void*>(release);
  if (wanted == "cuCtxPushCurrent_v2") return reinterpret_cast<void*>(push);
  if (wanted == "cuCtxPopCurrent_v2") return reinterpret_cast<void*>(pop);
  return nullptr;
}
