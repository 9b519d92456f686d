#pragma once
/// Reads Python objects as checked views. The exchange API checks nothing, so every property is
/// checked here: no wrong argument may reach a kernel. Every message names the op and the argument.

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "adalora/dlpack_abi.hpp"
#include "adalora/view.hpp"

namespace adalora::bindings {

namespace py = pybind11;

/// The op and the argument that a message names; `index` is the place in a list, -1 outside one.
struct Argument {
  const char* op;
  const char* name;
  std::int64_t index = -1;

  std::string text() const;
};

[[noreturn]] void throw_value_error(const Argument& argument, const std::string& expected,
                                    const std::string& got);
[[noreturn]] void throw_type_error(const Argument& argument, const std::string& expected,
                                   const std::string& got);

/// Reads the exchange table of torch; throws ImportError with the reason where it cannot be used.
void connect();

/// Throws unless the module computes on `device`; each of the two modules defines its own.
void require_device(const dlpack::Device& device, const Argument& argument);

/// The stream that torch currently uses on `device`; null is the default stream.
void* current_stream(const dlpack::Device& device);

/// Keeps torch from calling Python code while it exists. A TorchFunctionMode sees every query of a
/// tensor, and could free memory that was checked and is not used yet.
class NoTorchFunctions {
 public:
  NoTorchFunctions();
  ~NoTorchFunctions();
  NoTorchFunctions(const NoTorchFunctions&) = delete;
  NoTorchFunctions& operator=(const NoTorchFunctions&) = delete;

 private:
  py::object guard_;  ///< torch's; null without a mode
};

/// Views of tensors of the four floating dtypes. The view borrows the tensor's memory: the caller
/// holds a reference to `object` while the view is used.
MatrixView read_matrix(py::handle object, const Argument& argument);

/// A matrix whose elements are adjacent, row after row.
MatrixView read_contiguous(py::handle object, const Argument& argument);

/// A tensor [..., cols] as a matrix of all its rows; at least one dimension.
MatrixView read_rows(py::handle object, const Argument& argument);

/// A tensor [n] as a matrix [n, 1].
MatrixView read_vector(py::handle object, const Argument& argument);

/// A tensor without dimensions as a matrix [1, 1].
MatrixView read_scalar(py::handle object, const Argument& argument);

/// Like `read_matrix`, but the numbers in memory may have the opposite sign.
MatrixView read_matrix_of_any_sign(py::handle object, const Argument& argument);

/// The `.grad` of a tensor: a new reference, or None. It may run Python code, for example that of a
/// warning, so it comes before any view.
py::object read_gradient(py::handle object, const Argument& argument);

/// The scores of `count` triplets, float32 or float64, as a matrix [count, 1].
MatrixView read_scores(py::handle object, const Argument& argument, std::int64_t count);

/// A contiguous torch.bool tensor [count]; may be null if it is empty.
std::uint8_t* read_mask(py::handle object, const Argument& argument, std::int64_t count);

/// The address of the number in a torch.int64 tensor without dimensions.
std::int64_t* read_int64(py::handle object, const Argument& argument);

double read_number(py::handle object, const Argument& argument);
std::int64_t read_integer(py::handle object, const Argument& argument);
bool read_flag(py::handle object, const Argument& argument);

bool is_sequence(py::handle object);

/// A list or tuple as a new tuple, which holds a reference to every item.
py::tuple read_items(py::handle object, const Argument& argument);

void require_shape(const MatrixView& view, const Argument& argument, std::int64_t rows,
                   std::int64_t cols, const char* meaning);
void require_dtype(const MatrixView& view, const Argument& argument, DType dtype,
                   const char* meaning);

/// Throws unless `view` has the shape and the dtype of `like`, which the message calls `name`.
void require_like(const MatrixView& view, const Argument& argument, const MatrixView& like,
                  const char* name);

/// Throws unless the elements of `view` are adjacent, row after row.
void require_contiguous(const MatrixView& view, const Argument& argument);

}  // namespace adalora::bindings
