"""Training runs: a .toml file each, for `triform train`."""
