#pragma once
/// The CUDA runtime of a program whose kernels are interpreted: linked in place of NVIDIA's, with
/// objects as nvcc makes them.

#include <cuda_runtime_api.h>

#include <set>
#include <string>
#include <vector>

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

/// The functions of the runtime and of the driver that were called since the last call.
std::vector<std::string> take_calls();

/// There are two devices, and a driver of the runtime's version unless another is named; 0 is none.
void pretend_driver(int version);

/// In between launches are kept and do not run; `replay` runs those of the last capture.
void begin_capture();
void end_capture();
void replay();

/// A launch is an error where `holds_lock` answers yes.
void forbid_lock(int (*holds_lock)());

/// A stream of a device; a launch there is an error while another device is current.
cudaStream_t stream_of(int device, int number);

}  // namespace ptx::runtime
