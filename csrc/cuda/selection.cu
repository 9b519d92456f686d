/// One block finds the score of the last triplet that stays, by radix select: eight bits of the key
/// at a time, from the highest. Then it walks over the triplets in order, since position decides
/// ties, writes the mask and zeroes the dropped singular values. A whole model has a few thousand
/// triplets: the time is that of one launch, and nothing is copied to the host.

#include "adalora/arithmetic/selection.hpp"
#include "cuda/device.hpp"

#ifndef __CUDACC_RTC__
#include <algorithm>

#include "cuda/launch.hpp"
#include "cuda/selection.hpp"
#endif

namespace adalora::cuda {

namespace {

constexpr unsigned kSelectThreads = 1024;
constexpr unsigned kSelectWarps = kSelectThreads / kWarpSize;
constexpr unsigned kDigitBits = 8;
constexpr unsigned kDigits = 1u << kDigitBits;
constexpr unsigned kDigitsPerLane = kDigits / kWarpSize;

/// The singular values of one launch's matrices: triplets [begin, end).
struct ValuesTable {
  static constexpr unsigned kBytesPerMatrix = sizeof(void*) + 2 * sizeof(std::uint32_t) + 1;
  static constexpr unsigned kMatrices = (kArgumentBytes - 256) / kBytesPerMatrix;

  void* data[kMatrices];
  std::uint32_t first[kMatrices];
  std::uint32_t stride[kMatrices];  ///< bytes from one singular value to the next
  std::uint8_t size[kMatrices];     ///< bytes of one
  std::uint32_t count = 0;
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
};

/// Zeroes the singular value of a triplet; all bits zero is +0 in every format.
__device__ void zero_value(const ValuesTable& table, std::uint32_t triplet) {
  const unsigned matrix = find_last(table.first, table.count, triplet);
  char* const value = static_cast<char*>(table.data[matrix]) +
                      std::uint64_t{triplet - table.first[matrix]} * table.stride[matrix];
  const unsigned size = table.size[matrix];
  if (size == sizeof(double)) {
    *reinterpret_cast<double*>(value) = 0.0;
  } else if (size == sizeof(float)) {
    *reinterpret_cast<float*>(value) = 0.0f;
  } else {
    *reinterpret_cast<std::uint16_t*>(value) = 0;
  }
}

struct MaskArguments {
  ValuesTable values;
  const std::uint8_t* mask;
};

__global__ void __launch_bounds__(kThreads)
    mask_kernel(const MaskArguments __grid_constant__ arguments) {
  const std::uint32_t triplet = arguments.values.begin + blockIdx.x * kThreads + threadIdx.x;
  if (triplet < arguments.values.end && arguments.mask[triplet] == 0) {
    zero_value(arguments.values, triplet);
  }
}

template <class T>
struct SelectArguments {
  ValuesTable values;
  const T* scores;
  std::uint8_t* mask;
  std::uint32_t triplets;
  std::uint32_t kept;
};

/// The key of the last triplet that stays, and how many of the triplets with this key stay.
template <class Key>
struct Threshold {
  Key key;
  std::uint32_t ties;
};

/// Shared memory of the search.
struct Search {
  std::uint32_t counts[kDigits];
  std::uint32_t digit;
  std::uint32_t below;
};

/// Finds the digit of the `wanted`-th key (from 1) and the number of keys with a smaller digit;
/// called by the first warp.
__device__ void find_digit(Search& search, std::uint32_t wanted) {
  const unsigned lane = threadIdx.x;
  std::uint32_t own = 0;
  for (unsigned i = 0; i < kDigitsPerLane; ++i) own += search.counts[lane * kDigitsPerLane + i];
  std::uint32_t below = own;
#pragma unroll
  for (unsigned distance = 1; distance < kWarpSize; distance *= 2) {
    const std::uint32_t before = __shfl_up_sync(kAllLanes, below, distance);
    if (lane >= distance) below += before;
  }
  below -= own;
  if (wanted <= below || wanted > below + own) return;
  unsigned digit = lane * kDigitsPerLane;
  while (wanted > below + search.counts[digit]) below += search.counts[digit++];
  search.digit = digit;
  search.below = below;
}

/// The keys of the first triplets, computed once. Each thread keeps those that it alone reads.
template <class Key>
struct Keys {
  static constexpr std::uint32_t kCount = 32768 / sizeof(Key);

  Key kept[kCount];
};

template <class T, class Key>
__device__ Key key_of(const SelectArguments<T>& arguments, const Keys<Key>& keys,
                      std::uint32_t triplet) {
  return triplet < keys.kCount ? keys.kept[triplet] : descending_key(arguments.scores[triplet]);
}

/// `kept` is at least 1 and at most the number of triplets.
template <class T, class Key>
__device__ Threshold<Key> find_threshold(const SelectArguments<T>& arguments, const Keys<Key>& keys,
                                         Search& search) {
  Key prefix = 0;
  Key known = 0;  // the bits that are decided
  std::uint32_t wanted = arguments.kept;
  for (int shift = 8 * static_cast<int>(sizeof(Key)) - static_cast<int>(kDigitBits); shift >= 0;
       shift -= static_cast<int>(kDigitBits)) {
    if (threadIdx.x < kDigits) search.counts[threadIdx.x] = 0;
    __syncthreads();
    for (std::uint32_t i = threadIdx.x; i < arguments.triplets; i += kSelectThreads) {
      const Key key = key_of(arguments, keys, i);
      if ((key & known) == prefix) {
        atomicAdd(&search.counts[(key >> shift) & (kDigits - 1)], 1u);
      }
    }
    __syncthreads();
    if (threadIdx.x < kWarpSize) find_digit(search, wanted);
    __syncthreads();
    prefix |= static_cast<Key>(search.digit) << shift;
    known |= static_cast<Key>(kDigits - 1) << shift;
    wanted -= search.below;
  }
  return {prefix, wanted};
}

/// The number of threads before this one that have `flag` set; `total` becomes the number in the
/// block.
__device__ std::uint32_t count_before(bool flag, std::uint32_t (&counts)[kSelectWarps],
                                      std::uint32_t& total) {
  const unsigned lane = threadIdx.x % kWarpSize;
  const unsigned warp = threadIdx.x / kWarpSize;
  const unsigned flags = __ballot_sync(kAllLanes, flag);
  if (lane == 0) counts[warp] = static_cast<std::uint32_t>(__popc(flags));
  __syncthreads();
  std::uint32_t before = static_cast<std::uint32_t>(__popc(flags & ((1u << lane) - 1u)));
  total = 0;
  for (unsigned i = 0; i < kSelectWarps; ++i) {
    if (i < warp) before += counts[i];
    total += counts[i];
  }
  __syncthreads();
  return before;
}

template <class T>
__global__ void __launch_bounds__(kSelectThreads)
    select_kernel(const SelectArguments<T> __grid_constant__ arguments) {
  using Key = decltype(descending_key(T{}));
  __shared__ Search search;
  __shared__ std::uint32_t counts[kSelectWarps];
  __shared__ Keys<Key> keys;
  for (std::uint32_t i = threadIdx.x; i < smaller(arguments.triplets, keys.kCount);
       i += kSelectThreads) {
    keys.kept[i] = descending_key(arguments.scores[i]);
  }
  Threshold<Key> threshold{0, 0};
  if (arguments.kept > 0) threshold = find_threshold(arguments, keys, search);
  std::uint32_t ties = 0;  // triplets with the key of the threshold so far
  for (std::uint32_t start = 0; start < arguments.triplets; start += kSelectThreads) {
    const std::uint32_t triplet = start + threadIdx.x;
    const bool inside = triplet < arguments.triplets;
    const Key key = inside ? key_of(arguments, keys, triplet) : Key{0};
    std::uint32_t of_block;
    const std::uint32_t before =
        count_before(inside && key == threshold.key, counts, of_block) + ties;
    ties += of_block;
    if (!inside) continue;
    const bool stays = key < threshold.key || (key == threshold.key && before < threshold.ties);
    arguments.mask[triplet] = stays ? 1 : 0;
    if (!stays && triplet < arguments.values.end) zero_value(arguments.values, triplet);
  }
}

}  // namespace

#ifndef __CUDACC_RTC__  // the host's part

namespace {

/// Fills `table` with as many of the matrices as fit, from triplet `begin` on; returns the others.
std::span<const MatrixView> fill(ValuesTable& table, std::span<const MatrixView> singular_values,
                                 std::uint32_t begin) {
  const std::size_t count = std::min<std::size_t>(singular_values.size(), table.kMatrices);
  std::uint32_t end = begin;
  for (std::size_t i = 0; i < count; ++i) {
    const MatrixView& values = singular_values[i];
    const auto size = static_cast<std::int64_t>(item_size(values.dtype));
    table.data[i] = values.data;
    table.first[i] = end;
    table.stride[i] = narrow(values.rows > 1 ? values.row_stride * size : size);
    table.size[i] = static_cast<std::uint8_t>(size);
    end = narrow(std::int64_t{end} + values.rows);
  }
  table.count = static_cast<std::uint32_t>(count);
  table.begin = begin;
  table.end = end;
  return singular_values.subspan(count);
}

void apply_from(const std::uint8_t* mask, std::span<const MatrixView> singular_values,
                std::uint32_t begin, const Stream& stream) {
  MaskArguments arguments;
  arguments.mask = mask;
  while (!singular_values.empty()) {
    singular_values = fill(arguments.values, singular_values, begin);
    begin = arguments.values.end;
    const std::uint32_t triplets = begin - arguments.values.begin;
    launch<mask_kernel>(parts_of(triplets, kThreads), kThreads, stream, arguments);
  }
}

template <class T>
void select(const MatrixView& scores, std::int64_t budget, std::uint8_t* mask,
            std::span<const MatrixView> singular_values, const Stream& stream) {
  SelectArguments<T> arguments;
  arguments.scores = static_cast<const T*>(scores.data);
  arguments.mask = mask;
  arguments.triplets = narrow(scores.rows);
  arguments.kept = narrow(std::min(budget, scores.rows));
  const auto rest = fill(arguments.values, singular_values, 0);
  launch<select_kernel<T>>(arguments.triplets > 0 ? 1 : 0, kSelectThreads, stream, arguments);
  apply_from(mask, rest, arguments.values.end, stream);
}

}  // namespace

void select_triplets(const MatrixView& scores, std::int64_t budget, std::uint8_t* mask,
                     std::span<const MatrixView> singular_values, const Stream& stream) {
  const CurrentDevice current(stream.device);
  if (scores.dtype == DType::kFloat64) {
    select<double>(scores, budget, mask, singular_values, stream);
  } else {
    select<float>(scores, budget, mask, singular_values, stream);
  }
}

void apply_mask(const std::uint8_t* mask, std::span<const MatrixView> singular_values,
                const Stream& stream) {
  const CurrentDevice current(stream.device);
  apply_from(mask, singular_values, 0, stream);
}

#endif

}  // namespace adalora::cuda
