#include "bindings/bindings.hpp"
#include "bindings/cuda/call.hpp"
#include "bindings/define.hpp"
#include "bindings/importance_arguments.hpp"
#include "cuda/importance.hpp"

namespace adalora::bindings {

namespace {

/// Whether the kernels can use the tensors in place.
bool is_dense(const std::vector<ImportanceEntry>& entries, const MatrixView& scores) {
  const auto dense = [](const MatrixView& view) {
    return view.rows == 0 || view.cols == 0 || view.contiguous();
  };
  for (const ImportanceEntry& entry : entries) {
    if (!dense(entry.parameter) || !dense(entry.gradient) || !dense(entry.smoothed) ||
        !dense(entry.uncertainty)) {
      return false;
    }
  }
  return dense(scores);
}

void require_dtypes(const std::vector<ImportanceEntry>& entries) {
  for (std::size_t i = 0; i < entries.size(); ++i) {
    require_dtype(entries[i].parameter,
                  {kUpdateImportance, "parameters", static_cast<std::int64_t>(i)},
                  entries[i - i % kFactors].parameter.dtype, "that of the A before it");
  }
}

std::int64_t score_room(py::handle parameters) {
  const Call call;
  const py::tuple items = read_items(parameters, {kUpdateImportance, "parameters"});
  std::vector<ImportanceEntry> entries(items.size());
  for (std::size_t i = 0; i < items.size(); ++i) {
    entries[i].parameter = read_matrix_of_any_sign(
        items[i], {kUpdateImportance, "parameters", static_cast<std::int64_t>(i)});
  }
  return cuda::score_room(entries);
}

/// Returns false and changes nothing if a tensor is strided.
bool update(py::handle parameters, py::handle gradients, py::handle smoothed,
            py::handle uncertainty, py::handle beta1, py::handle beta2, py::handle scores,
            py::handle partials, py::handle skipped) {
  const Call call;
  const double decay1 = read_beta(beta1, "beta1");
  const double decay2 = read_beta(beta2, "beta2");
  ImportanceArguments arguments(parameters, gradients, smoothed, uncertainty, scores);
  const std::vector<ImportanceEntry>& entries = arguments.entries();
  cuda::ImportanceOutputs outputs;
  outputs.scores = arguments.scores();
  outputs.skipped = read_int64(skipped, {kUpdateImportance, "skipped"});
  if (!scores.is_none()) {
    require_dtypes(entries);
    const Argument score_argument{kUpdateImportance, "scores"},
        room_argument{kUpdateImportance, "partials"};
    for (const ImportanceEntry& entry : entries) {
      require_dtype(outputs.scores, score_argument, compute_type(entry.parameter.dtype),
                    "the compute type of all parameters");
    }
    const MatrixView room = read_vector(partials, room_argument);
    require_dtype(room, room_argument, DType::kFloat64, "as the op stores sums");
    require_shape(room, room_argument, cuda::score_room(entries), 1, "[score_room, 1]");
    require_contiguous(room, room_argument);
    arguments.overlap().write(room, room_argument);
    outputs.partials = static_cast<double*>(room.data);
  }
  arguments.overlap().check();
  if (!is_dense(entries, outputs.scores)) return false;
  if (entries.empty()) return true;
  const cuda::Stream stream = call.stream();
  const py::gil_scoped_release unlocked;
  cuda::update_importance(entries, decay1, decay2, outputs, stream);
  return true;
}

}  // namespace

void bind_importance(py::module_& module) {
  define<&score_room>(module, "score_room",
                      "The number of doubles that the scores of parameters need.");
  define<&update>(module, "update_importance",
                  "Update the averages; False if a tensor is strided.");
}

}  // namespace adalora::bindings
