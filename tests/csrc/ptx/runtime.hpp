#pragma once
/// The CUDA runtime of a program whose kernels are interpreted: linked in place of NVIDIA's, with
/// objects as nvcc makes them.

#include <set>
#include <string>

#include "device.hpp"

namespace ptx::runtime {

Device& device();

/// The PTX that the program's objects carry for an architecture such as 80; empty if none.
const std::string& embedded_text(unsigned architecture);

/// Takes the kernels from `text` instead of those that were loaded before.
void load(const std::string& text);

/// The kernels that were loaded, and the names of those that ran.
const Program& program();
const std::set<std::string>& launched_kernels();

/// The number of kernels run since the last call.
int take_launch_count();

}  // namespace ptx::runtime
