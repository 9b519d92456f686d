#include <algorithm>
#include <cmath>
#include <cstring>

#include "core_test.hpp"

namespace core_test {

namespace {

// Number formats in slow, plain arithmetic, as a check on the bit tricks of the kernels.
double decode(std::uint16_t bits, int exponent_bits, int fraction_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = (bits >> fraction_bits) & ((1 << exponent_bits) - 1);
  const double fraction = (bits & ((1 << fraction_bits) - 1)) / std::ldexp(1.0, fraction_bits);
  const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
  if (exponent == (1 << exponent_bits) - 1) return sign * (fraction == 0.0 ? HUGE_VAL : NAN);
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias);
  return sign * std::ldexp(1.0 + fraction, exponent - bias);
}

std::uint16_t encode(double value, int exponent_bits, int fraction_bits) {
  const int sign = std::signbit(value) ? 0x8000 : 0;
  if (value == 0.0) return static_cast<std::uint16_t>(sign);
  const int bias = (1 << (exponent_bits - 1)) - 1;
  if (!(std::fabs(value) < std::ldexp(1.0, bias + 1))) {
    const int special = (2 * bias + 1) << fraction_bits;
    return static_cast<std::uint16_t>(sign + special + (std::isnan(value) ? 1 : 0));
  }
  const int exponent = std::max(std::ilogb(value), 1 - bias);
  const double scaled = std::ldexp(std::fabs(value), fraction_bits - exponent);
  const auto rounded = static_cast<int>(std::nearbyint(scaled));
  const int biased = rounded < (1 << fraction_bits) ? 0 : exponent + bias;
  const int offset = biased == 0 ? rounded : rounded - (1 << fraction_bits);
  return static_cast<std::uint16_t>(sign + (biased << fraction_bits) + offset);
}

const char* name(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "float32";
    case DType::kFloat64:
      return "float64";
    case DType::kBFloat16:
      return "bfloat16";
    case DType::kFloat16:
      return "float16";
  }
  return "unknown";
}

}  // namespace

void check_near(const char* file, int line, const char* text, double found, double expected,
                double allowed, const MatrixView& view) {
  if (std::fabs(found - expected) <= allowed) return;
  std::fprintf(stderr, "%s:%d: %s is %.9g, expected %.9g within %.3g; %s [%lld, %lld]\n", file,
               line, text, found, expected, allowed, name(view.dtype),
               static_cast<long long>(view.rows), static_cast<long long>(view.cols));
  std::exit(1);
}

double Matrix::get(std::int64_t row, std::int64_t col) const {
  const char* at = view_.at(row, col);
  std::uint16_t half;
  float single;
  double full;
  switch (view_.dtype) {
    case DType::kFloat32:
      std::memcpy(&single, at, sizeof single);
      return single;
    case DType::kFloat64:
      std::memcpy(&full, at, sizeof full);
      return full;
    case DType::kBFloat16:
      std::memcpy(&half, at, sizeof half);
      return decode(half, 8, 7);
    case DType::kFloat16:
      std::memcpy(&half, at, sizeof half);
      return decode(half, 5, 10);
  }
  return 0.0;
}

void Matrix::set(std::int64_t row, std::int64_t col, double value) {
  char* at = view_.at(row, col);
  const auto single = static_cast<float>(value);
  std::uint16_t half;
  switch (view_.dtype) {
    case DType::kFloat32:
      std::memcpy(at, &single, sizeof single);
      return;
    case DType::kFloat64:
      std::memcpy(at, &value, sizeof value);
      return;
    case DType::kBFloat16:
      half = encode(value, 8, 7);
      std::memcpy(at, &half, sizeof half);
      return;
    case DType::kFloat16:
      half = encode(value, 5, 10);
      std::memcpy(at, &half, sizeof half);
      return;
  }
}

}  // namespace core_test
