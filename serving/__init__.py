"""The vocabulary every part of Penstock shares. Types and pure functions; no I/O."""
