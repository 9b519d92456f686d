// The interpreter alone, on kernels of a few instructions: what it computes, and that it stops at
// what PTX leaves undefined, in every order of the threads.

#include <cstdio>
#include <cstdlib>
#include <iterator>

#include "device.hpp"

namespace {

constexpr unsigned kWords = 128;

struct Outcome {
  std::string fault;
  std::vector<std::uint32_t> words;
};

struct Shape {
  unsigned blocks = 1, threads = 64;
};

/// Runs a kernel with `body` on kWords words, which are their own indices at first. %rd1 is their
/// address, %r1 the thread, %r2 the block, %rd2 the address of the thread's own word; there is a
/// shared array `room` of 64 words, %rd3 is the address of 8 bytes that nobody wrote.
Outcome run(const std::string& body, Shape shape, ptx::Order order) {
  const std::string text = R"(
.version 9.0
.target sm_80
.visible .entry test( .param .u64 words, .param .u64 unknown ) .maxntid 256, 1, 1
{
  .reg .pred %p<8>; .reg .b16 %rs<8>; .reg .b32 %r<16>; .reg .f32 %f<8>; .reg .b64 %rd<8>;
  .reg .f64 %fd<8>;
  .shared .align 4 .b8 room[256];  // 64 words
  ld.param.u64 %rd1, [words];
  ld.param.u64 %rd3, [unknown];
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, %ctaid.x;
  mul.wide.u32 %rd2, %r1, 4;
  add.s64 %rd2, %rd1, %rd2;
  shl.b32 %r3, %r1, 2;
  mov.u32 %r4, room;
  add.s32 %r5, %r4, %r3;
)" + body + "\n  ret;\n}\n";
  Outcome outcome;
  ptx::Device device;
  device.set_order(order, 3);
  device.set_limit(100000);
  std::vector<std::uint32_t> words(kWords);
  std::uint64_t unknown = 0;
  for (unsigned i = 0; i < kWords; ++i) words[i] = i;
  const auto address = reinterpret_cast<std::uintptr_t>(words.data());
  const auto second = reinterpret_cast<std::uintptr_t>(&unknown);
  device.memory().add(address, reinterpret_cast<std::byte*>(words.data()), kWords * 4);
  device.memory().host_write(address, kWords * 4);
  device.memory().add(second, reinterpret_cast<std::byte*>(&unknown), sizeof unknown);
  try {
    const ptx::Program program = ptx::parse(text);
    std::uint64_t values[] = {address, second};
    void* arguments[] = {&values[0], &values[1]};
    device.launch(program.at("test"), shape.blocks, shape.threads, arguments);
    outcome.words = words;
  } catch (const ptx::Fault& fault) {
    outcome.fault = fault.what();
  }
  return outcome;
}

int failures = 0;

void fail(const std::string& body, const std::string& what) {
  std::fprintf(stderr, "%s\n -> %s\n", body.c_str(), what.c_str());
  ++failures;
}

constexpr ptx::Order kOrders[] = {ptx::Order::kForward, ptx::Order::kBackward,
                                  ptx::Order::kShuffled};

/// Checks that a word becomes `expected`.
void computes(const std::string& body, unsigned word, std::uint32_t expected, Shape shape = {}) {
  for (const ptx::Order order : kOrders) {
    const Outcome outcome = run(body, shape, order);
    if (!outcome.fault.empty()) {
      fail(body, outcome.fault);
    } else if (outcome.words[word] != expected) {
      fail(body, std::to_string(outcome.words[word]) + " instead of " + std::to_string(expected));
    }
  }
}

/// Checks that the kernel stops with a fault that contains `expected`.
void stops(const std::string& body, const std::string& expected, Shape shape = {}) {
  for (const ptx::Order order : kOrders) {
    const Outcome outcome = run(body, shape, order);
    if (outcome.fault.find(expected) == std::string::npos) {
      fail(body, "\"" + outcome.fault + "\" instead of \"" + expected + "\"");
    }
  }
}

/// The own word becomes what `body` leaves in %r8.
std::string stored(const std::string& body) { return body + "\n  st.global.u32 [%rd2], %r8;"; }

void test_arithmetic() {
  computes(stored("add.s32 %r8, %r1, -1;"), 0, 0xffffffffu);
  computes(stored("mad.lo.s32 %r8, %r1, %r1, 7;"), 9, 88);
  computes(stored("mul.wide.u32 %rd4, %r1, -1; shr.u64 %rd4, %rd4, 32; cvt.u32.u64 %r8, %rd4;"), 3,
           2);
  computes(stored("shl.b32 %r8, %r1, 32;"), 5, 0);
  computes(stored("add.s32 %r9, %r1, -9; shr.s32 %r8, %r9, 40;"), 5, 0xffffffffu);
  computes(stored("mov.u32 %r9, 0x80402010U; prmt.b32 %r8, %r9, %r1, 0xb40U;"), 7, 0x10ff0710u);
  computes(stored("popc.b32 %r8, %r1;"), 63, 6);
  computes(stored("mov.b32 {%rs1, %rs2}, %r1; mov.b32 %r8, {%rs2, %rs1};"), 5, 5u << 16);
  computes(stored("{ .reg .b16 %rs<2>; mov.b32 {%rs0, %rs1}, %r1; mov.b32 %r8, {%rs1, %rs0}; }"), 5,
           5u << 16);
  computes(stored("mov.f32 %f1, 0f3F800000; add.f32 %f2, %f1, %f1; mov.b32 %r8, %f2;"), 0,
           0x40000000u);
  computes(stored("mov.f32 %f1, 0f7F800000; sub.rn.f32 %f2, %f1, %f1; mov.b32 %r8, %f2;"), 0,
           0x7fffffffu);
  computes(stored("mov.f32 %f1, 0f7FC00000; setp.gt.f32 %p1, %f1, %f1; setp.gtu.f32 %p2, %f1, %f1;"
                  "not.pred %p1, %p1; and.pred %p3, %p1, %p2; selp.b32 %r8, 8, 9, %p3;"),
           0, 8);
  computes(stored("mov.f64 %fd1, 0d3FF0000010000000; cvt.rn.f32.f64 %f1, %fd1; mov.b32 %r8, %f1;"),
           0, 0x3f800000u);
  computes(stored("rem.u32 %r8, %r1, 7;"), 40, 5);
  stops(stored("div.u32 %r8, 8, %r1;"), "division by zero");
}

void test_lanes() {
  computes(stored("shfl.sync.bfly.b32 %r8|%p1, %r1, 16, 31, -1;"), 3, 19);
  computes(stored("shfl.sync.up.b32 %r8|%p1, %r1, 2, 0, -1; @!%p1 mov.u32 %r8, 99;"), 33, 99);
  computes(stored("setp.lt.u32 %p1, %r1, 3; vote.sync.ballot.b32 %r8, %p1, -1;"), 4, 7);
  // Lanes that part come together again.
  const std::string parted =
      "setp.lt.u32 %p1, %r1, 9; mov.u32 %r8, 1; @%p1 bra $A; mov.u32 %r8, 2; $A:\n";
  computes(stored(parted + "shfl.sync.bfly.b32 %r8, %r8, 31, 31, -1;"), 0, 2);
  stops(stored("setp.lt.u32 %p1, %r1, 9; mov.u32 %r8, 0; @%p1 bra $A; shfl.sync.bfly.b32 %r8, %r1, "
               "1, 31, -1; $A:"),
        "an exchange with lanes that are elsewhere");
  stops(stored("shfl.sync.bfly.b32 %r8, %r1, 1, 31, 1;"), "without naming itself");
  // A loop that each lane leaves at another time.
  computes(stored("mov.u32 %r8, 0; $A:\n add.s32 %r8, %r8, 2; setp.le.u32 %p1, %r8, %r1;"
                  "@%p1 bra $A;"),
           9, 10);
}

const std::string kWrite = "st.shared.u32 [%r5], %r1;";
const std::string kReadNext = "xor.b32 %r9, %r5, 4; ld.shared.u32 %r8, [%r9];";
const std::string kReadFar =
    "xor.b32 %r9, %r3, 128; add.s32 %r9, %r9, %r4; ld.shared.u32 %r8, [%r9];";

void test_barriers_and_races() {
  computes(stored(kWrite + "bar.sync 0;" + kReadNext), 6, 7);
  computes(stored(kWrite + "bar.sync 0;" + kReadFar), 6, 38);
  stops(stored(kWrite + kReadNext), "race: reads what another thread wrote", {1, 32});
  // Of another warp, that ran before or has yet to run.
  for (const ptx::Order order : kOrders) {
    if (run(stored(kWrite + kReadFar), {}, order).fault.empty()) fail(kReadFar, "no fault");
  }
  for (const std::string& read : {kReadNext, kReadFar}) {
    stops(stored(kWrite + "bar.sync 0;" + read + kWrite), "race: ");
  }
  stops("st.global.u32 [%rd1], %r1;", "race: writes what another thread wrote");
  stops("st.global.u32 [%rd2], %r1;", "race: writes what another thread wrote", {2, 32});
  stops("ld.global.u32 %r8, [%rd1]; st.global.u32 [%rd2], %r8;", "race: ");
  stops(
      "setp.ne.s32 %p1, %r2, 0; @%p1 bra $A; ld.global.u32 %r8, [%rd2]; bra.uni $B; $A:\n"
      "st.global.u32 [%rd2], %r1; $B:\n",
      "race: ", {2, 32});
  stops("setp.lt.u32 %p1, %r1, 9; @%p1 bar.sync 0;", "a barrier for some lanes");
  stops("setp.lt.u32 %p1, %r1, 9; @%p1 bra $A; bar.sync 0; $A:\n",
        "some lanes of a warp do not reach");
  stops("setp.lt.u32 %p1, %r1, 9; @%p1 ret; bar.sync 0;", "some lanes of a warp do not reach");
  stops("setp.lt.u32 %p1, %r1, 32; @%p1 bra $A; bar.sync 0; $A:\n", "some warps do not reach");
  stops("setp.lt.u32 %p1, %r1, 32; @%p1 bra $A; bar.sync 0; bra.uni $B; $A:\n bar.sync 0; $B:\n",
        "some warps do not reach");
}

const std::string kCount =
    "setp.ne.s32 %p1, %r1, 0; @%p1 bra $A; st.shared.u32 [%r4], 0; $A:\n"
    "bar.sync 0; atom.shared.add.u32 %r9, [%r4], 2;";

void test_atomics() {
  computes(stored(kCount + "bar.sync 0; ld.shared.u32 %r8, [%r4];"), 11, 128);
  stops(stored(kCount + "ld.shared.u32 %r8, [%r4];"), "race: ");
  stops(stored(kCount + "st.shared.u32 [%r4], 0; mov.u32 %r8, 0;"), "race: ");
  computes("atom.global.add.u64 %rd5, [%rd1], 1;", 0, 192, {3, 64});
}

void test_memory() {
  stops("st.global.u32 [%rd2+512], %r1;", "outside of memory");
  stops("ld.global.u32 %r8, [%rd1+-4];", "outside of memory");
  stops("ld.global.v2.u32 {%r8, %r9}, [%rd1+508];", "outside of memory");
  stops("ld.global.v4.u32 {%r8, %r9, %r10, %r11}, [%rd1+4];", "misaligned");
  stops("ld.global.u32 %r8, [%rd2+2];", "misaligned");
  stops("ld.global.u32 %r8, [%rd3];", "reads what nobody wrote");
  stops("ld.shared.u32 %r8, [%r5];", "reads what nobody wrote");
  stops("st.shared.u32 [%r5+4], %r1;", "outside of memory");
  stops("ld.param.u64 %rd5, [words+16];", "outside of the parameters");
  stops("add.s32 %r8, %r9, 1;", "a register that nobody wrote");
  stops("setp.lt.u32 %p1, %r1, 9; @%p1 mov.u32 %r9, 1; add.s32 %r8, %r9, 1;",
        "a register that nobody wrote");
  stops("@%p5 bra $A; $A:\n", "a register that nobody wrote");
  // What a block leaves in shared memory is unknown to the next one.
  stops(
      "setp.ne.s32 %p1, %r2, 0; @%p1 bra $A; st.shared.u32 [%r5], 0; bra.uni $B; $A:\n"
      "ld.shared.u32 %r8, [%r5]; $B:\n",
      "reads what nobody wrote", {2, 64});
}

void test_text() {
  stops("frob.b32 %r8, %r1;", "no instruction frob.b32");
  stops("add.s32 %r8, %r99, 1;", "no register or array %r99");
  stops("{ .reg .b16 tmp; } mov.u16 tmp, 1;", "no register or array tmp");
  stops("bra $A;", "no label $A");
  stops("bar.sync 1;", "a barrier other than");
  stops(".shared .b8 large[49000];", "too much shared memory");
  stops("$A:\n bra $A;", "more instructions than the limit");
  stops("", "threads of test", {1, 512});
}

}  // namespace

int main() {
  test_arithmetic();
  test_lanes();
  test_barriers_and_races();
  test_atomics();
  test_memory();
  test_text();
  if (failures == 0) std::puts("passed");
  return failures == 0 ? 0 : 1;
}
