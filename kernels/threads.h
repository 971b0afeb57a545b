// One pool for the process: tasks of one job are handed out in order to whoever is free.
#pragma once
#include <cstdint>
#include <functional>

namespace triform {

int num_threads();
void set_num_threads(int count);

// What `run` throws where `asked_to_stop` says so.
struct Stopped {};

// Whether the thread that called `run` should give up. It is asked between two tasks, ten times a second.
extern bool (*asked_to_stop)();

// Runs task 0 … count − 1, each once, and returns when all are done. A caller that finds the pool at work does all of
// its tasks itself; results never depend on who does what.
void run(int64_t count, const std::function<void(int64_t)>& task);

}  // namespace triform
