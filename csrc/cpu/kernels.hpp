#pragma once
/// The inner loops, one table of them per instruction set.
///
/// kernels_*.cpp are compiled once per set (kernels.cmake) in a namespace of their own and include
/// no code of the standard library, so that the linker can never put instructions of one set into
/// the path of another. Everything around the loops is compiled once, for every machine.

#include <cstdint>

#include "adalora/arithmetic/importance.hpp"
#include "adalora/arithmetic/number_formats.hpp"
#include "adalora/view.hpp"

namespace adalora {

/// Largest number of entries that one call of `ImportanceKernels::span` handles if scores are
/// wanted.
inline constexpr std::int64_t kScoreBlock = 512;

/// P is the type of parameter and gradient in memory, T the compute type.
template <class P, class T>
struct ImportanceKernels {
  /// Updates `count` averages; returns the number of skipped entries. If `g` is null nothing is
  /// updated; if `scores` is not null it gets smoothed * uncertainty.
  std::int64_t (*span)(const P* p, const P* g, T* smoothed, T* uncertainty, std::int64_t count,
                       const Smoothing<T>& smoothing, T* scores);
};

template <class T>
struct ReductionKernels {
  /// Sum of `count` values, in 16 lanes with every instruction set.
  T (*sum)(const T* values, std::int64_t count);
  /// sums[j] += values[i * cols + j] for each row i in turn.
  void (*add_rows)(const T* values, std::int64_t rows, std::int64_t cols, T* sums);
};

/// Products of a long matrix X or Y, of any dtype, with a small factor W of r rows; H and G are of
/// the compute type. Leading dimensions (`ld*`) are in elements, all rows are contiguous.
template <class T>
struct SkinnyKernels {
  /// H[n, r] += X[n, k] W[r, k]^T
  void (*project)(const void* X, std::int64_t ldx, const void* W, std::int64_t ldw, T* H,
                  std::int64_t ldh, std::int64_t n, std::int64_t k, std::int64_t r);
  /// Y[n, k] = base[n, k] + H[n, r] W[r, k]; without the base if it is null; base may be Y.
  void (*expand)(const T* H, std::int64_t ldh, const void* W, std::int64_t ldw, const void* base,
                 std::int64_t ld_base, void* Y, std::int64_t ldy, std::int64_t n, std::int64_t k,
                 std::int64_t r);
  /// G[r, k] += H[n, r]^T X[n, k]
  void (*correlate)(const T* H, std::int64_t ldh, const void* X, std::int64_t ldx, T* G,
                    std::int64_t ldg, std::int64_t n, std::int64_t k, std::int64_t r);
};

/// The base is for long matrices of T; W holds rows of T.
template <class T>
struct ProductKernels : SkinnyKernels<T> {
  /// The same for long matrices of another dtype; null where they have to be converted first.
  SkinnyKernels<T> of[kDTypeCount];
  /// out[c, r] = in[r, c]
  void (*transpose)(const T* in, std::int64_t ld_in, T* out, std::int64_t ld_out, std::int64_t rows,
                    std::int64_t cols);
  /// Converts `count` adjacent values from `dtype` to T, and back.
  void (*load[kDTypeCount])(const void* from, T* to, std::int64_t count);
  void (*store[kDTypeCount])(const T* from, void* to, std::int64_t count);
  /// Sets values[i] to zero where a hash of (key, first + i) is below `threshold`.
  void (*mask[kDTypeCount])(void* values, std::int64_t count, std::uint64_t key,
                            std::uint32_t first, std::uint32_t threshold);
};

/// Two bfloat16 values that a dot-product instruction multiplies at once.
struct BFloat16Pair {
  BFloat16 first, second;
};

/// The largest r of `DotKernels::expand`; products of more ranks are computed in float.
inline constexpr std::int64_t kMostDotRanks = 256;

/// Products where the long matrix and W are both bfloat16, for sets that multiply such pairs; null
/// elsewhere. H is rounded to bfloat16 on the way into `expand` and `correlate`, sums are float,
/// and subnormal numbers count as zero.
struct DotKernels : SkinnyKernels<float> {
  /// out[c, r] = in[r, c]
  void (*transpose)(const BFloat16* in, std::int64_t ld_in, BFloat16* out, std::int64_t ld_out,
                    std::int64_t rows, std::int64_t cols);
  /// out[j, c] = (W[2 j, c], W[2 j + 1, c]), zero for a row that is not there: W of `expand`.
  void (*pair_rows)(const BFloat16* W, std::int64_t ldw, BFloat16Pair* out, std::int64_t ld_out,
                    std::int64_t rows, std::int64_t cols);
};

struct KernelTable {
  const char* isa;
  ImportanceKernels<float, float> importance_float32;
  ImportanceKernels<double, double> importance_float64;
  ImportanceKernels<BFloat16, float> importance_bfloat16;
  ImportanceKernels<Float16, float> importance_float16;
  ReductionKernels<float> reduce_float;
  ReductionKernels<double> reduce_double;
  ProductKernels<float> product_float;
  ProductKernels<double> product_double;
  DotKernels dot_bfloat16;
};

template <class T>
const ProductKernels<T>& product_kernels(const KernelTable& table) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return table.product_float;
  } else {
    return table.product_double;
  }
}

template <class T>
const ReductionKernels<T>& reduction_kernels(const KernelTable& table) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return table.reduce_float;
  } else {
    return table.reduce_double;
  }
}

/// The table of the chosen instruction set; see isa.hpp.
const KernelTable& kernels();

}  // namespace adalora
