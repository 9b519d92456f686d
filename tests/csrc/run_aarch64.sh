#!/usr/bin/env bash
# Builds the core for aarch64 and runs its C++ tests under qemu, with Debian's g++-aarch64-linux-gnu
# and qemu-user.
set -euo pipefail
build=${1:-$(mktemp -d)}
cmake -S "$(dirname "$0")" -B "$build" -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
  -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ \
  "-DCMAKE_CROSSCOMPILING_EMULATOR=qemu-aarch64;-L;/usr/aarch64-linux-gnu"
cmake --build "$build" --parallel 2
ctest --test-dir "$build" --output-on-failure
