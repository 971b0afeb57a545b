#include "isa/sets.h"

namespace triform {

std::vector<const Operations*> usable_sets() {
    std::vector<const Operations*> sets;
#if defined(__x86_64__)
    __builtin_cpu_init();
    bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vnni");
    if (has_avx512) sets.push_back(&avx512::kOperations);
    if (has_avx2) sets.push_back(&avx2::kOperations);
#endif
    sets.push_back(&plain::kOperations);
    return sets;
}

}  // namespace triform
