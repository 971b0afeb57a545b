"""Files of an adapter's folder beside the low ranks: larger tables, tokenizer, chat template, modules, generation."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer

import triform
from tests import checkpoints
from tests.weights.test_adapter import adapt
from triform.errors import AdapterWarning, InputError, ModelNotFoundError, UnsupportedModelError
from triform.inputs import Tokenizer
from triform.inputs.chat.template import Chat, ChatTemplate
from triform.tasks.generative.text_generation import TextGeneration

IDS = [1, 40, 52, 71, 90, 33, 12, 99]
TEMPLATE = "{% for message in messages %}[{{ message.role }}]{{ message.content }}{% endfor %}"
OTHER = "{% for message in messages %}<|im_start|>{{ message.role }} {{ message.content }}{% endfor %}"
CHAT = [{"role": "user", "content": "hi"}]


def logits(model: triform.Model) -> Any:
    return np.asarray(model(triform.Batch.from_ids([IDS])).logits)


def adapted(tmp_path: Path, *, tied: bool, num_new: int, **options: Any) -> Any:
    """Save a Llama, and an adapter that was trained with more tokens, with its tokenizer; return the adapted model."""
    checkpoints.llama("LlamaForCausalLM", tmp_path / "base", TEMPLATE, tie_word_embeddings=tied)
    base = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "base")
    if num_new:
        base.resize_token_embeddings(base.config.vocab_size + num_new)
    options = {"target_modules": ["q_proj"], "task_type": "CAUSAL_LM", **options}
    model = adapt(base, tmp_path / "adapter", **options)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "base")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    tokenizer.chat_template = OTHER
    tokenizer.save_pretrained(tmp_path / "adapter")
    return model


RESIZED = [
    ({}, [True, False]),
    ({"modules_to_save": ["embed_tokens", "lm_head"]}, [True, False]),
    ({"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}, [True]),
    ({"target_modules": ["q_proj", "embed_tokens"]}, [True]),
    ({"trainable_token_indices": [5, 9]}, [True, False]),
]


@pytest.mark.parametrize(
    ("options", "tied"), [(options, tied) for options, kinds in RESIZED for tied in kinds], ids=str
)
def test_an_adapter_brings_a_larger_vocabulary(options: dict[str, Any], tied: bool, tmp_path: Path) -> None:
    reference = adapted(tmp_path, tied=tied, num_new=2, **options)
    with torch.no_grad():
        right = reference(torch.tensor([IDS])).logits[0].numpy()
    model = triform.load(tmp_path / "base", adapter=tmp_path / "adapter")
    np.testing.assert_allclose(logits(model), right, atol=2e-5)
    model.save(tmp_path / "saved")
    np.testing.assert_array_equal(logits(triform.load(tmp_path / "saved")), logits(model))
    backbone = triform.load(tmp_path / "base", adapter=tmp_path / "adapter", with_head=False)
    assert backbone.parameters["embedding.word.weight"].shape[0] == right.shape[1]


def test_the_tokenizer_and_the_chat_template_are_those_of_the_adapter(tmp_path: Path) -> None:
    adapted(tmp_path, tied=False, num_new=1)
    generate = TextGeneration.load(tmp_path / "base", adapter=tmp_path / "adapter")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "adapter")
    [encoded] = generate.tokenizer.encode(["<|im_start|>hi"])
    assert encoded.ids.tolist() == tokenizer("<|im_start|>hi")["input_ids"]
    assert generate.chat_template.render(Chat.read(CHAT)).text == tokenizer.apply_chat_template(CHAT, tokenize=False)
    # A merged model has the files of both.
    generate.model.save(tmp_path / "saved")
    merged = triform.load(tmp_path / "saved").checkpoint
    assert Tokenizer.from_checkpoint(merged).encode(["<|im_start|>hi"])[0].ids.tolist() == encoded.ids.tolist()
    template = ChatTemplate.from_checkpoint(merged, Tokenizer.from_checkpoint(merged))
    assert template.render(Chat.read(CHAT)).text == tokenizer.apply_chat_template(CHAT, tokenize=False)
    assert not (tmp_path / "saved" / "adapter_config.json").exists()


def test_without_a_tokenizer_of_the_adapter_the_model_s_counts(tmp_path: Path) -> None:
    adapted(tmp_path, tied=False, num_new=0)
    for path in (tmp_path / "adapter").glob("*tok*"):
        path.unlink()
    (tmp_path / "adapter" / "chat_template.jinja").unlink()
    generate = TextGeneration.load(tmp_path / "base", adapter=tmp_path / "adapter")
    assert generate.chat_template.render(Chat.read(CHAT)).text == "[user]hi"


def test_the_folder_of_an_adapter_is_the_adapter_on_its_base_model(tmp_path: Path) -> None:
    adapted(tmp_path, tied=True, num_new=0)
    with torch.no_grad():
        reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "adapter").eval()
        right = reference(torch.tensor([IDS])).logits[0].numpy()
    np.testing.assert_allclose(logits(triform.load(tmp_path / "adapter")), right, atol=2e-5)
    path = tmp_path / "adapter" / "adapter_config.json"
    config = json.loads(path.read_text())
    for base in (str(tmp_path / "gone"), None):
        path.write_text(json.dumps({**config, "base_model_name_or_path": base}))
        with pytest.raises(
            ModelNotFoundError, match="cannot be found(.|\n)*name the folder of the base .* and adapter="
        ):
            triform.load(tmp_path / "adapter")


def test_a_model_s_folder_may_bring_an_adapter(tmp_path: Path) -> None:
    adapted(tmp_path, tied=False, num_new=0)
    right = logits(triform.load(tmp_path / "base", adapter=tmp_path / "adapter"))
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(tmp_path / "adapter" / name, tmp_path / "base" / name)
    with torch.no_grad():
        reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base").eval()
        np.testing.assert_allclose(reference(torch.tensor([IDS])).logits[0].numpy(), right, atol=2e-5)
    np.testing.assert_array_equal(logits(triform.load(tmp_path / "base")), right)
    with pytest.raises(UnsupportedModelError, match=r"already has an adapter, in adapter_config\.json"):
        triform.load(tmp_path / "base", adapter=tmp_path / "adapter")
    with pytest.raises(UnsupportedModelError, match="has an adapter, which training cannot continue"):
        triform.model.load_for_training(tmp_path / "base")


def test_generation_settings_of_an_adapter_are_said_to_be_left(tmp_path: Path) -> None:
    adapted(tmp_path, tied=False, num_new=0)
    shutil.copy(tmp_path / "base" / "generation_config.json", tmp_path / "adapter")
    triform.load(tmp_path / "base", adapter=tmp_path / "adapter")  # equal settings need no word
    (tmp_path / "adapter" / "generation_config.json").write_text('{"temperature": 0.3}')
    with pytest.warns(AdapterWarning, match=r"generation_config\.json differs from the model's, which counts"):
        triform.load(tmp_path / "base", adapter=tmp_path / "adapter")


def test_rows_beyond_the_table_are_refused(tmp_path: Path) -> None:
    adapted(tmp_path, tied=False, num_new=0, trainable_token_indices=[5])
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "trainable_token_indices": [100_000]}))
    with pytest.raises(triform.errors.WeightError, match="row 100000 of model.embed_tokens, which has"):
        triform.load(tmp_path / "base", adapter=tmp_path / "adapter")


def test_lora_bias_needs_a_bias(tmp_path: Path) -> None:
    adapted(tmp_path, tied=False, num_new=0, lora_bias=True)
    with pytest.raises(triform.errors.WeightError, match=r"a change of .*q_proj\.bias, which this model does not have"):
        triform.load(tmp_path / "base", adapter=tmp_path / "adapter")


def test_modules_beside_an_adapter_are_followed(minilm: Path, tmp_path: Path) -> None:
    reference = SentenceTransformer(
        str(minilm), device="cpu", prompts={"query": "query: "}, default_prompt_name="query"
    )
    reference[1].pooling_mode = "cls"
    torch.manual_seed(1)
    reference[0].model.add_adapter(
        peft.LoraConfig(task_type="FEATURE_EXTRACTION", r=4, target_modules=["query"], init_lora_weights=False)
    )
    reference.save(str(tmp_path / "adapter"))
    reference = SentenceTransformer(str(tmp_path / "adapter"), device="cpu")
    texts = ["A cat sat on the mat.", "sea"]
    embed = triform.pipeline("sentence-embedding", minilm, adapter=tmp_path / "adapter")
    np.testing.assert_allclose(embed(texts), reference.encode(texts), atol=1e-5)
    alone = triform.pipeline("sentence-embedding", tmp_path / "adapter")
    np.testing.assert_array_equal(alone(texts), embed(texts))
    embed.model.save(tmp_path / "saved")
    merged = triform.pipeline("sentence-embedding", tmp_path / "saved")
    np.testing.assert_allclose(merged(texts), embed(texts), atol=1e-6)


def test_a_merged_model_is_not_saved_beside_its_adapter(tmp_path: Path) -> None:
    """The next load would merge the adapter a second time."""
    base = checkpoints.llama("LlamaForCausalLM", tmp_path / "base")
    lora = peft.LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    adapter = tmp_path / "adapter"
    peft.get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(base), lora).save_pretrained(adapter)
    model = triform.load(base, adapter=adapter)
    before = sorted(path.name for path in adapter.iterdir())
    with pytest.raises(InputError, match="holds an adapter"):
        model.save(adapter)
    assert sorted(path.name for path in adapter.iterdir()) == before
