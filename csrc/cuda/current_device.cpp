#include "cuda/driver.hpp"
#include "cuda/launch.hpp"

namespace adalora::cuda {

namespace {

using Context = struct CUctx_st*;

/// Functions of the driver, since the runtime has none that makes a device current without making
/// a context there: cudaSetDevice, back to the device that was current, would be the first use of
/// that device, and hold a few hundred megabytes of its memory. In a thread that has no device yet,
/// this is GPU 0.
struct Driver {
  int (*retain)(Context* context, int device);
  int (*release)(int device);
  int (*push)(Context context);
  int (*pop)(Context* context);
};

template <class Function>
void find(Function& function, const char* name) {
  function = reinterpret_cast<Function>(driver_function(name));
  if (function == nullptr) throw std::runtime_error(std::string("the driver has no ") + name);
}

const Driver& driver() {
  static const Driver found = [] {
    Driver functions;
    find(functions.retain, "cuDevicePrimaryCtxRetain");
    find(functions.release, "cuDevicePrimaryCtxRelease_v2");
    find(functions.push, "cuCtxPushCurrent_v2");
    find(functions.pop, "cuCtxPopCurrent_v2");
    return functions;
  }();
  return found;
}

void require_success(int error, int device) {
  if (error != 0) {
    throw std::runtime_error("CUDA: device " + std::to_string(device) +
                             " cannot be used, the driver reports error " + std::to_string(error));
  }
}

}  // namespace

CurrentDevice::CurrentDevice(int device) : device_(device) {
  int current = 0;
  require_success(cudaGetDevice(&current));
  changed_ = current != device_;
  if (!changed_) return;
  // The context that the runtime and torch use too.
  Context context = nullptr;
  require_success(driver().retain(&context, device_), device_);
  if (const int error = driver().push(context); error != 0) {
    (void)driver().release(device_);
    require_success(error, device_);
  }
}

CurrentDevice::~CurrentDevice() {
  if (!changed_) return;
  Context context = nullptr;
  (void)driver().pop(&context);
  (void)driver().release(device_);
}

}  // namespace adalora::cuda
