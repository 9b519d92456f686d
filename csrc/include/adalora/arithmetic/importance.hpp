#pragma once
/// One entry of importance.hpp: both averages and the scores.

#include <cstdint>

#include "adalora/arithmetic/portable.hpp"

namespace adalora {

/// Parameters of a matrix: A, E and B.
inline constexpr unsigned kFactors = 3;

/// beta and 1 - beta of both averages, in the type of the averages.
template <class T>
struct Smoothing {
  T beta1, fresh1, beta2, fresh2;
};

template <class T>
ADALORA_SHARED Smoothing<T> smoothing_of(double beta1, double beta2) {
  // 1 - beta is a double in torch too, and only then becomes a T.
  return {static_cast<T>(beta1), static_cast<T>(1.0 - beta1), static_cast<T>(beta2),
          static_cast<T>(1.0 - beta2)};
}

template <class T>
inline constexpr T kLargest =
    sizeof(T) == sizeof(float) ? static_cast<T>(__FLT_MAX__) : static_cast<T>(__DBL_MAX__);

/// Moves both averages by one observation; leaves them and returns false if |p * g| is not finite.
template <class T>
ADALORA_SHARED bool observe(T p, T g, const Smoothing<T>& smoothing, T& smoothed, T& uncertainty) {
  const T product = p * g;
  const T sensitivity = product < 0 ? -product : product;
  const bool finite = sensitivity <= kLargest<T>;
  const T new_smoothed = smoothing.beta1 * smoothed + smoothing.fresh1 * sensitivity;
  const T difference = sensitivity - new_smoothed;
  const T distance = difference < 0 ? -difference : difference;
  const T new_uncertainty = smoothing.beta2 * uncertainty + smoothing.fresh2 * distance;
  smoothed = finite ? new_smoothed : smoothed;
  uncertainty = finite ? new_uncertainty : uncertainty;
  return finite;
}

/// The mean of a row or column from its sum; that of nothing is zero.
ADALORA_SHARED double mean_of(double sum, std::int64_t count) {
  return sum / static_cast<double>(count > 1 ? count : 1);
}

/// The score of a triplet from its E entry and its two means, rounded as torch rounds the same sum
/// of three tensors of T.
template <class T>
ADALORA_SHARED T triplet_score(double e, double a, double b) {
  return static_cast<T>(e) + (static_cast<T>(a) + static_cast<T>(b));
}

}  // namespace adalora
