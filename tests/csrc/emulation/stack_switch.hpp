#pragma once
// From one stack to another in a dozen instructions; the C library's swapcontext asks the kernel
// for the signal mask each time, and these tests switch a hundred million times.

extern "C" {

/// Saves where the caller is in `*own` and goes on where `other` was saved.
void emulation_switch_stack(void** own, void* other);

/// Where a new stack begins: calls the function that `prepare_stack` was given.
void emulation_enter_stack();
}

namespace emulation {

/// Makes the memory below `top` a stack on which `function`, which never returns, starts.
void* prepare_stack(char* top, void (*function)());

}  // namespace emulation
