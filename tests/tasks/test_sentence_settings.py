"""Each key of each file of sentence-transformers: the vectors of the reference, or a clear error."""

import json
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentence_transformers
import torch
import transformers
from numpy.typing import NDArray
from peft import LoraConfig
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Dropout, Pooling
from sentence_transformers.util.misc import import_from_string
from torch import nn

import triform
from tests import checkpoints
from triform.errors import TriformError, TruncationWarning, UnsupportedModelError
from triform.hub import find_checkpoint
from triform.inputs import Tokenizer
from triform.tasks import find_task
from triform.tasks.sequence_level.sentence_transformers import ACTIVATIONS, KINDS, torch_class
from triform.weights.convert import convert

TEXTS = ["The Cat sat on the Mat.", "a b c " * 40, "The [MASK] ΟΔΟΣ é"]
OTHER = 'a "value" of a wrong kind'

MODEL = "config_sentence_transformers.json"
TRANSFORMER = "sentence_bert_config.json"
POOLING, DENSE, DROPOUT, NORMALIZE = (
    f"{name}/config.json" for name in ("1_Pooling", "2_Dense", "3_Dropout", "4_Normalize")
)

FLIPS: dict[str, dict[str, Sequence[Any]]] = {
    MODEL: {
        "__version__": [{"sentence_transformers": "2.0.0"}],
        "prompts": [{"query": "other: "}, {}, None, ["query: "]],
        "default_prompt_name": ["query", "missing", None],
        "similarity_fn_name": ["cosine", "dot", "euclidean", "manhattan", None, "angle"],
        "truncate_dim": [7, None, 0, 10_000],
        "model_type": ["SentenceTransformer", "SparseEncoder", "CrossEncoder", "MultiVectorEncoder", None],
        "requirements": [{}],
        "activation_fn": ["torch.nn.modules.linear.Identity"],
        "keep_in_fp32_modules": [[]],
        "score_fn": ["unknown"],
    },
    TRANSFORMER: {
        "max_seq_length": [9, 60, None, 0, OTHER],
        "do_lower_case": [True, False, None],
        "transformer_task": ["feature-extraction", "fill-mask", "text-generation"],
        "modality_config": [
            {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
            {"text": {"method": "forward", "method_output_name": "pooler_output"}},
            {"message": {"method": "forward", "method_output_name": "last_hidden_state"}},
        ],
        "module_output_name": ["token_embeddings", "sentence_embedding"],
        "model_args": [{"low_cpu_mem_usage": True}, {"torch_dtype": "float32"}, {"variant": "fp16"}, {"unknown": 1}],
        "model_kwargs": [{"attn_implementation": "eager"}, {"add_pooling_layer": False}, {"trust_remote_code": True}],
        "config_args": [{"num_hidden_layers": 1}, {"use_cache": True}, {"output_hidden_states": True}],
        "config_kwargs": [{"layer_norm_eps": 0.1}, {"output_attentions": True}, {"hidden_act": "relu"}],
        "tokenizer_args": [{"model_max_length": 10}, {"truncation_side": "left"}, {"use_fast": True}],
        "processor_kwargs": [
            {"model_max_length": 10},
            {"truncation_side": "left"},
            {"truncation_side": "middle"},
            {"padding_side": "left"},
            {"unk_token": "[MASK]"},
        ],
        "processing_kwargs": [
            {"text": {"max_length": 9}},
            {"text": {"add_special_tokens": False}},
            {"text": {"padding": "longest"}},
            {"text": {"truncation": False}},
            {"text": {"pad_to_multiple_of": 8}},
            {"text": {"return_token_type_ids": False}},
            {"text": {"return_attention_mask": False}},
            {"text": {"return_overflowing_tokens": True}},
            {"text": {"stride": 3}},
            {"common": {"return_tensors": "pt"}},
            {"image": {"size": 3}},
            {"chat_template": {"add_generation_prompt": True}},
            {"unknown": {"max_length": 9}},
        ],
        "unpad_inputs": [False, None],
        "query_length": [8],
        "document_length": [8],
        "query_expansion": [None],
        "tokenizer_name_or_path": [None, "elsewhere"],
        "cache_dir": [None],
        "backend": ["torch"],
        "unknown": [1],
    },
    POOLING: {
        "pooling_mode": ["cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken", "attention", [], OTHER],
        "include_prompt": [False, True, OTHER],
        "embedding_dimension": [32, 16],
        "pooling_mode_cls_token": [True, False],
        "pooling_mode_max_tokens": [True],
        "pooling_mode_mean_tokens": [True, False],
        "pooling_mode_mean_sqrt_len_tokens": [True],
        "pooling_mode_weightedmean_tokens": [True],
        "pooling_mode_lasttoken": [True],
        "unknown": [1],
    },
    DENSE: {
        "in_features": [31],
        "out_features": [9],
        "bias": [False],
        "activation_function": [
            *("torch.nn.Tanh", "torch.nn.modules.activation.ReLU", "torch.nn.modules.linear.Identity"),
            *("torch.nn.modules.activation.ELU", "my_package.Tanh", "Tanh"),
        ],
        "module_input_name": ["token_embeddings", "sentence_embedding"],
        "module_output_name": ["token_embeddings", "sentence_embedding", None],
        "use_residual": [True, False],
        "unknown": [1],
    },
    DROPOUT: {"dropout": [0.9], "unknown": [1]},
    NORMALIZE: {
        "module_input_name": ["token_embeddings", "sentence_embedding"],
        "module_output_name": ["token_embeddings", None],
        "unknown": [1],
    },
}
MODULE_FLIPS: dict[str, Sequence[tuple[int, Any]]] = {
    "idx": [(0, 3)],
    "name": [(0, "transformer"), (2, "1"), (2, None)],
    "path": [(0, "elsewhere"), (1, "2_Dense"), (1, "../1_Pooling"), (4, "missing")],
    "type": [
        (0, "custom_code.Transformer"),
        (0, "sentence_transformers.models.Transformer"),
        (0, "sentence_transformers.models.CLIPModel"),
        (1, "my_package.Pooling"),
        (1, "sentence_transformers.models.Pooling"),
        (3, "sentence_transformers.models.Dense"),
        (4, "whitening.Normalize"),
        (4, "sentence_transformers.models.Dropout"),
        (4, "sentence_transformers.models.LayerNorm"),
    ],
    "kwargs": [(0, []), (0, ["task"])],
    "unknown": [(0, 1)],
}


def test_enough_keys_are_flipped() -> None:
    assert sum(map(len, FLIPS.values())) + len(MODULE_FLIPS) >= 59


@pytest.fixture(scope="module")
def sound(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with every module and every file."""
    plain = checkpoints.bert("BertModel", minilm, tmp_path_factory.mktemp("plain"), max_position_embeddings=64)
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("sound")
    modules = [Transformer(str(plain)), Pooling(32, pooling_mode="mean"), Dense(32, 10), Dropout(0.1), Normalize()]
    reference = SentenceTransformer(modules=modules, device="cpu", prompts={"query": "find: ", "passage": "read: "})
    reference.save(str(folder))
    write(folder / TRANSFORMER, max_seq_length=40)
    edit(folder / "tokenizer_config.json", model_max_length=50)
    return folder


def write(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(values))


def edit(path: Path, **values: Any) -> None:
    write(path, **(json.loads(path.read_text()) if path.exists() else {}) | values)


def copy(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


def theirs(folder: Path) -> list[NDArray[np.float32]]:
    """Vectors, vectors with a prompt, and similarities of sentence-transformers."""
    model = SentenceTransformer(str(folder), device="cpu")
    # Each text alone, since there is no padding here.
    vectors = np.stack([model.encode(text) for text in TEXTS])
    prompted = np.stack([model.encode(text, prompt_name="query") for text in TEXTS])
    return [vectors, prompted, model.similarity(vectors[:1], vectors)[0].numpy()]


def ours(folder: Path, **options: Any) -> list[NDArray[np.float32]]:
    embed = triform.pipeline("sentence-embedding", folder, long_input="truncate", **options)
    compare = triform.pipeline("sentence-similarity", folder, long_input="truncate", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        similarities = compare({"source_sentence": TEXTS[0], "sentences": TEXTS})
        return [embed(TEXTS), embed(TEXTS, prompt_name="query"), np.array(similarities, np.float32)]


def check(folder: Path) -> str:
    """Compare both; return "refused" or "equal".

    A model that the reference cannot load must be refused, and an answer must be the reference's.
    """
    try:
        actual = ours(folder)
    except TriformError:
        return "refused"
    for mine, right in zip(actual, theirs(folder), strict=True):
        assert mine.shape == right.shape
        np.testing.assert_allclose(mine, right, rtol=0, atol=2e-5 * max(1, np.abs(right).max()))
    return "equal"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("file", "key"), [(file, key) for file, own in FLIPS.items() for key in own])
def test_a_key_is_followed_or_refused(sound: Path, tmp_path: Path, file: str, key: str) -> None:
    for number, value in enumerate(FLIPS[file][key]):
        folder = copy(sound, tmp_path / str(number))
        if key.startswith("pooling_mode_"):
            write(folder / file, word_embedding_dimension=32, **{key: value})
        elif file == DENSE and key == "use_residual":
            edit(folder / file, **{key: value, "in_features": 32, "out_features": 10})
        else:
            edit(folder / file, **{key: value})
        check(folder)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("key", MODULE_FLIPS)
def test_a_key_of_modules_is_followed_or_refused(sound: Path, tmp_path: Path, key: str) -> None:
    for number, (module, value) in enumerate(MODULE_FLIPS[key]):
        folder = copy(sound, tmp_path / str(number))
        modules = json.loads((folder / "modules.json").read_text())
        modules[module][key] = value
        (folder / "modules.json").write_text(json.dumps(modules))
        check(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "values"),
    [
        (TRANSFORMER, {"max_seq_length": 9, "do_lower_case": True}),
        (TRANSFORMER, {"tokenizer_args": {"model_max_length": 10}, "max_seq_length": 20}),
        (TRANSFORMER, {"max_seq_length": 60}),  # above model_max_length of tokenizer_config.json
        (TRANSFORMER, {"processing_kwargs": {"text": {"max_length": 9}}}),
        (TRANSFORMER, {"max_seq_length": 10, "tokenizer_args": {"truncation_side": "left"}}),
        (POOLING, {"pooling_mode": "weightedmean", "include_prompt": False}),
        (POOLING, {"pooling_mode": "lasttoken", "include_prompt": False}),
        (MODEL, {"default_prompt_name": "query", "similarity_fn_name": "dot"}),
    ],
    ids=str,
)
def test_settings_of_published_files_are_followed(
    sound: Path, tmp_path: Path, file: str, values: dict[str, Any]
) -> None:
    folder = copy(sound, tmp_path / "model")
    edit(folder / file, **values)
    assert check(folder) == "equal"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"])
def test_the_first_of_the_older_names_counts(sound: Path, tmp_path: Path, name: str) -> None:
    folder = copy(sound, tmp_path / "model")
    write(folder / TRANSFORMER)  # without a key
    write(folder / f"sentence_{name}_config.json", max_seq_length=16, do_lower_case=False)
    if name != "xlnet":
        write(folder / "sentence_xlnet_config.json", max_seq_length=20)
    assert check(folder) == "equal"


@pytest.mark.slow
@pytest.mark.parametrize("whole", [True, False])
def test_the_folder_of_the_transformer_is_followed(sound: Path, minilm: Path, tmp_path: Path, whole: bool) -> None:
    folder = copy(sound, tmp_path / "model")
    inner = checkpoints.bert("BertModel", minilm, folder / "0_BERT", max_position_embeddings=64, num_hidden_layers=1)
    write(inner / TRANSFORMER, max_seq_length=12)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_BERT"
    (folder / "modules.json").write_text(json.dumps(modules))
    if not whole:
        for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", TRANSFORMER):
            (folder / name).unlink()
    assert check(folder) == "equal"
    (inner / "model.safetensors").rename(inner / "kept")
    torch.save(load_file(inner / "kept"), inner / "pytorch_model.bin")
    convert(folder)
    assert check(folder) == "equal"
    with pytest.raises(UnsupportedModelError, match=r"0_BERT is one module of .*; saved without the others"):
        triform.pipeline("embed", folder).model.save(tmp_path / "saved")
    if whole:  # a model that is loaded without its modules
        model = triform.load(folder, with_head=False)
        with pytest.raises(UnsupportedModelError, match=r"modules.json: the Transformer is in 0_BERT"):
            find_task("embed")(model, Tokenizer.from_checkpoint(model.checkpoint))


@pytest.mark.slow
def test_the_files_beside_an_adapter_count(minilm: Path, tmp_path: Path) -> None:
    base = checkpoints.bert("BertModel", minilm, tmp_path / "base", max_position_embeddings=64)
    model = SentenceTransformer(
        modules=[Transformer(str(base)), Pooling(32, pooling_mode="cls"), Normalize()],
        device="cpu",
        prompts={"query": "find: "},
        default_prompt_name="query",
    )
    model.max_seq_length = 20
    torch.manual_seed(1)
    lora = LoraConfig(task_type="FEATURE_EXTRACTION", r=4, target_modules=["query"], init_lora_weights=False)
    model[0].model.add_adapter(lora)
    model.save(str(tmp_path / "adapter"))
    expected = np.stack([model.encode(text) for text in TEXTS])
    embed = triform.pipeline("embed", base, adapter=tmp_path / "adapter", long_input="truncate")
    with pytest.warns(TruncationWarning):
        np.testing.assert_allclose(embed(TEXTS), expected, rtol=0, atol=1e-5)


def test_lower_case_leaves_special_tokens_whole(sound: Path, tmp_path: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(sound)
    tokenizer.backend_tokenizer.normalizer.lowercase = False
    tokenizer.save_pretrained(tmp_path)
    ours = Tokenizer.from_checkpoint(find_checkpoint(tmp_path)).lowercased()
    text = "The [MASK] CAT ΟΔΟΣ"
    reference = Transformer(str(sound), do_lower_case=True).tokenizer
    assert ours.encode([text])[0].ids.tolist() == reference(text)["input_ids"]


def test_every_name_of_a_class_is_one_of_the_reference() -> None:
    classes = {"Transformer": Transformer, "Pooling": Pooling, "Dense": Dense, "Normalize": Normalize}
    for name, kind in KINDS.items():
        assert import_from_string(name) is {**classes, "Dropout": Dropout}[kind]
    for own in ACTIVATIONS:
        for package in (nn, nn.modules, nn.modules.activation, nn.modules.linear):
            path = f"{package.__name__}.{own}"
            assert (torch_class(path) == own) == hasattr(package, own), path
    assert torch_class("my_package.Tanh") == "my_package.Tanh"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cross_encoder_follows_its_files(minilm: Path, tmp_path: Path) -> None:
    plain = checkpoints.bert("BertForSequenceClassification", minilm, tmp_path / "plain", num_labels=1)
    folder = tmp_path / "model"
    sentence_transformers.CrossEncoder(str(plain), device="cpu").save_pretrained(str(folder))
    documents = ["a b c " * 30, "The Cat", "no"]
    for values, is_followed in (
        ({"max_seq_length": 12}, True),
        ({"tokenizer_args": {"model_max_length": 14}}, True),
        ({"do_lower_case": True}, True),
        ({"config_args": {"num_hidden_layers": 1}}, False),
        ({"transformer_task": "feature-extraction"}, False),
        ({"unknown": 1}, False),
    ):
        config = {"transformer_task": "sequence-classification", "module_output_name": "scores", **values}
        write(folder / TRANSFORMER, **config)
        if not is_followed:
            with pytest.raises(UnsupportedModelError, match=TRANSFORMER):
                triform.pipeline("rerank", folder)
            continue
        expected = sentence_transformers.CrossEncoder(str(folder), device="cpu").predict(
            [("The Query", document) for document in documents]
        )
        found = triform.pipeline("rerank", folder, long_input="truncate")(
            {"query": "The Query", "documents": documents}
        )
        scores = [each["score"] for each in sorted(found, key=lambda each: each["index"])]
        assert scores == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.slow
def test_a_decoder_without_modules_is_pooled_by_its_last_token(tmp_path: Path) -> None:
    folder = checkpoints.llama("LlamaForCausalLM", tmp_path / "plain")
    expected = SentenceTransformer(str(folder), device="cpu").encode("Once upon a time")
    np.testing.assert_allclose(triform.pipeline("embed", folder)("Once upon a time"), expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_processor_is_refused_and_settings_of_images_are_not(sound: Path, tmp_path: Path) -> None:
    folder = copy(sound, tmp_path / "model")
    write(folder / "preprocessor_config.json", do_resize=True, size=224)
    assert check(folder) == "equal"
    edit(folder / "preprocessor_config.json", processor_class="CLIPProcessor")
    with pytest.raises(UnsupportedModelError, match=r"preprocessor_config.json: processor_class is 'CLIPProcessor'"):
        triform.pipeline("embed", folder)


@pytest.mark.slow
def test_settings_without_modules_do_not_count(sound: Path, tmp_path: Path) -> None:
    folder = copy(sound, tmp_path / "model")
    (folder / "modules.json").unlink()
    edit(folder / TRANSFORMER, max_seq_length=9)
    edit(folder / MODEL, default_prompt_name="query")
    model = SentenceTransformer(str(folder), device="cpu")
    embed = triform.pipeline("embed", folder, long_input="truncate")
    with pytest.warns(TruncationWarning, match="longer than 50 tokens"):
        np.testing.assert_allclose(embed(TEXTS), [model.encode(text) for text in TEXTS], rtol=0, atol=2e-5)
