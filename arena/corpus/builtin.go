package corpus

import (
	"bytes"
	"compress/gzip"
	"context"
	_ "embed"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/internal/demo/text"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// Generated text: so many bytes to train on and to hold out, from streams other
// than the one that the demo model was trained on (1).
const (
	builtinTrain, builtinHeldout         = 2 << 20, 2 << 20 / 9
	builtinTrainSeed, builtinHeldoutSeed = 101, 102
)

// sourceText is this program's own source code, frozen when it was taken, so
// that its digest does not change with the program: ASCII files only, one behind
// the other. The test of the same name writes it (-update).
//
//go:embed source.txt.gz
var sourceText []byte

// Builtins returns the specs of the texts that need no file.
func Builtins() []string {
	var out []string
	for _, d := range append(text.Domains(), "source") {
		out = append(out, "builtin:"+d)
	}
	slices.Sort(out)
	return out
}

// builtin reads a text that needs no file.
func (c *Corpus) builtin(ctx context.Context, name string, tok Tokenizer, o Options) error {
	if err := ctx.Err(); err != nil {
		return fault.Wrap(fault.Interrupted, err, "stopped")
	}
	if name == "source" {
		r, err := gzip.NewReader(bytes.NewReader(sourceText))
		if err != nil {
			return fault.Wrap(fault.General, err, "the embedded source code")
		}
		if c.Train, err = encodeAll(r, tok, o.MaxTokens); err != nil {
			return err
		}
		c.holdOut()
		return nil
	}
	if !slices.Contains(text.Domains(), name) {
		return fault.New(fault.Usage, "there is no builtin text %q", name).WithHint("there is %s", strings.Join(Builtins(), ", "))
	}
	held := o.MaxTokens / 10
	var err error
	c.Split = "generated"
	if c.Train, err = encodeAll(generated(name, builtinTrainSeed, builtinTrain), tok, o.MaxTokens-held); err != nil {
		return err
	}
	c.Heldout, err = encodeAll(generated(name, builtinHeldoutSeed, builtinHeldout), tok, held)
	return err
}

func generated(domain string, seed uint64, n int) io.Reader {
	return bytes.NewReader(text.Generate(domain, seed, n))
}

// encodeAll encodes a plain text up to the limit.
func encodeAll(r io.Reader, tok Tokenizer, limit int) ([]int32, error) {
	c, err := newCollector(tok, limit)
	if err != nil {
		return nil, err
	}
	if err := readText(r, c.add); err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	return c.out, nil
}
