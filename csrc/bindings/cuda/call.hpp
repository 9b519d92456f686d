#pragma once
/// One call of the CUDA module: the device of its tensors and the stream of its kernels.

#include "cuda/launch.hpp"

namespace adalora::bindings {

/// Begins a call. All tensors must be on the device of the first one that is read, and `stream()`
/// is torch's current stream there, for the thread that began the call.
class Call {
 public:
  Call();
  ~Call();

  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  /// Requires that a tensor has been read.
  cuda::Stream stream() const;
};

}  // namespace adalora::bindings
