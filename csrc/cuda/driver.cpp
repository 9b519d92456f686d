#include "cuda/driver.hpp"

#include <dlfcn.h>

#include <algorithm>

#include "cuda/launch.hpp"

namespace adalora::cuda {

namespace {

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

}  // namespace

int runtime_version() { return CUDART_VERSION; }

int required_driver_version() {
  // Any driver of the major version loads the kernels, but not every one launches large tables.
  const int first_of_major = CUDART_VERSION / 1000 * 1000;
  return CUDART_VERSION < kLargeArguments ? first_of_major
                                          : std::max(first_of_major, kLargeArguments);
}

int driver_version() {
  int version = 0;
  return cudaDriverGetVersion(&version) == cudaSuccess ? version : 0;
}

void* driver_function(const char* name) {
  // The runtime has loaded the library where there is one.
  void* const library = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
  return library == nullptr ? nullptr : dlsym(library, name);
}

std::string problem_of(int device) {
  const int driver = driver_version();
  if (driver == 0) return "there is no NVIDIA driver";
  if (driver < required_driver_version()) {
    return "the driver supports CUDA " + version_text(driver) +
           ", but the kernels, compiled with CUDA " + version_text(runtime_version()) +
           ", need a driver that supports CUDA " + version_text(required_driver_version()) +
           "; update the driver, or build with an older toolkit";
  }
  try {
    const CurrentDevice current(device);
    // A kernel is otherwise loaded by its first launch, which a captured graph cannot hold.
    for (const void* kernel : kernels()) {
      cudaFuncAttributes attributes;
      require_success(cudaFuncGetAttributes(&attributes, kernel));
    }
  } catch (const std::runtime_error& error) {
    (void)cudaGetLastError();
    return std::string(error.what()) + " (the build has code for " ADALORA_CUDA_ARCHITECTURES
                                       "; CMAKE_CUDA_ARCHITECTURES names others)";
  }
  return {};
}

}  // namespace adalora::cuda
