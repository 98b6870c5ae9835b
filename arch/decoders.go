package arch

// decoders are the builders of dense decoders.
var decoders = map[string]family{}
