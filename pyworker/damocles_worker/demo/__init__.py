"""The demonstration: an embedded manager and a worker as two processes, two sectors, two proofs."""
