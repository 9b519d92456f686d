#pragma once

namespace ptx {

/// Runs every op on the adapters of two models, and writes a line for each kernel: what it did, and
/// the bytes that its op has to move at least.
void count_ops();

}  // namespace ptx
