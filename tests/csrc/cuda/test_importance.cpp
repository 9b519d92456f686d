#include <array>
#include <cmath>
#include <limits>

#include "adalora/importance.hpp"
#include "cuda/importance.hpp"
#include "cuda_test.hpp"

namespace cuda_test {

namespace {

constexpr double kBeta1 = 0.85, kBeta2 = 0.7;

/// Entries that lie unused before a parameter, its gradient and its averages.
using Offsets = std::array<std::size_t, 4>;

/// One parameter on the host and on the device.
struct Parameter {
  Parameter(std::int64_t rows, std::int64_t cols, DType dtype, const Offsets& offsets,
            bool observed)
      : p(rows, cols, dtype),
        g(rows, cols, dtype),
        smoothed(rows, cols, adalora::compute_type(dtype)),
        uncertainty(rows, cols, adalora::compute_type(dtype)),
        has_gradient(observed) {
    p.randomize();
    g.randomize();
    smoothed.randomize();
    uncertainty.randomize();
    if (rows * cols > 3 && observed) {
      g.set(rows - 1, cols - 1, std::numeric_limits<double>::quiet_NaN());
      g.set(0, 0, std::numeric_limits<double>::infinity());
    }
    for (const Matrix* const each : {&p, &g, &smoothed, &uncertainty}) {
      on_device.push_back(std::make_unique<DeviceMatrix>(*each, offsets[on_device.size()]));
    }
  }

  adalora::ImportanceEntry host() const {
    return {p.view(), has_gradient ? g.view() : MatrixView{}, smoothed.view(), uncertainty.view()};
  }
  adalora::ImportanceEntry device() const {
    return {on_device[0]->view(), has_gradient ? on_device[1]->view() : MatrixView{},
            on_device[2]->view(), on_device[3]->view()};
  }

  void make_special() {
    const MatrixView& view = p.view();
    for (std::int64_t i = 0; i < view.rows * view.cols; ++i) {
      const std::int64_t row = i / view.cols, col = i % view.cols;
      const std::size_t count = std::size(kSpecial), at = static_cast<std::size_t>(i);
      p.set(row, col, kSpecial[at % count]);
      g.set(row, col, kSpecial[at / count % count]);
    }
    on_device[0]->write(p);
    on_device[1]->write(g);
  }

  /// Makes all products 0 but those of a part of each vector, and those so short that no sum of
  /// them is rounded.
  void make_sparse(std::int64_t part) {
    const MatrixView& view = p.view();
    const bool by_rows = view.rows < view.cols;
    for (std::int64_t row = 0; row < view.rows; ++row) {
      for (std::int64_t col = 0; col < view.cols; ++col) {
        const std::int64_t vector = by_rows ? row : col, at = by_rows ? col : row;
        const bool is_inside = at / part == std::int64_t{1} << vector;
        smoothed.set(row, col, is_inside ? 1.0 : 0.0);
        uncertainty.set(row, col, 14336000 / part + (at % part == 0 ? 7 : 0));
      }
    }
    on_device[2]->write(smoothed);
    on_device[3]->write(uncertainty);
  }

  Matrix p, g, smoothed, uncertainty;
  bool has_gradient;
  std::vector<std::unique_ptr<DeviceMatrix>> on_device;
};

class Model {
 public:
  Model(const std::vector<Shape>& shapes, DType dtype, const Offsets& offsets = {},
        std::size_t unobserved_every = 0) {
    for (const Shape& shape : shapes) {
      add(shape.rank, shape.in, dtype, offsets, unobserved_every);
      add(shape.rank, 1, dtype, offsets, unobserved_every);
      add(shape.out, shape.rank, dtype, offsets, unobserved_every);
      triplets += shape.rank;
    }
  }

  /// Updates both sides and compares them; the scores exactly if `exact`.
  void check(bool scored, bool exact = false) {
    std::vector<adalora::ImportanceEntry> host, device;
    for (const auto& parameter : parameters) {
      host.push_back(parameter->host());
      device.push_back(parameter->device());
    }
    const DType dtype = adalora::compute_type(parameters.front()->p.view().dtype);
    Matrix expected(triplets, 1, dtype), found(triplets, 1, dtype);
    const DeviceMatrix scores(found);
    const auto room = static_cast<std::size_t>(scored ? adalora::cuda::score_room(device) : 0);
    const Memory partials(room * sizeof(double));
    Memory skipped(sizeof(std::int64_t));
    const std::int64_t before = 1000;
    skipped.write(&before);
    const adalora::cuda::ImportanceOutputs outputs{
        scored ? scores.view() : MatrixView{}, partials.as<double>(), skipped.as<std::int64_t>()};
    adalora::cuda::update_importance(device, kBeta1, kBeta2, outputs, stream());
    const std::int64_t count =
        adalora::update_importance(host, kBeta1, kBeta2, scored ? expected.view() : MatrixView{});
    CHECK(skipped.values<std::int64_t>().front() == before + count);
    for (const auto& parameter : parameters) {
      CHECK(parameter->on_device[2]->equals(parameter->smoothed));
      CHECK(parameter->on_device[3]->equals(parameter->uncertainty));
    }
    if (!scored) return;
    scores.read(found);
    const double limit = exact ? 0.0 : dtype == DType::kFloat64 ? 1e-13 : 2e-6;
    CHECK(difference(found, expected) <= limit);
  }

  std::vector<std::unique_ptr<Parameter>> parameters;
  std::int64_t triplets = 0;

 private:
  void add(std::int64_t rows, std::int64_t cols, DType dtype, const Offsets& offsets,
           std::size_t unobserved_every) {
    const bool observed =
        unobserved_every == 0 || parameters.size() % unobserved_every != unobserved_every - 1;
    parameters.push_back(std::make_unique<Parameter>(rows, cols, dtype, offsets, observed));
  }
};

// Odd and even, rank 0 and 1, empty sides, one row past the chunks before it, a row longer than a
// chunk, a rank wider than a block, many rows per chunk, and as many columns or rows for a thread
// as each part of an unrolled loop takes.
const std::vector<Shape> kShapes = {{7, 3, 11},    {8, 0, 6},    {0, 3, 5},     {5, 2, 0},
                                    {64, 12, 673}, {4099, 2, 9}, {13, 300, 17}, {1, 1, 4100},
                                    {999, 1, 1},   {512, 3, 2},  {1, 520, 10}};

void test_many_matrices() {
  // More tensors than one launch takes, and more matrices than one launch of the second stage.
  const std::vector<Shape> shapes(2100, Shape{3, 2, 3});
  Model model(shapes, DType::kFloat32);
  (void)launches();
  model.check(true);
  const int count = launches();
  CHECK(count == -1 || count > 3);
}

/// More chunks per triplet than a warp has lanes: bands of B, and parts of a row of A.
void test_many_chunks(DType dtype) {
  Model({{1, 4100, 70}, {140000, 1, 2}}, dtype, {}, 2).check(true);
}

/// Of a warp's sums of chunks, one lane alone has some: no bit of them may be another's.
void check_single_chunks() {
  constexpr std::int64_t kParts = 17, kPartOfRow = 4096, kPartOfColumn = 816;
  for (const Shape& shape : {Shape{kParts * kPartOfRow, 5, 6}, {6, 5, kParts * kPartOfColumn}}) {
    Model model({shape}, DType::kFloat32, {}, 1);
    for (auto& parameter : model.parameters) {
      parameter->make_sparse(shape.in > shape.out ? kPartOfRow : kPartOfColumn);
    }
    model.check(true, true);
  }
}

/// One matrix, one parameter, and one address at a time that prevents accesses of 16 bytes.
void test_one_by_one(DType dtype) {
  for (const Shape& shape : kShapes) Model({shape}, dtype).check(true);
  for (const bool scored : {false, true}) {
    for (std::size_t i = 0; i < Offsets().size(); ++i) {
      Offsets offsets{};
      offsets[i] = 1;
      Model model({{200, 3, 200}}, dtype, offsets);
      model.check(scored);
      for (auto& parameter : model.parameters) parameter->make_special();
      model.check(scored);
      model.parameters.resize(1);
      model.check(false);
    }
  }
}

void test_launches() {
  Model model(std::vector<Shape>(kWholeModel, Shape{3, 2, 3}), DType::kFloat32);
  (void)launches();
  model.check(false);
  check_launches_of_a_whole_model(1);
  model.check(true);
  check_launches_of_a_whole_model(2);
}

void test_ten_thousand_matrices() {
  std::vector<Shape> shapes(10000, Shape{0, 0, 0});
  for (std::size_t i = 0; i < shapes.size(); i += 50) shapes[i] = {5, 2, 4};
  Model(shapes, DType::kFloat32).check(false);
}

}  // namespace

void test_importance() {
  for (const DType dtype : core_test::kDTypes) {
    for (const Offsets& offsets : {Offsets{}, Offsets{1, 0, 2, 1}}) {
      for (const bool scored : {false, true}) {
        Model(kShapes, dtype, offsets).check(scored);
        Model(kShapes, dtype, offsets, 4).check(scored);
      }
    }
    test_one_by_one(dtype);
  }
  // A change of the dtype between matrices.
  Model mixed(kShapes, DType::kFloat32);
  Model lower(kShapes, DType::kBFloat16);
  for (auto& parameter : lower.parameters) mixed.parameters.push_back(std::move(parameter));
  mixed.triplets += lower.triplets;
  mixed.check(true);
  test_many_matrices();
  for (const DType dtype : {DType::kFloat32, DType::kFloat64}) test_many_chunks(dtype);
  check_single_chunks();
  test_launches();
  test_ten_thousand_matrices();
}

}  // namespace cuda_test
