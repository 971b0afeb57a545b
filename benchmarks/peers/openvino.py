"""OpenVINO, the encoder and the mean in one graph; int8 weights by nncf, activations quantized as they come.

What is not a product of integers is float32, as everywhere here: left alone it would choose bfloat16.
"""

import json
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray

from benchmarks.peers import Embed
from benchmarks.peers.batches import pad

MODEL = "model.xml"
GROUP_SIZE = "group_size.json"


def convert_encoder(checkpoint: Path, folder: Path, format: str) -> None:
    # The import is local to conversion, so that a process that only runs the model does not count the module.
    import logging
    from contextlib import redirect_stdout
    from io import StringIO

    import nncf

    from benchmarks.peers.export import export_encoder

    logging.getLogger("nncf").setLevel(logging.ERROR)
    exported = folder / "exported.onnx"
    config = export_encoder(checkpoint, exported)
    model = openvino.convert_model(exported)
    if format == "int8":
        with redirect_stdout(StringIO()):  # conversion draws a progress bar
            model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
    openvino.save_model(model, folder / MODEL, compress_to_fp16=False)
    # One scale for the whole row of most linears: the fastest of 32, 64, 128 and this.
    (folder / GROUP_SIZE).write_text(json.dumps(config.hidden_size if format == "int8" else 0))
    exported.unlink()


def load_encoder(folder: Path, format: str, *, streams: int, threads: int) -> Embed:
    settings = {
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": streams * threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": json.loads((folder / GROUP_SIZE).read_text()),
    }
    compiled = openvino.Core().compile_model(folder / MODEL, "CPU", settings)
    local = threading.local()

    def embed(texts: Sequence[list[int]]) -> NDArray[np.float32]:
        if not hasattr(local, "request"):
            local.request = compiled.create_infer_request()
        ids, mask = pad(texts)
        local.request.infer({"input_ids": ids, "attention_mask": mask}, share_inputs=True)
        vectors: NDArray[np.float32] = local.request.get_output_tensor().data.copy()
        return vectors

    return embed
