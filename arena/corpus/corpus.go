package corpus

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"strings"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// DefaultMaxTokens is how many tokens are taken where Options say nothing: more
// than the longest run of the suites looks at, and 16 MiB of memory.
const DefaultMaxTokens = 4 << 20

// Options of Open.
type Options struct {
	// MaxTokens bounds Train and Heldout together; 0 is DefaultMaxTokens. What
	// a source holds beyond it is not read.
	MaxTokens int
	// Field names the one string field of JSON lines, or column of Parquet
	// files, that holds the text. Where it is empty, the first that is there
	// counts: text, messages, prompt and completion, content.
	Field string
}

// Corpus is a training text and a held-out text, as tokens.
type Corpus struct {
	Name      string // the spec it was opened from
	Tokenizer string // the tokenizer's name
	Split     string // where Heldout comes from: "last tenth", "test", "validation" or "generated"
	Train     []int32
	Heldout   []int32
	// Digest is the SHA-256, in hex, of: the line "neuroseal-corpus/1", the
	// tokenizer's name and a line feed, then for Train and for Heldout their
	// number of tokens (64 bits) and the tokens (32 bits each), all
	// little-endian.
	Digest string
}

// Open reads a corpus and turns it into tokens. spec is one of
//
//   - "builtin:tales", "builtin:logs", "builtin:code": generated text, of which
//     there is no end; another stream of it is held out
//   - "builtin:source": source code of this program, as it was when this package
//     was written
//   - a file: plain text in any other name, .jsonl, .ndjson, .json or .parquet;
//     all but the last may be compressed (.gz, .zst)
//   - a folder: a dataset folder of the hub; its Parquet files, or else its JSON
//     files, or else its .txt files, in the order of their names. Files whose
//     names say test or validation are held out
//
// Where nothing else is held out, the last tenth of the tokens is; a split of its
// own counts with at most a ninth as many tokens as are trained on.
//
// A row of a dataset is one document, behind which stands the tokenizer's end
// token (bytes: an empty line). Chat messages are written in one form for all
// models, "<|im_start|>ROLE\nCONTENT<|im_end|>\n", not in the checkpoint's
// template: recipes are compared across models on the same text. A prompt and
// its completion are one text.
//
// Memory: the tokens, and one row or one page of the file. Errors name the file
// and the place in it.
func Open(ctx context.Context, spec string, tok Tokenizer, o Options) (*Corpus, error) {
	switch {
	case o.MaxTokens < 0:
		return nil, fault.New(fault.Usage, "a corpus of at most %d tokens", o.MaxTokens)
	case o.MaxTokens == 0:
		o.MaxTokens = DefaultMaxTokens
	}
	c := &Corpus{Name: spec, Tokenizer: tok.Name()}
	var err error
	if name, ok := strings.CutPrefix(spec, "builtin:"); ok {
		err = c.builtin(ctx, name, tok, o)
	} else {
		err = c.files(ctx, spec, tok, o)
	}
	if err != nil {
		return nil, err
	}
	if len(c.Train) < 2 || len(c.Heldout) < 2 {
		return nil, fault.New(fault.Usage, "%s: %d tokens to train on and %d held out are too few", spec, len(c.Train), len(c.Heldout)).
			WithHint("name a longer text")
	}
	c.Digest = c.digest()
	return c, nil
}

// files reads a file or a folder.
func (c *Corpus) files(ctx context.Context, spec string, tok Tokenizer, o Options) error {
	set, err := find(spec)
	if err != nil {
		return err
	}
	limit, held := o.MaxTokens, o.MaxTokens/10
	if set.heldout != nil {
		limit -= held
	}
	if c.Train, err = read(ctx, set.train, tok, o.Field, limit); err != nil {
		return err
	}
	if set.heldout == nil {
		c.holdOut()
		return nil
	}
	c.Split = set.split
	c.Heldout, err = read(ctx, set.heldout, tok, o.Field, min(held, max(len(c.Train)/9, 2)))
	return err
}

// holdOut takes the last tenth of Train away.
func (c *Corpus) holdOut() {
	at := len(c.Train) - len(c.Train)/10
	c.Train, c.Heldout, c.Split = c.Train[:at:at], c.Train[at:], "last tenth"
}

func (c *Corpus) digest() string {
	h := sha256.New()
	io.WriteString(h, "neuroseal-corpus/1\n"+c.Tokenizer+"\n")
	for _, part := range [][]int32{c.Train, c.Heldout} {
		writeTokens(h, part)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func writeTokens(h hash.Hash, tokens []int32) {
	buf := binary.LittleEndian.AppendUint64(make([]byte, 0, 1<<14), uint64(len(tokens)))
	for i, t := range tokens {
		if buf = binary.LittleEndian.AppendUint32(buf, uint32(t)); len(buf) > 1<<14-8 || i == len(tokens)-1 {
			h.Write(buf)
			buf = buf[:0]
		}
	}
	h.Write(buf)
}

// errEnough stops a reader when the tokens are full.
var errEnough = errors.New("enough tokens")

// collector gathers the tokens of documents.
type collector struct {
	tok   Tokenizer
	end   []int32 // behind a document
	limit int
	out   []int32
}

func newCollector(tok Tokenizer, limit int) (*collector, error) {
	c := &collector{tok: tok, limit: limit}
	if e, ok := tok.(interface{ end() int32 }); ok && e.end() >= 0 {
		c.end = []int32{e.end()}
		return c, nil
	}
	var err error
	c.end, err = tok.Encode([]byte("\n\n"))
	return c, err
}

// add takes a part of a document; last says that the document ends with it.
func (c *collector) add(part []byte, last bool) error {
	ids, err := c.tok.Encode(part)
	if err != nil {
		return err
	}
	if last {
		ids = append(ids, c.end...)
	}
	c.out = append(c.out, ids[:min(len(ids), c.limit-len(c.out))]...)
	if len(c.out) >= c.limit {
		return errEnough
	}
	return nil
}

// read gathers the tokens of files, one after the other, up to the limit.
func read(ctx context.Context, paths []string, tok Tokenizer, field string, limit int) ([]int32, error) {
	c, err := newCollector(tok, limit)
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		err := readFile(path, field, func(part []byte, last bool) error {
			if err := ctx.Err(); err != nil {
				return fault.Wrap(fault.Interrupted, err, "stopped")
			}
			return c.add(part, last)
		})
		if errors.Is(err, errEnough) {
			break
		}
		if err != nil {
			return nil, fault.Wrap(fault.KindOf(err), err, "%s", path)
		}
	}
	return c.out, nil
}
