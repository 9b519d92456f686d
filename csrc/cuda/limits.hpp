#pragma once
/// The sizes that kernels and the code that starts them agree on.

#ifndef __CUDACC_RTC__
#include <cuda_runtime.h>
#endif

#include <cstddef>
#include <cstdint>

namespace adalora::cuda {

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

}  // namespace adalora::cuda
