/// The small passes around the dense products of svd_linear: their time is that of their launch.

#include "adalora/arithmetic/dropout.hpp"
#include "cuda/device.hpp"

#ifndef __CUDACC_RTC__
#include "cuda/launch.hpp"
#include "cuda/svd_linear.hpp"
#endif

namespace adalora::cuda {

namespace {

template <class P, class X>
struct FoldArguments {
  const P* A;
  const P* E;
  const P* B;
  X* folded_A;
  X* folded_B;
  Compute<P> scale;
  std::uint32_t rank;
  std::uint32_t padded;
  std::uint32_t in;
  std::uint32_t out;
  std::uint32_t blocks_of_A;  ///< the blocks after them write B'
};

/// Each thread writes one pack; a pack of A' may extend past the end of a row.
template <class P, class X>
__device__ void fold_A(const FoldArguments<P, X>& arguments, std::uint32_t pack) {
  constexpr unsigned kPack = kPackOf<P, X>;
  const std::uint32_t begin = pack * kPack;
  const std::uint32_t entries = arguments.padded * arguments.in;
  const std::uint32_t known = arguments.rank * arguments.in;
  if (begin >= entries) return;
  Pack<P, kPack> values{};
  if (begin + kPack <= known) {
    values = read_pack<kPack>(arguments.A + begin, is_aligned(arguments.A));
  } else {
#pragma unroll
    for (unsigned i = 0; i < kPack; ++i) {
      if (begin + i < known) values.values[i] = arguments.A[begin + i];
    }
  }
  const auto factor_of = [&](std::uint32_t row) {
    return row < arguments.rank ? arguments.scale * to_float(arguments.E[row]) : Compute<P>{0};
  };
  // One division for the first entry; the others follow by counting.
  std::uint32_t row = begin / arguments.in;
  std::uint32_t column = begin % arguments.in;
  Compute<P> factor = factor_of(row);
  Pack<X, kPack> result;
#pragma unroll
  for (unsigned i = 0; i < kPack; ++i) {
    if (i > 0 && column == arguments.in) {
      column = 0;
      factor = factor_of(++row);
    }
    ++column;
    result.values[i] = to_format<X>(factor * static_cast<Compute<P>>(to_float(values.values[i])));
  }
  // p rows of any length are whole packs: p is a multiple of the pack.
  write_pack<kPack>(arguments.folded_A + begin, result, is_aligned(arguments.folded_A));
}

/// Entries of a row of B or B' that a thread moves at a time: common ranks are multiples of four.
template <class P, class X>
inline constexpr unsigned kPartOf = kPackOf<P, X> < 4 ? kPackOf<P, X> : 4;

template <class P, class X>
__device__ void fold_B(const FoldArguments<P, X>& arguments, std::uint32_t part) {
  constexpr unsigned kPart = kPartOf<P, X>;
  const std::uint32_t begin = part * kPart;
  const std::uint32_t row = begin / arguments.padded;
  if (row >= arguments.out) return;
  const std::uint32_t column = begin % arguments.padded;
  const auto values = read_part<kPart>(arguments.B + row * arguments.rank, column, arguments.rank,
                                       is_divided<kPart>(arguments.B, arguments.rank));
  Pack<X, kPart> result;
#pragma unroll
  for (unsigned i = 0; i < kPart; ++i) {
    result.values[i] = to_format<X>(static_cast<Compute<P>>(to_float(values.values[i])));
  }
  write_pack<kPart>(arguments.folded_B + begin, result, is_aligned(arguments.folded_B));
}

template <class P, class X>
__global__ void __launch_bounds__(kThreads)
    fold_kernel(const FoldArguments<P, X> __grid_constant__ arguments) {
  if (blockIdx.x < arguments.blocks_of_A) {
    fold_A(arguments, blockIdx.x * kThreads + threadIdx.x);
  } else {
    fold_B(arguments, (blockIdx.x - arguments.blocks_of_A) * kThreads + threadIdx.x);
  }
}

template <class D, class P>
struct UnfoldArguments {
  const D* grad_folded_A;
  const D* grad_folded_B;
  const P* A;
  const P* E;
  P* grad_A;
  P* grad_E;
  P* grad_B;
  Compute<P> scale;
  std::uint32_t rank;
  std::uint32_t padded;
  std::uint32_t in;
  std::uint32_t out;
  std::uint32_t blocks_of_A;  ///< one per triplet; the blocks after them write dB
};

/// One row of dA and its entry of dE, summed in one order.
template <class D, class P>
__device__ void unfold_A(const UnfoldArguments<D, P>& arguments, std::uint32_t triplet) {
  using T = Compute<P>;
  __shared__ T room[kWarps];
  constexpr unsigned kPack = kPackOf<D, P>;
  const std::uint64_t begin = std::uint64_t{triplet} * arguments.in;
  const D* const from = arguments.grad_folded_A + begin;
  const P* const row = arguments.A + begin;
  P* const to = arguments.grad_A == nullptr ? nullptr : arguments.grad_A + begin;
  const T factor = arguments.scale * to_float(arguments.E[triplet]);
  T sum = 0;
  // A row that is not wanted is a null pointer, which is aligned.
  const std::uint32_t packs = is_aligned(from, row, to) ? arguments.in / kPack : 0;
#pragma unroll 1  // two packs at a time do not fit into the registers that ptxas plans for sm_120
  for (std::uint32_t pack = threadIdx.x; pack < packs; pack += kThreads) {
    const std::uint32_t at = pack * kPack;
    const auto grads = read_pack<kPack>(from + at, true);
    const auto values = read_pack<kPack>(row + at, true);
    Pack<P, kPack> result;
#pragma unroll
    for (unsigned i = 0; i < kPack; ++i) {
      const T grad = static_cast<T>(to_float(grads.values[i]));
      sum += grad * static_cast<T>(to_float(values.values[i]));
      result.values[i] = to_format<P>(factor * grad);
    }
    if (to != nullptr) write_pack<kPack>(to + at, result, true);
  }
  for (std::uint32_t at = packs * kPack + threadIdx.x; at < arguments.in; at += kThreads) {
    const T grad = static_cast<T>(to_float(from[at]));
    sum += grad * static_cast<T>(to_float(row[at]));
    if (to != nullptr) to[at] = to_format<P>(factor * grad);
  }
  const T total = block_sum(sum, room);
  if (threadIdx.x == 0 && arguments.grad_E != nullptr) {
    arguments.grad_E[triplet] = to_format<P>(arguments.scale * total);
  }
}

template <class D, class P>
__device__ void unfold_B(const UnfoldArguments<D, P>& arguments, std::uint32_t part) {
  constexpr unsigned kPart = kPartOf<D, P>;
  const std::uint32_t parts = parts_of(arguments.rank, kPart);
  const std::uint64_t row = part / parts;
  if (row >= arguments.out) return;
  const std::uint32_t column = part % parts * kPart;
  const auto grads = read_pack<kPart>(arguments.grad_folded_B + row * arguments.padded + column,
                                      is_aligned(arguments.grad_folded_B));
  Pack<P, kPart> result;
#pragma unroll
  for (unsigned i = 0; i < kPart; ++i) {
    result.values[i] = to_format<P>(static_cast<Compute<P>>(to_float(grads.values[i])));
  }
  write_part<kPart>(arguments.grad_B + row * arguments.rank, column, arguments.rank, result,
                    is_divided<kPart>(arguments.grad_B, arguments.rank));
}

template <class D, class P>
__global__ void __launch_bounds__(kThreads)
    unfold_kernel(const UnfoldArguments<D, P> __grid_constant__ arguments) {
  if (blockIdx.x < arguments.blocks_of_A) {
    unfold_A(arguments, blockIdx.x);
  } else {
    unfold_B(arguments, (blockIdx.x - arguments.blocks_of_A) * kThreads + threadIdx.x);
  }
}

/// Packs of one row that a thread handles, with one key.
constexpr unsigned kDropPacks = 4;

template <class X>
struct DropArguments {
  static constexpr unsigned kOfWarp = kDropPacks * kWarpSize * kPackOf<X>;  ///< entries of a row

  const X* x;
  X* output;
  const std::int64_t* seed;
  std::uint32_t rows;
  std::uint32_t cols;
  std::uint32_t warps;  ///< per row
  std::uint32_t threshold;
  Compute<X> kept_factor;
};

/// Each warp handles a part of one row; the last pack of a row may be shorter.
template <class X>
__global__ void __launch_bounds__(kThreads)
    drop_kernel(const DropArguments<X> __grid_constant__ arguments) {
  constexpr unsigned kPack = kPackOf<X>;
  const std::uint32_t warp = blockIdx.x * kWarps + threadIdx.x / kWarpSize;
  const std::uint32_t row = warp / arguments.warps;
  if (row >= arguments.rows) return;
  const std::uint32_t begin = warp % arguments.warps * arguments.kOfWarp;
  const std::uint32_t end = begin + smaller(arguments.cols - begin, arguments.kOfWarp);
  const std::uint64_t key = drop_row_key(static_cast<std::uint64_t>(*arguments.seed), row);
  const X* const from = arguments.x + std::uint64_t{row} * arguments.cols;
  X* const to = arguments.output + std::uint64_t{row} * arguments.cols;
  const bool aligned = is_aligned(from, to);
#pragma unroll 1
  for (std::uint32_t col = begin + threadIdx.x % kWarpSize * kPack; col < end;
       col += kWarpSize * kPack) {
    const std::uint64_t of_pack = key ^ col;  // of a multiple of the pack: col + i is col ^ i
    const auto dropped = [&](X value, unsigned i) {
      const Compute<X> factor =
          drop_draw(of_pack, i) >= arguments.threshold ? arguments.kept_factor : Compute<X>{0};
      return to_format<X>(static_cast<Compute<X>>(to_float(value)) * factor);
    };
    const bool whole = aligned && end - col >= kPack;
    auto values = read_part<kPack>(from, col, end, whole);
#pragma unroll
    for (unsigned i = 0; i < kPack; ++i) values.values[i] = dropped(values.values[i], i);
    write_part<kPack>(to, col, end, values, whole);
  }
}

}  // namespace

#ifndef __CUDACC_RTC__  // the host's part

namespace {

/// Blocks whose threads take so many of the entries each; a kernel counts them in 32 bits.
std::uint32_t blocks_for(std::int64_t entries, unsigned each) {
  return parts_of(narrow(entries), each * kThreads);
}

template <class P, class X>
void fold(const Triplets& triplets, double scale, const Folded& folded, const Stream& stream) {
  const std::uint32_t blocks_of_A = blocks_for(folded.A.rows * folded.A.cols, kPackOf<P, X>);
  const std::uint32_t blocks_of_B = blocks_for(folded.B.rows * folded.B.cols, kPartOf<P, X>);
  FoldArguments<P, X> arguments{static_cast<const P*>(triplets.A.data),
                                static_cast<const P*>(triplets.E.data),
                                static_cast<const P*>(triplets.B.data),
                                static_cast<X*>(folded.A.data),
                                static_cast<X*>(folded.B.data),
                                static_cast<Compute<P>>(scale),
                                narrow(triplets.A.rows),
                                narrow(folded.A.rows),
                                narrow(triplets.A.cols),
                                narrow(triplets.B.rows),
                                blocks_of_A};
  launch<fold_kernel<P, X>>(blocks_of_A + blocks_of_B, kThreads, stream, arguments);
}

template <class D, class P>
void unfold(const Folded& gradients, const Triplets& triplets, double scale, const Triplets& wanted,
            const Stream& stream) {
  const std::int64_t rank = triplets.A.rows;
  const bool of_A = wanted.A.present() || wanted.E.present();
  constexpr unsigned kPart = kPartOf<D, P>;
  const std::int64_t entries_of_B = triplets.B.rows * parts_of(narrow(rank), kPart) * kPart;
  const std::uint32_t blocks_of_B = wanted.B.present() ? blocks_for(entries_of_B, kPart) : 0;
  UnfoldArguments<D, P> arguments{
      static_cast<const D*>(gradients.A.data),
      static_cast<const D*>(gradients.B.data),
      static_cast<const P*>(triplets.A.data),
      static_cast<const P*>(triplets.E.data),
      static_cast<P*>(wanted.A.data),
      static_cast<P*>(wanted.E.data),
      static_cast<P*>(wanted.B.data),
      static_cast<Compute<P>>(scale),
      narrow(rank),
      narrow(gradients.A.present() ? gradients.A.rows : gradients.B.cols),
      narrow(triplets.A.cols),
      narrow(triplets.B.rows),
      of_A ? narrow(rank) : 0};
  launch<unfold_kernel<D, P>>(arguments.blocks_of_A + blocks_of_B, kThreads, stream, arguments);
}

}  // namespace

void fold_factors(const Triplets& triplets, double scale, const Folded& folded,
                  const Stream& stream) {
  const CurrentDevice current(stream.device);
  with_format(triplets.A.dtype, [&](auto factor) {
    with_format(folded.A.dtype, [&](auto product) {
      fold<decltype(factor), decltype(product)>(triplets, scale, folded, stream);
    });
  });
}

void unfold_gradients(const Folded& gradients, const Triplets& triplets, double scale,
                      const Triplets& wanted, const Stream& stream) {
  const CurrentDevice current(stream.device);
  const MatrixView& given = gradients.A.present() ? gradients.A : gradients.B;
  with_format(given.dtype, [&](auto gradient) {
    with_format(triplets.A.dtype, [&](auto factor) {
      unfold<decltype(gradient), decltype(factor)>(gradients, triplets, scale, wanted, stream);
    });
  });
}

void drop(const MatrixView& x, double probability, const std::int64_t* seed,
          const MatrixView& output, const Stream& stream) {
  const CurrentDevice current(stream.device);
  with_format(x.dtype, [&](auto format) {
    using X = decltype(format);
    const std::uint32_t warps = parts_of(narrow(x.cols), DropArguments<X>::kOfWarp);
    DropArguments<X> arguments{static_cast<const X*>(x.data),
                               static_cast<X*>(output.data),
                               seed,
                               narrow(x.rows),
                               narrow(x.cols),
                               warps,
                               drop_threshold(probability),
                               static_cast<Compute<X>>(1.0 / (1.0 - probability))};
    launch<drop_kernel<X>>(parts_of(narrow(x.rows * warps), kWarps), kThreads, stream, arguments);
  });
}

#endif

}  // namespace adalora::cuda
