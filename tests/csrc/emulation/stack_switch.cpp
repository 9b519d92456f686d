#include "stack_switch.hpp"

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)

// The registers that a called function must preserve.
asm(R"(
.text
.globl emulation_switch_stack
.type emulation_switch_stack, @function
emulation_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulation_switch_stack, .-emulation_switch_stack
.globl emulation_enter_stack
.type emulation_enter_stack, @function
emulation_enter_stack:
  xorl %ebp, %ebp
  callq *%rbx
  ud2
.size emulation_enter_stack, .-emulation_enter_stack
.section .note.GNU-stack, "", @progbits
.text
)");

namespace emulation {

void* prepare_stack(char* top, void (*function)()) {
  // r15, r14, r13, r12, rbx, rbp and the return address, as the switch pops them; the other two of
  // the nine words align the stack as a call requires.
  constexpr int kWords = 9, kRbx = 4, kReturn = 6;
  auto end = reinterpret_cast<std::uintptr_t>(top) & ~std::uintptr_t{15};
  auto* words = reinterpret_cast<std::uintptr_t*>(end) - kWords;
  std::memset(words, 0, kWords * sizeof *words);
  words[kRbx] = reinterpret_cast<std::uintptr_t>(function);
  words[kReturn] = reinterpret_cast<std::uintptr_t>(&emulation_enter_stack);
  return words;
}

}  // namespace emulation

#elif defined(__aarch64__)

asm(R"(
.text
.globl emulation_switch_stack
.type emulation_switch_stack, %function
emulation_switch_stack:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size emulation_switch_stack, .-emulation_switch_stack
.globl emulation_enter_stack
.type emulation_enter_stack, %function
emulation_enter_stack:
  mov x29, xzr
  blr x19
  brk #0
.size emulation_enter_stack, .-emulation_enter_stack
)");

namespace emulation {

void* prepare_stack(char* top, void (*function)()) {
  constexpr int kWords = 20, kX19 = 0, kX30 = 11;
  auto end = reinterpret_cast<std::uintptr_t>(top) & ~std::uintptr_t{15};
  auto* words = reinterpret_cast<std::uintptr_t*>(end) - kWords;
  std::memset(words, 0, kWords * sizeof *words);
  words[kX19] = reinterpret_cast<std::uintptr_t>(function);
  words[kX30] = reinterpret_cast<std::uintptr_t>(&emulation_enter_stack);
  return words;
}

}  // namespace emulation

#else
#error "the emulation can switch stacks on x86-64 and on aarch64 only"
#endif
