"""Batches: their order, a pure function of seed and epoch, and their loading."""
