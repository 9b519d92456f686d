#pragma once
/// The gradient of orthogonality.hpp for one factor: a number times its residual times the factor.

#include <cstdint>

#include "adalora/arithmetic/portable.hpp"

namespace adalora {

/// The number that the residual is multiplied by; a zero norm has gradient zero.
ADALORA_SHARED double residual_factor(double grad, std::int64_t factor_count, double norm) {
  return norm == 0.0 ? 0.0 : 2.0 * grad / (static_cast<double>(factor_count) * norm);
}

}  // namespace adalora
