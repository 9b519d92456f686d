#pragma once
/// orthogonality on a GPU; see adalora/orthogonality.hpp for the formulas.

#include <cstdint>
#include <span>

#include "adalora/orthogonality.hpp"
#include "cuda/launch.hpp"

namespace adalora::cuda {

/// The number of values of the compute type that `orthogonality_penalty` needs between its stages.
std::int64_t gram_room(std::span<const Factor> factors);

/// Enqueues three launches, two of them once per 600 factors: sums of products of pieces of the
/// long sides, residuals and norms, and the mean, which goes to `penalty` in the dtype of the
/// factors.
///
/// `grams` and `norms` are as in adalora/orthogonality.hpp, `partials` has `gram_room`. All factors
/// are contiguous and of one dtype.
void orthogonality_penalty(std::span<const Factor> factors, void* partials, void* grams,
                           double* norms, void* penalty, const Stream& stream);

/// Enqueues one launch per 600 factors; `grad` is one number in the dtype of the factors.
void orthogonality_gradient(std::span<const Factor> factors, const void* grams, const double* norms,
                            const void* grad, std::span<const MatrixView> gradients,
                            const Stream& stream);

}  // namespace adalora::cuda
