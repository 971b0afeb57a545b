// The thread pool of the process, and loops over ranges of work.
#pragma once
#include <algorithm>
#include <cstdint>
#include <exception>
#include <functional>

namespace triform {

int num_threads();
void set_num_threads(int count);

// Threads of the pool that the system could not start; the pool goes on without them.
int num_missing_threads();

// Thrown by `parallel_for` when `asked_to_stop` returns true.
struct Stopped : std::exception {};

// Returns true if the thread that called `parallel_for` should give up, for example after Ctrl-C. Called between two
// tasks, at most ten times a second.
extern bool (*asked_to_stop)();

// Runs task(0) … task(count − 1), each once, and returns when all are done. Threads take tasks in ascending order. If
// the pool is at work already, the caller runs all tasks itself. Results never depend on which thread runs which task.
// An exception of a task ends the loop, and is thrown to the caller.
void parallel_for(int64_t count, const std::function<void(int64_t)>& task);

// Calls f(begin, end) for [0, count) cut into chunks.
template <class F>
void parallel_for_chunks(int64_t count, int64_t chunk, F&& f) {
    parallel_for((count + chunk - 1) / chunk,
                 [&](int64_t task) { f(task * chunk, std::min(count, (task + 1) * chunk)); });
}

// Calls f(begin, end) for rows that are independent of each other. A chunk has some 16,384 numbers, 64 KiB: enough work
// that taking a chunk, one atomic addition, costs nothing beside it, and few enough that threads finish together.
template <class F>
void parallel_for_rows(int64_t rows, int64_t width, F&& f) {
    parallel_for_chunks(rows, std::max<int64_t>(1, 16384 / std::max<int64_t>(1, width)), f);
}

}  // namespace triform
