"""sentence-transformers behind FastAPI, as many people serve it: each request runs in FastAPI's pool of threads."""

import argparse
import threading
from pathlib import Path
from typing import Any

import sentence_transformers
import uvicorn
from fastapi import FastAPI

LOCK = threading.Lock()
"""Several threads in torch at once slow each other down."""


def health() -> dict[str, str]:
    return {"status": "ok"}


def add_reranker(app: FastAPI, folder: str) -> None:
    classifier = sentence_transformers.CrossEncoder(folder, device="cpu")

    def rerank(body: dict[str, Any]) -> dict[str, Any]:
        with LOCK:
            scores = classifier.predict([(body["query"], each) for each in body["documents"]]).tolist()
        order = sorted(range(len(scores)), key=lambda index: -scores[index])
        return {"results": [{"index": index, "relevance_score": scores[index]} for index in order]}

    app.post("/v1/rerank")(rerank)


def add_encoder(app: FastAPI, folder: str) -> None:
    model = sentence_transformers.SentenceTransformer(folder, device="cpu")

    def embeddings(body: dict[str, Any]) -> dict[str, Any]:
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        with LOCK:
            vectors = model.encode(texts).tolist()
        return {"data": [{"index": index, "embedding": vector} for index, vector in enumerate(vectors)]}

    app.post("/v1/embeddings")(embeddings)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--port", type=int)
    given = parser.parse_args()
    app = FastAPI()
    app.get("/health")(health)
    is_reranker = "SequenceClassification" in Path(given.model, "config.json").read_text()
    (add_reranker if is_reranker else add_encoder)(app, given.model)
    uvicorn.run(app, port=given.port, log_level="error")


if __name__ == "__main__":
    main()
