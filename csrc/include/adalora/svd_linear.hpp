#pragma once
/// svd_linear: the adapter's part of a layer's output, forward and backward.

#include <cstdint>

#include "adalora/view.hpp"

namespace adalora {

/// Dropout on the adapter's input.
///
/// A hash of (seed, n, k) determines whether entry [n, k] of x is dropped; kept entries are divided
/// by (1 - probability). Nothing is stored: backward computes the same hash.
struct Dropout {
  double probability = 0.0;
  std::uint64_t seed = 0;

  bool active() const { return probability > 0.0; }
};

/// The three factors: A [r, in], E [r, 1], B [out, r], all of one dtype; r may be 0.
struct Triplets {
  MatrixView A;
  MatrixView E;
  MatrixView B;
};

/// output = base_output + scale * ((drop(x) A^T) * E^T) B^T            (paper equation 3)
///
/// x is [N, in], base_output and output are [N, out] and may be the same memory. `hidden` [N, r] in
/// the compute type of the factors, contiguous, gets drop(x) A^T for the backward pass. Sums run in
/// the compute type of the factors, in an order that does not depend on the number of threads.
void svd_linear_forward(const MatrixView& base_output, const MatrixView& x,
                        const Triplets& triplets, double scale, const Dropout& dropout,
                        const MatrixView& hidden, const MatrixView& output);

/// The outputs of the backward pass; a gradient whose view is absent is not computed.
struct SvdLinearGradients {
  MatrixView x;               ///< [N, in], the dtype of x
  Triplets triplets;          ///< the shapes and dtype of the factors
  bool accumulate_x = false;  ///< add to what `x` holds instead of overwriting it
};

/// The gradients for an output gradient `grad` [N, out].
///
/// With dZ = scale * grad B and dH = dZ * E^T:
///   dx = drop(dH A)                     dA = dH^T drop(x)
///   dE = column sums of dZ * hidden     dB = grad^T (scale * hidden * E^T)
void svd_linear_backward(const MatrixView& grad, const MatrixView& x, const MatrixView& hidden,
                         const Triplets& triplets, double scale, const Dropout& dropout,
                         const SvdLinearGradients& gradients);

}  // namespace adalora
