#include <algorithm>
#include <vector>

#include "adalora/importance.hpp"
#include "bindings/bindings.hpp"
#include "bindings/define.hpp"
#include "bindings/tensor.hpp"

namespace adalora::bindings {

namespace {

constexpr const char* kOp = "update_importance";
constexpr std::size_t kFactors = 3;

/// Remembers tensors that have been checked, by weak reference: a list of parameters or averages
/// that comes again in the next step need not be asked again whether each tensor is a negative
/// view.
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
  /// Throws if two of `memory` overlap; `name_of` gives the argument of an index.
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

/// What is kept between calls; the interpreter's lock guards it, and nothing outlives its tensors.
struct Memory {
  CheckedTensors parameters, smoothed, uncertainty;
  WrittenMemory averages;
};

Memory& memory() {
  static Memory* const kept = new Memory;  // never freed: Python may be gone by then
  return *kept;
}

struct Lists {
  py::tuple parameters, gradients, smoothed, uncertainty;

  std::size_t size() const { return parameters.size(); }

  void require_lengths() const {
    const auto require = [&](const char* name, std::size_t length) {
      if (length == size()) return;
      throw_value_error({kOp, name}, "as long as parameters, " + std::to_string(size()),
                        std::to_string(length));
    };
    require("gradients", gradients.size());
    require("smoothed", smoothed.size());
    require("uncertainty", uncertainty.size());
    if (size() % kFactors != 0) {
      throw_value_error({kOp, "parameters"}, "A, E and B of each matrix in turn",
                        std::to_string(size()) + " tensors");
    }
  }
};

void require_like(const MatrixView& view, const Argument& argument, const MatrixView& parameter,
                  DType dtype, const char* meaning) {
  require_shape(view, argument, parameter.rows, parameter.cols, "the shape of its parameter");
  require_dtype(view, argument, dtype, meaning);
}

ImportanceEntry read_entry(const Lists& lists, std::size_t i) {
  const auto index = static_cast<std::int64_t>(i);
  const auto item = [i](const py::tuple& list) {
    return py::handle(PyTuple_GET_ITEM(list.ptr(), static_cast<Py_ssize_t>(i)));
  };
  const Argument smoothed{kOp, "smoothed", index};
  const Argument uncertainty{kOp, "uncertainty", index};
  ImportanceEntry entry;
  entry.parameter = memory().parameters.read(item(lists.parameters), {kOp, "parameters", index});
  entry.smoothed = memory().smoothed.read(item(lists.smoothed), smoothed);
  entry.uncertainty = memory().uncertainty.read(item(lists.uncertainty), uncertainty);
  const DType average = compute_type(entry.parameter.dtype);
  constexpr const char* kMeaning = "the compute type of its parameter";
  require_like(entry.smoothed, smoothed, entry.parameter, average, kMeaning);
  require_like(entry.uncertainty, uncertainty, entry.parameter, average, kMeaning);
  require_separate_elements(entry.smoothed, smoothed);
  require_separate_elements(entry.uncertainty, uncertainty);
  if (!item(lists.gradients).is_none()) {
    const Argument gradient{kOp, "gradients", index};
    entry.gradient = read_matrix(item(lists.gradients), gradient);
    require_like(entry.gradient, gradient, entry.parameter, entry.parameter.dtype,
                 "that of its parameter");
  }
  return entry;
}

/// A [r, in], E [r, 1], B [out, r]: one rank in each matrix. Returns the sum of ranks.
std::int64_t require_triplets(const std::vector<ImportanceEntry>& entries) {
  std::int64_t total = 0;
  for (std::size_t i = 0; i < entries.size(); i += kFactors) {
    const std::int64_t rank = entries[i].parameter.rows;
    const auto index = static_cast<std::int64_t>(i);
    require_shape(entries[i + 1].parameter, {kOp, "parameters", index + 1}, rank, 1,
                  "E [r, 1], r that of the A before it,");
    const MatrixView& B = entries[i + 2].parameter;
    require_shape(B, {kOp, "parameters", index + 2}, B.rows, rank,
                  "B [out, r], r that of the A before it,");
    total += rank;
  }
  return total;
}

void require_apart(const std::vector<ImportanceEntry>& entries) {
  std::vector<Interval> written;
  written.reserve(2 * entries.size());
  for (const ImportanceEntry& entry : entries) {
    written.push_back(memory_of(entry.smoothed));
    written.push_back(memory_of(entry.uncertainty));
  }
  WrittenMemory& averages = memory().averages;
  averages.set(written, [](std::size_t i) {
    return Argument{kOp, i % 2 == 0 ? "smoothed" : "uncertainty", static_cast<std::int64_t>(i / 2)};
  });
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const auto index = static_cast<std::int64_t>(i);
    if (averages.touches(memory_of(entries[i].parameter))) {
      throw_overlap({kOp, "smoothed or uncertainty"}, {kOp, "parameters", index});
    }
    if (averages.touches(memory_of(entries[i].gradient))) {
      throw_overlap({kOp, "smoothed or uncertainty"}, {kOp, "gradients", index});
    }
  }
}

MatrixView read_scores(py::handle object, std::int64_t count,
                       const std::vector<ImportanceEntry>& entries) {
  const Argument argument{kOp, "scores"};
  const MatrixView scores = read_vector(object, argument);
  require_shape(scores, argument, count, 1, "[sum of ranks, 1]");
  require_dtype(scores, argument, compute_type(scores.dtype), "or float64");
  require_separate_elements(scores, argument);
  const Interval written = memory_of(scores);
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const auto index = static_cast<std::int64_t>(i);
    const auto require_other = [&](const MatrixView& view, const char* name) {
      const Interval memory = memory_of(view);
      if (memory.begin < written.end && written.begin < memory.end) {
        throw_overlap(argument, {kOp, name, index});
      }
    };
    require_other(entries[i].parameter, "parameters");
    require_other(entries[i].gradient, "gradients");
    require_other(entries[i].smoothed, "smoothed");
    require_other(entries[i].uncertainty, "uncertainty");
  }
  return scores;
}

double read_beta(py::handle object, const char* name) {
  const double beta = read_number(object, {kOp, name});
  if (!(beta >= 0.0 && beta <= 1.0)) {
    throw_value_error({kOp, name}, "in [0, 1]", std::to_string(beta));
  }
  return beta;
}

std::int64_t update(py::handle parameters, py::handle gradients, py::handle smoothed,
                    py::handle uncertainty, py::handle beta1, py::handle beta2, py::handle scores) {
  const double decay1 = read_beta(beta1, "beta1");
  const double decay2 = read_beta(beta2, "beta2");
  const Lists lists{
      read_items(parameters, {kOp, "parameters"}), read_items(gradients, {kOp, "gradients"}),
      read_items(smoothed, {kOp, "smoothed"}), read_items(uncertainty, {kOp, "uncertainty"})};
  lists.require_lengths();
  std::vector<ImportanceEntry> entries;
  entries.reserve(lists.size());
  for (std::size_t i = 0; i < lists.size(); ++i) entries.push_back(read_entry(lists, i));
  const std::int64_t triplets = require_triplets(entries);
  require_apart(entries);
  const MatrixView score_view =
      scores.is_none() ? MatrixView{} : read_scores(scores, triplets, entries);
  const py::gil_scoped_release unlocked;
  return update_importance(entries, decay1, decay2, score_view);
}

}  // namespace

void bind_importance(py::module_& module) {
  define<&update>(module, "update_importance",
                  "Update the averages; return how many entries were skipped.");
}

}  // namespace adalora::bindings
