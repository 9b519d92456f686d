#pragma once
/// The parts of svd_linear that are not dense products; see adalora/svd_linear.hpp.
///
/// On a GPU the products run in the dtype X of the layer's input, on tensor cores where X has them:
///   A' [p, in] = scale * E * A      B' [out, p] = B      p = r, rounded up to rows of 16 bytes
///   hidden = drop(x) A'^T           output = base_output + hidden B'^T
/// The gradients of A' and B' become those of A, E and B:
///   dA = scale * E * dA'            dE = scale * (row sums of dA' * A)            dB = dB'

#include <cstdint>

#include "adalora/svd_linear.hpp"
#include "cuda/launch.hpp"

namespace adalora::cuda {

/// A' and B', and in the backward pass their gradients.
struct Folded {
  MatrixView A;
  MatrixView B;
};

/// p for factors of rank `rank` that are multiplied in `dtype`.
constexpr std::int64_t padded_rank(std::int64_t rank, DType dtype) {
  const auto step = static_cast<std::int64_t>(kVectorBytes / item_size(dtype));
  return (rank + step - 1) / step * step;
}

/// Writes A' and B', which have one dtype, in one launch; the padding is zero. All contiguous.
void fold_factors(const Triplets& triplets, double scale, const Folded& folded,
                  const Stream& stream);

/// Turns the gradients of A' and B' into those of the factors, in one launch; absent ones are not
/// computed. The gradients of A and E need that of A', the gradient of B that of B'. The gradients
/// of A' and B' have one dtype. All contiguous.
void unfold_gradients(const Folded& gradients, const Triplets& triplets, double scale,
                      const Triplets& wanted, const Stream& stream);

/// output = x with entries dropped, which a hash of (seed, row, column) chooses, and the others
/// scaled. `seed` is one number on the device, so that each replay of a captured graph can drop
/// other entries. `output` may be `x`. Both contiguous, of one dtype.
void drop(const MatrixView& x, double probability, const std::int64_t* seed,
          const MatrixView& output, const Stream& stream);

}  // namespace adalora::cuda
