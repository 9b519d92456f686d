#pragma once
/// What this build needs of a machine, and what the machine has.

#include <string>

namespace adalora::cuda {

/// The CUDA version that the kernels were compiled with, as 1000 * major + 10 * minor.
int runtime_version();

/// The CUDA version that a driver must serve at least.
int required_driver_version();

/// The newest CUDA version that the installed driver serves; 0 without a driver.
int driver_version();

/// Why the kernels cannot run on a device, in one sentence; empty if they can.
std::string problem_of(int device);

}  // namespace adalora::cuda
