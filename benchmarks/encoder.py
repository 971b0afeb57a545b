"""Encoder throughput on texts of mixed lengths, from ids to mean-pooled vectors, in tokens per second.

Tokens are those of the texts; padding, which transformers computes as well, does not count. transformers gets them
sorted by length in batches of 32, which leaves little padding; Triform packs them as they come, 2048 tokens a pass.
The limit is arithmetic: each token meets every weight matrix once, two operations for each weight. The share given is
that of a large float32 matrix product in the same run; attention, norms and activations come on top.

    python -m benchmarks.encoder [--pairs N] [--quick]
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import transformers

from benchmarks import ours, peer
from benchmarks.agreement import check_close
from benchmarks.checkpoints import save_random
from benchmarks.limits import multiplication_rate, weights_per_token
from benchmarks.machine import Bystanders, Machine
from benchmarks.measure import Comparison, compare_throughput, number, seconds
from benchmarks.report import Report, parse_arguments
from benchmarks.workload import describe_texts, minilm_folder, mixed_texts

TINY = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}


def measure(name: str, folder: Path, num_texts: int, *, pairs: int, rate: float, facts: dict[str, str]) -> Comparison:
    """Compare on one model, and note beside the figures what they were measured on."""
    model, reference = ours.load_encoder(folder), peer.load_encoder(folder)
    texts = mixed_texts(num_texts, reference.config.vocab_size)
    num_tokens = sum(len(text) for text in texts)
    facts[f"{name}, texts"] = describe_texts(texts)
    facts[f"{name}, answers"] = check_close(ours.embed(model, texts), peer.embed(reference, texts))
    comparison = compare_throughput(
        name,
        lambda: seconds(lambda: ours.embed(model, texts)),
        lambda: seconds(lambda: peer.embed(reference, texts)),
        num_tokens=num_tokens,
        pairs=pairs,
    )
    limit = rate / (2 * weights_per_token(model))
    facts[f"{name}, limit"] = f"{number(limit)} tokens/s by arithmetic; {comparison.shares(limit)}"
    return comparison


def main() -> None:
    arguments = parse_arguments(__doc__)
    bystanders = Bystanders()
    rate = multiplication_rate()
    facts = {"float32 matrix product": f"{number(rate / 1e9)} billion operations/s"}
    config = transformers.BertConfig(**(TINY if arguments.quick else {}))
    with TemporaryDirectory() as temporary:
        base = save_random("BertModel", config, Path(temporary))
        models = [("MiniLM-L6", minilm_folder(), 256), ("BERT-base shape", base, 64)]
        comparisons = [
            measure(name, folder, 8 if arguments.quick else count, pairs=arguments.pairs, rate=rate, facts=facts)
            for name, folder, count in models
        ]
    Report(
        title="Encoder, mixed lengths",
        machine=Machine.here(),
        pairs=arguments.pairs,
        comparisons=comparisons,
        facts={**facts, "other processes": str(bystanders)},
    ).print()


if __name__ == "__main__":
    main()
