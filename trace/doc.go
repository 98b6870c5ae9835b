// Package trace keeps a registry of sealed copies, one key each, and says from
// which of them a checkpoint was made that turned up elsewhere.
//
// A seal's exponents are a pattern across the channels of a network. Training,
// merging, quantising and pruning change weights by less than the factors do,
// or leave one side of each pair alone, so that the pattern stays. For each
// registered seal a likelihood ratio compares what is seen with what its key
// predicts, against a key that was never used. Under the latter its mean is at
// most one, whatever the weights are like: Markov's inequality then bounds the
// probability of a false accusation, with no assumption about tails
// (docs/trace.md has the proof).
//
// Whoever re-balances the weights (undo) removes the pattern, and a trace finds
// nothing. No trace is no proof of innocence.
package trace
