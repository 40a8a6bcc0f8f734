"""An embedded manager on the real wire, for the first run and for tests: it verifies what it is given."""
