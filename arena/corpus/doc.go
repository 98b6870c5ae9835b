// Package corpus is the text that an attacker trains on, as tokens: opened from
// a file, a dataset folder or this program's own generators, cut into what is
// trained on and what is held out, and dealt out in batches that any program in
// any language can compute again.
package corpus
