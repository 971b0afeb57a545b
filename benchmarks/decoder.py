"""Decoder throughput: reading a prompt of 512 tokens, then 32 greedy steps for one sequence and for eight at once.

The model has the shape of Llama with 0.25 billion random float32 weights. The time of the steps is that of 33 new
tokens less that of 1, so that the prompt does not count. The eight prompts have 8 to 64 tokens, 32 on average;
transformers pads them on the left, Triform packs them.

Prefill is limited by arithmetic: two operations for each weight and token; the share given is that of a large float32
matrix product. A decoding step is limited by reading: it fetches every weight from memory once, for all sequences
together; the share given is that of the read bandwidth. Both limits are measured in the same run.

    python -m benchmarks.decoder [--pairs N] [--quick]
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import transformers

import triform
from benchmarks import ours, peer
from benchmarks.agreement import check_close, check_tokens
from benchmarks.checkpoints import save_random
from benchmarks.limits import multiplication_rate, read_bandwidth, weights_per_token
from benchmarks.machine import Bystanders, Machine
from benchmarks.measure import Comparison, compare_throughput, number, seconds
from benchmarks.report import Report, parse_arguments
from benchmarks.workload import random_texts

SHAPE = {
    "vocab_size": 32000,
    "hidden_size": 1024,
    "num_hidden_layers": 16,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "intermediate_size": 2816,
}
TINY = {**SHAPE, "vocab_size": 500, "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128}
PROMPT_LENGTH = 512
NUM_STEPS = 32
ONE = [32]
EIGHT = [8, 12, 17, 24, 33, 42, 56, 64]
BYTES = 4
"""Of a float32 weight."""


def measure_prefill(
    model: triform.Model, reference: Any, length: int, *, pairs: int, facts: dict[str, str]
) -> Comparison:
    """One prompt, up to the logits of the next token."""
    name = f"prefill of {length}"
    [prompt] = random_texts([length], reference.config.vocab_size)
    facts[f"{name}, answers"] = check_close(ours.prefill(model, prompt), peer.prefill(reference, prompt))
    comparison = compare_throughput(
        name,
        lambda: seconds(lambda: ours.prefill(model, prompt)),
        lambda: seconds(lambda: peer.prefill(reference, prompt)),
        num_tokens=length,
        pairs=pairs,
    )
    # The head sees the last token alone.
    head = model.spec.output_stack.embedding
    weights = weights_per_token(model) - head.vocab_size * head.hidden_size
    limit = multiplication_rate() / (2 * weights)
    facts[f"{name}, limit"] = f"{number(limit)} tokens/s by arithmetic; {comparison.shares(limit)}"
    return comparison


def measure_decode(
    model: triform.Model, reference: Any, lengths: list[int], *, pairs: int, facts: dict[str, str]
) -> Comparison:
    """Steps behind prompts of given lengths, all sequences together."""
    name = f"decode, {len(lengths)} at once"
    prompts = random_texts(lengths, reference.config.vocab_size)
    num_tokens = NUM_STEPS + 1
    facts[f"{name}, answers"] = check_tokens(
        ours.generate(model, prompts, num_tokens), peer.generate(reference, prompts, num_tokens), num_tokens
    )

    def steps(generate: Any, model: Any) -> float:
        return seconds(lambda: generate(model, prompts, num_tokens)) - seconds(lambda: generate(model, prompts, 1))

    comparison = compare_throughput(
        name,
        lambda: steps(ours.generate, model),
        lambda: steps(peer.generate, reference),
        num_tokens=NUM_STEPS * len(lengths),
        pairs=pairs,
    )
    bandwidth, bytes_read = read_bandwidth(), BYTES * weights_per_token(model)
    limit = len(lengths) * bandwidth / bytes_read
    facts[f"{name}, limit"] = (
        f"{number(limit)} tokens/s by reading, {number(bytes_read / 1e6)} MB a step at {bandwidth / 1e9:.1f} GB/s; "
        f"{comparison.shares(limit)}"
    )
    return comparison


def main() -> None:
    arguments = parse_arguments(__doc__)
    bystanders = Bystanders()
    config = transformers.LlamaConfig(
        **(TINY if arguments.quick else SHAPE),
        max_position_embeddings=1024,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    )
    facts: dict[str, str] = {}
    with TemporaryDirectory() as temporary:
        folder = save_random("LlamaForCausalLM", config, Path(temporary))
        model, reference = ours.load(folder), peer.load_decoder(folder)
        facts["model"] = f"{number(model.num_parameters / 1e6)} million float32 weights"
        length = 16 if arguments.quick else PROMPT_LENGTH
        comparisons = [
            measure_prefill(model, reference, length, pairs=arguments.pairs, facts=facts),
            measure_decode(model, reference, ONE, pairs=arguments.pairs, facts=facts),
            measure_decode(model, reference, EIGHT, pairs=arguments.pairs, facts=facts),
        ]
    Report(
        title="Decoder, greedy",
        machine=Machine.here(),
        pairs=arguments.pairs,
        comparisons=comparisons,
        facts={**facts, "other processes": str(bystanders)},
    ).print()


if __name__ == "__main__":
    main()
