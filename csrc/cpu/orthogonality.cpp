#include "adalora/orthogonality.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "adalora/arithmetic/orthogonality.hpp"
#include "adalora/parallel.hpp"
#include "cpu/kernels.hpp"
#include "cpu/scratch.hpp"

namespace adalora {

namespace {

/// Entries of the long side per piece of work; pieces are cut by shape alone.
constexpr std::int64_t kPieceLength = 2048;

/// Entries of the long side that a kernel takes at a time: twelve vectors of them fit the caches.
constexpr std::int64_t kBlockLength = 512;

// A tile of `project` is this high and wide; a vector of `correlate` is this long
// (kernels_product.cpp).
constexpr std::int64_t kTileRows = 4;
constexpr std::int64_t kTileColumns = 3;
constexpr std::int64_t kColumns = 8;

/// Below this many multiply-adds the threads cost more than they save (bench_orthogonality.py).
constexpr std::int64_t kSerialWork = std::int64_t{1} << 17;

/// A range of the long side of one factor.
struct Piece {
  std::size_t factor;
  std::int64_t begin;
  std::int64_t end;
  std::int64_t partial;  ///< where its own residual starts, in values
};

template <class T>
class Penalty {
 public:
  explicit Penalty(std::span<const Factor> factors)
      : factors_(factors), product_(product_kernels<T>(kernels())) {
    for (std::size_t f = 0; f < factors.size(); ++f) {
      const std::int64_t rank = factors[f].rank();
      widest_ = std::max(widest_, rank);
      gram_begin_.push_back(gram_size_);
      gram_size_ += rank * rank;
      first_piece_.push_back(pieces_.size());
      for (std::int64_t begin = 0; rank > 0 && begin < factors[f].length(); begin += kPieceLength) {
        const std::int64_t end = std::min(factors[f].length(), begin + kPieceLength);
        pieces_.push_back({f, begin, end, partial_size_});
        partial_size_ += rank * rank;
        work_ += rank * rank * (end - begin);
      }
    }
    first_piece_.push_back(pieces_.size());
  }

  double forward(T* grams, double* norms) const {
    Scratch<T> partial(partial_size_);
    std::fill_n(partial.data(), partial_size_, T{0});
    for_each_piece([&](const Piece& piece, T* block) {
      add_gram(piece, block, partial.data() + piece.partial);
    });
    double total = 0.0;
    for (std::size_t f = 0; f < factors_.size(); ++f) {
      norms[f] = residual(f, partial.data(), grams + gram_begin_[f]);
      total += norms[f];
    }
    return total / static_cast<double>(factors_.size());
  }

  /// Writes the gradients, or adds them where `adds`.
  void backward(const T* grams, const double* norms, double grad,
                std::span<const MatrixView> gradients, bool adds) const {
    Scratch<T> scaled(gram_size_);
    for (std::size_t f = 0; f < factors_.size(); ++f) {
      const auto count = static_cast<std::int64_t>(factors_.size());
      const T scale = static_cast<T>(residual_factor(grad, count, norms[f]));
      const std::int64_t rank = factors_[f].rank();
      for (std::int64_t i = gram_begin_[f]; i < gram_begin_[f] + rank * rank; ++i) {
        scaled.data()[i] = scale * grams[i];
      }
    }
    for_each_piece([&](const Piece& piece, T* block) {
      write_gradient(piece, scaled.data() + gram_begin_[piece.factor], gradients[piece.factor],
                     adds, block);
    });
  }

  double add_gradient(double weight, std::span<const MatrixView> gradients) const {
    Scratch<T> grams(gram_size_);
    std::vector<double> norms(factors_.size());
    const double penalty = forward(grams.data(), norms.data());
    backward(grams.data(), norms.data(), weight, gradients, true);
    return penalty;
  }

 private:
  /// Calls `body(piece, block)`; the block holds two parts of widest rank x kBlockLength.
  template <class Body>
  void for_each_piece(const Body& body) const {
    const bool parallel = work_ > kSerialWork;
    const int blocks = parallel ? static_cast<int>(kTasks) : 1;
    const std::int64_t block_size = 2 * widest_ * kBlockLength;
    Scratch<T> scratch(blocks * block_size);
    parallel_for(blocks, parallel, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t task = begin; task < end; ++task) {
        const std::size_t first = pieces_.size() * task / blocks;
        const std::size_t last = pieces_.size() * (task + 1) / blocks;
        for (std::size_t i = first; i < last; ++i) {
          body(pieces_[i], scratch.data() + task * block_size);
        }
      }
    });
  }

  /// Adds the lower triangle of a gram, and a little more of it where that is faster.
  void add_gram(const Piece& piece, T* block, T* gram) const {
    const Factor& factor = factors_[piece.factor];
    const std::int64_t rank = factor.rank();
    for (std::int64_t c = piece.begin; c < piece.end; c += kBlockLength) {
      const std::int64_t count = std::min(kBlockLength, piece.end - c);
      if (factor.vectors_are_rows) {
        add_gram_of_rows(read_block(product_, factor.matrix, 0, rank, c, count, block), rank, count,
                         gram);
      } else {
        add_gram_of_columns(read_block(product_, factor.matrix, c, count, 0, rank, block), rank,
                            count, gram);
      }
    }
  }

  void add_gram_of_rows(const Rows<T>& rows, std::int64_t rank, std::int64_t count, T* gram) const {
    for (std::int64_t i = 0; i < rank; i += kTileRows) {
      const std::int64_t below = std::min(kTileRows, rank - i);
      const std::int64_t columns = (i + below + kTileColumns - 1) / kTileColumns * kTileColumns;
      product_.project(rows.data + i * rows.stride, rows.stride, rows.data, rows.stride,
                       gram + i * rank, rank, below, count, std::min(columns, rank));
    }
  }

  void add_gram_of_columns(const Rows<T>& rows, std::int64_t rank, std::int64_t count,
                           T* gram) const {
    for (std::int64_t j = 0; j < rank; j += kColumns) {
      product_.correlate(rows.data + j, rows.stride, rows.data + j, rows.stride,
                         gram + j * rank + j, rank, count, std::min(kColumns, rank - j), rank - j);
    }
  }

  void write_gradient(const Piece& piece, const T* scaled, const MatrixView& gradient, bool adds,
                      T* block) const {
    const Factor& factor = factors_[piece.factor];
    const std::int64_t rank = factor.rank();
    const bool in_place = is_plain<T>(gradient);
    T* out = block + widest_ * kBlockLength;
    for (std::int64_t c = piece.begin; c < piece.end; c += kBlockLength) {
      const std::int64_t count = std::min(kBlockLength, piece.end - c);
      const bool by_rows = factor.vectors_are_rows;
      const std::int64_t row = by_rows ? 0 : c;
      const std::int64_t col = by_rows ? c : 0;
      const std::int64_t n = by_rows ? rank : count;
      const std::int64_t k = by_rows ? count : rank;
      const Rows<T> rows = read_block(product_, factor.matrix, row, n, col, k, block);
      T* target = in_place ? reinterpret_cast<T*>(gradient.at(row, col)) : out;
      const std::int64_t stride = in_place ? gradient.row_stride : k;
      for (std::int64_t i = 0; adds && !in_place && i < n; ++i) {
        load_row(product_, gradient, row + i, col, k, out + i * k);
      }
      const T* const base = adds ? target : nullptr;
      if (by_rows) {
        product_.expand(scaled, rank, rows.data, rows.stride, base, stride, target, stride, n, k,
                        rank);
      } else {
        product_.expand(rows.data, rows.stride, scaled, rank, base, stride, target, stride, n, k,
                        rank);
      }
      for (std::int64_t i = 0; !in_place && i < n; ++i) {
        store_row(product_, out + i * k, k, gradient, row + i, col);
      }
    }
  }

  /// Sums the pieces in order, subtracts the identity, and returns the norm.
  double residual(std::size_t f, const T* partial, T* gram) const {
    const std::int64_t rank = factors_[f].rank();
    double below = 0.0, diagonal = 0.0;
    for (std::int64_t i = 0; i < rank; ++i) {
      for (std::int64_t j = 0; j <= i; ++j) {
        T value = i == j ? T{-1} : T{0};
        for (std::size_t p = first_piece_[f]; p < first_piece_[f + 1]; ++p) {
          value += partial[pieces_[p].partial + i * rank + j];
        }
        gram[i * rank + j] = value;
        gram[j * rank + i] = value;
        (i == j ? diagonal : below) += static_cast<double>(value) * static_cast<double>(value);
      }
    }
    return std::sqrt(diagonal + 2.0 * below);
  }

  static constexpr std::int64_t kTasks = 64;

  std::span<const Factor> factors_;
  const ProductKernels<T>& product_;
  std::vector<std::int64_t> gram_begin_;
  std::vector<std::size_t> first_piece_;  ///< of each factor, and one past the last
  std::vector<Piece> pieces_;
  std::int64_t gram_size_ = 0;
  std::int64_t partial_size_ = 0;
  std::int64_t widest_ = 0;
  std::int64_t work_ = 0;
};

bool in_double(std::span<const Factor> factors) {
  return !factors.empty() && factors.front().matrix.dtype == DType::kFloat64;
}

}  // namespace

double orthogonality_penalty(std::span<const Factor> factors, void* grams, double* norms) {
  return in_double(factors) ? Penalty<double>(factors).forward(static_cast<double*>(grams), norms)
                            : Penalty<float>(factors).forward(static_cast<float*>(grams), norms);
}

void orthogonality_gradient(std::span<const Factor> factors, const void* grams, const double* norms,
                            double grad, std::span<const MatrixView> gradients) {
  if (in_double(factors)) {
    Penalty<double>(factors).backward(static_cast<const double*>(grams), norms, grad, gradients,
                                      false);
  } else {
    Penalty<float>(factors).backward(static_cast<const float*>(grams), norms, grad, gradients,
                                     false);
  }
}

double add_orthogonality_gradient(std::span<const Factor> factors, double weight,
                                  std::span<const MatrixView> gradients) {
  return in_double(factors) ? Penalty<double>(factors).add_gradient(weight, gradients)
                            : Penalty<float>(factors).add_gradient(weight, gradients);
}

}  // namespace adalora
