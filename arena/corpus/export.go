package corpus

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"

	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// Run says which batches a training takes.
type Run struct {
	Seed   uint64 `json:"seed"`
	Steps  int    `json:"steps"`
	Batch  int    `json:"batch"`  // windows of a step
	Window int    `json:"window"` // tokens of a window
	Evals  int    `json:"evals"`  // held-out windows
}

// exportHeader is corpus.json.
type exportHeader struct {
	Format    string `json:"format"`
	Corpus    string `json:"corpus"`
	Tokenizer string `json:"tokenizer"`
	Digest    string `json:"digest"`
	Run
	Train   string `json:"train"`
	Heldout string `json:"heldout"`
}

// Export writes the new folder dir for an engine in another language:
//
//	corpus.json   {"format":"neuroseal-batches/1","corpus","tokenizer","digest","seed",
//	               "steps","batch","window","evals","train":"train.i32","heldout":"heldout.i32"}
//	train.i32     int32, little-endian, [steps][batch][window+1]
//	heldout.i32   int32, little-endian, [evals][window+1]
//
// A row is a window and the token behind it: its first window numbers are the
// tokens, its last window numbers the targets. In Python:
//
//	rows = numpy.memmap("train.i32", "<i4", "r").reshape(steps, batch, window + 1)
//
// The folder appears when it is complete; a dir that holds anything is refused.
func (c *Corpus) Export(dir string, r Run) (err error) {
	if err := c.Fits(r.Window); err != nil {
		return err
	}
	if r.Steps < 0 || r.Batch < 0 || r.Evals < 0 {
		return fault.New(fault.Usage, "a run of %d steps of %d windows, and %d held-out windows", r.Steps, r.Batch, r.Evals)
	}
	out, err := atomicdir.Create(dir, atomicdir.Options{})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, out.Abort())
		}
	}()
	h := exportHeader{"neuroseal-batches/1", c.Name, c.Tokenizer, c.Digest, r, "train.i32", "heldout.i32"}
	if err := writeFile(out, "corpus.json", func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(h)
	}); err != nil {
		return err
	}
	if err := writeFile(out, h.Train, func(w io.Writer) error {
		for step := range r.Steps {
			tokens, targets := c.Batch(r.Seed, step, r.Batch, r.Window)
			if err := writeRows(w, tokens, targets, r.Window); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	if err := writeFile(out, h.Heldout, func(w io.Writer) error {
		tokens, targets := c.Eval(r.Evals, r.Window)
		return writeRows(w, tokens, targets, r.Window)
	}); err != nil {
		return err
	}
	return out.Commit()
}

func writeFile(out *atomicdir.Dir, name string, fill func(io.Writer) error) error {
	f, err := out.Create(name)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<18)
	if err := fill(w); err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(w.Flush(), f.Close())
}

func writeRows(w io.Writer, tokens, targets []int32, window int) error {
	row := make([]byte, 0, 4*(window+1))
	for at := 0; at < len(tokens); at += window {
		row = row[:0]
		for _, t := range tokens[at : at+window] {
			row = binary.LittleEndian.AppendUint32(row, uint32(t))
		}
		row = binary.LittleEndian.AppendUint32(row, uint32(targets[at+window-1]))
		if _, err := w.Write(row); err != nil {
			return err
		}
	}
	return nil
}
