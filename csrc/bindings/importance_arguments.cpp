#include "bindings/importance_arguments.hpp"

#include <pybind11/critical_section.h>

#include <algorithm>
#include <cstring>

#include "bindings/overlap.hpp"

namespace adalora::bindings {

namespace {

constexpr const char* kOp = kUpdateImportance;
constexpr std::size_t kAhead = 8;  // parameters; their objects are far apart in memory

/// Hints that `tensor` will be read soon. Its object holds a pointer to torch's data right behind
/// the header; should that change, the hint has no effect.
void prefetch(py::handle tensor) {
  constexpr std::size_t kLine = 64;
  constexpr std::size_t kLines = 4;
  if (Py_TYPE(tensor.ptr())->tp_basicsize <
      static_cast<Py_ssize_t>(sizeof(PyObject) + sizeof(void*))) {
    return;
  }
  std::uintptr_t kept = 0;
  std::memcpy(&kept, tensor.ptr() + 1, sizeof kept);
  for (std::size_t line = 0; line < kLines; ++line) {
    __builtin_prefetch(reinterpret_cast<const void*>(kept + line * kLine));
  }
}

/// Remembers tensors that have been checked, by weak reference: the parameters of the next step are
/// the same tensors, and need no second check for negative views. Should `.data` of one be made a
/// negative view, |p * g| stays the same.
class CheckedTensors {
 public:
  MatrixView read(py::handle object, const Argument& argument) {
    const auto slot = static_cast<std::size_t>(argument.index);
    if (slot >= known_.size()) known_.resize(slot + 1);
    if (known_[slot] && referent(known_[slot]) == object.ptr()) {
      return read_known_matrix(object, argument);
    }
    const MatrixView view = read_matrix(object, argument);
    known_[slot] = py::reinterpret_steal<py::object>(PyWeakref_NewRef(object.ptr(), nullptr));
    if (!known_[slot]) throw py::error_already_set();
    return view;
  }

 private:
  static PyObject* referent(const py::object& reference) {
#if PY_VERSION_HEX >= 0x030D0000
    PyObject* object = nullptr;
    if (PyWeakref_GetRef(reference.ptr(), &object) != 1) return nullptr;
    Py_DECREF(object);  // the caller's tuple holds it
    return object;
#else
    return PyWeakref_GetObject(reference.ptr());
#endif
  }

  std::vector<py::object> known_;
};

/// The memory of all averages, sorted once for each set of them.
class WrittenMemory {
 public:
  /// Throws if two intervals of `memory` overlap; `name_of` returns the argument of an index.
  template <class NameOf>
  void set(const std::vector<Interval>& memory, const NameOf& name_of) {
    if (memory == given_) return;
    std::vector<std::size_t> order(memory.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(),
              [&](std::size_t a, std::size_t b) { return memory[a].begin < memory[b].begin; });
    sorted_.clear();
    given_.clear();
    std::size_t previous = order.size();
    for (const std::size_t i : order) {
      if (memory[i].empty()) continue;
      if (previous < order.size() && memory[i].begin < memory[previous].end) {
        throw_overlap(name_of(i), name_of(previous));
      }
      sorted_.push_back(memory[i]);
      previous = i;
    }
    given_ = memory;
  }

  bool touches(const Interval& memory) const {
    const auto next =
        std::partition_point(sorted_.begin(), sorted_.end(),
                             [&](const Interval& written) { return written.end <= memory.begin; });
    return next != sorted_.end() && next->begin < memory.end;
  }

 private:
  std::vector<Interval> given_;
  std::vector<Interval> sorted_;
};

/// The state between calls, which keeps no tensor alive. Who uses it holds the interpreter's lock
/// or, where Python has none, a critical section. Either may be lost while a tensor is read.
struct Memory {
  CheckedTensors parameters;
  WrittenMemory averages;
};

Memory& memory() {
  static Memory* const kept = new Memory;  // never freed: Python may have ended by then
  return *kept;
}

void require_length(const char* name, std::size_t length, std::size_t expected) {
  if (length == expected) return;
  throw_value_error({kOp, name}, "as long as parameters, " + std::to_string(expected),
                    std::to_string(length));
}

py::handle item(const py::tuple& list, std::int64_t index) {
  return PyTuple_GET_ITEM(list.ptr(), static_cast<Py_ssize_t>(index));
}

/// Hints that the parameter `kAhead` places after `index` will be read soon.
void prefetch_after(const py::tuple& parameters, std::size_t index) {
  if (index + kAhead >= parameters.size()) return;
  prefetch(item(parameters, static_cast<std::int64_t>(index + kAhead)));
}

/// The `.grad` of each parameter.
py::tuple gradients_of(const py::tuple& parameters) {
  py::tuple gradients(parameters.size());
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    prefetch_after(parameters, i);
    const auto index = static_cast<std::int64_t>(i);
    py::object gradient = read_gradient(item(parameters, index), {kOp, "parameters", index});
    PyTuple_SET_ITEM(gradients.ptr(), static_cast<Py_ssize_t>(i), gradient.release().ptr());
  }
  return gradients;
}

/// One of the two averages: a tensor per parameter, or one flat tensor with the entries of all
/// parameters in order, which is one object to read instead of hundreds.
class Averages {
 public:
  Averages(py::handle object, const char* name) : name_(name), is_flat_(!is_sequence(object)) {
    if (!is_flat_) {
      items_ = read_items(object, {kOp, name});
      return;
    }
    held_ = py::reinterpret_borrow<py::object>(object);
    flat_ = read_vector(object, {kOp, name});
    require_contiguous(flat_, {kOp, name});
  }

  void require_length(std::size_t parameters) const {
    if (!is_flat_) bindings::require_length(name_, items_.size(), parameters);
  }

  /// The average of the next parameter.
  MatrixView of(const MatrixView& parameter, std::int64_t index) {
    const Argument argument{kOp, name_, is_flat_ ? -1 : index};
    const DType dtype = compute_type(parameter.dtype);
    if (is_flat_) {
      require_dtype(flat_, argument, dtype, "the compute type of all parameters");
      const MatrixView view{
          flat_.at(used_, 0), parameter.rows, parameter.cols, parameter.cols, 1, dtype};
      used_ += parameter.rows * parameter.cols;
      if (used_ > flat_.rows) throw_size(">= " + std::to_string(used_));
      return view;
    }
    const MatrixView view = read_matrix(item(items_, index), argument);
    require_shape(view, argument, parameter.rows, parameter.cols, "the shape of its parameter");
    require_dtype(view, argument, dtype, "the compute type of its parameter");
    require_separate_elements(view, argument);
    if (memory_.size() <= static_cast<std::size_t>(index)) memory_.resize(index + 1);
    memory_[index] = memory_of(view);
    return view;
  }

  void require_used() const {
    if (is_flat_ && used_ != flat_.rows) throw_size(std::to_string(used_));
  }

  void add_memory(std::vector<Interval>& written) const {
    if (is_flat_) {
      written.push_back(memory_of(flat_));
    } else {
      written.insert(written.end(), memory_.begin(), memory_.end());
    }
  }

  Argument name_of(std::size_t index) const {
    return {kOp, name_, is_flat_ ? -1 : static_cast<std::int64_t>(index)};
  }

 private:
  [[noreturn]] void throw_size(const std::string& wanted) const {
    throw_value_error({kOp, name_}, "one entry per entry of the parameters, " + wanted,
                      std::to_string(flat_.rows));
  }

  const char* name_;
  bool is_flat_;
  py::tuple items_;
  std::vector<Interval> memory_;
  py::object held_;
  MatrixView flat_;
  std::int64_t used_ = 0;
};

}  // namespace

/// Parameters, gradients and both averages, as Python objects and as views.
class ImportanceArguments::Arguments {
 public:
  Arguments(py::handle parameters, py::handle gradients, py::handle smoothed,
            py::handle uncertainty)
      : parameters_(read_items(parameters, {kOp, "parameters"})),
        gradients_(gradients.is_none() ? gradients_of(parameters_)
                                       : read_items(gradients, {kOp, "gradients"})),
        smoothed_(smoothed, "smoothed"),
        uncertainty_(uncertainty, "uncertainty") {
    const std::size_t count = parameters_.size();
    require_length("gradients", gradients_.size(), count);
    smoothed_.require_length(count);
    uncertainty_.require_length(count);
    if (count % kFactors != 0) {
      throw_value_error({kOp, "parameters"}, "A, E and B of each matrix in turn",
                        std::to_string(count) + " tensors");
    }
    entries_.reserve(count);
    const py::scoped_critical_section guard(py::none());  // of the memory; None locks nothing else
    for (std::size_t i = 0; i < count; ++i) {
      prefetch_after(parameters_, i);
      read_entry(static_cast<std::int64_t>(i));
    }
    smoothed_.require_used();
    uncertainty_.require_used();
    require_apart();
    count_triplets();
  }

  const std::vector<ImportanceEntry>& entries() const { return entries_; }

  MatrixView scores(py::handle object) const {
    const Argument argument{kOp, "scores"};
    const MatrixView scores = read_scores(object, argument, triplets_);
    require_separate_elements(scores, argument);
    require_apart_from(scores, argument);
    return scores;
  }

  void require_apart_from(const MatrixView& scores, const Argument& argument) const {
    const Interval written = memory_of(scores);
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      const auto require_other = [&](const MatrixView& view, const char* name) {
        if (memory_of(view).overlaps(written)) {
          throw_overlap(argument, {kOp, name, static_cast<std::int64_t>(i)});
        }
      };
      require_other(entries_[i].parameter, "parameters");
      require_other(entries_[i].gradient, "gradients");
      require_other(entries_[i].smoothed, "smoothed");
      require_other(entries_[i].uncertainty, "uncertainty");
    }
  }

 private:
  /// Requires A [r, in], E [r, 1], B [out, r]: one rank in each matrix.
  void count_triplets() {
    for (std::size_t i = 0; i < entries_.size(); i += kFactors) {
      const std::int64_t rank = entries_[i].parameter.rows;
      const auto index = static_cast<std::int64_t>(i);
      require_shape(entries_[i + 1].parameter, {kOp, "parameters", index + 1}, rank, 1,
                    "E [r, 1], r that of the A before it,");
      const MatrixView& B = entries_[i + 2].parameter;
      require_shape(B, {kOp, "parameters", index + 2}, B.rows, rank,
                    "B [out, r], r that of the A before it,");
      triplets_ += rank;
    }
  }

  void read_entry(std::int64_t index) {
    const py::handle object = item(parameters_, index);
    const MatrixView parameter = memory().parameters.read(object, {kOp, "parameters", index});
    ImportanceEntry& entry = entries_.emplace_back();
    entry.parameter = parameter;
    entry.smoothed = smoothed_.of(parameter, index);
    entry.uncertainty = uncertainty_.of(parameter, index);
    const py::handle gradient = item(gradients_, index);
    if (gradient.is_none()) return;
    const Argument argument{kOp, "gradients", index};
    entry.gradient = read_matrix(gradient, argument);
    require_like(entry.gradient, argument, parameter, "its parameter");
  }

  void require_apart() const {
    std::vector<Interval> written;
    smoothed_.add_memory(written);
    const std::size_t first_uncertainty = written.size();
    uncertainty_.add_memory(written);
    WrittenMemory& averages = memory().averages;
    averages.set(written, [&](std::size_t i) {
      return i < first_uncertainty ? smoothed_.name_of(i)
                                   : uncertainty_.name_of(i - first_uncertainty);
    });
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      const auto index = static_cast<std::int64_t>(i);
      if (averages.touches(memory_of(entries_[i].parameter))) {
        throw_overlap({kOp, "smoothed or uncertainty"}, {kOp, "parameters", index});
      }
      if (averages.touches(memory_of(entries_[i].gradient))) {
        throw_overlap({kOp, "smoothed or uncertainty"}, {kOp, "gradients", index});
      }
    }
  }

  py::tuple parameters_;
  py::tuple gradients_;
  Averages smoothed_;
  Averages uncertainty_;
  std::vector<ImportanceEntry> entries_;
  std::int64_t triplets_ = 0;
};

ImportanceArguments::ImportanceArguments(py::handle parameters, py::handle gradients,
                                         py::handle smoothed, py::handle uncertainty)
    : arguments_(new Arguments(parameters, gradients, smoothed, uncertainty)) {}

ImportanceArguments::~ImportanceArguments() = default;

const std::vector<ImportanceEntry>& ImportanceArguments::entries() const {
  return arguments_->entries();
}

MatrixView ImportanceArguments::scores(py::handle object) const {
  return object.is_none() ? MatrixView{} : arguments_->scores(object);
}

void ImportanceArguments::require_apart_from(const MatrixView& view,
                                             const Argument& argument) const {
  arguments_->require_apart_from(view, argument);
}

double read_beta(py::handle object, const char* name) {
  const double beta = read_number(object, {kUpdateImportance, name});
  if (!(beta >= 0.0 && beta <= 1.0)) {
    throw_value_error({kUpdateImportance, name}, "in [0, 1]", std::to_string(beta));
  }
  return beta;
}

}  // namespace adalora::bindings
