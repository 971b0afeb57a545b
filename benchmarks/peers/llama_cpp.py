"""llama.cpp through the C functions: decoders in the formats Q8_0 and Q4_0.

A Llama is written as GGUF in float16, then quantized by llama.cpp's own tool with its defaults, which hold the head of
a Q4_0 model in Q6_K.
"""

import ctypes
import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import num_cores

FORMATS = {"Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, "Q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0}
MODEL = "model.gguf"
CONTEXT = 1024
"""Positions of one sequence."""

LINEARS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _quiet(level: int, text: bytes, data: ctypes.c_void_p) -> None:
    """Discard the output of llama.cpp. A name of the module keeps the callback alive."""


llama_cpp.llama_log_set(_quiet, ctypes.c_void_p(0))


def instruction_sets() -> str:
    """Return the instruction sets of the build, as reported by llama.cpp."""
    told: str = llama_cpp.llama_print_system_info().decode()
    return told.strip(" |")


def convert_decoder(checkpoint: Path, folder: Path, format: str) -> None:
    """Write model.gguf in a format of `FORMATS`."""
    exported = folder / "exported.gguf"
    _write_gguf(checkpoint, exported)
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = FORMATS[format]
    failed = llama_cpp.llama_model_quantize(
        str(exported).encode(), str(folder / MODEL).encode(), ctypes.byref(parameters)
    )
    if failed:
        raise SystemExit(f"llama.cpp could not quantize to {format}.")
    exported.unlink()


class Decoder:
    """A model with a cache for several sequences."""

    def __init__(self, folder: Path, *, num_sequences: int) -> None:
        self._model = llama_cpp.llama_model_load_from_file(
            str(folder / MODEL).encode(), llama_cpp.llama_model_default_params()
        )
        self._vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = CONTEXT * num_sequences
        parameters.n_batch = parameters.n_ubatch = CONTEXT
        parameters.n_seq_max = num_sequences
        self._context = llama_cpp.llama_init_from_model(self._model, parameters)
        self._batch = llama_cpp.llama_batch_init(CONTEXT, 0, 1)
        self.use_threads(num_cores())

    def use_threads(self, number: int) -> None:
        """Set the number of threads."""
        llama_cpp.llama_set_n_threads(self._context, number, number)

    def prefill(self, prompt: list[int]) -> NDArray[np.float32]:
        """Read a prompt into the emptied cache: the logits (vocab_size,) of the next token."""
        logits: NDArray[np.float32] = self._read([prompt])[0]
        return logits

    def generate(self, prompts: Sequence[list[int]], num_tokens: int) -> list[list[int]]:
        """Decode `num_tokens` greedily for each prompt."""
        logits = self._read(prompts)
        answers = [logits.argmax(1)]
        for step in range(num_tokens - 1):
            rows = [
                (int(id), len(prompt) + step, index, True)
                for index, (id, prompt) in enumerate(zip(answers[-1], prompts, strict=True))
            ]
            answers.append(self._decode(rows).argmax(1))
        new: list[list[int]] = np.stack(answers, 1).tolist()
        return new

    def _read(self, prompts: Sequence[list[int]]) -> NDArray[np.float32]:
        """Compute the logits behind prompts, (prompts, vocab_size)."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), False)
        rows = (
            [(id, position, index, position == len(prompt) - 1) for position, id in enumerate(prompt)]
            for index, prompt in enumerate(prompts)
        )
        return self._decode(list(chain.from_iterable(rows)))

    def _decode(self, rows: Sequence[tuple[int, int, int, bool]]) -> NDArray[np.float32]:
        """Run rows of (id, position, sequence, logits wanted); return the wanted logits (wanted, vocab_size)."""
        batch = self._batch
        batch.n_tokens = len(rows)
        for row, (id, position, sequence, wanted) in enumerate(rows):
            batch.token[row], batch.pos[row], batch.logits[row] = id, position, wanted
            batch.n_seq_id[row], batch.seq_id[row][0] = 1, sequence
        if llama_cpp.llama_decode(self._context, batch):
            raise SystemExit("llama.cpp could not decode a batch.")
        logits = (
            np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self._context, row), (self._vocab_size,))
            for row, (*_, wanted) in enumerate(rows)
            if wanted
        )
        return np.stack(list(logits))


def _write_gguf(checkpoint: Path, file: Path) -> None:
    """Write a Llama of the Hugging Face layout, untied, as GGUF in float16."""
    # The import is local to conversion, so that a process that only runs the model does not count the module.
    import gguf
    from safetensors.torch import load_file

    config = json.loads((checkpoint / "config.json").read_text())
    heads, key_value_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(key_value_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"w{id}" for id in range(config["vocab_size"])])
    writer.add_token_scores([0.0] * config["vocab_size"])
    writer.add_token_types([gguf.TokenType.NORMAL] * config["vocab_size"])

    tensors = load_file(checkpoint / "model.safetensors")

    def add(name: str, source: str, num_heads: int = 0) -> None:
        tensor = tensors[source].float().numpy()
        if num_heads:
            tensor = _interleaved(tensor, num_heads)
        writer.add_tensor(f"{name}.weight", tensor if tensor.ndim == 1 else tensor.astype(np.float16))

    add("token_embd", "model.embed_tokens.weight")
    add("output_norm", "model.norm.weight")
    add("output", "lm_head.weight")
    turned = {"attn_q": heads, "attn_k": key_value_heads}
    for layer in range(config["num_hidden_layers"]):
        for theirs, name in (LINEARS | NORMS).items():
            add(f"blk.{layer}.{name}", f"model.layers.{layer}.{theirs}.weight", turned.get(name, 0))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _interleaved(weight: NDArray[np.float32], num_heads: int) -> NDArray[np.float32]:
    """Order the rows of a head as GGUF's rotary layout does, with each rotated pair side by side."""
    out, in_ = weight.shape
    return weight.reshape(num_heads, 2, out // num_heads // 2, in_).swapaxes(1, 2).reshape(out, in_)
