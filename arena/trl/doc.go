// Package trl is the arena's second engine: transformers, PEFT, bitsandbytes and
// TRL's SFTTrainer, the stack that people fine-tune with, in a Python process of
// its own for every trial. The Python side is package arena_trl (folder python),
// which this program carries inside itself.
//
// The token windows are cut here and handed over in a file, so both engines see
// the same batches in the same order.
package trl
