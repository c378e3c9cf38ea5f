"""What the operator costs and how quick it is, each number beside a peer's of the same run: `make bench`."""
