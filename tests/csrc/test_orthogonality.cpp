#include <cmath>
#include <vector>

#include "adalora/orthogonality.hpp"
#include "core_test.hpp"

namespace core_test {

namespace {

struct Sides {
  explicit Sides(const adalora::Factor& factor, const Matrix& matrix)
      : rows(factor.vectors_are_rows), matrix(matrix) {}

  double at(std::int64_t vector, std::int64_t entry) const {
    return rows ? matrix.get(vector, entry) : matrix.get(entry, vector);
  }

  bool rows;
  const Matrix& matrix;
};

void check(DType dtype, std::int64_t gap, std::int64_t rank, std::int64_t length, bool rows) {
  Matrix matrix(rows ? rank : length, rows ? length : rank, dtype, gap);
  matrix.randomize();
  Matrix gradient(matrix.view().rows, matrix.view().cols, dtype, gap);
  const adalora::Factor factor{matrix.view(), rows};
  Matrix grams(rank * rank, 1, adalora::compute_type(dtype));
  double norm = -1.0;
  const adalora::Factor factors[] = {factor};
  const double penalty = adalora::orthogonality_penalty(factors, grams.view().data, &norm);
  const Sides sides(factor, matrix);
  std::vector<double> residual(static_cast<std::size_t>(rank * rank));
  double squares = 0.0;
  for (std::int64_t i = 0; i < rank; ++i) {
    for (std::int64_t j = 0; j < rank; ++j) {
      double value = i == j ? -1.0 : 0.0;
      for (std::int64_t k = 0; k < length; ++k) value += sides.at(i, k) * sides.at(j, k);
      residual[i * rank + j] = value;
      squares += value * value;
    }
  }
  CHECK_NEAR(penalty, std::sqrt(squares), 1e-4 * (1.0 + penalty), matrix);
  CHECK(norm == penalty);
  const MatrixView gradients[] = {gradient.view()};
  adalora::orthogonality_gradient(factors, grams.view().data, &norm, 3.0, gradients);
  const auto check_gradient = [&](double weight) {
    const Sides found(factor, gradient);
    for (std::int64_t i = 0; i < rank; ++i) {
      for (std::int64_t k = 0; k < length; ++k) {
        double expected = 0.0;
        for (std::int64_t j = 0; j < rank; ++j) expected += residual[i * rank + j] * sides.at(j, k);
        expected *= 2.0 * weight / std::sqrt(squares);
        const double allowed = tolerance(dtype) * (1.0 + std::fabs(expected));
        CHECK_NEAR(found.at(i, k), expected, allowed, gradient);
      }
    }
  };
  check_gradient(3.0);
  CHECK(adalora::add_orthogonality_gradient(factors, 2.0, gradients) == penalty);
  check_gradient(5.0);
}

}  // namespace

void test_orthogonality() {
  for (const DType dtype : kDTypes) {
    for (const bool rows : {true, false}) {
      for (const std::int64_t gap : {1, 2}) {
        check(dtype, gap, 3, 7, rows);
        check(dtype, gap, 0, 5, rows);
        check(dtype, gap, 2, 0, rows);
        check(dtype, gap, 13, 515, rows);
      }
      check(dtype, 1, 12, 5000, rows);
    }
  }
}

}  // namespace core_test
