"""Encoder-decoder throughput: 32 sources of mixed lengths, 32 greedy tokens for each, in new tokens per second.

The model has the shape of T5-small with random float32 weights. The time is that of the whole call: the encoder reads
the sources once, the cross keys and values are made once, and 32 steps follow for all sequences together. A step is
small, so that its limit is neither arithmetic nor memory alone but also the overhead of many small operations; no
share of a physical limit is given.

    python -m benchmarks.encoder_decoder [--pairs N] [--quick]
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import transformers

from benchmarks import ours, peer
from benchmarks.agreement import check_tokens
from benchmarks.checkpoints import save_random
from benchmarks.machine import Bystanders, Machine
from benchmarks.measure import compare_throughput, number, seconds
from benchmarks.report import Report, parse_arguments
from benchmarks.workload import describe_texts, mixed_texts

SHAPE = {"vocab_size": 32128, "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8}
TINY = {"vocab_size": 500, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
NUM_SOURCES = 32
NUM_TOKENS = 32


def main() -> None:
    arguments = parse_arguments(__doc__)
    bystanders = Bystanders()
    num_sources, num_tokens = (4, 4) if arguments.quick else (NUM_SOURCES, NUM_TOKENS)
    config = transformers.T5Config(
        **(TINY if arguments.quick else SHAPE), pad_token_id=0, decoder_start_token_id=0, eos_token_id=None
    )
    with TemporaryDirectory() as temporary:
        folder = save_random("T5ForConditionalGeneration", config, Path(temporary))
        model, reference = ours.load(folder), peer.load_encoder_decoder(folder)
        sources = mixed_texts(num_sources, config.vocab_size)
        facts = {
            "model": f"{number(model.num_parameters / 1e6)} million float32 weights",
            "sources": describe_texts(sources),
            "answers": check_tokens(
                ours.generate(model, sources, num_tokens), peer.generate(reference, sources, num_tokens), num_tokens
            ),
        }
        comparison = compare_throughput(
            "T5-small shape",
            lambda: seconds(lambda: ours.generate(model, sources, num_tokens)),
            lambda: seconds(lambda: peer.generate(reference, sources, num_tokens)),
            num_tokens=num_sources * num_tokens,
            pairs=arguments.pairs,
        )
    Report(
        title="Encoder-decoder, greedy",
        machine=Machine.here(),
        pairs=arguments.pairs,
        comparisons=[comparison],
        facts={**facts, "other processes": str(bystanders)},
    ).print()


if __name__ == "__main__":
    main()
