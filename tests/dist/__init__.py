"""The executable that `make dist` builds, as a provider has it: nothing else on the host."""
