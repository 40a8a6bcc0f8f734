"""Prometheus metrics: the Rust worker's series, then what an operator wants to be woken for."""
