#include <algorithm>
#include <cmath>

#include "adalora/svd_linear.hpp"
#include "core_test.hpp"

namespace core_test {

namespace {

constexpr double kScale = 0.5;

struct Layer {
  Layer(std::int64_t n, std::int64_t in, std::int64_t rank, std::int64_t out, DType base,
        DType factors, std::int64_t gap)
      : y(n, out, base, gap),
        x(n, in, base, gap),
        grad(n, out, base, gap),
        A(rank, in, factors, gap),
        E(rank, 1, factors, gap),
        B(out, rank, factors, gap) {
    for (Matrix* matrix : {&y, &x, &grad, &A, &E, &B}) matrix->randomize();
  }

  adalora::Triplets triplets() const { return {A.view(), E.view(), B.view()}; }

  /// A result is as exact as the coarser of its own type and the type it was computed in.
  void expect(const Matrix& found, std::int64_t row, std::int64_t col, double expected) const {
    const double relative =
        std::max(tolerance(found.view().dtype), tolerance(adalora::compute_type(A.view().dtype)));
    CHECK_NEAR(found.get(row, col), expected, relative * (1.0 + std::fabs(expected)), found);
  }

  double hidden(std::int64_t n, std::int64_t j) const {
    double sum = 0.0;
    for (std::int64_t k = 0; k < x.view().cols; ++k) sum += x.get(n, k) * A.get(j, k);
    return sum;
  }

  double dZ(std::int64_t n, std::int64_t j) const {
    double sum = 0.0;
    for (std::int64_t o = 0; o < grad.view().cols; ++o) sum += grad.get(n, o) * B.get(o, j);
    return kScale * sum;
  }

  Matrix y, x, grad, A, E, B;
};

void check(std::int64_t n, std::int64_t in, std::int64_t rank, std::int64_t out, DType base,
           DType factors, std::int64_t gap) {
  const Layer layer(n, in, rank, out, base, factors, gap);
  Matrix hidden(n, rank, adalora::compute_type(factors));
  Matrix output(n, out, base, gap);
  const adalora::Dropout none;
  adalora::svd_linear_forward(layer.y.view(), layer.x.view(), layer.triplets(), kScale, none,
                              hidden.view(), output.view());
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t o = 0; o < out; ++o) {
      double expected = layer.y.get(i, o);
      for (std::int64_t j = 0; j < rank; ++j) {
        expected += kScale * hidden.get(i, j) * layer.E.get(j, 0) * layer.B.get(o, j);
      }
      layer.expect(output, i, o, expected);
    }
    for (std::int64_t j = 0; j < rank; ++j) layer.expect(hidden, i, j, layer.hidden(i, j));
  }
  Matrix dx(n, in, base, gap), dA(rank, in, factors, gap), dE(rank, 1, factors, gap),
      dB(out, rank, factors, gap);
  const adalora::SvdLinearGradients gradients{dx.view(), {dA.view(), dE.view(), dB.view()}};
  adalora::svd_linear_backward(layer.grad.view(), layer.x.view(), hidden.view(), layer.triplets(),
                               kScale, none, gradients);
  for (std::int64_t j = 0; j < rank; ++j) {
    double of_e = 0.0, of_a = 0.0;
    for (std::int64_t i = 0; i < n; ++i) {
      of_e += layer.dZ(i, j) * hidden.get(i, j);
      if (in > 0) of_a += layer.dZ(i, j) * layer.E.get(j, 0) * layer.x.get(i, in - 1);
    }
    layer.expect(dE, j, 0, of_e);
    if (in > 0) layer.expect(dA, j, in - 1, of_a);
    for (std::int64_t o = 0; o < out; ++o) {
      double of_b = 0.0;
      for (std::int64_t i = 0; i < n; ++i) {
        of_b += layer.grad.get(i, o) * kScale * hidden.get(i, j) * layer.E.get(j, 0);
      }
      layer.expect(dB, o, j, of_b);
    }
  }
  for (std::int64_t i = 0; i < n && in > 0; ++i) {
    double of_x = 0.0;
    for (std::int64_t j = 0; j < rank; ++j) {
      of_x += layer.dZ(i, j) * layer.E.get(j, 0) * layer.A.get(j, in - 1);
    }
    layer.expect(dx, i, in - 1, of_x);
  }
}

void check_dropout_and_accumulation(DType dtype) {
  const Layer layer(40, 700, 3, 9, dtype, dtype, 1);
  Matrix hidden(40, 3, adalora::compute_type(dtype)), dx(40, 700, dtype), alone(40, 700, dtype);
  const adalora::Dropout dropout{0.5, 7};
  adalora::svd_linear_forward(layer.y.view(), layer.x.view(), layer.triplets(), kScale, dropout,
                              hidden.view(), layer.y.view());
  for (std::int64_t i = 0; i < 40; ++i) {
    for (std::int64_t k = 0; k < 700; ++k) dx.set(i, k, 16.0);
  }
  for (const bool accumulate : {false, true}) {
    const adalora::SvdLinearGradients gradients{
        accumulate ? dx.view() : alone.view(), {}, accumulate};
    adalora::svd_linear_backward(layer.grad.view(), layer.x.view(), hidden.view(), layer.triplets(),
                                 kScale, dropout, gradients);
  }
  std::int64_t untouched = 0;
  for (std::int64_t i = 0; i < 40; ++i) {
    for (std::int64_t k = 0; k < 700; ++k) {
      untouched += alone.get(i, k) == 0.0 ? 1 : 0;
      layer.expect(dx, i, k, 16.0 + alone.get(i, k));
    }
  }
  CHECK(untouched > 40 * 700 * 45 / 100 && untouched < 40 * 700 * 55 / 100);
}

}  // namespace

void test_svd_linear() {
  for (const DType base : kDTypes) {
    for (const DType factors : kDTypes) {
      for (const std::int64_t gap : {1, 2}) {
        check(5, 7, 3, 11, base, factors, gap);
        check(0, 7, 3, 11, base, factors, gap);
        check(4, 6, 0, 5, base, factors, gap);
        check(4, 0, 2, 5, base, factors, gap);
        check(4, 6, 2, 0, base, factors, gap);
        check(35, 530, 13, 67, base, factors, gap);
      }
    }
  }
  for (const DType dtype : kDTypes) {
    check_dropout_and_accumulation(dtype);
    check(261, 70, 29, 33, dtype, dtype, 1);  // more rows than a sweep, more ranks than a tile
    check(3, 40, 257, 9, dtype, dtype, 1);    // more ranks than the dot products take
  }
}

}  // namespace core_test
