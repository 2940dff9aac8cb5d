"""The matching engine: state, kernels, journal, snapshots, recovery, and the matcher process that owns them."""
