// Package specimen makes the checkpoints that the arena attacks besides the
// user's own: small models trained here from scratch, fine-tunes of a given
// checkpoint, and checkpoints of its shape with random weights.
//
// The trained ones stand in models/, one folder each, with train.json, the
// record of their training, beside the weights. Their tokens are bytes, their
// text is that of package internal/demo/text. Together with the demo's own
// model, a Llama with a head of its own, they are what seals are tuned on.
//
// Whatever is made here depends on its arguments only: run twice on the same
// kind of processor, every function writes the same bytes.
package specimen
