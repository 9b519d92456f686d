#include "adalora/svd_linear.hpp"

#include <algorithm>

#include "adalora/parallel.hpp"
#include "cpu/adapter_side.hpp"
#include "cpu/kernels.hpp"
#include "cpu/scratch.hpp"

namespace adalora {

namespace {

/// Rows that backward takes at a time, so that the sums over rows find them in a cache.
constexpr std::int64_t kSweepRows = 256;

/// Below this many multiply-adds the threads cost more than they save (bench_svd_linear.py).
constexpr std::int64_t kSerialWork = std::int64_t{1} << 18;

std::int64_t tasks(std::int64_t count, std::int64_t size) { return (count + size - 1) / size; }

/// Calls `body(row, rows)` for tasks that cover [first, first + count).
template <class Body>
void for_row_tasks(std::int64_t first, std::int64_t count, bool parallel, const Body& body) {
  parallel_for(tasks(count, kTaskRows), parallel, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t row = task * kTaskRows;
      body(first + row, std::min(kTaskRows, count - row));
    }
  });
}

template <class T>
Scratch<T> read_singular_values(const ProductKernels<T>& product, const MatrixView& E) {
  Scratch<T> values(E.rows);
  for (std::int64_t j = 0; j < E.rows; ++j) load_row(product, E, j, 0, 1, values.data() + j);
  return values;
}

bool plain(const MatrixView& view) { return !view.present() || view.row_major(); }

template <class T>
void forward(const MatrixView& base_output, const MatrixView& x, const Triplets& triplets,
             double scale, const Dropout& dropout, const MatrixView& hidden,
             const MatrixView& output) {
  const KernelTable& table = kernels();
  const std::int64_t rank = triplets.A.rows;
  const Scratch<T> E = read_singular_values(product_kernels<T>(table), triplets.E);
  const AdapterSide<T> in(table, triplets.A, false, x.dtype, {true, false, plain(x)});
  const AdapterSide<T> out(table, triplets.B, true, output.dtype,
                           {false, true, plain(base_output) && plain(output)});
  const Drop drop(dropout);
  const T kept = static_cast<T>(drop.kept_factor());
  const T factor = static_cast<T>(scale);
  const Scratch<T> scaled(x.rows * rank);
  const bool parallel = x.rows * rank * (x.cols + output.cols) > kSerialWork;
  for_row_tasks(0, x.rows, parallel, [&](std::int64_t row, std::int64_t rows) {
    T* const h = static_cast<T*>(hidden.data) + row * rank;
    T* const z = scaled.data() + row * rank;
    in.project(x, drop.active() ? &drop : nullptr, row, rows, h);
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < rank; ++j) {
        const std::int64_t at = i * rank + j;
        h[at] *= kept;
        z[at] = h[at] * E.data()[j] * factor;
      }
    }
    out.expand(z, base_output, nullptr, row, rows, output);
  });
}

template <class T>
class Backward {
 public:
  Backward(const MatrixView& grad, const MatrixView& x, const MatrixView& hidden,
           const Triplets& triplets, double scale, const Dropout& dropout,
           const SvdLinearGradients& gradients)
      : product_(product_kernels<T>(kernels())),
        grad_(grad),
        x_(x),
        hidden_(static_cast<const T*>(hidden.data)),
        gradients_(gradients),
        drop_(dropout),
        accumulated_(gradients.accumulate_x ? gradients.x : MatrixView{}),
        in_(kernels(), triplets.A, false, x.dtype,
            {false, gradients.x.present(),
             plain(x) && plain(gradients.x) && !(drop_.active() && accumulated_.present())}),
        out_(kernels(), triplets.B, true, grad.dtype, {true, false, plain(grad)}),
        rank_(triplets.A.rows),
        scale_(static_cast<T>(scale)),
        E_(read_singular_values(product_, triplets.E)),
        dH_(kSweepRows * rank_),
        Z_(kSweepRows * rank_),
        dE_(tasks(kSweepRows, kTaskRows) * rank_),
        sum_of_e_(rank_),
        tasks_of_a_(gradients.triplets.A.present() ? tasks(x.cols, kTaskCols) : 0),
        tasks_of_b_(gradients.triplets.B.present() ? tasks(grad.cols, kTaskCols) : 0),
        sums_((tasks_of_a_ + tasks_of_b_) * 2 * rank_ * kTaskCols) {}

  void run() {
    const bool parallel = x_.rows * rank_ * (x_.cols + grad_.cols) > kSerialWork;
    std::fill_n(sum_of_e_.data(), rank_, T{0});
    // One sweep even over no rows: the sums are zero then.
    for (std::int64_t first = 0; first == 0 || first < x_.rows; first += kSweepRows) {
      const std::int64_t count = std::min(kSweepRows, x_.rows - first);
      for_row_tasks(first, count, parallel, [&](std::int64_t row, std::int64_t rows) {
        propagate(row, rows, row - first);
      });
      for (std::int64_t i = 0; i < tasks(count, kTaskRows) * rank_; ++i) {
        sum_of_e_.data()[i % rank_] += dE_.data()[i];
      }
      // Cut along the columns, so that each sum over all rows has one order.
      parallel_for(tasks_of_a_ + tasks_of_b_, parallel, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t task = begin; task < end; ++task) sum_rows(task, first, count);
      });
    }
    if (gradients_.triplets.E.present()) {
      for (std::int64_t j = 0; j < rank_; ++j) {
        store_row(product_, sum_of_e_.data() + j, 1, gradients_.triplets.E, j, 0);
      }
    }
  }

 private:
  const Drop* drop() const { return drop_.active() ? &drop_ : nullptr; }

  /// Row `row` of x is row `at` of this sweep.
  void propagate(std::int64_t row, std::int64_t rows, std::int64_t at) const {
    T* const dH = dH_.data() + at * rank_;
    T* const Z = Z_.data() + at * rank_;
    T* const dE = dE_.data() + at / kTaskRows * rank_;
    const T kept = static_cast<T>(drop_.kept_factor());
    const T* const hidden = hidden_ + row * rank_;
    out_.project(grad_, nullptr, row, rows, dH);
    std::fill_n(dE, rank_, T{0});
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < rank_; ++j) {
        const std::int64_t entry = i * rank_ + j;
        const T dZ = dH[entry] * scale_;
        dE[j] += dZ * hidden[entry];
        dH[entry] = dZ * E_.data()[j] * kept;
        Z[entry] = hidden[entry] * E_.data()[j] * scale_;
      }
    }
    if (gradients_.x.present()) {
      in_.expand(dH, accumulated_, drop(), row, rows, gradients_.x);
    }
  }

  void sum_rows(std::int64_t task, std::int64_t first, std::int64_t count) const {
    // Those of A and of B in turn: x is in a farther cache than grad, so A's take longer.
    const std::int64_t all = tasks_of_a_ + tasks_of_b_;
    const std::int64_t before = task * tasks_of_a_ / all;  // tasks of A
    const bool of_a = (task + 1) * tasks_of_a_ / all != before;
    const MatrixView& matrix = of_a ? x_ : grad_;
    const std::int64_t col = (of_a ? before : task - before) * kTaskCols;
    const std::int64_t cols = std::min(kTaskCols, matrix.cols - col);
    T* const sums = sums_.data() + task * 2 * rank_ * kTaskCols;
    if (first == 0) std::fill_n(sums, rank_ * cols, T{0});
    if (of_a) {
      in_.correlate(dH_.data(), x_, drop(), first, count, col, cols, sums);
    } else {
      out_.correlate(Z_.data(), grad_, nullptr, first, count, col, cols, sums);
    }
    if (first + count < x_.rows) return;
    of_a ? write_a(sums, col, cols) : write_b(sums, col, cols);
  }

  void write_a(const T* sums, std::int64_t col, std::int64_t cols) const {
    for (std::int64_t j = 0; j < rank_; ++j) {
      store_row(product_, sums + j * cols, cols, gradients_.triplets.A, j, col);
    }
  }

  void write_b(T* sums, std::int64_t col, std::int64_t cols) const {
    T* const rows = sums + rank_ * cols;
    product_.transpose(sums, cols, rows, rank_, rank_, cols);
    const MatrixView& dB = gradients_.triplets.B;
    if (dB.contiguous()) {
      product_.store[static_cast<int>(dB.dtype)](rows, dB.at(col, 0), cols * rank_);
      return;
    }
    for (std::int64_t o = 0; o < cols; ++o) {
      store_row(product_, rows + o * rank_, rank_, dB, col + o, 0);
    }
  }

  const ProductKernels<T>& product_;
  const MatrixView& grad_;
  const MatrixView& x_;
  const T* hidden_;
  const SvdLinearGradients& gradients_;
  Drop drop_;
  MatrixView accumulated_;
  AdapterSide<T> in_;
  AdapterSide<T> out_;
  std::int64_t rank_;
  T scale_;
  Scratch<T> E_;
  Scratch<T> dH_;  ///< scale * grad B * E^T of this sweep, times what dropout multiplies by
  Scratch<T> Z_;   ///< scale * hidden * E^T of this sweep
  Scratch<T> dE_;  ///< the part of each row task
  Scratch<T> sum_of_e_;
  std::int64_t tasks_of_a_;
  std::int64_t tasks_of_b_;
  Scratch<T> sums_;  ///< per column task: the sums, and room for their transpose
};

}  // namespace

void svd_linear_forward(const MatrixView& base_output, const MatrixView& x,
                        const Triplets& triplets, double scale, const Dropout& dropout,
                        const MatrixView& hidden, const MatrixView& output) {
  const auto run =
      compute_type(triplets.A.dtype) == DType::kFloat64 ? forward<double> : forward<float>;
  run(base_output, x, triplets, scale, dropout, hidden, output);
}

void svd_linear_backward(const MatrixView& grad, const MatrixView& x, const MatrixView& hidden,
                         const Triplets& triplets, double scale, const Dropout& dropout,
                         const SvdLinearGradients& gradients) {
  if (compute_type(triplets.A.dtype) == DType::kFloat64) {
    Backward<double>(grad, x, hidden, triplets, scale, dropout, gradients).run();
  } else {
    Backward<float>(grad, x, hidden, triplets, scale, dropout, gradients).run();
  }
}

}  // namespace adalora
