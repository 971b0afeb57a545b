// The instruction sets of the compiled kernels, and which of them this machine can run.
#pragma once
#include <vector>

#include "generic/operations.h"

namespace triform {

namespace avx512 {
extern const Operations kOperations;
}
namespace avx2 {
extern const Operations kOperations;
}
namespace plain {
extern const Operations kOperations;
}

// The sets that this machine can run, the fastest first.
std::vector<const Operations*> usable_sets();

}  // namespace triform
