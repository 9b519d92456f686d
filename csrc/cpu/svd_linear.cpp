#include "adalora/svd_linear.hpp"

#include <algorithm>

#include "adalora/arithmetic/dropout.hpp"
#include "adalora/parallel.hpp"
#include "cpu/kernels.hpp"
#include "cpu/scratch.hpp"

namespace adalora {

namespace {

/// Rows of x per task, and entries of a row that are converted at a time: the block stays in the
/// caches, and tasks are cut by shape alone.
constexpr std::int64_t kTaskRows = 16;
constexpr std::int64_t kBlockCols = 512;

/// Columns per task of the sums over all rows.
constexpr std::int64_t kTaskCols = 128;

/// Below this many multiply-adds the threads cost more than they save (bench_svd_linear.py).
constexpr std::int64_t kSerialWork = std::int64_t{1} << 18;

std::int64_t tasks(std::int64_t count, std::int64_t size) { return (count + size - 1) / size; }

/// Dropout with its probability as an integer threshold.
template <class T>
class Drop {
 public:
  Drop(const Dropout& dropout, const ProductKernels<T>& product)
      : active_(dropout.active()),
        seed_(dropout.seed),
        threshold_(drop_threshold(dropout.probability)),
        kept_factor_(static_cast<T>(1.0 / (1.0 - dropout.probability))),
        product_(product) {}

  bool active() const { return active_; }

  /// Drops entries [col, col + count) of row `row` of x.
  void apply(T* values, std::int64_t row, std::int64_t col, std::int64_t count) const {
    product_.drop(values, count, drop_row_key(seed_, static_cast<std::uint64_t>(row)),
                  static_cast<std::uint32_t>(col), threshold_, kept_factor_);
  }

 private:
  bool active_;
  std::uint64_t seed_;
  std::uint32_t threshold_;
  T kept_factor_;
  const ProductKernels<T>& product_;
};

/// The factors as the kernels read them: A and the transpose of B with long rows of T.
template <class T>
class Factors {
 public:
  Factors(const Triplets& triplets, const ProductKernels<T>& product)
      : rank_(triplets.A.rows),
        a_scratch_(is_plain<T>(triplets.A) ? 0 : rank_ * triplets.A.cols),
        b_transposed_(rank_ * triplets.B.rows),
        e_(rank_) {
    A = read_block(product, triplets.A, 0, rank_, 0, triplets.A.cols, a_scratch_.data());
    transpose_b(triplets.B, product);
    for (std::int64_t j = 0; j < rank_; ++j) load_row(product, triplets.E, j, 0, 1, e_.data() + j);
  }

  const T* E() const { return e_.data(); }
  const T* B_transposed() const { return b_transposed_.data(); }

  Rows<T> A;

 private:
  void transpose_b(const MatrixView& B, const ProductKernels<T>& product) {
    constexpr std::int64_t kRows = 64;
    const Scratch<T> scratch(is_plain<T>(B) ? 0 : kRows * rank_);
    for (std::int64_t row = 0; row < B.rows; row += kRows) {
      const std::int64_t count = std::min(kRows, B.rows - row);
      const Rows<T> rows = read_block(product, B, row, count, 0, rank_, scratch.data());
      product.transpose(rows.data, rows.stride, b_transposed_.data() + row, B.rows, count, rank_);
    }
  }

  std::int64_t rank_;
  Scratch<T> a_scratch_;
  Scratch<T> b_transposed_;
  Scratch<T> e_;
};

/// X[rows] W^T into H, with X converted and dropped block by block; H is overwritten.
template <class T>
void project_rows(const ProductKernels<T>& product, const MatrixView& X, const Drop<T>* drop,
                  std::int64_t row, std::int64_t rows, const T* W, std::int64_t ldw, T* H,
                  std::int64_t rank) {
  std::fill_n(H, rows * rank, T{0});
  const bool in_place = is_plain<T>(X) && drop == nullptr;
  T block[kTaskRows * kBlockCols];
  for (std::int64_t col = 0; col < X.cols; col += kBlockCols) {
    const std::int64_t cols = std::min(kBlockCols, X.cols - col);
    Rows<T> values{block, cols};
    if (in_place) {
      values = {reinterpret_cast<const T*>(X.at(row, col)), X.row_stride};
    } else {
      for (std::int64_t i = 0; i < rows; ++i) {
        load_row(product, X, row + i, col, cols, block + i * cols);
        if (drop != nullptr) drop->apply(block + i * cols, row + i, col, cols);
      }
    }
    product.project(values.data, values.stride, W + col, ldw, H, rank, rows, cols, rank);
  }
}

/// Y[rows] = base[rows] + drop(H W); without the base if it is absent.
template <class T>
void expand_rows(const ProductKernels<T>& product, const T* H, std::int64_t rank, const T* W,
                 std::int64_t ldw, const MatrixView& base, const Drop<T>* drop, std::int64_t row,
                 std::int64_t rows, const MatrixView& Y) {
  if (is_plain<T>(Y) && drop == nullptr && (!base.present() || is_plain<T>(base))) {
    product.expand(
        H, rank, W, ldw, base.present() ? reinterpret_cast<const T*>(base.at(row, 0)) : nullptr,
        base.row_stride, reinterpret_cast<T*>(Y.at(row, 0)), Y.row_stride, rows, Y.cols, rank);
    return;
  }
  T block[kTaskRows * kBlockCols];
  T addend[kBlockCols];
  for (std::int64_t col = 0; col < Y.cols; col += kBlockCols) {
    const std::int64_t cols = std::min(kBlockCols, Y.cols - col);
    product.expand(H, rank, W + col, ldw, nullptr, 0, block, cols, rows, cols, rank);
    for (std::int64_t i = 0; i < rows; ++i) {
      T* values = block + i * cols;
      if (drop != nullptr) drop->apply(values, row + i, col, cols);
      if (base.present()) {
        load_row(product, base, row + i, col, cols, addend);
        for (std::int64_t j = 0; j < cols; ++j) values[j] += addend[j];
      }
      store_row(product, values, cols, Y, row + i, col);
    }
  }
}

/// G[r, columns] = H^T drop(X)[:, columns], summed over all rows in order, into `sums` [r, cols].
template <class T>
void correlate_cols(const ProductKernels<T>& product, const T* H, std::int64_t rank,
                    const MatrixView& X, const Drop<T>* drop, std::int64_t col, std::int64_t cols,
                    T* sums) {
  std::fill_n(sums, rank * cols, T{0});
  if (X.rows == 0) return;
  if (is_plain<T>(X) && drop == nullptr) {
    product.correlate(H, rank, reinterpret_cast<const T*>(X.at(0, col)), X.row_stride, sums, cols,
                      X.rows, cols, rank);
    return;
  }
  constexpr std::int64_t kRows = 32;
  T block[kRows * kTaskCols];
  for (std::int64_t row = 0; row < X.rows; row += kRows) {
    const std::int64_t rows = std::min(kRows, X.rows - row);
    for (std::int64_t i = 0; i < rows; ++i) {
      load_row(product, X, row + i, col, cols, block + i * cols);
      if (drop != nullptr) drop->apply(block + i * cols, row + i, col, cols);
    }
    product.correlate(H + row * rank, rank, block, cols, sums, cols, rows, cols, rank);
  }
}

template <class T>
void forward(const MatrixView& base_output, const MatrixView& x, const Triplets& triplets,
             double scale, const Dropout& dropout, const MatrixView& hidden,
             const MatrixView& output) {
  const ProductKernels<T>& product = product_kernels<T>(kernels());
  const Factors<T> factors(triplets, product);
  const Drop<T> drop(dropout, product);
  const Drop<T>* active_drop = drop.active() ? &drop : nullptr;
  const std::int64_t rank = triplets.A.rows;
  const Scratch<T> scaled(x.rows * rank);
  T* const H = static_cast<T*>(hidden.data);
  const T factor = static_cast<T>(scale);
  const bool parallel = x.rows * rank * (x.cols + output.cols) > kSerialWork;
  parallel_for(tasks(x.rows, kTaskRows), parallel, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin * kTaskRows; row < std::min(end * kTaskRows, x.rows);
         row += kTaskRows) {
      const std::int64_t rows = std::min(kTaskRows, x.rows - row);
      T* const h = H + row * rank;
      T* const z = scaled.data() + row * rank;
      project_rows(product, x, active_drop, row, rows, factors.A.data, factors.A.stride, h, rank);
      for (std::int64_t i = 0; i < rows; ++i) {
        for (std::int64_t j = 0; j < rank; ++j) {
          z[i * rank + j] = h[i * rank + j] * factors.E()[j] * factor;
        }
      }
      expand_rows<T>(product, z, rank, factors.B_transposed(), output.cols, base_output, nullptr,
                     row, rows, output);
    }
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
        factors_(triplets, product_),
        drop_(dropout, product_),
        rank_(triplets.A.rows),
        scale_(static_cast<T>(scale)),
        dZ_(x.rows * rank_),
        dH_(x.rows * rank_),
        Z_(x.rows * rank_) {}

  void run() {
    const bool parallel = x_.rows * rank_ * (x_.cols + grad_.cols) > kSerialWork;
    parallel_for(tasks(x_.rows, kTaskRows), parallel, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin * kTaskRows; row < std::min(end * kTaskRows, x_.rows);
           row += kTaskRows) {
        propagate(row, std::min(kTaskRows, x_.rows - row));
      }
    });
    // Sums over all rows: cut along the columns, so that each is summed in one order.
    const Triplets& wanted = gradients_.triplets;
    const std::int64_t of_a = wanted.A.present() ? tasks(x_.cols, kTaskCols) : 0;
    const std::int64_t of_b = wanted.B.present() ? tasks(grad_.cols, kTaskCols) : 0;
    const std::int64_t task_size = 2 * rank_ * kTaskCols;
    const Scratch<T> sums((of_a + of_b) * task_size);
    parallel_for(of_a + of_b, parallel, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t task = begin; task < end; ++task) {
        T* const own = sums.data() + task * task_size;
        task < of_a ? write_a(task * kTaskCols, own) : write_b((task - of_a) * kTaskCols, own);
      }
    });
    if (wanted.E.present()) write_e();
  }

 private:
  const Drop<T>* drop() const { return drop_.active() ? &drop_ : nullptr; }

  void propagate(std::int64_t row, std::int64_t rows) const {
    const std::int64_t first = row * rank_;
    T* const dZ = dZ_.data() + first;
    T* const dH = dH_.data() + first;
    T* const Z = Z_.data() + first;
    project_rows<T>(product_, grad_, nullptr, row, rows, factors_.B_transposed(), grad_.cols, dZ,
                    rank_);
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < rank_; ++j) {
        const std::int64_t at = i * rank_ + j;
        dZ[at] *= scale_;
        dH[at] = dZ[at] * factors_.E()[j];
        Z[at] = hidden_[first + at] * factors_.E()[j] * scale_;
      }
    }
    if (gradients_.x.present()) {
      expand_rows(product_, dH, rank_, factors_.A.data, factors_.A.stride,
                  gradients_.accumulate_x ? gradients_.x : MatrixView{}, drop(), row, rows,
                  gradients_.x);
    }
  }

  void write_a(std::int64_t col, T* sums) const {
    const std::int64_t cols = std::min(kTaskCols, x_.cols - col);
    correlate_cols(product_, dH_.data(), rank_, x_, drop(), col, cols, sums);
    for (std::int64_t j = 0; j < rank_; ++j) {
      store_row(product_, sums + j * cols, cols, gradients_.triplets.A, j, col);
    }
  }

  void write_b(std::int64_t col, T* sums) const {
    const std::int64_t cols = std::min(kTaskCols, grad_.cols - col);
    T* const rows = sums + rank_ * cols;
    correlate_cols<T>(product_, Z_.data(), rank_, grad_, nullptr, col, cols, sums);
    product_.transpose(sums, cols, rows, rank_, rank_, cols);
    for (std::int64_t o = 0; o < cols; ++o) {
      store_row(product_, rows + o * rank_, rank_, gradients_.triplets.B, col + o, 0);
    }
  }

  void write_e() const {
    const Scratch<T> sums(rank_);
    std::fill_n(sums.data(), rank_, T{0});
    for (std::int64_t i = 0; i < x_.rows; ++i) {
      for (std::int64_t j = 0; j < rank_; ++j) {
        sums.data()[j] += dZ_.data()[i * rank_ + j] * hidden_[i * rank_ + j];
      }
    }
    for (std::int64_t j = 0; j < rank_; ++j) {
      store_row(product_, sums.data() + j, 1, gradients_.triplets.E, j, 0);
    }
  }

  const ProductKernels<T>& product_;
  const MatrixView& grad_;
  const MatrixView& x_;
  const T* hidden_;
  const SvdLinearGradients& gradients_;
  Factors<T> factors_;
  Drop<T> drop_;
  std::int64_t rank_;
  T scale_;
  Scratch<T> dZ_;  ///< scale * grad B
  Scratch<T> dH_;  ///< dZ * E^T
  Scratch<T> Z_;   ///< scale * hidden * E^T
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
