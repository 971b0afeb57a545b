#include "schedule/attention.h"

#include <algorithm>
#include <vector>

#include "schedule/memory.h"
#include "schedule/threads.h"

namespace triform {
namespace {

// The pages of one sequence and key/value head: those of the KV cache, or pages made here from rows, in memory of the
// thread.
KeyValuePages make_pages(const Operations& operations, const Attention& a, int64_t sequence, int64_t kv_head) {
    thread_local std::vector<float> own_keys, own_values;
    int64_t key_size = key_page_size(a.head_dim), value_size = value_page_size(a.head_dim);
    int64_t begin = a.key_begins[sequence], num_keys = a.num_keys[sequence];
    if (a.pages)
        return {a.keys + kv_head * key_size, a.values + kv_head * value_size, a.pages + begin, a.kv_heads * key_size,
                a.kv_heads * value_size};
    float* keys = reserve(own_keys, count_blocks(num_keys) * key_size);
    float* values = reserve(own_values, count_blocks(num_keys) * value_size);
    for (int64_t page = 0; page * kBlock < num_keys; ++page) {
        int64_t row = ((begin + page * kBlock) * a.kv_heads + kv_head) * a.head_dim;
        operations.fill_page(a.keys + row, a.values + row, a.kv_heads * a.head_dim,
                             std::min<int64_t>(kBlock, num_keys - page * kBlock), a.head_dim, keys + page * key_size,
                             values + page * value_size, 0);
    }
    return {keys, values, nullptr, key_size, value_size};
}

// Queries of one task: a thread can only stop for Ctrl-C between two tasks.
constexpr int64_t kMaxQueries = 1024;

// Queries of one call of the kernel: 48 rows of probabilities, four register tiles of 12. For 128 keys they are 24 KiB,
// which stay in an L1 data cache of 32 KiB between scores, softmax and values.
int64_t queries_per_call(const Attention& a) { return std::max<int64_t>(1, 48 / a.heads_per_kv()); }

// Queries of one sequence, for key/value heads [queries.kv_head, kv_head_end).
struct Task {
    Queries queries;
    int64_t kv_head_end;
};

void compute_queries(const Operations& operations, const Attention& a, Queries queries) {
    thread_local std::vector<float> probabilities, scratch;
    KeyValuePages pages = make_pages(operations, a, queries.sequence, queries.kv_head);
    int64_t step = queries_per_call(a), rows = step * a.heads_per_kv();
    reserve(probabilities, rows * count_blocks(a.num_keys[queries.sequence]) * kBlock);
    reserve(scratch, rows * a.head_dim);
    for (int64_t end = queries.end; queries.begin < end; queries.begin += step) {
        queries.end = std::min(queries.begin + step, end);
        operations.attention(a, pages, queries, Pass::kBoth, probabilities.data(), scratch.data());
    }
}

// Consecutive sequences that see the same keys without a mask, such as the beams of one sentence with its cross keys,
// merged into one.
struct MergedSequences {
    std::vector<int64_t> query_begins, query_ends, num_keys, key_begins;

    MergedSequences(const Attention& a, int64_t count) {
        bool see_all = !a.causal && !a.bias && a.window >= kNoWindow;
        for (int64_t i = 0; i < count; ++i) {
            if (see_all && i && a.key_begins[i] == key_begins.back() && a.num_keys[i] == num_keys.back() &&
                a.query_begins[i] == query_ends.back()) {
                query_ends.back() = a.query_ends[i];
                continue;
            }
            query_begins.push_back(a.query_begins[i]);
            query_ends.push_back(a.query_ends[i]);
            num_keys.push_back(a.num_keys[i]);
            key_begins.push_back(a.key_begins[i]);
        }
    }
};

// Tasks by sequence, key/value heads and queries.
//
// With many sequences, at least eight tasks a thread, a task takes several key/value heads: in a page they lie one
// behind the other, so that the thread reads one stream. With less than four tasks a thread, sequences are cut into
// the queries of single calls, so that all threads have work.
std::vector<Task> make_tasks(const Attention& a, int64_t sequences) {
    std::vector<Task> tasks;
    int64_t kv_heads = std::clamp<int64_t>(sequences * a.kv_heads / (8 * num_threads()), 1, a.kv_heads);
    int64_t step = sequences * a.kv_heads < 4 * num_threads() ? queries_per_call(a) : kMaxQueries;
    for (int64_t sequence = 0; sequence < sequences; ++sequence) {
        int64_t queries = a.query_ends[sequence] - a.query_begins[sequence];
        for (int64_t kv_head = 0; kv_head < a.kv_heads; kv_head += kv_heads)
            for (int64_t begin = 0; begin < queries; begin += step)
                tasks.push_back({{sequence, kv_head, begin, std::min(begin + step, queries)},
                                 std::min(kv_head + kv_heads, a.kv_heads)});
    }
    return tasks;
}

}  // namespace

void attention(const Operations& operations, Attention a, int64_t num_sequences) {
    MergedSequences sequences(a, num_sequences);
    a.query_begins = sequences.query_begins.data();
    a.query_ends = sequences.query_ends.data();
    a.num_keys = sequences.num_keys.data();
    a.key_begins = sequences.key_begins.data();
    std::vector<Task> tasks = make_tasks(a, int64_t(sequences.num_keys.size()));
    parallel_for(int64_t(tasks.size()), [&](int64_t number) {
        Task task = tasks[size_t(number)];
        for (; task.queries.kv_head < task.kv_head_end; ++task.queries.kv_head)
            compute_queries(operations, a, task.queries);
    });
}

void attention_pass(const Operations& operations, const Attention& a, int64_t sequence, int64_t begin, int64_t end,
                    Pass pass, float* probabilities) {
    int64_t rows = (end - begin) * a.heads_per_kv(), width = count_blocks(a.num_keys[sequence]) * kBlock;
    parallel_for(a.kv_heads, [&](int64_t kv_head) {
        thread_local std::vector<float> scratch;
        operations.attention(a, make_pages(operations, a, sequence, kv_head), {sequence, kv_head, begin, end}, pass,
                             probabilities + kv_head * rows * width, reserve(scratch, rows * a.head_dim));
    });
}

void write_pages(const Operations& operations, const float* keys, const float* values, const int64_t* slots,
                 int64_t rows, int64_t kv_heads, int64_t head_dim, float* key_pages, float* value_pages) {
    int64_t key_size = key_page_size(head_dim), value_size = value_page_size(head_dim);
    // One task for each run of rows with consecutive slots in one page.
    std::vector<int64_t> begins;
    for (int64_t row = 0; row < rows; ++row)
        if (row == 0 || slots[row] % kBlock == 0 || slots[row] != slots[row - 1] + 1) begins.push_back(row);
    begins.push_back(rows);
    parallel_for(int64_t(begins.size()) - 1, [&](int64_t task) {
        int64_t row = begins[size_t(task)], slot = slots[row];
        for (int64_t kv_head = 0; kv_head < kv_heads; ++kv_head) {
            int64_t from = (row * kv_heads + kv_head) * head_dim, page = slot / kBlock * kv_heads + kv_head;
            operations.fill_page(keys + from, values + from, kv_heads * head_dim, begins[size_t(task) + 1] - row,
                                 head_dim, key_pages + page * key_size, value_pages + page * value_size, slot % kBlock);
        }
    });
}

}  // namespace triform
