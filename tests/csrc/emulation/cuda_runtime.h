#pragma once
// Replaces CUDA's header where the kernels are compiled as C++: a model of how CUDA executes them,
// so that indexing, barriers and reductions are tested on any machine and under sanitizers. Blocks
// run one after the other, the threads of a block as fibers that take turns at barriers. The model
// does not cover speed, memory order between blocks, or the code that nvcc generates.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>

#ifndef CUDART_VERSION
#define CUDART_VERSION 13000
#endif

#define __global__
#define __device__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(threads)
#define __grid_constant__ &  // read only and shared by all threads, so no thread needs a copy

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3() = default;
  explicit dim3(unsigned size) : x(size) {}
};

using cudaStream_t = struct CUstream_st*;
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };

namespace emulation {

/// The order in which the threads of a block, and the blocks, take their turns. The result of a
/// kernel must not depend on it.
enum class Order { kForward, kBackward, kShuffled };

/// The order of the launches that follow.
void set_order(Order order);

/// The number of kernels run since the last call.
int take_launch_count();

/// Whether a device has a context: one that is not in use costs memory of the device.
bool has_context(int device);

/// Asked at each launch if it is set: whether this thread holds a lock that it must not hold.
extern int (*holds_lock)();

/// Runs `thread` once for each thread of each block.
void run(unsigned blocks, unsigned threads, const std::function<void()>& thread);

/// Returns the values of all threads of a warp at a collective operation, once all have passed
/// theirs.
const std::uint64_t* exchange(int operation, std::uint64_t value);

void wait_for_block();

extern dim3 thread_index;
extern dim3 block_index;

template <class T>
std::uint64_t to_slot(T value) {
  static_assert(sizeof value <= sizeof(std::uint64_t));
  std::uint64_t slot = 0;
  std::memcpy(&slot, &value, sizeof value);
  return slot;
}

template <class T>
T from_slot(std::uint64_t slot) {
  T value;
  std::memcpy(&value, &slot, sizeof value);
  return value;
}

inline unsigned lane() { return thread_index.x % 32; }

[[noreturn]] void fail(const char* what);

inline void require_all_lanes(unsigned mask) {
  if (mask != 0xffffffffu) fail("a collective operation of a part of a warp");
}

}  // namespace emulation

#define threadIdx (::emulation::thread_index)
#define blockIdx (::emulation::block_index)

inline void __syncthreads() { emulation::wait_for_block(); }

template <class T>
T __shfl_xor_sync(unsigned mask, T value, unsigned distance) {
  emulation::require_all_lanes(mask);
  return emulation::from_slot<T>(
      emulation::exchange(1, emulation::to_slot(value))[emulation::lane() ^ distance]);
}

template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance) {
  emulation::require_all_lanes(mask);
  const unsigned lane = emulation::lane();
  const std::uint64_t* slots = emulation::exchange(2, emulation::to_slot(value));
  return emulation::from_slot<T>(slots[lane >= distance ? lane - distance : lane]);
}

inline unsigned __ballot_sync(unsigned mask, bool flag) {
  emulation::require_all_lanes(mask);
  const std::uint64_t* slots = emulation::exchange(3, flag ? 1 : 0);
  unsigned flags = 0;
  for (unsigned i = 0; i < 32; ++i) flags |= static_cast<unsigned>(slots[i]) << i;
  return flags;
}

inline int __popc(unsigned value) { return __builtin_popcount(value); }

template <class T>
T atomicAdd(T* address, T value) {
  const T before = *address;
  *address += value;
  return before;
}

template <class Arguments>
cudaError_t cudaLaunchKernel(void (*kernel)(const Arguments&), dim3 blocks, dim3 threads,
                             void** arguments, std::size_t, cudaStream_t) {
  const Arguments& constant = *static_cast<const Arguments*>(arguments[0]);
  emulation::run(blocks.x, threads.x, [&] { kernel(constant); });
  return cudaSuccess;
}

inline const char* cudaGetErrorString(cudaError_t) { return "an error of the emulation"; }
cudaError_t cudaGetDevice(int* device);
inline cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }

/// Blocks of exactly the size asked for, so that a sanitizer reports every access outside.
inline cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  *memory = nullptr;
  if (bytes == 0) return cudaSuccess;
  return posix_memalign(memory, 256, bytes) == 0 ? cudaSuccess : cudaErrorInvalidValue;
}
inline cudaError_t cudaFree(void* memory) {
  std::free(memory);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind) {
  if (bytes != 0) std::memcpy(to, from, bytes);
  return cudaSuccess;
}
