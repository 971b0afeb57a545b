"""Triform beside Hugging Face transformers: throughput, start and memory. `python -m benchmarks.run_all` runs them."""
