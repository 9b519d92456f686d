#include <cmath>
#include <memory>

#include "adalora/importance.hpp"
#include "core_test.hpp"

namespace core_test {

namespace {

struct Parameter {
  Parameter(std::int64_t rows, std::int64_t cols, DType dtype, std::int64_t gap)
      : p(rows, cols, dtype, gap),
        g(rows, cols, dtype, gap),
        smoothed(rows, cols, adalora::compute_type(dtype), gap),
        uncertainty(rows, cols, adalora::compute_type(dtype), gap) {
    p.randomize();
    g.randomize();
  }

  adalora::ImportanceEntry entry() const {
    return {p.view(), g.view(), smoothed.view(), uncertainty.view()};
  }

  Matrix p, g, smoothed, uncertainty;
};

void check(DType dtype, std::int64_t gap, std::int64_t in, std::int64_t rank, std::int64_t out) {
  const Parameter A(rank, in, dtype, gap), E(rank, 1, dtype, gap), B(out, rank, dtype, gap);
  const adalora::ImportanceEntry entries[] = {A.entry(), E.entry(), B.entry()};
  Matrix scores(rank, 1, adalora::compute_type(dtype));
  CHECK(adalora::update_importance(entries, 0.5, 0.25, scores.view()) == 0);
  const auto score = [](const Parameter& parameter, std::int64_t i, std::int64_t j) {
    const double sensitivity = std::fabs(parameter.p.get(i, j) * parameter.g.get(i, j));
    // From zero: smoothed = I / 2, uncertainty = 3/4 * |I - I / 2|
    CHECK_NEAR(parameter.smoothed.get(i, j), sensitivity / 2, 1e-6, parameter.p);
    CHECK_NEAR(parameter.uncertainty.get(i, j), sensitivity * 3 / 8, 1e-6, parameter.p);
    return sensitivity * sensitivity * 3 / 16;
  };
  for (std::int64_t t = 0; t < rank; ++t) {
    double row = 0.0, column = 0.0;
    for (std::int64_t j = 0; j < in; ++j) row += score(A, t, j) / static_cast<double>(in);
    for (std::int64_t i = 0; i < out; ++i) column += score(B, i, t) / static_cast<double>(out);
    CHECK_NEAR(scores.get(t, 0), score(E, t, 0) + row + column, 1e-5, A.p);
  }
}

}  // namespace

void test_importance() {
  for (const DType dtype : kDTypes) {
    for (const std::int64_t gap : {1, 2}) {
      check(dtype, gap, 7, 3, 11);
      check(dtype, gap, 0, 2, 5);
      check(dtype, gap, 5, 0, 3);
      check(dtype, gap, 1025, 13, 700);
    }
    check(dtype, 1, 20000, 12, 9000);  // enough for threads
  }
}

}  // namespace core_test
