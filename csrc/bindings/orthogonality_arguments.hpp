#pragma once
/// The arguments of the orthogonality op, checked; shared by CPU and CUDA.

#include <vector>

#include "adalora/orthogonality.hpp"
#include "bindings/overlap.hpp"

namespace adalora::bindings {

inline constexpr const char* kOrthogonality = "orthogonality_penalty";

/// All factors in one list, first every A, with references to their tensors.
class Factors {
 public:
  Factors(py::handle lora_As, py::handle lora_Bs)
      : As_(read_items(lora_As, {kOrthogonality, "lora_As"})),
        Bs_(read_items(lora_Bs, {kOrthogonality, "lora_Bs"})) {
    if (As_.size() != Bs_.size() || As_.empty()) {
      throw_value_error({kOrthogonality, "lora_Bs"}, "as many as lora_As, and at least one",
                        std::to_string(Bs_.size()) + " for " + std::to_string(As_.size()));
    }
    add(As_, "lora_As", true);
    add(Bs_, "lora_Bs", false);
  }

  const std::vector<Factor>& views() const { return views_; }
  DType dtype() const { return views_.front().matrix.dtype; }
  std::size_t matrices() const { return As_.size(); }

  /// Adds the factors to the memory that the op reads.
  void add_to(Overlap& overlap) const {
    for (const Factor& factor : views_)
      overlap.read(factor.matrix, {kOrthogonality, "the factors"});
  }

  std::int64_t gram_size() const {
    std::int64_t size = 0;
    for (const Factor& factor : views_) size += factor.rank() * factor.rank();
    return size;
  }

 private:
  void add(const py::tuple& items, const char* name, bool vectors_are_rows) {
    for (std::size_t i = 0; i < items.size(); ++i) {
      const Argument argument{kOrthogonality, name, static_cast<std::int64_t>(i)};
      views_.push_back({read_matrix(items[i], argument), vectors_are_rows});
      require_dtype(views_.back().matrix, argument, views_.front().matrix.dtype,
                    "that of lora_As[0]");
      if (views_.back().rank() > (std::int64_t{1} << 20)) {
        throw_value_error(argument, "a factor with fewer than a million triplets", "more");
      }
    }
  }

  py::tuple As_;
  py::tuple Bs_;
  std::vector<Factor> views_;
};

/// A contiguous tensor [size].
inline MatrixView read_flat(py::handle object, const Argument& argument, std::int64_t size,
                            DType dtype) {
  const MatrixView view = read_vector(object, argument);
  require_shape(view, argument, size, 1, "flat, [size, 1]");
  require_dtype(view, argument, dtype, "as the op stores it");
  require_contiguous(view, argument);
  return view;
}

/// The residuals of the factors and their norms, which forward saves for backward.
struct Residuals {
  Residuals(py::handle grams_object, py::handle norms_object, const Factors& factors)
      : grams(read_flat(grams_object, {kOrthogonality, "grams"}, factors.gram_size(),
                        compute_type(factors.dtype()))),
        norms(read_flat(norms_object, {kOrthogonality, "norms"},
                        static_cast<std::int64_t>(factors.views().size()), DType::kFloat64)) {}

  MatrixView grams;
  MatrixView norms;
};

/// The memory of the forward pass: the residuals are written, the factors are read.
inline Overlap forward_memory(const Factors& factors, const Residuals& residuals) {
  Overlap overlap;
  overlap.write(residuals.grams, {kOrthogonality, "grams"});
  overlap.write(residuals.norms, {kOrthogonality, "norms"});
  factors.add_to(overlap);
  return overlap;
}

/// The outputs of the backward pass: a tensor per factor, or one flat tensor with the gradients of
/// all factors in order.
class Gradients {
 public:
  Gradients(py::handle object, const Factors& factors) {
    if (is_sequence(object)) {
      read_list(object, factors);
    } else {
      read_block(object, factors);
    }
    factors.add_to(overlap_);
  }

  Gradients(py::handle object, const Factors& factors, const Residuals& residuals)
      : Gradients(object, factors) {
    overlap_.read(residuals.grams, {kOrthogonality, "grams"});
    overlap_.read(residuals.norms, {kOrthogonality, "norms"});
  }

  const std::vector<MatrixView>& views() const { return views_; }
  Overlap& overlap() { return overlap_; }

 private:
  void read_list(py::handle object, const Factors& factors) {
    items_ = read_items(object, {kOrthogonality, "gradients"});
    if (items_.size() != factors.views().size()) {
      throw_value_error({kOrthogonality, "gradients"}, "one per factor",
                        std::to_string(items_.size()));
    }
    for (std::size_t i = 0; i < items_.size(); ++i) {
      const Argument argument{kOrthogonality, "gradients", static_cast<std::int64_t>(i)};
      views_.push_back(read_matrix(items_[i], argument));
      require_like(views_.back(), argument, factors.views()[i].matrix, "its factor");
      overlap_.write(views_.back(), argument);
    }
  }

  void read_block(py::handle object, const Factors& factors) {
    std::int64_t entries = 0;
    for (const Factor& factor : factors.views()) {
      if (__builtin_add_overflow(entries, factor.matrix.rows * factor.matrix.cols, &entries)) {
        throw_value_error({kOrthogonality, "the factors"}, "a model that fits in memory",
                          "a larger one");
      }
    }
    const Argument argument{kOrthogonality, "gradients"};
    const MatrixView block = read_flat(object, argument, entries, factors.dtype());
    overlap_.write(block, argument);
    std::int64_t begin = 0;
    for (const Factor& factor : factors.views()) {
      const MatrixView& like = factor.matrix;
      views_.push_back({block.at(begin, 0), like.rows, like.cols, like.cols, 1, like.dtype});
      begin += like.rows * like.cols;
    }
  }

  py::tuple items_;
  std::vector<MatrixView> views_;
  Overlap overlap_;
};

}  // namespace adalora::bindings
