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

/// The address of a function of the installed driver; null without one.
void* driver_function(const char* name);

/// Loads all kernels on a device, so that no later call has to. Returns the reason why they cannot
/// run there, in one sentence; empty if they can.
std::string problem_of(int device);

}  // namespace adalora::cuda
