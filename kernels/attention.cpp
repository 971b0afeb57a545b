#include "attention.h"

#include <algorithm>
#include <vector>

#include "memory.h"
#include "threads.h"

namespace triform {
namespace {

// Pages of one sequence and group: those of the store, or made here of rows, in memory of this thread.
Tiles tiles_of(const Operations& operations, const Attention& a, int64_t sequence, int64_t group) {
    thread_local std::vector<float> own_keys, own_values;
    int64_t key_size = a.head_dim * kBlock, value_size = value_width(a.head_dim) * kBlock;
    int64_t begin = a.key_begins[sequence], num_keys = a.num_keys[sequence];
    if (a.pages)
        return {a.keys + group * key_size, a.values + group * value_size, a.pages + begin, a.groups * key_size,
                a.groups * value_size};
    float* keys = at_least(own_keys, whole_blocks(num_keys) * key_size);
    float* values = at_least(own_values, whole_blocks(num_keys) * value_size);
    for (int64_t tile = 0; tile * kBlock < num_keys; ++tile) {
        int64_t row = ((begin + tile * kBlock) * a.groups + group) * a.head_dim;
        operations.fill_page(a.keys + row, a.values + row, a.groups * a.head_dim,
                             std::min<int64_t>(kBlock, num_keys - tile * kBlock), a.head_dim, keys + tile * key_size,
                             values + tile * value_size, 0);
    }
    return {keys, values, nullptr, key_size, value_size};
}

constexpr int64_t kMostQueries = 1024;  // of a task: between two, a thread may be asked to stop

// So many queries at a time that their probabilities stay in the nearest cache.
int64_t queries_at_a_time(const Attention& a) { return std::max<int64_t>(1, 48 / (a.heads / a.groups)); }

// Queries of one sequence, in the groups up to `group_end`.
struct Task {
    Queries queries;
    int64_t group_end;
};

void some_queries(const Operations& operations, const Attention& a, Queries queries) {
    thread_local std::vector<float> probabilities, scaled;
    Tiles tiles = tiles_of(operations, a, queries.sequence, queries.group);
    int64_t some = queries_at_a_time(a), rows = some * (a.heads / a.groups);
    at_least(probabilities, rows * whole_blocks(a.num_keys[queries.sequence]) * kBlock);
    at_least(scaled, rows * a.head_dim);
    for (int64_t end = queries.end; queries.begin < end; queries.begin += some) {
        queries.end = std::min(queries.begin + some, end);
        operations.attention(a, tiles, queries, Pass::kBoth, probabilities.data(), scaled.data());
    }
}

// Sequences behind one another that see the same keys, all of them, such as the beams of one sentence, are as one.
struct Sequences {
    std::vector<int64_t> query_begins, query_ends, num_keys, key_begins;

    Sequences(const Attention& a, int64_t count) {
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

}  // namespace

void attention(const Operations& operations, Attention a, int64_t count) {
    Sequences sequences(a, count);
    count = int64_t(sequences.num_keys.size());
    a.query_begins = sequences.query_begins.data();
    a.query_ends = sequences.query_ends.data();
    a.num_keys = sequences.num_keys.data();
    a.key_begins = sequences.key_begins.data();
    std::vector<Task> tasks;
    // The groups of a page lie behind one another: a thread that takes them all reads one stream.
    int64_t groups = std::clamp<int64_t>(count * a.groups / (8 * num_threads()), 1, a.groups);
    bool are_few = count * a.groups < 4 * num_threads();
    for (int64_t sequence = 0; sequence < count; ++sequence) {
        int64_t queries = a.query_ends[sequence] - a.query_begins[sequence];
        int64_t some = are_few ? queries_at_a_time(a) : kMostQueries;
        for (int64_t group = 0; group < a.groups; group += groups)
            for (int64_t begin = 0; begin < queries; begin += some)
                tasks.push_back({{sequence, group, begin, std::min(begin + some, queries)},
                                 std::min(group + groups, a.groups)});
    }
    run(int64_t(tasks.size()), [&](int64_t number) {
        Task task = tasks[size_t(number)];
        for (; task.queries.group < task.group_end; ++task.queries.group) some_queries(operations, a, task.queries);
    });
}

void attention_pass(const Operations& operations, const Attention& a, int64_t sequence, int64_t begin, int64_t end,
                    Pass pass, float* probabilities) {
    int64_t rows = (end - begin) * (a.heads / a.groups), width = whole_blocks(a.num_keys[sequence]) * kBlock;
    run(a.groups, [&](int64_t group) {
        thread_local std::vector<float> scaled;
        operations.attention(a, tiles_of(operations, a, sequence, group), {sequence, group, begin, end}, pass,
                             probabilities + group * rows * width, at_least(scaled, rows * a.head_dim));
    });
}

void write_pages(const Operations& operations, const float* keys, const float* values, const int64_t* slots,
                 int64_t rows, int64_t groups, int64_t head_dim, float* key_pages, float* value_pages) {
    int64_t key_size = head_dim * kBlock, value_size = value_width(head_dim) * kBlock;
    // Rows that fill one page from its beginning, or go on where the rows before left it.
    std::vector<int64_t> begins;
    for (int64_t row = 0; row < rows; ++row)
        if (row == 0 || slots[row] % kBlock == 0 || slots[row] != slots[row - 1] + 1) begins.push_back(row);
    begins.push_back(rows);
    run(int64_t(begins.size()) - 1, [&](int64_t task) {
        int64_t row = begins[size_t(task)], slot = slots[row];
        for (int64_t group = 0; group < groups; ++group) {
            int64_t from = (row * groups + group) * head_dim, page = slot / kBlock * groups + group;
            operations.fill_page(keys + from, values + from, groups * head_dim, begins[size_t(task) + 1] - row,
                                 head_dim, key_pages + page * key_size, value_pages + page * value_size,
                                 slot % kBlock);
        }
    });
}

}  // namespace triform
