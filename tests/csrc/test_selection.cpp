#include <limits>
#include <vector>

#include "adalora/selection.hpp"
#include "core_test.hpp"

namespace core_test {

namespace {

void check(DType dtype, std::int64_t gap, const std::vector<double>& values, std::int64_t budget,
           const std::vector<std::uint8_t>& expected) {
  const auto count = static_cast<std::int64_t>(values.size());
  Matrix scores(count, 1, DType::kFloat32);
  for (std::int64_t i = 0; i < count; ++i) scores.set(i, 0, values[i]);
  Matrix first(count / 2, 1, dtype, gap), second(count - count / 2, 1, dtype, gap);
  first.randomize();
  second.randomize();
  const MatrixView views[] = {first.view(), second.view()};
  std::vector<std::uint8_t> mask(values.size(), 7);
  adalora::select_triplets(scores.view(), budget, mask.data(), views);
  CHECK(mask == expected);
  for (std::int64_t i = 0; i < count; ++i) {
    const Matrix& owner = i < count / 2 ? first : second;
    const std::int64_t row = i < count / 2 ? i : i - count / 2;
    CHECK((owner.get(row, 0) != 0.0) == (expected[i] == 1));
  }
}

}  // namespace

void test_selection() {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const DType dtype : kDTypes) {
    for (const std::int64_t gap : {1, 3}) {
      check(dtype, gap, {}, 3, {});
      check(dtype, gap, {1, 1, 1, 1}, 2, {1, 1, 0, 0});
      check(dtype, gap, {nan, 2, -0.0, 0.0, 3}, 3, {0, 1, 1, 0, 1});
      check(dtype, gap, {nan, 2, nan}, 2, {1, 1, 0});
      check(dtype, gap, {1, 2}, 0, {0, 0});
      check(dtype, gap, {1, 2}, 9, {1, 1});
    }
  }
}

}  // namespace core_test
