#include "schedule/linear.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "schedule/memory.h"
#include "schedule/threads.h"

namespace triform {
namespace {

constexpr int64_t kCacheLine = 64;  // bytes

// Rows of activations as the kernel reads them: quantized for an integer weight; copied with a padded stride where the
// stride of x is a multiple of 1 KiB, since rows so far apart share few sets of the L1 cache and evict each other; x
// itself otherwise. The memory belongs to the thread, and its next linear uses it again.
class PreparedRows {
public:
    PreparedRows(Format format, int64_t rows, int64_t in) : is_integer_(is_integer(format)), in_(in) {
        thread_local struct {
            std::vector<float> padded, scales;
            std::vector<int8_t> q;
            std::vector<int32_t> sums;
        } memory;
        if (is_integer_) {
            // An odd number of cache lines, for the same reason.
            int64_t lines = (count_groups(in) * kGroup + kCacheLine - 1) / kCacheLine;
            int64_t stride = (lines | 1) * kCacheLine;
            int64_t parts = format == Format::kInt4 ? count_groups(in) : 1;
            quantized_ = {reserve(memory.q, rows * stride), reserve(memory.scales, rows),
                          reserve(memory.sums, rows * parts), stride, parts};
        } else if (in % 256 == 0 && rows > 1) {
            stride_ = in + kCacheLine / int64_t(sizeof(float));
            padded_ = reserve(memory.padded, rows * stride_);
        }
    }

    // Prepares rows [row, row_end) from x (row_end − row, in).
    void fill(const Operations& operations, const float* x, int64_t row, int64_t row_end) const {
        if (is_integer_) {
            operations.quantize(x - row * in_, row, row_end, in_, quantized_);
        } else if (padded_) {
            for (; row < row_end; ++row, x += in_) std::memcpy(padded_ + row * stride_, x, size_t(in_) * sizeof(float));
        }
    }

    // Makes them the input of a linear.
    void assign_to(Linear& l) const {
        l.quantized = quantized_;
        if (padded_) {
            l.x = padded_;
            l.x_stride = stride_;
        }
    }

private:
    bool is_integer_;
    int64_t in_, stride_ = 0;
    Quantized quantized_{};
    float* padded_ = nullptr;
};

// The linear of the rows from `row` on.
Linear skip_rows(Linear l, int64_t row) {
    l.x += row * l.in;
    l.y += row * l.out;
    if (l.factor) l.factor += row * l.out;
    if (l.residual) l.residual += row * l.out;
    return l;
}

void all_blocks(const Operations& operations, const Linear& l, int64_t rows) {
    operations.linear(l, 0, rows, 0, count_blocks(l.out));
}

// Decides how threads share a linear: the number of rows that one task takes, each with all weights; or 0 where threads
// share the blocks of the weights, each with all rows.
//
// Sharing the weights reads each weight from memory once. Sharing the rows reads all weights once for each task, but
// needs no barrier between the steps of a feed-forward. So threads share the weights where rows are few, below 128 a
// thread, or where the rows stay in the L2 cache of a core and are fewer bytes than the weights. 512 KiB are half of
// the 1 MiB of a Zen 4 core; the other half is for weights and outputs.
//
// With eight tasks a thread, one that finishes early takes more. A task is at least two and at most eight register
// tiles of 12 rows (AVX-512), and a whole number of them.
int64_t rows_per_task(int64_t rows, int64_t row_bytes, int64_t weight_bytes) {
    constexpr int64_t kTile = 12, kCache = 512 << 10;
    int64_t threads = num_threads(), bytes = rows * row_bytes;
    if (rows < 128 * threads || (bytes <= kCache && bytes < weight_bytes)) return 0;
    return std::clamp<int64_t>(round_up(rows / (8 * threads), kTile), 2 * kTile, kMaxRows);
}

// Prepares the rows of a linear by all threads, in equal parts of at least 4096 numbers: fewer are not worth another
// thread.
PreparedRows prepare_rows(const Operations& operations, const Linear& l) {
    PreparedRows rows(l.format, l.rows, l.in);
    int64_t parts = std::clamp<int64_t>(l.rows * l.in / 4096, 1, std::max<int64_t>(1, l.rows));
    parallel_for_chunks(l.rows, std::max<int64_t>(1, (l.rows + parts - 1) / parts),
                        [&](int64_t row, int64_t end) { rows.fill(operations, l.x + row * l.in, row, end); });
    return rows;
}

// Threads share the blocks of the weights; a block of a gate goes with the same block of what it multiplies.
//
// Two tasks a thread: with sixteen, a sentence of 12 tokens took 40 µs more of 700.
void share_blocks(const Operations& operations, const Linear* each, int64_t count, const Linear* gate) {
    struct Task {
        const Linear* linear;
        int64_t block, block_end;
    };
    std::vector<Task> tasks;
    int64_t blocks = 0, threads = num_threads();
    for (int64_t i = 0; i < count; ++i) blocks += count_blocks(each[i].out);
    int64_t step = std::max<int64_t>(1, blocks / (2 * threads));
    for (int64_t i = 0; i < count; ++i)
        for (int64_t block = 0, end = count_blocks(each[i].out); block < end; block += step)
            tasks.push_back({each + i, block, std::min(block + step, end)});
    parallel_for(int64_t(tasks.size()), [&](int64_t number) {
        const Task& task = tasks[size_t(number)];
        // One block at a time for all rows, so that it is read from memory once.
        for (int64_t block = task.block; block < task.block_end; ++block)
            for (int64_t row = 0; row < each->rows; row += kMaxRows) {
                int64_t row_end = std::min(row + kMaxRows, each->rows);
                if (gate) operations.linear(*gate, row, row_end, block, block + 1);
                operations.linear(*task.linear, row, row_end, block, block + 1);
            }
    });
}

// A feed-forward of some rows by one thread. The inner states stay in its cache.
void feed_forward_rows(const Operations& operations, const Linear* gate, Linear up, Linear down, int64_t rows) {
    thread_local std::vector<float> inner, gates;
    up.y = reserve(inner, rows * up.out);
    PreparedRows inputs(up.format, rows, up.in);
    inputs.fill(operations, up.x, 0, rows);
    if (gate) {
        Linear own_gate = *gate;
        own_gate.x = up.x;
        up.factor = own_gate.y = reserve(gates, rows * up.out);
        inputs.assign_to(own_gate);
        inputs.assign_to(up);
        // A block of the gate is still in the L1 cache when the same block of `up` is multiplied by it.
        for (int64_t block = 0; block < count_blocks(up.out); ++block) {
            operations.linear(own_gate, 0, rows, block, block + 1);
            operations.linear(up, 0, rows, block, block + 1);
        }
    } else {
        inputs.assign_to(up);
        all_blocks(operations, up, rows);
    }
    down.x = up.y;
    PreparedRows inner_rows(down.format, rows, down.in);
    inner_rows.fill(operations, down.x, 0, rows);
    inner_rows.assign_to(down);
    all_blocks(operations, down, rows);
}

}  // namespace

void linears(const Operations& operations, Linear* each, int64_t count) {
    int64_t rows = each->rows, out = 0, size = is_integer(each->format) ? 1 : 4;
    for (int64_t i = 0; i < count; ++i) out += each[i].out;
    int64_t chunk = rows_per_task(rows, each->in * size, each->in * out * size);
    if (chunk == 0) {
        PreparedRows prepared = prepare_rows(operations, *each);
        for (int64_t i = 0; i < count; ++i) prepared.assign_to(each[i]);
        return share_blocks(operations, each, count, nullptr);
    }
    parallel_for_chunks(rows, chunk, [&](int64_t row, int64_t end) {
        PreparedRows prepared(each->format, end - row, each->in);
        prepared.fill(operations, each->x + row * each->in, 0, end - row);
        for (int64_t i = 0; i < count; ++i) {
            Linear own = skip_rows(each[i], row);
            prepared.assign_to(own);
            all_blocks(operations, own, end - row);
        }
    });
}

void feed_forward(const Operations& operations, Linear* gate, Linear up, Linear down) {
    thread_local std::vector<float> inner, gates;
    int64_t rows = up.rows, chunk = rows_per_task(rows, 0, 0);
    if (chunk == 0) {
        PreparedRows prepared = prepare_rows(operations, up);
        prepared.assign_to(up);
        up.y = reserve(inner, rows * up.out);
        if (gate) {
            prepared.assign_to(*gate);
            up.factor = gate->y = reserve(gates, rows * up.out);
        }
        share_blocks(operations, &up, 1, gate);
        down.x = up.y;
        return linears(operations, &down, 1);
    }
    parallel_for_chunks(rows, chunk, [&](int64_t row, int64_t end) {
        Linear own_up = up, own_down = down;
        own_up.x += row * up.in;
        own_down.y += row * down.out;
        if (own_down.residual) own_down.residual += row * down.out;
        feed_forward_rows(operations, gate, own_up, own_down, end - row);
    });
}

}  // namespace triform
