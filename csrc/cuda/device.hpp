#pragma once
/// Code that the kernels share: element types, accesses of 16 bytes, sums of fixed order, and the
/// search in a table of tensors.

#include "adalora/arithmetic/number_formats.hpp"
#include "cuda/limits.hpp"

namespace adalora::cuda {

inline constexpr unsigned kAllLanes = 0xffffffffu;
inline constexpr unsigned kWarps = kThreads / kWarpSize;

/// The compute type of a format.
template <class P>
struct ComputeOf {
  using type = float;
};
template <>
struct ComputeOf<double> {
  using type = double;
};
template <class P>
using Compute = typename ComputeOf<P>::type;

/// Elements that one thread moves at a time: 16 bytes of the wider format. With more, a warp would
/// use a part of each sector that it touches.
template <class P, class Q = P>
inline constexpr unsigned kPackOf = kVectorBytes / (sizeof(P) > sizeof(Q) ? sizeof(P) : sizeof(Q));

template <class T, unsigned kCount>
struct alignas(kCount * sizeof(T) < kVectorBytes ? kCount * sizeof(T) : kVectorBytes) Pack {
  T values[kCount];
};

/// Whether all addresses allow accesses of 16 bytes.
template <class... T>
__device__ __forceinline__ bool is_aligned(const T*... address) {
  return ((reinterpret_cast<std::uintptr_t>(address) % kVectorBytes == 0) && ...);
}

/// Reads in steps of 16 bytes if `aligned`, else element by element.
template <unsigned kCount, class T>
__device__ __forceinline__ Pack<T, kCount> read_pack(const T* from, bool aligned) {
  if (aligned) return *reinterpret_cast<const Pack<T, kCount>*>(from);
  Pack<T, kCount> pack;
#pragma unroll
  for (unsigned i = 0; i < kCount; ++i) pack.values[i] = from[i];
  return pack;
}

template <unsigned kCount, class T>
__device__ __forceinline__ void write_pack(T* to, const Pack<T, kCount>& pack, bool aligned) {
  if (aligned) {
    *reinterpret_cast<Pack<T, kCount>*>(to) = pack;
    return;
  }
#pragma unroll
  for (unsigned i = 0; i < kCount; ++i) to[i] = pack.values[i];
}

/// Whether rows of `width` are whole packs that can be accessed at a time.
template <unsigned kCount, class T>
__device__ __forceinline__ bool is_divided(const T* rows, std::uint32_t width) {
  return width % kCount == 0 && is_aligned(rows);
}

/// Entries [at, at + kCount) of a row of `width`, zero past its end; `divided` as above.
template <unsigned kCount, class T>
__device__ __forceinline__ Pack<T, kCount> read_part(const T* row, std::uint32_t at,
                                                     std::uint32_t width, bool divided) {
  if (divided && at < width) return read_pack<kCount>(row + at, true);
  Pack<T, kCount> pack{};
#pragma unroll
  for (unsigned i = 0; i < kCount; ++i) {
    if (at + i < width) pack.values[i] = row[at + i];
  }
  return pack;
}

template <unsigned kCount, class T>
__device__ __forceinline__ void write_part(T* row, std::uint32_t at, std::uint32_t width,
                                           const Pack<T, kCount>& pack, bool divided) {
  if (divided && at < width) return write_pack<kCount>(row + at, pack, true);
#pragma unroll
  for (unsigned i = 0; i < kCount; ++i) {
    if (at + i < width) row[at + i] = pack.values[i];
  }
}

/// Sum over the lanes of a warp, the same in every lane.
template <class T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
  for (unsigned distance = kWarpSize / 2; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, distance);
  }
  return value;
}

/// Sum over the threads of a block, in thread 0; `room` is shared and free again after a barrier.
template <class T>
__device__ __forceinline__ T block_sum(T value, T (&room)[kWarps]) {
  value = warp_sum(value);
  if (threadIdx.x % kWarpSize == 0) room[threadIdx.x / kWarpSize] = value;
  __syncthreads();
  T total = room[0];
  for (unsigned warp = 1; warp < kWarps; ++warp) total += room[warp];
  return total;
}

/// The last position in the ascending `first[0..count)` whose number is at most `index`.
__device__ __forceinline__ unsigned find_last(const std::uint32_t* first, unsigned count,
                                              std::uint32_t index) {
  unsigned low = 0;
  unsigned high = count;
  while (high - low > 1) {
    const unsigned middle = low + (high - low) / 2;
    if (first[middle] <= index) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

ADALORA_SHARED std::uint32_t larger(std::uint32_t a, std::uint32_t b) { return a > b ? a : b; }

ADALORA_SHARED std::uint32_t smaller(std::uint32_t a, std::uint32_t b) { return a < b ? a : b; }

ADALORA_SHARED std::uint32_t parts_of(std::uint32_t count, std::uint32_t size) {
  return (count + size - 1) / size;
}

}  // namespace adalora::cuda
