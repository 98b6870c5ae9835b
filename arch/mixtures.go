package arch

// mixtures are the builders of mixtures of experts and recent hybrids.
var mixtures = map[string]family{}
