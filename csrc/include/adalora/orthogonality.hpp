#pragma once
/// orthogonality: the penalty that keeps the factors close to orthonormal, and its gradient.

#include <cstdint>
#include <span>

#include "adalora/view.hpp"

namespace adalora {

/// One factor: A [r, in], whose rows are the vectors, or B [out, r], whose columns are.
struct Factor {
  MatrixView matrix;
  bool vectors_are_rows = true;

  std::int64_t rank() const { return vectors_are_rows ? matrix.rows : matrix.cols; }
  std::int64_t length() const { return vectors_are_rows ? matrix.cols : matrix.rows; }
};

/// Returns the mean over all factors of `||M M^T - I||_F` (A) or `||M^T M - I||_F` (B).
///
/// Paper equation 4, but un-squared and averaged, as PEFT does. A factor of rank 0 counts as zero.
/// `grams`, in the compute type of the factors, gets the residuals (M M^T - I), [r, r] each, one
/// after the other; `norms` gets their norms, one per factor. The gradient needs both. All factors
/// have one dtype. The result does not depend on the number of threads.
double orthogonality_penalty(std::span<const Factor> factors, void* grams, double* norms);

/// Writes the gradient of the penalty times `grad`: `grad / count * 2 R M / ||R||` for a residual
/// R.
///
/// `gradients` has the factors' shapes and dtype. A zero norm has gradient zero.
void orthogonality_gradient(std::span<const Factor> factors, const void* grams, const double* norms,
                            double grad, std::span<const MatrixView> gradients);

/// Adds the gradient of the penalty times `weight` to `gradients`; returns the penalty.
double add_orthogonality_gradient(std::span<const Factor> factors, double weight,
                                  std::span<const MatrixView> gradients);

}  // namespace adalora
