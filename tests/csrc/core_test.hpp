#pragma once
// Matrices in heap blocks of exactly their size, so that a sanitizer reports every access outside.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "adalora/view.hpp"

namespace core_test {

using adalora::DType;
using adalora::MatrixView;

#define CHECK(condition)                                                   \
  do {                                                                     \
    if (!(condition)) {                                                    \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      std::exit(1);                                                        \
    }                                                                      \
  } while (false)

/// Compare two numbers of `matrix`; a failure prints both, and the dtype and shape of the matrix.
#define CHECK_NEAR(found, expected, allowed, matrix) \
  core_test::check_near(__FILE__, __LINE__, #found, found, expected, allowed, (matrix).view())

inline std::mt19937& generator() {
  static std::mt19937 instance(5);
  return instance;
}

inline double random_value() {
  return std::uniform_real_distribution<double>(-1.0, 1.0)(generator());
}

/// The largest allowed difference between values that passed through `dtype`.
inline double tolerance(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return 1e-11;
    case DType::kFloat32:
      return 1e-3;
    case DType::kFloat16:
      return 2e-2;
    case DType::kBFloat16:
      return 1e-1;
  }
  return 0.0;
}

/// An owned matrix; `gap` leaves room between its columns, which must stay untouched.
class Matrix {
 public:
  Matrix(std::int64_t rows, std::int64_t cols, DType dtype, std::int64_t gap = 1)
      : bytes_(static_cast<std::size_t>(rows * cols * gap) * item_size(dtype), std::uint8_t{0}),
        view_{bytes_.empty() ? nullptr : bytes_.data(), rows, cols, cols * gap, gap, dtype} {
    bytes_.shrink_to_fit();
  }

  Matrix(const Matrix&) = delete;
  Matrix& operator=(const Matrix&) = delete;

  const MatrixView& view() const { return view_; }

  Matrix& randomize() {
    for (std::int64_t i = 0; i < view_.rows; ++i) {
      for (std::int64_t j = 0; j < view_.cols; ++j) set(i, j, random_value());
    }
    return *this;
  }

  double get(std::int64_t row, std::int64_t col) const;
  void set(std::int64_t row, std::int64_t col, double value);

 private:
  std::vector<std::uint8_t> bytes_;
  MatrixView view_;
};

/// What CHECK_NEAR does: `text` is the expression whose value is `found`. A NaN is never near.
void check_near(const char* file, int line, const char* text, double found, double expected,
                double allowed, const MatrixView& view);

inline constexpr DType kDTypes[] = {DType::kFloat32, DType::kFloat64, DType::kBFloat16,
                                    DType::kFloat16};

void test_importance();
void test_orthogonality();
void test_scratch();
void test_selection();
void test_svd_linear();

}  // namespace core_test
