#pragma once
/// The marker of functions that CPU and GPU share.
///
/// The functions of this folder are always inlined: the CPU kernels are compiled once per
/// instruction set, and the linker must never put the copy of one set into the path of another.
/// Their rounding is that of the code around them: kernels that must round like torch are compiled
/// without contraction of products and sums, on the CPU and on the GPU.

#if defined(__CUDACC__)
#define ADALORA_SHARED __host__ __device__ __forceinline__
#else
#define ADALORA_SHARED inline __attribute__((always_inline))
#endif
