"""`transformers.generate` on prompts of unequal length in one batch, the expected result for Triform."""

from pathlib import Path
from typing import Any

import pytest
import torch

import triform
from tests.parity.cases import llama, t5
from tests.parity.harness import Case, make_checkpoint
from triform import spec

CASES = [
    Case(name="llama", model="LlamaForCausalLM", config=lambda: llama(num_key_value_heads=2)),
    Case(name="t5", model="T5ForConditionalGeneration", config=t5),
]
EOS = list(range(1, 120, 9))
"""Enough end tokens for some random texts to end early."""


class Pair:
    """A tiny random model, loaded by Triform and by transformers."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.case = case
        self.reference = make_checkpoint(case, folder)
        self.model = triform.load(folder)
        self.is_decoder = isinstance(self.model.spec.form, spec.Decoder)

    def expect(self, prompts: list[list[int]], **settings: Any) -> Any:
        """Generate by transformers: a decoder pads prompts on the left, up to a common end, an encoder on the right."""
        longest = max(map(len, prompts))
        rows, mask = [], []
        for prompt in prompts:
            padding = [0] * (longest - len(prompt))
            rows.append(padding + prompt if self.is_decoder else prompt + padding)
            real = [1] * len(prompt)
            mask.append(padding + real if self.is_decoder else real + padding)
        return self.reference.generate(
            input_ids=torch.tensor(rows),
            attention_mask=torch.tensor(mask),
            output_scores=True,
            return_dict_in_generate=True,
            **settings,
        )

    def new_ids(self, output: Any, longest: int, eos: list[int]) -> list[list[int]]:
        """Return the ids behind the prompts, each up to the end token."""
        start = longest if self.is_decoder else 1
        texts = [row[start:].tolist() for row in output.sequences]
        ends = [next((place + 1 for place, token in enumerate(text) if token in eos), len(text)) for text in texts]
        return [text[:end] for text, end in zip(texts, ends, strict=True)]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(request.param, tmp_path_factory.mktemp(request.param.name))
