#include "bindings/bindings.hpp"
#include "bindings/cuda/call.hpp"
#include "bindings/define.hpp"
#include "bindings/svd_linear_arguments.hpp"
#include "cuda/svd_linear.hpp"

namespace adalora::bindings {

namespace {

void require_folded(const cuda::Folded& folded, const Triplets& triplets) {
  const std::int64_t padded = cuda::padded_rank(triplets.A.rows, folded.A.dtype);
  require_shape(folded.A, {kSvdLinear, "folded_A"}, padded, triplets.A.cols, "[padded r, in]");
  require_shape(folded.B, {kSvdLinear, "folded_B"}, triplets.B.rows, padded, "[out, padded r]");
  require_dtype(folded.B, {kSvdLinear, "folded_B"}, folded.A.dtype, "that of folded_A");
}

/// Whether a gradient of A' and of B' was given; a given one without entries has an absent view.
struct Given {
  bool A;
  bool B;
};

/// The padding follows from the dtype of the products, not from that of the gradients: sums over
/// all rows of x are float32.
void require_gradients(const cuda::Folded& gradients, const Given& given,
                       const Triplets& triplets) {
  if (!given.A && !given.B) return;
  const Argument A{kSvdLinear, "grad_folded_A"}, B{kSvdLinear, "grad_folded_B"};
  const std::int64_t padded = given.A ? gradients.A.rows : gradients.B.cols;
  if (given.A) require_shape(gradients.A, A, padded, triplets.A.cols, "[padded r, in]");
  if (given.B) require_shape(gradients.B, B, triplets.B.rows, padded, "[out, padded r]");
  if (given.A && given.B) require_dtype(gradients.B, B, gradients.A.dtype, "that of grad_folded_A");
  if (padded < triplets.A.rows) {
    throw_value_error(given.A ? A : B,
                      "of at least r = " + std::to_string(triplets.A.rows) + " triplets",
                      std::to_string(padded));
  }
}

void fold(py::handle A, py::handle E, py::handle B, py::handle scale, py::handle folded_A,
          py::handle folded_B) {
  const Call call;
  const Triplets triplets = read_triplets(A, E, B, read_contiguous);
  const cuda::Folded folded{read_contiguous(folded_A, {kSvdLinear, "folded_A"}),
                            read_contiguous(folded_B, {kSvdLinear, "folded_B"})};
  require_folded(folded, triplets);
  Overlap overlap;
  overlap.write(folded.A, {kSvdLinear, "folded_A"});
  overlap.write(folded.B, {kSvdLinear, "folded_B"});
  add_factors(overlap, triplets);
  overlap.check();
  const double factor = read_scale(scale);
  const cuda::Stream stream = call.stream();
  const py::gil_scoped_release unlocked;
  cuda::fold_factors(triplets, factor, folded, stream);
}

void unfold(py::handle grad_folded_A, py::handle grad_folded_B, py::handle A, py::handle E,
            py::handle B, py::handle scale, py::handle grad_A, py::handle grad_E,
            py::handle grad_B) {
  const Call call;
  const Triplets triplets = read_triplets(A, E, B, read_contiguous);
  const Given given{!grad_folded_A.is_none(), !grad_folded_B.is_none()};
  cuda::Folded gradients;
  if (given.A) gradients.A = read_contiguous(grad_folded_A, {kSvdLinear, "grad_folded_A"});
  if (given.B) gradients.B = read_contiguous(grad_folded_B, {kSvdLinear, "grad_folded_B"});
  require_gradients(gradients, given, triplets);
  Overlap overlap;
  const Triplets wanted = read_outputs(grad_A, grad_E, grad_B, read_contiguous, triplets, overlap);
  const bool lacks_A = !given.A && (wanted.A.present() || wanted.E.present());
  if (lacks_A || (!given.B && wanted.B.present())) {
    throw_value_error({kSvdLinear, lacks_A ? "grad_folded_A" : "grad_folded_B"},
                      "given, since a requested gradient needs it", "None");
  }
  overlap.read(gradients.A, {kSvdLinear, "grad_folded_A"});
  overlap.read(gradients.B, {kSvdLinear, "grad_folded_B"});
  add_factors(overlap, triplets);
  overlap.check();
  const double factor = read_scale(scale);
  const cuda::Stream stream = call.stream();
  const py::gil_scoped_release unlocked;
  cuda::unfold_gradients(gradients, triplets, factor, wanted, stream);
}

void drop(py::handle x, py::handle probability, py::handle seed, py::handle output) {
  const Call call;
  const MatrixView input = read_rows(x, {kSvdLinear, "x"});
  require_contiguous(input, {kSvdLinear, "x"});
  const double share = read_probability(probability);
  const std::int64_t* const number = read_int64(seed, {kSvdLinear, "seed"});
  const bool in_place = x.is(output);
  const MatrixView result = in_place ? input : read_rows(output, {kSvdLinear, "output"});
  require_contiguous(result, {kSvdLinear, "output"});
  require_like(result, {kSvdLinear, "output"}, input, "x");
  Overlap overlap;
  overlap.write(result, {kSvdLinear, "output"});
  if (!in_place) overlap.read(input, {kSvdLinear, "x"});
  overlap.check();
  const cuda::Stream stream = call.stream();
  const py::gil_scoped_release unlocked;
  cuda::drop(input, share, number, result, stream);
}

}  // namespace

void bind_svd_linear(py::module_& module) {
  define<&fold>(module, "fold_factors", "Write A' and B'.");
  define<&unfold>(module, "unfold_gradients", "Write the gradients that are not None.");
  define<&drop>(module, "drop", "Write x with entries dropped.");
}

}  // namespace adalora::bindings
