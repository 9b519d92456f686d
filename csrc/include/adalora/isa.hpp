#pragma once
/// The instruction set that the kernels of this process use.

namespace adalora {

/// The name of the chosen set: "generic", or on x86-64 "baseline", "x86-64-v3", "x86-64-v4" or
/// "x86-64-v4-bf16" (with the dot products of bfloat16).
///
/// Chosen once, on first use: the best set that the processor has, or the set that the environment
/// variable ADALORA_CORE_ISA names. Throws std::invalid_argument if that name is unknown or the
/// processor lacks the set.
const char* isa_name();

}  // namespace adalora
