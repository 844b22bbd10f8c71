"""Views with library stacks, on virtual Ethernets and wires: ``make test-stacks``."""
