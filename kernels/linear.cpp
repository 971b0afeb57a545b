#include "linear.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "layout.h"
#include "memory.h"
#include "threads.h"

namespace triform {
namespace {

bool is_integer(Format format) { return format == Format::kInt8 || format == Format::kInt4; }

// The rows of a linear as its kernel reads them, in memory of one thread that its next linear uses again.
class Rows {
public:
    // Room for `rows` rows of `in` numbers, as weights of this format want them.
    Rows(Format format, int64_t rows, int64_t in) : is_integer_(is_integer(format)), in_(in) {
        thread_local struct {
            std::vector<float> apart, scales;
            std::vector<int8_t> q;
            std::vector<int32_t> sums;
        } memory;
        if (is_integer_) {
            // An odd number of cache lines apart, so that rows do not push each other out of the cache.
            int64_t stride = ((whole_groups(in) * kGroup + 63) / 64 | 1) * 64;
            int64_t parts = format == Format::kInt4 ? whole_groups(in) : 1;
            quantized_ = {at_least(memory.q, rows * stride), at_least(memory.scales, rows),
                          at_least(memory.sums, rows * parts), stride, parts};
        } else if (in % 256 == 0 && rows > 1) {
            stride_ = in + 16;
            apart_ = at_least(memory.apart, rows * stride_);
        }
    }

    // Makes rows of x, `in` numbers apart, ready as those from `row` on.
    void fill(const Operations& operations, const float* x, int64_t row, int64_t row_end) const {
        if (is_integer_) {
            operations.quantize(x - row * in_, row, row_end, in_, quantized_);
        } else if (apart_) {
            for (; row < row_end; ++row, x += in_)
                std::memcpy(apart_ + row * stride_, x, size_t(in_) * sizeof(float));
        }
    }

    void give(Linear& l) const {
        l.quantized = quantized_;
        if (apart_) {
            l.x = apart_;
            l.x_stride = stride_;
        }
    }

private:
    bool is_integer_;
    int64_t in_, stride_ = 0;
    Quantized quantized_{};
    float* apart_ = nullptr;
};

// A linear of some rows of another: those from `row` on become its first.
Linear from_row(Linear l, int64_t row) {
    l.x += row * l.in;
    l.y += row * l.out;
    if (l.factor) l.factor += row * l.out;
    if (l.residual) l.residual += row * l.out;
    return l;
}

void all_blocks(const Operations& operations, const Linear& l, int64_t rows) {
    operations.linear(l, 0, rows, 0, whole_blocks(l.out));
}

// How many rows a thread takes at a time where threads share the rows; none where they share the weights instead: where
// rows are few, or fit the cache of a core and are less than the weights, which then are read once.
int64_t rows_at_a_time(int64_t rows, int64_t row_bytes, int64_t weight_bytes) {
    constexpr int64_t kTile = 12, kCache = 512 << 10;
    int64_t threads = num_threads(), bytes = rows * row_bytes;
    if (rows < 128 * threads || (bytes <= kCache && bytes < weight_bytes)) return 0;
    int64_t share = (rows / (8 * threads) + kTile - 1) / kTile * kTile;
    return std::clamp<int64_t>(share, 2 * kTile, kMostRows);
}

template <class F>
void for_row_parts(int64_t rows, int64_t some, F&& f) {
    run((rows + some - 1) / some, [&](int64_t task) { f(task * some, std::min(some, rows - task * some)); });
}

Rows filled_together(const Operations& operations, const Linear& l) {
    Rows rows(l.format, l.rows, l.in);
    // Equal parts of some thousands of numbers: less is not worth another thread.
    int64_t parts = std::clamp<int64_t>(l.rows * l.in / 4096, 1, std::max<int64_t>(1, l.rows));
    for_row_parts(l.rows, std::max<int64_t>(1, (l.rows + parts - 1) / parts), [&](int64_t row, int64_t count) {
        rows.fill(operations, l.x + row * l.in, row, row + count);
    });
    return rows;
}

// Blocks of channels to whoever is free; a gate and what it multiplies go together.
void by_blocks(const Operations& operations, const Linear* each, int64_t count, const Linear* gate) {
    struct Task {
        const Linear* linear;
        int64_t block, block_end;
    };
    std::vector<Task> tasks;
    int64_t blocks = 0, threads = num_threads();
    for (int64_t i = 0; i < count; ++i) blocks += whole_blocks(each[i].out);
    int64_t some = std::max<int64_t>(1, blocks / (2 * threads));
    for (int64_t i = 0; i < count; ++i)
        for (int64_t block = 0, end = whole_blocks(each[i].out); block < end; block += some)
            tasks.push_back({each + i, block, std::min(block + some, end)});
    run(int64_t(tasks.size()), [&](int64_t number) {
        const Task& task = tasks[size_t(number)];
        // A block at a time for all rows: it is read from memory once.
        for (int64_t block = task.block; block < task.block_end; ++block)
            for (int64_t row = 0; row < each->rows; row += kMostRows) {
                int64_t row_end = std::min(row + kMostRows, each->rows);
                if (gate) operations.linear(*gate, row, row_end, block, block + 1);
                operations.linear(*task.linear, row, row_end, block, block + 1);
            }
    });
}

}  // namespace

void linears(const Operations& operations, Linear* each, int64_t count) {
    int64_t all = each->rows, out = 0, size = is_integer(each->format) ? 1 : 4;
    for (int64_t i = 0; i < count; ++i) out += each[i].out;
    int64_t some = rows_at_a_time(all, each->in * size, each->in * out * size);
    if (some == 0) {
        Rows rows = filled_together(operations, *each);
        for (int64_t i = 0; i < count; ++i) rows.give(each[i]);
        return by_blocks(operations, each, count, nullptr);
    }
    for_row_parts(all, some, [&](int64_t row, int64_t part) {
        Rows rows(each->format, part, each->in);
        rows.fill(operations, each->x + row * each->in, 0, part);
        for (int64_t i = 0; i < count; ++i) {
            Linear own = from_row(each[i], row);
            rows.give(own);
            all_blocks(operations, own, part);
        }
    });
}

void feed_forward(const Operations& operations, Linear* gate, Linear up, Linear down) {
    thread_local std::vector<float> inner, gates;
    int64_t all = up.rows, some = rows_at_a_time(all, 0, 0);
    if (some == 0) {
        Rows rows = filled_together(operations, up);
        rows.give(up);
        up.y = at_least(inner, all * up.out);
        if (gate) {
            rows.give(*gate);
            up.factor = gate->y = at_least(gates, all * up.out);
        }
        by_blocks(operations, &up, 1, gate);
        down.x = up.y;
        return linears(operations, &down, 1);
    }
    // The inner states of some rows stay in the cache of the thread that made them.
    for_row_parts(all, some, [&](int64_t row, int64_t part) {
        thread_local std::vector<float> own_inner, own_gates;
        Linear own_up = up, own_down = down;
        own_up.x += row * up.in;
        own_up.y = at_least(own_inner, part * up.out);
        Rows rows(up.format, part, up.in);
        rows.fill(operations, own_up.x, 0, part);
        rows.give(own_up);
        if (gate) {
            Linear own_gate = *gate;
            own_gate.x = own_up.x;
            own_up.factor = own_gate.y = at_least(own_gates, part * up.out);
            rows.give(own_gate);
            // A block of the gate is still in the nearest cache when the same of `up` is multiplied by it.
            for (int64_t block = 0; block < whole_blocks(up.out); ++block) {
                operations.linear(own_gate, 0, part, block, block + 1);
                operations.linear(own_up, 0, part, block, block + 1);
            }
        } else {
            all_blocks(operations, own_up, part);
        }
        own_down.x = own_up.y;
        own_down.y += row * down.out;
        if (own_down.residual) own_down.residual += row * down.out;
        Rows inner_rows(down.format, part, down.in);
        inner_rows.fill(operations, own_down.x, 0, part);
        inner_rows.give(own_down);
        all_blocks(operations, own_down, part);
    });
}

}  // namespace triform
