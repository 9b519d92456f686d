#pragma once
/// One call of the CUDA module: where its tensors lie, and where its kernels go.

#include "cuda/launch.hpp"

namespace adalora::bindings {

/// Begins a call: the first tensor that is read says on which device all others must lie, and
/// `stream()` is torch's current stream there, for the thread that began the call.
class Call {
 public:
  Call();
  ~Call();

  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  /// A tensor has been read.
  cuda::Stream stream() const;
};

}  // namespace adalora::bindings
