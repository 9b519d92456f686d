#pragma once
/// Starts every kernel: on a stream that the caller names, without synchronisation and without
/// allocation, so that every op can be captured into a CUDA graph.

#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "adalora/arithmetic/number_formats.hpp"
#include "adalora/view.hpp"
#include "cuda/limits.hpp"

namespace adalora::cuda {

/// torch's current stream of one device.
struct Stream {
  cudaStream_t handle = nullptr;
  int device = 0;
};

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

/// Makes a device current, and what was current before again at the end.
class CurrentDevice {
 public:
  explicit CurrentDevice(int device);
  ~CurrentDevice();

  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  int device_;
  bool changed_;
};

/// Calls `body` with a value of the C++ type that holds `dtype`.
template <class Body>
void with_format(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::kFloat32:
      return body(float{});
    case DType::kFloat64:
      return body(double{});
    case DType::kBFloat16:
      return body(BFloat16{});
    case DType::kFloat16:
      return body(Float16{});
  }
}

/// Every kernel that `launch` can start, known before the first call of it.
inline std::vector<const void*>& kernels() {
  static std::vector<const void*> all;
  return all;
}

template <auto kKernel>
struct Kernel {
  static const bool listed;
};
template <auto kKernel>
const bool Kernel<kKernel>::listed =
    (kernels().push_back(reinterpret_cast<const void*>(kKernel)), true);

/// Runs a kernel with `arguments`; the device of `stream` must be current.
template <auto kKernel, class Arguments>
void launch(std::int64_t blocks, unsigned threads, const Stream& stream, Arguments& arguments) {
  static_assert(sizeof(Arguments) <= kArgumentBytes);
  static_cast<void>(Kernel<kKernel>::listed);  // a use, which makes the entry
  if (blocks == 0) return;
  void* pointers[] = {&arguments};
  require_success(
      cudaLaunchKernel(kKernel, dim3(narrow(blocks)), dim3(threads), pointers, 0, stream.handle));
}

}  // namespace adalora::cuda
