"""A look inside: gradients over time, gates and cell states, the CTC lattice, and what a label depends on."""
