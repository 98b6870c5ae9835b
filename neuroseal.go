// Package neuroseal seals open-weight language models: a sealed checkpoint
// answers exactly as before, but ordinary weight fine-tuning fails on it.
//
// The seal rewrites inverse pairs of weights by powers of two drawn from a
// key. Which weights form pairs is derived from the network's computation
// graph. Whoever holds the key gets the original bytes back; whoever does not
// can still re-balance the weights (see Undo): the seal is friction, not a
// lock that no one can pick.
package neuroseal

// Version is the version of the tool, recorded in every manifest.
const Version = "0.1.0"
