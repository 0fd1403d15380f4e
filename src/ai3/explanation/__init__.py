"""What each layer of a network takes, by which algorithm, what limits it, why not by another."""
