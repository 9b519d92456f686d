#pragma once
/// The CUDA versions of this build and of the installed driver.

#include <string>

namespace adalora::cuda {

/// The CUDA version that the kernels were compiled with, as 1000 * major + 10 * minor.
int runtime_version();

/// The lowest CUDA version that a driver must support.
int required_driver_version();

/// The newest CUDA version that the installed driver supports; 0 without a driver.
int driver_version();

/// The reason why the kernels cannot run on a device, in one sentence; empty if they can.
std::string problem_of(int device);

}  // namespace adalora::cuda
