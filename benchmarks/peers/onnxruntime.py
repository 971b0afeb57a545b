"""ONNX Runtime, the encoder and the mean in one graph; int8 by `quantize_dynamic`, a scale for each channel.

In float32 its own optimizer for transformers, which fuses attention, makes it a tenth faster; in int8 the plain graph,
fused by the session, is the faster one (both tried on AMD Zen 4).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.peers import Embed
from benchmarks.peers.batches import pad

MODEL = "model.onnx"


def convert_encoder(checkpoint: Path, folder: Path, format: str) -> None:
    # The import is local to conversion, so that a process that only runs the model does not count the module.
    import logging

    from onnxruntime.quantization import quantize_dynamic
    from onnxruntime.transformers.optimizer import optimize_model

    from benchmarks.peers.export import export_encoder

    exported = folder / "exported.onnx"
    config = export_encoder(checkpoint, exported)
    logging.getLogger().setLevel(logging.ERROR)
    if format == "int8":
        quantize_dynamic(exported, folder / MODEL, per_channel=True)
    else:
        heads, hidden = config.num_attention_heads, config.hidden_size
        optimized = optimize_model(str(exported), "bert", heads, hidden, opt_level=0)
        optimized.save_model_to_file(str(folder / MODEL))
    exported.unlink()


def load_encoder(folder: Path, format: str, *, streams: int, threads: int) -> Embed:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads  # the streams, threads of Python, share one session
    session = onnxruntime.InferenceSession(folder / MODEL, options, providers=["CPUExecutionProvider"])

    def embed(texts: Sequence[list[int]]) -> NDArray[np.float32]:
        ids, mask = pad(texts)
        [vectors] = session.run(None, {"input_ids": ids, "attention_mask": mask})
        result: NDArray[np.float32] = vectors
        return result

    return embed
