/// The residuals of all factors at once. A block multiplies 16 vectors of a factor with 16 others
/// over a piece of the long side: both tiles pass through shared memory, each warp takes every
/// eighth position, each thread four by two of the 256 sums. A second kernel adds the pieces in
/// order, a third the norms, so results do not depend on scheduling.

#include "adalora/arithmetic/orthogonality.hpp"
#include "cuda/device.hpp"

#ifndef __CUDACC_RTC__
#include "cuda/launch.hpp"
#include "cuda/orthogonality.hpp"
#endif

namespace adalora::cuda {

namespace {

constexpr std::uint32_t kTile = 16;           // vectors on each side of a block's products
constexpr std::uint32_t kDepth = 64;          // positions of the long side in shared memory
constexpr std::uint32_t kPiece = 1024;        // positions of the long side per block
constexpr std::uint32_t kPadded = kTile + 4;  // spreads the columns of a tile over the banks

/// Positions of the long side per block of the gradient, one for each thread.
constexpr std::uint32_t kGradientPiece = kThreads;

/// One launch's share of the factors.
struct FactorTable {
  static constexpr unsigned kBytesPerFactor =
      2 * sizeof(void*) + 2 * sizeof(std::uint64_t) + 3 * sizeof(std::uint32_t) + 1;
  static constexpr unsigned kFactors = (kArgumentBytes - 256) / kBytesPerFactor;

  const void* data[kFactors];
  void* gradients[kFactors];
  std::uint64_t first_gram[kFactors];
  std::uint64_t first_partial[kFactors];
  std::uint32_t rank[kFactors];
  std::uint32_t length[kFactors];  ///< of the long side
  std::uint32_t first_block[kFactors];
  std::uint8_t vectors_are_rows[kFactors];
  std::uint32_t count = 0;
  std::uint32_t first_factor = 0;  ///< among all factors
};

/// The index of entry `position` of vector `vector`.
ADALORA_SHARED std::uint64_t place_of(bool vectors_are_rows, std::uint32_t rank,
                                      std::uint32_t length, std::uint32_t vector,
                                      std::uint32_t position) {
  return vectors_are_rows ? std::uint64_t{vector} * length + position
                          : std::uint64_t{position} * rank + vector;
}

template <class T>
struct GramArguments {
  FactorTable factors;
  T* partials;
};

/// Positions [position, position + kDepth) of 16 vectors from `vector` on; zero where there are
/// none. Consecutive threads read consecutive memory.
template <class P, class T>
__device__ void load_tile(const P* data, bool vectors_are_rows, std::uint32_t rank,
                          std::uint32_t length, std::uint32_t vector, std::uint32_t position,
                          std::uint32_t end, T (&tile)[kDepth][kPadded]) {
  for (std::uint32_t i = threadIdx.x; i < kDepth * kTile; i += kThreads) {
    const std::uint32_t depth = vectors_are_rows ? i % kDepth : i / kTile;
    const std::uint32_t column = vectors_are_rows ? i / kDepth : i % kTile;
    const bool inside = vector + column < rank && position + depth < end;
    T value = 0;
    if (inside) {
      value = static_cast<T>(to_float(
          data[place_of(vectors_are_rows, rank, length, vector + column, position + depth)]));
    }
    tile[depth][column] = value;
  }
}

template <class T>
struct GramRoom {
  T left[kDepth][kPadded];
  T right[kDepth][kPadded];
};

template <class P>
__global__ void __launch_bounds__(kThreads)
    gram_kernel(const GramArguments<Compute<P>> __grid_constant__ arguments) {
  using T = Compute<P>;
  constexpr unsigned kRows = 4, kColumns = 2;  // sums per thread
  __shared__ GramRoom<T> room;
  __shared__ T sums[kWarps][kTile * kTile];
  const FactorTable& factors = arguments.factors;
  const unsigned factor = find_last(factors.first_block, factors.count, blockIdx.x);
  const std::uint32_t rank = factors.rank[factor];
  const std::uint32_t length = factors.length[factor];
  const bool by_rows = factors.vectors_are_rows[factor] != 0;
  const P* const data = static_cast<const P*>(factors.data[factor]);
  const std::uint32_t block = blockIdx.x - factors.first_block[factor];
  const std::uint32_t tiles = parts_of(rank, kTile);
  const std::uint32_t piece = block / (tiles * tiles);
  const std::uint32_t left = block / tiles % tiles * kTile;
  const std::uint32_t right = block % tiles * kTile;
  const std::uint32_t begin = piece * kPiece;
  const std::uint32_t end = smaller(length, begin + kPiece);
  const unsigned warp = threadIdx.x / kWarpSize;
  const unsigned lane = threadIdx.x % kWarpSize;
  const unsigned row = lane / (kTile / kColumns) * kRows;
  const unsigned column = lane % (kTile / kColumns) * kColumns;
  T own[kRows][kColumns] = {};
  for (std::uint32_t position = begin; position < end; position += kDepth) {
    load_tile(data, by_rows, rank, length, left, position, end, room.left);
    if (right != left) load_tile(data, by_rows, rank, length, right, position, end, room.right);
    __syncthreads();
    const auto& other = right != left ? room.right : room.left;
#pragma unroll
    for (unsigned depth = warp; depth < kDepth; depth += kWarps) {
#pragma unroll
      for (unsigned i = 0; i < kRows; ++i) {
#pragma unroll
        for (unsigned j = 0; j < kColumns; ++j) {
          own[i][j] += room.left[depth][row + i] * other[depth][column + j];
        }
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (unsigned i = 0; i < kRows; ++i) {
#pragma unroll
    for (unsigned j = 0; j < kColumns; ++j) sums[warp][(row + i) * kTile + column + j] = own[i][j];
  }
  __syncthreads();
  const std::uint32_t i = left + threadIdx.x / kTile;
  const std::uint32_t j = right + threadIdx.x % kTile;
  if (i >= rank || j >= rank) return;
  T total = 0;
  for (unsigned w = 0; w < kWarps; ++w) total += sums[w][threadIdx.x];
  arguments.partials[factors.first_partial[factor] + std::uint64_t{piece} * rank * rank +
                     std::uint64_t{i} * rank + j] = total;
}

template <class T>
struct ResidualArguments {
  FactorTable factors;
  const T* partials;
  T* grams;
  double* norms;
};

/// One block per factor.
template <class T>
__global__ void __launch_bounds__(kThreads)
    residual_kernel(const ResidualArguments<T> __grid_constant__ arguments) {
  __shared__ double room[kWarps];
  const FactorTable& factors = arguments.factors;
  const unsigned factor = blockIdx.x;
  const std::uint32_t rank = factors.rank[factor];
  const std::uint64_t entries = std::uint64_t{rank} * rank;
  const std::uint32_t pieces = parts_of(factors.length[factor], kPiece);
  const T* const partials = arguments.partials + factors.first_partial[factor];
  double squares = 0.0;
  for (std::uint64_t at = threadIdx.x; at < entries; at += kThreads) {
    T value = at / rank == at % rank ? T{-1} : T{0};
    for (std::uint32_t piece = 0; piece < pieces; ++piece) value += partials[piece * entries + at];
    arguments.grams[factors.first_gram[factor] + at] = value;
    squares += static_cast<double>(value) * static_cast<double>(value);
  }
  const double total = block_sum(squares, room);
  if (threadIdx.x == 0) arguments.norms[factors.first_factor + factor] = sqrt(total);
}

template <class P>
struct MeanArguments {
  const double* norms;
  std::int64_t count;
  P* penalty;
};

template <class P>
__global__ void __launch_bounds__(kThreads)
    mean_kernel(const MeanArguments<P> __grid_constant__ arguments) {
  __shared__ double room[kWarps];
  double sum = 0.0;
#pragma unroll 1  // twice in a model: copies of the body would never run
  for (std::int64_t i = threadIdx.x; i < arguments.count; i += kThreads) sum += arguments.norms[i];
  const double total = block_sum(sum, room);
  if (threadIdx.x == 0) {
    const double mean = total / static_cast<double>(arguments.count);
    *arguments.penalty = to_format<P>(static_cast<Compute<P>>(mean));
  }
}

template <class P>
struct GradientArguments {
  FactorTable factors;
  const Compute<P>* grams;
  const double* norms;
  const P* grad;
  std::int64_t factor_count;  ///< of all launches
};

/// For A: this thread's position of all vectors, 16 of them at a time.
template <class P, class T>
__device__ void write_rows(const P* factor, const T* residual, T scale, std::uint32_t rank,
                           std::uint32_t length, std::uint32_t position, P* gradient) {
  for (std::uint32_t first = 0; first < rank; first += kTile) {
    T sums[kTile] = {};
    for (std::uint32_t j = 0; j < rank; ++j) {
      const T value = static_cast<T>(to_float(factor[std::uint64_t{j} * length + position]));
#pragma unroll
      for (std::uint32_t i = 0; i < kTile; ++i) {
        if (first + i < rank) sums[i] += residual[std::uint64_t{first + i} * rank + j] * value;
      }
    }
#pragma unroll
    for (std::uint32_t i = 0; i < kTile; ++i) {
      if (first + i < rank) {
        gradient[std::uint64_t{first + i} * length + position] = to_format<P>(scale * sums[i]);
      }
    }
  }
}

/// For B: the entries of a piece in the order of memory. A piece has fewer than 2^32 entries, so
/// that no index needs a division of 64 bits.
template <class P, class T>
__device__ void write_columns(const P* factor, const T* residual, T scale, std::uint32_t rank,
                              std::uint32_t length, std::uint32_t begin, P* gradient) {
  const std::uint64_t start = std::uint64_t{begin} * rank;
  const std::uint32_t count = smaller(length - begin, kGradientPiece) * rank;
  for (std::uint32_t at = threadIdx.x; at < count; at += kThreads) {
    const std::uint32_t column = at % rank;
    const P* const row = factor + start + (at - column);
    T sum = 0;
    for (std::uint32_t i = 0; i < rank; ++i) {
      sum += static_cast<T>(to_float(row[i])) * residual[std::uint64_t{i} * rank + column];
    }
    gradient[start + at] = to_format<P>(scale * sum);
  }
}

template <class P>
__global__ void __launch_bounds__(kThreads)
    gradient_kernel(const GradientArguments<P> __grid_constant__ arguments) {
  using T = Compute<P>;
  const FactorTable& factors = arguments.factors;
  const unsigned index = find_last(factors.first_block, factors.count, blockIdx.x);
  const std::uint32_t rank = factors.rank[index];
  const std::uint32_t length = factors.length[index];
  const std::uint32_t begin = (blockIdx.x - factors.first_block[index]) * kGradientPiece;
  const T* const residual = arguments.grams + factors.first_gram[index];
  const P* const factor = static_cast<const P*>(factors.data[index]);
  P* const gradient = static_cast<P*>(factors.gradients[index]);
  const auto upstream = static_cast<double>(to_float(*arguments.grad));
  const T scale = static_cast<T>(residual_factor(upstream, arguments.factor_count,
                                                 arguments.norms[factors.first_factor + index]));
  if (factors.vectors_are_rows[index] == 0) {
    write_columns(factor, residual, scale, rank, length, begin, gradient);
  } else if (begin + threadIdx.x < length) {
    write_rows(factor, residual, scale, rank, length, begin + threadIdx.x, gradient);
  }
}

}  // namespace

#ifndef __CUDACC_RTC__  // the host's part

namespace {

std::int64_t pieces_of(const Factor& factor) { return parts_of(narrow(factor.length()), kPiece); }

/// Blocks of `gram_kernel` for one factor.
std::int64_t gram_blocks(const Factor& factor) {
  const std::int64_t tiles = parts_of(narrow(factor.rank()), kTile);
  return tiles * tiles * pieces_of(factor);
}

std::int64_t gradient_blocks(const Factor& factor) {
  return factor.rank() == 0 ? 0 : parts_of(narrow(factor.length()), kGradientPiece);
}

/// Calls `flush(table, blocks)` for as many factors at a time as a table holds.
template <class Flush>
void for_each_table(FactorTable& table, std::span<const Factor> factors,
                    std::span<const MatrixView> gradients,
                    std::int64_t (*blocks_of)(const Factor& factor), const Flush& flush) {
  std::uint64_t gram = 0, partial = 0;
  std::int64_t blocks = 0;
  for (std::size_t i = 0; i < factors.size(); ++i) {
    const Factor& factor = factors[i];
    const auto entries = static_cast<std::uint64_t>(factor.rank() * factor.rank());
    if (table.count == table.kFactors || blocks > kLargestCount / 2) {
      flush(table, blocks);
      table.first_factor += table.count;
      table.count = 0;
      blocks = 0;
    }
    const unsigned at = table.count++;
    table.data[at] = factor.matrix.data;
    table.gradients[at] = gradients.empty() ? nullptr : gradients[i].data;
    table.first_gram[at] = gram;
    table.first_partial[at] = partial;
    table.rank[at] = narrow(factor.rank());
    table.length[at] = narrow(factor.length());
    table.first_block[at] = narrow(blocks);
    table.vectors_are_rows[at] = factor.vectors_are_rows ? 1 : 0;
    gram += entries;
    partial += entries * static_cast<std::uint64_t>(pieces_of(factor));
    blocks += blocks_of(factor);
  }
  flush(table, blocks);
}

template <class P>
void penalty_of(std::span<const Factor> factors, void* partials, void* grams, double* norms,
                void* penalty, const Stream& stream) {
  using T = Compute<P>;
  GramArguments<T> gram;
  gram.partials = static_cast<T*>(partials);
  for_each_table(gram.factors, factors, {}, gram_blocks,
                 [&](const FactorTable&, std::int64_t blocks) {
                   launch<gram_kernel<P>>(blocks, kThreads, stream, gram);
                 });
  ResidualArguments<T> residual;
  residual.partials = static_cast<const T*>(partials);
  residual.grams = static_cast<T*>(grams);
  residual.norms = norms;
  for_each_table(residual.factors, factors, {}, gram_blocks,
                 [&](const FactorTable& table, std::int64_t) {
                   launch<residual_kernel<T>>(table.count, kThreads, stream, residual);
                 });
  MeanArguments<P> mean{norms, static_cast<std::int64_t>(factors.size()), static_cast<P*>(penalty)};
  launch<mean_kernel<P>>(1, kThreads, stream, mean);
}

}  // namespace

std::int64_t gram_room(std::span<const Factor> factors) {
  std::int64_t room = 0;
  for (const Factor& factor : factors) {
    room += factor.rank() * factor.rank() * pieces_of(factor);
  }
  return room;
}

void orthogonality_penalty(std::span<const Factor> factors, void* partials, void* grams,
                           double* norms, void* penalty, const Stream& stream) {
  if (factors.empty()) return;
  const CurrentDevice current(stream.device);
  with_format(factors.front().matrix.dtype, [&](auto format) {
    penalty_of<decltype(format)>(factors, partials, grams, norms, penalty, stream);
  });
}

void orthogonality_gradient(std::span<const Factor> factors, const void* grams, const double* norms,
                            const void* grad, std::span<const MatrixView> gradients,
                            const Stream& stream) {
  if (factors.empty()) return;
  const CurrentDevice current(stream.device);
  with_format(factors.front().matrix.dtype, [&](auto format) {
    using P = decltype(format);
    GradientArguments<P> arguments;
    arguments.grams = static_cast<const Compute<P>*>(grams);
    arguments.norms = norms;
    arguments.grad = static_cast<const P*>(grad);
    arguments.factor_count = static_cast<std::int64_t>(factors.size());
    for_each_table(arguments.factors, factors, gradients, gradient_blocks,
                   [&](const FactorTable&, std::int64_t blocks) {
                     launch<gradient_kernel<P>>(blocks, kThreads, stream, arguments);
                   });
  });
}

#endif

}  // namespace adalora::cuda
