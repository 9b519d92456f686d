/// The residuals of all factors at once. A block multiplies 16 vectors of a factor with 16 others
/// over a piece of the long side: both tiles pass through shared memory, where each lane takes four
/// vectors by four others at some of the positions. What lies below the diagonal is not computed.
/// A second kernel adds the pieces in order, a third the norms, so results do not depend on
/// scheduling.

#include "adalora/arithmetic/orthogonality.hpp"
#include "cuda/device.hpp"
#include "cuda/factor_tiles.hpp"

#ifndef __CUDACC_RTC__
#include "cuda/launch.hpp"
#include "cuda/orthogonality.hpp"
#endif

namespace adalora::cuda {

namespace {

constexpr std::uint32_t kPiece = 2048;  // positions of the long side per block

/// Four vectors of a tile by four of another: the products that a lane sums. Of a tile by itself
/// only those on and above the diagonal.
struct Task {
  unsigned row, column;  ///< the first vectors
  unsigned width;        ///< lanes that have all tasks together: a power of two, at least kFewest
  bool is_own;           ///< whether the lane is the first of those with this task

  /// So that there are as many positions in a tile as a block takes at a time.
  static constexpr unsigned kFewest = kThreads / kDepth;

  __device__ Task(unsigned parts, bool diagonal) : row(0), width(kFewest) {
    const unsigned tasks = diagonal ? parts * (parts + 1) / 2 : parts * parts;
    while (width < tasks) width *= 2;
    const unsigned lane = threadIdx.x % kWarpSize;
    is_own = lane < tasks;
    column = smaller(lane % width, tasks - 1);
    for (unsigned of_row = parts; column >= of_row; of_row -= diagonal ? 1 : 0) {
      column -= of_row;
      ++row;
    }
    column = (column + (diagonal ? row : 0)) * kPart;
    row *= kPart;
  }
};

/// Adds the sums of the lanes of a warp that are `width` apart, in every lane.
template <class T>
__device__ void add_lanes(Pack<T, kPart> (&sums)[kPart], unsigned width) {
  for (unsigned distance = width; distance < kWarpSize; distance *= 2) {
#pragma unroll
    for (unsigned i = 0; i < kPart; ++i) {
#pragma unroll
      for (unsigned j = 0; j < kPart; ++j) {
        sums[i].values[j] += __shfl_xor_sync(kAllLanes, sums[i].values[j], distance);
      }
    }
  }
}

template <class T>
struct GramArguments {
  FactorTable factors;
  T* partials;
};

template <class P>
__global__ void __launch_bounds__(kThreads)
    gram_kernel(const GramArguments<Compute<P>> __grid_constant__ arguments) {
  using T = Compute<P>;
  alignas(kVectorBytes) __shared__ T tiles[2][kDepth][kPadded];
  alignas(kVectorBytes) __shared__ T sums[kWarps][kTile * kTile];
  const FactorTable& factors = arguments.factors;
  const unsigned index = find_last(factors.first_block, factors.count, blockIdx.x);
  const std::uint32_t rank = factors.rank[index];
  const P* const data = static_cast<const P*>(factors.data[index]);
  const std::uint32_t block = blockIdx.x - factors.first_block[index];
  const std::uint32_t tiles_across = parts_of(rank, kTile);
  const std::uint32_t piece = block / (tiles_across * tiles_across);
  const std::uint32_t left = block / tiles_across % tiles_across * kTile;
  const std::uint32_t right = block % tiles_across * kTile;
  if (right < left) return;  // the mirror image of another block
  const bool diagonal = left == right;
  const std::uint32_t begin = piece * kPiece;
  const std::uint32_t end = smaller(factors.length[index], begin + kPiece);
  const Tiled<P> factor(factors, index);
  const Task task(factor.parts(), diagonal);
  const unsigned warp = threadIdx.x / kWarpSize;
  const unsigned at_a_time = kWarpSize / task.width;  // positions of a warp
  const unsigned first = warp * at_a_time + threadIdx.x % kWarpSize / task.width;
  Pack<T, kPart> own[kPart] = {};
  for (std::uint32_t position = begin; position < end; position += kDepth) {
#pragma unroll 1  // a copy of the body would double the kernel
    for (unsigned side = 0; side < (diagonal ? 1 : 2); ++side) {
      factor.load(data, side == 0 ? left : right, position, tiles[side]);
    }
    __syncthreads();
    const T* a = &tiles[0][first][task.row];
    const T* b = &(diagonal ? tiles[0] : tiles[1])[first][task.column];
    for (unsigned depth = first; depth < kDepth; depth += kWarps * at_a_time) {
      const auto of_row = read_pack<kPart>(a, true);
      const auto of_column = read_pack<kPart>(b, true);
      a += kWarps * at_a_time * kPadded;
      b += kWarps * at_a_time * kPadded;
#pragma unroll
      for (unsigned i = 0; i < kPart; ++i) {
#pragma unroll
        for (unsigned j = 0; j < kPart; ++j) {
          own[i].values[j] += of_row.values[i] * of_column.values[j];
        }
      }
    }
    __syncthreads();
  }
  add_lanes(own, task.width);
  if (task.is_own) {
#pragma unroll
    for (unsigned i = 0; i < kPart; ++i) {
      write_pack<kPart>(&sums[warp][(task.row + i) * kTile + task.column], own[i], true);
    }
  }
  __syncthreads();
  const std::uint32_t i = threadIdx.x / kTile, j = threadIdx.x % kTile;
  if (left + i >= rank || right + j >= rank) return;
  const unsigned at = diagonal && i > j ? j * kTile + i : threadIdx.x;
  T total = 0;
  for (unsigned w = 0; w < kWarps; ++w) total += sums[w][at];
  T* const partials =
      arguments.partials + factors.first_partial[index] + std::uint64_t{piece} * rank * rank;
  partials[std::uint64_t{left + i} * rank + right + j] = total;
  if (!diagonal) partials[std::uint64_t{right + j} * rank + left + i] = total;
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
  const std::uint32_t entries = rank * rank;
  const std::uint32_t pieces = parts_of(factors.length[factor], kPiece);
  const T* const partials = arguments.partials + factors.first_partial[factor];
  double squares = 0.0;
  for (std::uint32_t at = threadIdx.x; at < entries; at += kThreads) {
    T value = at % (rank + 1) == 0 ? T{-1} : T{0};  // on the diagonal, or not
#pragma unroll 1  // a few times in a model: copies of the body would rarely run
    for (std::uint32_t piece = 0; piece < pieces; ++piece) {
      value += partials[std::uint64_t{piece} * entries + at];
    }
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

/// Adds 16 of the products that an entry of the gradient is the sum of, for four entries.
template <class T>
__device__ void add_products(const T (&values)[kPadded], const T (&residuals)[kTile][kTile],
                             unsigned vector, unsigned count, Pack<T, kPart>& sums) {
#pragma unroll 1  // more at a time do not fit into the registers that ptxas plans for sm_75
  for (unsigned k = 0; k < count; k += kPart) {
    const auto of_others = read_pack<kPart>(&values[k], true);
#pragma unroll
    for (unsigned l = 0; l < kPart; ++l) {
      const auto row = read_pack<kPart>(&residuals[k + l][vector], true);
#pragma unroll
      for (unsigned i = 0; i < kPart; ++i) sums.values[i] += of_others.values[l] * row.values[i];
    }
  }
}

/// A block has a piece of the long side. The residual is symmetric: one product serves A and B.
template <class P>
__global__ void __launch_bounds__(kThreads)
    gradient_kernel(const GradientArguments<P> __grid_constant__ arguments) {
  using T = Compute<P>;
  alignas(kVectorBytes) __shared__ T tile[kDepth][kPadded];
  alignas(kVectorBytes) __shared__ T residuals[kTile][kTile];
  const FactorTable& factors = arguments.factors;
  const unsigned index = find_last(factors.first_block, factors.count, blockIdx.x);
  const std::uint32_t rank = factors.rank[index];
  const std::uint32_t begin = (blockIdx.x - factors.first_block[index]) * kPiece;
  const std::uint32_t end = smaller(factors.length[index], begin + kPiece);
  const T* const residual = arguments.grams + factors.first_gram[index];
  const P* const data = static_cast<const P*>(factors.data[index]);
  const auto upstream = static_cast<double>(to_float(*arguments.grad));
  const T scale = static_cast<T>(residual_factor(upstream, arguments.factor_count,
                                                 arguments.norms[factors.first_factor + index]));
  const Tiled<P> factor(factors, index);
  const std::uint32_t i = threadIdx.x / kTile, j = threadIdx.x % kTile;
  for (std::uint32_t vector = 0; vector < rank; vector += kTile) {
    for (std::uint32_t position = begin; position < end; position += kDepth) {
      Pack<T, kPart> sums{};
      for (std::uint32_t other = 0; other < rank; other += kTile) {
        factor.load(data, other, position, tile);
        if (rank > kTile || position == begin) {
          const bool inside = other + i < rank && vector + j < rank;
          residuals[i][j] =
              inside ? scale * residual[std::uint64_t{other + i} * rank + vector + j] : T{0};
        }
        __syncthreads();
        if (factor.is_used()) {
          add_products(tile[factor.position()], residuals, factor.vector(),
                       smaller(rank - other, kTile), sums);
        }
        __syncthreads();
      }
      factor.store(static_cast<P*>(factors.gradients[index]), vector, position, sums);
    }
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
  return factor.rank() == 0 ? 0 : pieces_of(factor);
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
    const std::uint64_t entries = narrow(factor.rank() * factor.rank());
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
