"""Gateways side by side in front of one stand-in engine: CPU, added latency, memory, broken streams."""
