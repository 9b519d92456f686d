/// The kernels of importance: 24 bytes of traffic per float entry, bound by memory. A block updates
/// a chunk of one parameter with accesses of 16 bytes. For the scores it also sums the rows of the
/// chunk (A) or its columns (B; E is one row) from shared memory, and a second kernel adds the sums
/// of the chunks in order. Compiled without contraction of products and sums, so that every
/// rounding is torch's.

#include "adalora/arithmetic/importance.hpp"
#include "cuda/device.hpp"

#ifndef __CUDACC_RTC__
#include "cuda/importance.hpp"
#include "cuda/launch.hpp"
#endif

namespace adalora::cuda {

namespace {

constexpr std::uint32_t kChunk = 4096;

/// The cut of a matrix into chunks of consecutive entries: bands of whole rows, or parts of a row.
struct Cut {
  std::uint32_t rows;    ///< of a band
  std::uint32_t across;  ///< chunks side by side in one band
};

/// Bands are multiples of so many rows: each then begins where an access of 16 bytes may, in any
/// dtype.
constexpr std::uint32_t kRowStep = kPackOf<BFloat16>;

ADALORA_SHARED Cut cut_of(std::uint32_t cols) {
  const std::uint32_t rows = kChunk / larger(cols, 1);
  return {rows < kRowStep ? larger(rows, 1) : rows / kRowStep * kRowStep, parts_of(cols, kChunk)};
}

ADALORA_SHARED std::uint32_t bands_of(std::uint32_t rows, std::uint32_t cols) {
  return parts_of(rows, cut_of(cols).rows);
}

/// The number of sums that the first kernel writes of the rows of A.
ADALORA_SHARED std::uint64_t row_sums(std::uint32_t rows, std::uint32_t cols) {
  return std::uint64_t{rows} * parts_of(cols, kChunk);
}

/// One launch's share of the tensors: A, E and B in turn.
template <class T>
struct UpdateArguments {
  static constexpr unsigned kBytesPerEntry = 4 * sizeof(void*) + 4 * sizeof(std::uint32_t);
  static constexpr unsigned kEntries =
      (kArgumentBytes - 128) / kBytesPerEntry / kFactors * kFactors;

  const void* parameters[kEntries];
  const void* gradients[kEntries];
  void* smoothed[kEntries];
  void* uncertainty[kEntries];
  std::uint32_t rows[kEntries], cols[kEntries];
  std::uint32_t first_chunk[kEntries];
  std::uint32_t first_partial[kEntries];
  std::uint32_t count = 0;
  Smoothing<T> smoothing;
  double* partials;
  std::int64_t* skipped;
};

/// Updates the averages of `count` consecutive entries; returns the number that this thread
/// skipped.
template <class P, class T, bool kScored>
__device__ unsigned update_span(const P* p, const P* g, T* smoothed, T* uncertainty,
                                std::uint32_t count, const Smoothing<T>& smoothing, T* scores) {
  constexpr unsigned kPack = kPackOf<P, T>;
  unsigned skipped = 0;
  // Otherwise entry by entry: the accesses of a warp are still adjacent.
  const std::uint32_t packs = is_aligned(p, g, smoothed, uncertainty) ? count / kPack : 0;
  for (std::uint32_t pack = threadIdx.x; pack < packs; pack += kThreads) {
    const std::uint32_t at = pack * kPack;
    const auto ps = read_pack<kPack>(p + at, true);
    const auto gs = read_pack<kPack>(g + at, true);
    auto means = read_pack<kPack>(smoothed + at, true);
    auto spreads = read_pack<kPack>(uncertainty + at, true);
    Pack<T, kPack> products;
#pragma unroll
    for (unsigned i = 0; i < kPack; ++i) {
      skipped +=
          !observe(static_cast<T>(to_float(ps.values[i])), static_cast<T>(to_float(gs.values[i])),
                   smoothing, means.values[i], spreads.values[i]);
      products.values[i] = means.values[i] * spreads.values[i];
    }
    if constexpr (kScored) write_pack<kPack>(scores + at, products, true);
    write_pack<kPack>(smoothed + at, means, true);
    write_pack<kPack>(uncertainty + at, spreads, true);
  }
  for (std::uint32_t at = packs * kPack + threadIdx.x; at < count; at += kThreads) {
    T mean = smoothed[at], spread = uncertainty[at];
    skipped += !observe(static_cast<T>(to_float(p[at])), static_cast<T>(to_float(g[at])), smoothing,
                        mean, spread);
    smoothed[at] = mean;
    uncertainty[at] = spread;
    if constexpr (kScored) scores[at] = mean * spread;
  }
  return skipped;
}

/// Sums of the `height` rows of `width` scores; row i of them goes to sums[i * stride].
template <class T>
__device__ void sum_rows(const T* scores, std::uint32_t height, std::uint32_t width, double* sums,
                         std::uint32_t stride) {
  const unsigned lane = threadIdx.x % kWarpSize;
  for (std::uint32_t row = threadIdx.x / kWarpSize; row < height; row += kWarps) {
    T sum = 0;
    for (std::uint32_t col = lane; col < width; col += kWarpSize) sum += scores[row * width + col];
    sum = warp_sum(sum);
    if (lane == 0) sums[std::uint64_t{row} * stride] = sum;
  }
}

/// Sums of the `width` columns; overwrites the scores.
template <class T>
__device__ void sum_columns(T* scores, std::uint32_t height, std::uint32_t width, double* sums) {
  if (width > kThreads) {
    for (std::uint32_t col = threadIdx.x; col < width; col += kThreads) {
      T sum = 0;
      for (std::uint32_t row = 0; row < height; ++row) sum += scores[row * width + col];
      sums[col] = sum;
    }
    return;
  }
  // As many whole rows at a time as there are threads for: consecutive threads read consecutive
  // scores, and each stays in its column.
  const std::uint32_t step = kThreads / width * width;
  T sum = 0;
  if (threadIdx.x < step) {
    for (std::uint32_t at = threadIdx.x; at < height * width; at += step) sum += scores[at];
  }
  __syncthreads();
  scores[threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.x >= width) return;
  double total = 0.0;
  for (std::uint32_t at = threadIdx.x; at < step; at += width) total += scores[at];
  sums[threadIdx.x] = total;
}

template <class P, bool kScored>
__global__ void __launch_bounds__(kThreads)
    update_kernel(const UpdateArguments<Compute<P>> __grid_constant__ arguments) {
  using T = Compute<P>;
  alignas(kVectorBytes) __shared__ T scores[kScored ? kChunk : 1];
  const unsigned entry = find_last(arguments.first_chunk, arguments.count, blockIdx.x);
  const std::uint32_t rows = arguments.rows[entry];
  const std::uint32_t cols = arguments.cols[entry];
  const Cut cut = cut_of(cols);
  const std::uint32_t chunk = blockIdx.x - arguments.first_chunk[entry];
  const std::uint32_t band = chunk / cut.across;
  const std::uint32_t segment = chunk % cut.across;
  const std::uint32_t row = band * cut.rows, col = segment * kChunk;
  const std::uint32_t height = smaller(cut.rows, rows - row), width = smaller(kChunk, cols - col);
  const std::uint64_t start = std::uint64_t{row} * cols + col;
  const std::uint32_t count = height * width;
  T* const smoothed = static_cast<T*>(arguments.smoothed[entry]) + start;
  T* const uncertainty = static_cast<T*>(arguments.uncertainty[entry]) + start;
  if (arguments.gradients[entry] != nullptr) {
    const unsigned skipped =
        update_span<P, T, kScored>(static_cast<const P*>(arguments.parameters[entry]) + start,
                                   static_cast<const P*>(arguments.gradients[entry]) + start,
                                   smoothed, uncertainty, count, arguments.smoothing, scores);
    // Integers: the sum does not depend on the order.
    const unsigned of_warp = warp_sum(skipped);
    if (threadIdx.x % kWarpSize == 0 && of_warp != 0) {
      atomicAdd(reinterpret_cast<unsigned long long*>(arguments.skipped),
                static_cast<unsigned long long>(of_warp));
    }
  } else if constexpr (kScored) {
    for (std::uint32_t at = threadIdx.x; at < count; at += kThreads) {
      scores[at] = smoothed[at] * uncertainty[at];
    }
  }
  if constexpr (kScored) {
    __syncthreads();
    double* const partials = arguments.partials + arguments.first_partial[entry];
    if (entry % kFactors == 0) {
      sum_rows(scores, height, width, partials + std::uint64_t{row} * cut.across + segment,
               cut.across);
    } else {
      sum_columns(scores, height, width, partials + std::uint64_t{band} * cols + col);
    }
  }
}

/// One launch's share of the matrices, for the second stage.
template <class T>
struct ScoreArguments {
  static constexpr unsigned kMatrices = (kArgumentBytes - 128) / (4 * sizeof(std::uint32_t));

  std::uint32_t first_triplet[kMatrices];
  std::uint32_t inputs[kMatrices], outputs[kMatrices];
  std::uint32_t first_partial[kMatrices];
  std::uint32_t count = 0, triplets = 0;
  const double* partials;
  T* scores;
};

/// One warp per triplet.
template <class T>
__global__ void __launch_bounds__(kThreads)
    score_kernel(const ScoreArguments<T> __grid_constant__ arguments) {
  const std::uint32_t triplet = blockIdx.x * kWarps + threadIdx.x / kWarpSize;
  if (triplet >= arguments.triplets) return;
  const unsigned lane = threadIdx.x % kWarpSize;
  const unsigned matrix = find_last(arguments.first_triplet, arguments.count, triplet);
  const std::uint32_t first = arguments.first_triplet[matrix];
  const bool is_last = matrix + 1 == arguments.count;
  const std::uint32_t end = is_last ? arguments.triplets : arguments.first_triplet[matrix + 1];
  const std::uint32_t rank = end - first;
  const std::uint32_t t = triplet - first;
  const std::uint32_t inputs = arguments.inputs[matrix];
  const std::uint32_t outputs = arguments.outputs[matrix];
  const double* const of_a = arguments.partials + arguments.first_partial[matrix];
  const double* const of_e = of_a + row_sums(rank, inputs);
  const double* const of_b = of_e + rank;
  double row = 0.0;
  const std::uint32_t across = parts_of(inputs, kChunk);
  // Once or twice in a model: copies of the loop's body would never run.
#pragma unroll 1
  for (std::uint32_t i = lane; i < across; i += kWarpSize) row += of_a[t * across + i];
  double column = 0.0;
  const std::uint32_t bands = bands_of(outputs, rank);
#pragma unroll 1
  for (std::uint32_t i = lane; i < bands; i += kWarpSize)
    column += of_b[std::uint64_t{i} * rank + t];
  row = warp_sum(row);
  column = warp_sum(column);
  if (lane == 0) {
    arguments.scores[triplet] =
        triplet_score<T>(of_e[t], mean_of(row, inputs), mean_of(column, outputs));
  }
}

}  // namespace

#ifndef __CUDACC_RTC__  // the host's part

namespace {

/// Rows and columns as the first kernel takes them: E is one row, and without scores every
/// parameter is.
struct Shape {
  std::uint32_t rows, cols;
};

Shape shape_of(const ImportanceEntry& entry, std::size_t index, bool scored) {
  const MatrixView& p = entry.parameter;
  if (p.rows == 0 || p.cols == 0) return {0, 0};
  const std::int64_t entries = p.rows * p.cols;
  const bool flat = index % kFactors == 1 || (!scored && entries <= kLargestCount);
  return flat ? Shape{1, narrow(entries)} : Shape{narrow(p.rows), narrow(p.cols)};
}

/// The number of sums of the columns of B, and of the entries of E.
std::uint64_t column_sums(std::uint32_t rows, std::uint32_t cols) {
  return std::uint64_t{bands_of(rows, cols)} * cols;
}

std::uint64_t partial_count(const Shape& shape, std::size_t index) {
  return index % kFactors == 0 ? row_sums(shape.rows, shape.cols)
                               : column_sums(shape.rows, shape.cols);
}

template <class P>
class Pass {
 public:
  using T = Compute<P>;

  Pass(double beta1, double beta2, const ImportanceOutputs& outputs, const Stream& stream)
      : outputs_(outputs), stream_(stream) {
    update_.smoothing = smoothing_of<T>(beta1, beta2);
    update_.partials = outputs.partials;
    update_.skipped = outputs.skipped;
    score_.partials = outputs.partials;
  }

  void run(std::span<const ImportanceEntry> entries) {
    const bool scored = outputs_.scores.present();
    for (std::size_t i = 0; i < entries.size(); ++i) {
      if (scored && i % kFactors == 0) add_matrix(entries.subspan(i, kFactors));
      add(entries[i], shape_of(entries[i], i, scored), i);
    }
    flush_update();
    flush_scores();
  }

 private:
  void add(const ImportanceEntry& entry, const Shape& shape, std::size_t index) {
    const bool scored = outputs_.scores.present();
    const std::int64_t chunks =
        std::int64_t{bands_of(shape.rows, shape.cols)} * cut_of(shape.cols).across;
    if (index % kFactors == 0 &&
        (update_.count + kFactors > update_.kEntries || chunks_ > kLargestCount / 4)) {
      flush_update();
    }
    const unsigned at = update_.count++;
    update_.parameters[at] = entry.parameter.data;
    update_.gradients[at] = entry.gradient.data;
    update_.smoothed[at] = entry.smoothed.data;
    update_.uncertainty[at] = entry.uncertainty.data;
    update_.rows[at] = shape.rows;
    update_.cols[at] = shape.cols;
    update_.first_chunk[at] = static_cast<std::uint32_t>(chunks_);
    update_.first_partial[at] = narrow(partials_);
    if (scored || entry.gradient.present()) chunks_ += chunks;
    if (scored) partials_ += static_cast<std::int64_t>(partial_count(shape, index));
  }

  void add_matrix(std::span<const ImportanceEntry> factors) {
    if (score_.count == score_.kMatrices) flush_scores();
    const unsigned at = score_.count++;
    score_.first_triplet[at] = score_.triplets;
    score_.inputs[at] = narrow(factors[0].parameter.cols);
    score_.outputs[at] = narrow(factors[2].parameter.rows);
    score_.first_partial[at] = narrow(partials_);
    score_.triplets = narrow(std::int64_t{score_.triplets} + factors[1].parameter.rows);
  }

  void flush_update() {
    if (chunks_ > 0) {
      if (outputs_.scores.present()) {
        launch<update_kernel<P, true>>(chunks_, kThreads, stream_, update_);
      } else {
        launch<update_kernel<P, false>>(chunks_, kThreads, stream_, update_);
      }
    }
    update_.count = 0;
    chunks_ = 0;
  }

  /// The kernel that writes the sums must be enqueued before the kernel that adds them.
  void flush_scores() {
    if (score_.triplets > 0) {
      flush_update();
      score_.scores = reinterpret_cast<T*>(outputs_.scores.at(scored_, 0));
      launch<score_kernel<T>>(parts_of(score_.triplets, kWarps), kThreads, stream_, score_);
    }
    scored_ += score_.triplets;
    score_.count = 0;
    score_.triplets = 0;
  }

  const ImportanceOutputs& outputs_;
  const Stream& stream_;
  UpdateArguments<T> update_;
  ScoreArguments<T> score_;
  std::int64_t chunks_ = 0;
  std::int64_t partials_ = 0;
  std::int64_t scored_ = 0;  ///< triplets whose scores have been enqueued
};

/// Advances the outputs past the scores and the sums of `matrices`.
void skip(ImportanceOutputs& outputs, std::span<const ImportanceEntry> matrices) {
  for (std::size_t i = 1; i < matrices.size(); i += kFactors) {
    const std::int64_t rank = matrices[i].parameter.rows;
    outputs.scores.data = outputs.scores.at(rank, 0);
    outputs.scores.rows -= rank;
  }
  outputs.partials += score_room(matrices);
}

}  // namespace

std::int64_t score_room(std::span<const ImportanceEntry> entries) {
  std::uint64_t room = 0;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    room += partial_count(shape_of(entries[i], i, true), i);
  }
  return narrow(static_cast<std::int64_t>(room));
}

void update_importance(std::span<const ImportanceEntry> entries, double beta1, double beta2,
                       const ImportanceOutputs& outputs, const Stream& stream) {
  const CurrentDevice current(stream.device);
  ImportanceOutputs rest = outputs;
  const bool scored = outputs.scores.present();
  while (!entries.empty()) {
    const DType dtype = entries.front().parameter.dtype;
    std::size_t count = 0;
    while (count < entries.size() && entries[count].parameter.dtype == dtype) {
      count += scored ? kFactors : 1;
    }
    const auto matrices = entries.first(count);
    with_format(dtype, [&](auto format) {
      Pass<decltype(format)>(beta1, beta2, rest, stream).run(matrices);
    });
    if (scored) skip(rest, matrices);
    entries = entries.subspan(count);
  }
}

#endif

}  // namespace adalora::cuda
