#pragma once
// Switches from one stack to another in a dozen instructions. The C library's swapcontext asks the
// kernel for the signal mask each time, and these tests switch a hundred million times.

extern "C" {

/// Saves the caller's position in `*own` and continues where `other` was saved.
void emulation_switch_stack(void** own, void* other);

/// The start of a new stack: calls the function that `prepare_stack` was given.
void emulation_enter_stack();
}

namespace emulation {

/// Makes the memory below `top` a stack on which `function`, which never returns, starts.
void* prepare_stack(char* top, void (*function)());

}  // namespace emulation
