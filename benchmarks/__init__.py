"""The latency harness: one process per candidate, interleaved, every sample kept."""
