package arch

// others are the builders of state space models, encoders and the rest.
var others = map[string]family{}
