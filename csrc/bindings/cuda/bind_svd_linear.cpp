#include <cmath>

#include "bindings/bindings.hpp"
#include "bindings/cuda/call.hpp"
#include "bindings/define.hpp"
#include "bindings/tensor.hpp"
#include "cuda/svd_linear.hpp"

namespace adalora::bindings {

namespace {

constexpr Argument argument(const char* name) { return {"svd_linear", name}; }

MatrixView read_plain(py::handle object, const char* name) {
  const MatrixView view = read_matrix(object, argument(name));
  require_contiguous(view, argument(name));
  return view;
}

/// An output that may be None.
MatrixView read_wanted(py::handle object, const char* name, const MatrixView& like,
                       Overlap& overlap) {
  if (object.is_none()) return {};
  const MatrixView view = read_plain(object, name);
  require_shape(view, argument(name), like.rows, like.cols, "the shape of its factor");
  require_dtype(view, argument(name), like.dtype, "that of its factor");
  overlap.write(view, argument(name));
  return view;
}

Triplets read_triplets(py::handle A, py::handle E, py::handle B) {
  const Triplets triplets{read_plain(A, "A"), read_plain(E, "E"), read_plain(B, "B")};
  const std::int64_t rank = triplets.A.rows;
  require_shape(triplets.E, argument("E"), rank, 1, "[r, 1], r that of A,");
  require_shape(triplets.B, argument("B"), triplets.B.rows, rank, "[out, r], r that of A,");
  require_dtype(triplets.E, argument("E"), triplets.A.dtype, "that of A");
  require_dtype(triplets.B, argument("B"), triplets.A.dtype, "that of A");
  return triplets;
}

double read_scale(py::handle object) {
  const double scale = read_number(object, argument("scale"));
  if (!std::isfinite(scale)) throw_value_error(argument("scale"), "finite", std::to_string(scale));
  return scale;
}

void read_inputs(Overlap& overlap, const Triplets& triplets) {
  overlap.read(triplets.A, argument("A"));
  overlap.read(triplets.E, argument("E"));
  overlap.read(triplets.B, argument("B"));
}

void require_folded(const cuda::Folded& folded, const Triplets& triplets) {
  const std::int64_t padded = cuda::padded_rank(triplets.A.rows, folded.A.dtype);
  require_shape(folded.A, argument("folded_A"), padded, triplets.A.cols, "[padded r, in]");
  require_shape(folded.B, argument("folded_B"), triplets.B.rows, padded, "[out, padded r]");
  require_dtype(folded.B, argument("folded_B"), folded.A.dtype, "that of folded_A");
}

/// Whether a gradient of A' and of B' was given; an empty one is given too.
struct Given {
  bool A;
  bool B;
};

/// What was padded follows from the dtype of the products, not from that of the gradients: sums
/// over all rows of x are kept in float32.
void require_gradients(const cuda::Folded& gradients, const Given& given,
                       const Triplets& triplets) {
  if (!given.A && !given.B) return;
  const Argument A = argument("grad_folded_A"), B = argument("grad_folded_B");
  const std::int64_t padded = given.A ? gradients.A.rows : gradients.B.cols;
  if (given.A) require_shape(gradients.A, A, padded, triplets.A.cols, "[padded r, in]");
  if (given.B) require_shape(gradients.B, B, triplets.B.rows, padded, "[out, padded r]");
  if (given.A && given.B) require_dtype(gradients.B, B, gradients.A.dtype, "that of the other");
  if (padded < triplets.A.rows) {
    throw_value_error(given.A ? A : B,
                      "of at least r = " + std::to_string(triplets.A.rows) + " triplets",
                      std::to_string(padded));
  }
}

void fold(py::handle A, py::handle E, py::handle B, py::handle scale, py::handle folded_A,
          py::handle folded_B) {
  const Call call;
  const Triplets triplets = read_triplets(A, E, B);
  const cuda::Folded folded{read_plain(folded_A, "folded_A"), read_plain(folded_B, "folded_B")};
  require_folded(folded, triplets);
  Overlap overlap;
  overlap.write(folded.A, argument("folded_A"));
  overlap.write(folded.B, argument("folded_B"));
  read_inputs(overlap, triplets);
  overlap.check();
  cuda::fold_factors(triplets, read_scale(scale), folded, call.stream());
}

void unfold(py::handle grad_folded_A, py::handle grad_folded_B, py::handle A, py::handle E,
            py::handle B, py::handle scale, py::handle grad_A, py::handle grad_E,
            py::handle grad_B) {
  const Call call;
  const Triplets triplets = read_triplets(A, E, B);
  const Given given{!grad_folded_A.is_none(), !grad_folded_B.is_none()};
  cuda::Folded gradients;
  if (given.A) gradients.A = read_plain(grad_folded_A, "grad_folded_A");
  if (given.B) gradients.B = read_plain(grad_folded_B, "grad_folded_B");
  require_gradients(gradients, given, triplets);
  Overlap overlap;
  const Triplets wanted{read_wanted(grad_A, "grad_A", triplets.A, overlap),
                        read_wanted(grad_E, "grad_E", triplets.E, overlap),
                        read_wanted(grad_B, "grad_B", triplets.B, overlap)};
  const bool needs_A = wanted.A.present() || wanted.E.present();
  if ((needs_A && !given.A) || (wanted.B.present() && !given.B)) {
    throw_value_error(argument(needs_A && !given.A ? "grad_folded_A" : "grad_folded_B"),
                      "given, since a gradient is wanted that needs it", "None");
  }
  overlap.read(gradients.A, argument("grad_folded_A"));
  overlap.read(gradients.B, argument("grad_folded_B"));
  read_inputs(overlap, triplets);
  overlap.check();
  cuda::unfold_gradients(gradients, triplets, read_scale(scale), wanted, call.stream());
}

void drop(py::handle x, py::handle probability, py::handle seed, py::handle output) {
  const Call call;
  const MatrixView input = read_rows(x, argument("x"));
  require_contiguous(input, argument("x"));
  const double share = read_number(probability, argument("dropout"));
  if (!(share >= 0.0 && share < 1.0)) {
    throw_value_error(argument("dropout"), "in [0, 1)", std::to_string(share));
  }
  const std::int64_t* const number = read_int64(seed, argument("seed"));
  const bool in_place = x.is(output);
  const MatrixView result = in_place ? input : read_rows(output, argument("output"));
  require_contiguous(result, argument("output"));
  require_shape(result, argument("output"), input.rows, input.cols, "the shape of x");
  require_dtype(result, argument("output"), input.dtype, "that of x");
  Overlap overlap;
  overlap.write(result, argument("output"));
  if (!in_place) overlap.read(input, argument("x"));
  overlap.check();
  cuda::drop(input, share, number, result, call.stream());
}

}  // namespace

void bind_svd_linear(py::module_& module) {
  define<&fold>(module, "fold_factors", "Write A' and B'.");
  define<&unfold>(module, "unfold_gradients", "Write the gradients that are not None.");
  define<&drop>(module, "drop", "Write x with entries dropped.");
}

}  // namespace adalora::bindings
