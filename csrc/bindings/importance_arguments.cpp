#include "bindings/importance_arguments.hpp"

namespace adalora::bindings {

namespace {

constexpr const char* kOp = kUpdateImportance;

void require_length(const char* name, std::size_t length, std::size_t expected) {
  if (length == expected) return;
  throw_value_error({kOp, name}, "as long as parameters, " + std::to_string(expected),
                    std::to_string(length));
}

/// Hints that `tensor` will be read soon. Its object holds a pointer to torch's data right behind
/// the header; should that change, the hint has no effect. docs/adr/0019 has what it gains.
void prefetch(PyObject* tensor) {
  constexpr std::size_t kLine = 64;
  constexpr std::size_t kLines = 4;
  struct Head {
    PyObject header;
    std::uintptr_t data;
  };
  if (Py_TYPE(tensor)->tp_basicsize < static_cast<Py_ssize_t>(sizeof(Head))) return;
  const std::uintptr_t data = reinterpret_cast<const Head*>(tensor)->data;
  for (std::size_t line = 0; line < kLines; ++line) {
    __builtin_prefetch(reinterpret_cast<const void*>(data + line * kLine));
  }
}

/// An item of a tuple that is read from its begin to its end.
py::handle item(const py::object& tuple, std::int64_t index) {
  constexpr std::int64_t kAhead = 8;  // tensors; their objects are far apart in memory
  if (index + kAhead < PyTuple_GET_SIZE(tuple.ptr())) {
    prefetch(PyTuple_GET_ITEM(tuple.ptr(), index + kAhead));
  }
  return PyTuple_GET_ITEM(tuple.ptr(), index);
}

/// The `.grad` of each parameter.
py::tuple gradients_of(const py::tuple& parameters) {
  py::tuple gradients(parameters.size());
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const auto index = static_cast<std::int64_t>(i);
    py::object gradient = read_gradient(item(parameters, index), {kOp, "parameters", index});
    PyTuple_SET_ITEM(gradients.ptr(), static_cast<Py_ssize_t>(i), gradient.release().ptr());
  }
  return gradients;
}

[[noreturn]] void throw_size(const char* name, const std::string& wanted, std::int64_t size) {
  throw_value_error({kOp, name}, "one entry per entry of the parameters, " + wanted,
                    std::to_string(size));
}

}  // namespace

Averages::Averages(py::handle object, const char* name, std::size_t parameters, Overlap& overlap)
    : name_(name), overlap_(overlap), is_flat_(!is_sequence(object)) {
  const Argument argument{kOp, name_};
  if (!is_flat_) {
    const py::tuple items = read_items(object, argument);
    require_length(name_, items.size(), parameters);
    held_ = items;
    return;
  }
  held_ = py::reinterpret_borrow<py::object>(object);
  flat_ = read_vector(object, argument);
  require_contiguous(flat_, argument);
  overlap_.write(flat_, argument);
}

MatrixView Averages::of(const MatrixView& parameter, std::int64_t index) {
  const DType dtype = compute_type(parameter.dtype);
  if (is_flat_) {
    require_dtype(flat_, {kOp, name_}, dtype, "the compute type of all parameters");
    const MatrixView view{
        flat_.at(used_, 0), parameter.rows, parameter.cols, parameter.cols, 1, dtype};
    used_ += parameter.rows * parameter.cols;
    if (used_ > flat_.rows) throw_size(name_, ">= " + std::to_string(used_), flat_.rows);
    return view;
  }
  const Argument argument{kOp, name_, index};
  const MatrixView view = read_matrix(item(held_, index), argument);
  require_shape(view, argument, parameter.rows, parameter.cols, "the shape of its parameter");
  require_dtype(view, argument, dtype, "the compute type of its parameter");
  overlap_.write(view, argument);
  return view;
}

void Averages::require_used() const {
  if (is_flat_ && used_ != flat_.rows) throw_size(name_, std::to_string(used_), flat_.rows);
}

ImportanceArguments::ImportanceArguments(py::handle parameters, py::handle gradients,
                                         py::handle smoothed, py::handle uncertainty,
                                         py::handle scores)
    : parameters_(read_items(parameters, {kOp, "parameters"})),
      gradients_(gradients.is_none() ? gradients_of(parameters_)
                                     : read_items(gradients, {kOp, "gradients"})),
      smoothed_(smoothed, "smoothed", parameters_.size(), overlap_),
      uncertainty_(uncertainty, "uncertainty", parameters_.size(), overlap_) {
  require_length("gradients", gradients_.size(), parameters_.size());
  entries_.reserve(parameters_.size());
  for (std::size_t i = 0; i < parameters_.size(); ++i) read_entry(static_cast<std::int64_t>(i));
  smoothed_.require_used();
  uncertainty_.require_used();
  if (scores.is_none()) return;
  const Argument argument{kOp, "scores"};
  scores_ = read_scores(scores, argument, count_triplets());
  overlap_.write(scores_, argument);
}

void ImportanceArguments::read_entry(std::int64_t index) {
  const auto read = [&](py::handle object, const char* name) {
    const Argument argument{kOp, name, index};
    const MatrixView view = read_matrix_of_any_sign(object, argument);
    overlap_.read(view, argument);
    return view;
  };
  ImportanceEntry& entry = entries_.emplace_back();
  entry.parameter = read(item(parameters_, index), "parameters");
  entry.smoothed = smoothed_.of(entry.parameter, index);
  entry.uncertainty = uncertainty_.of(entry.parameter, index);
  const py::handle gradient = item(gradients_, index);
  if (gradient.is_none()) return;
  entry.gradient = read(gradient, "gradients");
  require_like(entry.gradient, {kOp, "gradients", index}, entry.parameter, "its parameter");
}

/// Requires A [r, in], E [r, 1], B [out, r]: one rank in each matrix.
std::int64_t ImportanceArguments::count_triplets() const {
  if (entries_.size() % kFactors != 0) {
    throw_value_error({kOp, "parameters"}, "A, E and B of each matrix in turn",
                      std::to_string(entries_.size()) + " tensors");
  }
  std::int64_t triplets = 0;
  for (std::size_t i = 0; i < entries_.size(); i += kFactors) {
    const std::int64_t rank = entries_[i].parameter.rows;
    const auto index = static_cast<std::int64_t>(i);
    require_shape(entries_[i + 1].parameter, {kOp, "parameters", index + 1}, rank, 1,
                  "E [r, 1], r that of the A before it,");
    const MatrixView& B = entries_[i + 2].parameter;
    require_shape(B, {kOp, "parameters", index + 2}, B.rows, rank,
                  "B [out, r], r that of the A before it,");
    triplets += rank;
  }
  return triplets;
}

double read_beta(py::handle object, const char* name) {
  const double beta = read_number(object, {kUpdateImportance, name});
  if (!(beta >= 0.0 && beta <= 1.0)) {
    throw_value_error({kUpdateImportance, name}, "in [0, 1]", std::to_string(beta));
  }
  return beta;
}

}  // namespace adalora::bindings
