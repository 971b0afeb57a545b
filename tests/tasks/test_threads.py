"""A pipeline shared by many threads."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import triform
from tests import checkpoints


def test_eight_threads_share_one_pipeline(minilm: Path, tmp_path: Path) -> None:
    classify = triform.pipeline(
        "text-classification",
        model=checkpoints.bert("BertForSequenceClassification", minilm, tmp_path / "bert", num_labels=3),
    )
    generate = triform.pipeline(
        "text-generation", model=checkpoints.llama("LlamaForCausalLM", tmp_path / "llama"), max_new_tokens=6
    )
    texts = [f"text {i} " + "word " * (i % 12) for i in range(80)]
    expected = [(classify(text), generate(text)) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda text: (classify(text), generate(text)), texts * 3)) == expected * 3
