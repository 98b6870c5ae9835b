// Package arena tries to break seals, and says what that cost.
//
// A recipe is an attack: a row of a versioned table. A trial is a recipe at one
// learning rate and seed on one model; it is named by a hash of everything that
// its outcome depends on, so a run can stop anywhere and go on later. For every
// recipe the arena sweeps learning rates on the sealed and on the unsealed
// model, as an attacker would, and compares the attacker's best runs.
//
// The three classes of attack (type [Class]) are kept apart in every figure.
package arena
