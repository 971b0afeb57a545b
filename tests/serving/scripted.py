"""A model that writes given texts: the token after position p is the token of a script, whatever was read."""

import random
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers

from tests.checkpoints import llama

FILLER = "\x01"
"""One token, which merges with no neighbour: a prompt of n of them is n tokens long."""

TOOL_TEMPLATE = """{{ bos_token }}{% if tools %}{% endif %}{% for message in messages %}
{% if message.role in ('user', 'system') %}{{ message.content }}
{%- elif message.role == 'tool' %}[result]{{ message.content }}
{%- else %}{{ message.content }}
{%- for call in message.tool_calls or [] %}
<tool_call>
{{ {"name": call.function.name, "arguments": call.function.arguments} | tojson }}
</tool_call>
{%- endfor %}{% endif %}{% endfor %}"""
"""A template of calls in tags, without a text before the answer."""


def scripted(folder: Path, texts: Sequence[str], template: str = TOOL_TEMPLATE, *, ends: bool = True) -> list[int]:
    """Save a model, and return for each text the number of tokens of a prompt that makes the model write the text.

    Arguments:
        folder: of the checkpoint.
        texts: what the model writes.
        template: the chat template; it should add one token, <s>, to the contents.
        ends: whether an end token follows each text.
    """
    llama("LlamaForCausalLM", folder, template)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for path in folder.glob("*.safetensors"):
        path.unlink()
    scripts = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    end = [tokenizer.eos_token_id]
    script = [token for own in scripts for token in (*own, *(end if ends else []))]
    size = tokenizer.vocab_size
    config = transformers.GPT2Config(
        vocab_size=size,
        n_embd=size,
        n_positions=len(script) + 256,
        n_layer=1,
        n_head=1,
        n_inner=8,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = transformers.GPT2LMHeadModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.transformer.wte.weight.copy_(torch.eye(size))
        model.transformer.ln_f.weight.fill_(1)
        for position, token in enumerate(script, start=1):
            model.transformer.wpe.weight[position, token] = 100
    model.save_pretrained(folder)
    begins, begin = [], 2
    for own in scripts:
        begins.append(begin)
        begin += len(own) + ends
    return begins


def filler(num_tokens: int) -> str:
    """Make a message whose prompt has a number of tokens, with the <s> of the template."""
    return FILLER * (num_tokens - 1)


PARTS = (
    "a",
    "Zoë",
    " the",
    "猫",
    "日本語",
    "🐈",
    "👩‍👩‍👧",
    "🇩🇪",
    "é",
    "e\u0301",
    "\n",
    "STOP",
    "ST",
    "END",
    " ",
    '"',
    "\u200d",
    "अनुच्छेद",
)


def random_texts(count: int, seed: int = 0) -> list[str]:
    """Make different texts of letters, characters of several bytes, joined emoji, and parts of stop strings."""
    chosen = random.Random(seed)
    texts: set[str] = set()
    while len(texts) < count:
        texts.add("".join(chosen.choices(PARTS, k=chosen.randint(1, 7))))
    return sorted(texts)
