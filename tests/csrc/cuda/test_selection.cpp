#include <algorithm>
#include <limits>

#include "adalora/selection.hpp"
#include "cuda/selection.hpp"
#include "cuda_test.hpp"

namespace cuda_test {

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// The singular values of every matrix on both sides, with a gap between them on the device too.
struct Values {
  Values(const std::vector<std::int64_t>& ranks, DType dtype) {
    for (const std::int64_t rank : ranks) {
      host.push_back(std::make_unique<Matrix>(rank, 1, dtype));
      for (std::int64_t i = 0; i < rank; ++i) host.back()->set(i, 0, 1.5);
      device.push_back(std::make_unique<DeviceMatrix>(*host.back(), 1));
      host_views.push_back(host.back()->view());
      device_views.push_back(device.back()->view());
    }
  }

  bool equal() const {
    for (std::size_t i = 0; i < host.size(); ++i) {
      if (!device[i]->equals(*host[i])) return false;
    }
    return true;
  }

  std::vector<std::unique_ptr<Matrix>> host;
  std::vector<std::unique_ptr<DeviceMatrix>> device;
  std::vector<MatrixView> host_views, device_views;
};

void check(const std::vector<double>& scores, std::int64_t budget,
           const std::vector<std::int64_t>& ranks, DType score_type, DType value_type) {
  const auto count = static_cast<std::int64_t>(scores.size());
  Matrix host(count, 1, score_type);
  for (std::int64_t i = 0; i < count; ++i) host.set(i, 0, scores[static_cast<std::size_t>(i)]);
  const DeviceMatrix device(host);
  Values values(ranks, value_type);
  std::vector<std::uint8_t> expected(scores.size(), 9);
  const Memory mask(scores.size());
  adalora::select_triplets(host.view(), budget, expected.data(), values.host_views);
  adalora::cuda::select_triplets(device.view(), budget, mask.as<std::uint8_t>(),
                                 values.device_views, stream());
  CHECK(mask.values<std::uint8_t>() == expected);
  CHECK(values.equal());
  Values again(ranks, value_type);
  adalora::apply_mask(expected.data(), again.host_views);
  adalora::cuda::apply_mask(mask.as<std::uint8_t>(), again.device_views, stream());
  CHECK(again.equal());
}

std::vector<double> scores_of(std::int64_t count, bool nasty) {
  constexpr double kSpecial[] = {kNan, kInfinity, -kInfinity, 0.0, -0.0, 1.0, -1.0, 1e-40};
  std::vector<double> scores;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto draw = static_cast<std::size_t>((core_test::random_value() + 1.0) * 16.0);
    scores.push_back(nasty && draw < 24 ? kSpecial[draw % 8] : core_test::random_value());
  }
  return scores;
}

}  // namespace

void test_selection() {
  for (const DType score_type : {DType::kFloat32, DType::kFloat64}) {
    check({}, 3, {}, score_type, DType::kFloat32);
    check({}, 0, {0, 0}, score_type, DType::kFloat32);
    for (const DType value_type : core_test::kDTypes) {
      for (const std::int64_t budget : {0, 1, 5, 20, 35, 36, 99}) {
        check(scores_of(36, false), budget, {12, 0, 23, 1}, score_type, value_type);
        check(scores_of(36, true), budget, {12, 0, 23, 1}, score_type, value_type);
        check(std::vector<double>(36, 0.25), budget, {12, 24}, score_type, value_type);
        check(std::vector<double>(36, kNan), budget, {12, 24}, score_type, value_type);
      }
    }
    // Ties of which those of whole warps stay.
    for (std::int64_t kept = 32; kept < 1024; kept += 32) {
      check(std::vector<double>(1024, 1.0), kept, {1024}, score_type, DType::kFloat32);
    }
    // So many for a thread that a loop over them takes all its parts if it is unrolled.
    check(scores_of(15 * 1024 + 1, true), 7000, {15 * 1024 + 1}, score_type, DType::kFloat32);
    // More than one tile of a block, ties across tiles.
    std::vector<double> many = scores_of(2600, true);
    for (const std::int64_t budget : {1, 1024, 1025, 2048, 2599}) {
      check(many, budget, {1000, 1, 1599}, score_type, DType::kFloat32);
      check(std::vector<double>(2600, 1.0), budget, {2600}, score_type, DType::kFloat32);
    }
  }
  // The choice, and the mask once more.
  (void)launches();
  check(scores_of(kWholeModel, false), 100, std::vector<std::int64_t>(kWholeModel, 1),
        DType::kFloat32, DType::kFloat32);
  check_launches_of_a_whole_model(2);
  // More matrices than one launch takes.
  const std::vector<std::int64_t> ranks(10000, 1);
  check(scores_of(10000, true), 4321, ranks, DType::kFloat32, DType::kBFloat16);
}

}  // namespace cuda_test
