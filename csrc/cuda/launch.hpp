#pragma once
/// Starts every kernel: on a stream that the caller names, without synchronisation and without
/// allocation, so that every op can be captured into a CUDA graph.

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "adalora/view.hpp"

namespace adalora::cuda {

/// torch's current stream of one device.
struct Stream {
  cudaStream_t handle = nullptr;
  int device = 0;
};

/// The CUDA version from which on a launch may carry more than 4096 bytes of arguments.
inline constexpr int kLargeArguments = 12010;

/// Bytes of arguments that a launch may carry. Tables of tensors are passed in them: they are read
/// through the constant cache, and nothing has to be copied to the device beforehand.
inline constexpr std::size_t kArgumentBytes = CUDART_VERSION >= kLargeArguments ? 32764 : 4096;

/// Threads per block of every kernel but the selection.
inline constexpr unsigned kThreads = 256;
inline constexpr unsigned kWarpSize = 32;

/// Bytes that one thread reads or writes at a time where the address allows it.
inline constexpr unsigned kVectorBytes = 16;

/// The largest size or count inside a kernel; the host refuses larger ones.
inline constexpr std::int64_t kLargestCount = (std::int64_t{1} << 31) - 1;

inline void require_success(cudaError_t error) {
  if (error != cudaSuccess) {
    throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(error));
  }
}

/// A size that kernels hold in 32 bits.
inline std::uint32_t narrow(std::int64_t size) {
  if (size < 0 || size > kLargestCount) {
    throw std::invalid_argument("a CUDA kernel takes sizes below 2^31, got " +
                                std::to_string(size));
  }
  return static_cast<std::uint32_t>(size);
}

/// Makes a device current, and the previous one again at the end. The runtime is called only if the
/// two differ: the call creates a context on a device that has none.
class CurrentDevice {
 public:
  explicit CurrentDevice(int device) : device_(device) {
    require_success(cudaGetDevice(&previous_));
    if (previous_ != device_) require_success(cudaSetDevice(device_));
  }
  ~CurrentDevice() {
    if (previous_ != device_) (void)cudaSetDevice(previous_);
  }

  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  int device_;
  int previous_ = 0;
};

/// Runs `kernel` with `arguments`; the device of `stream` must be current.
template <class Kernel, class Arguments>
void launch(Kernel* kernel, std::int64_t blocks, unsigned threads, const Stream& stream,
            Arguments& arguments) {
  static_assert(sizeof(Arguments) <= kArgumentBytes);
  if (blocks == 0) return;
  void* pointers[] = {&arguments};
  require_success(
      cudaLaunchKernel(kernel, dim3(narrow(blocks)), dim3(threads), pointers, 0, stream.handle));
}

}  // namespace adalora::cuda
