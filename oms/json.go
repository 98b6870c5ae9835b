package oms

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// maxDepth is how deep the objects of a bundle may nest; it needs five levels.
const maxDepth = 32

// decode reads one JSON value strictly: what two readers might understand
// differently is refused. What it does not know it passes over, as the format
// demands of its readers.
func decode(data []byte, what string, to any) error {
	if !utf8.Valid(data) {
		return fault.New(fault.Mismatch, "%s is not UTF-8", what)
	}
	if err := unambiguous(data); err != nil {
		return fault.Wrap(fault.Mismatch, err, "%s is not sound JSON", what)
	}
	if err := json.Unmarshal(data, to); err != nil {
		return fault.Wrap(fault.Mismatch, err, "reading %s", what)
	}
	return nil
}

// folded is the same for all keys that some reader takes for each other: this
// decoder passes over case, as Unicode folds it, and readers made for protocol
// buffers know every key with underscores, too (dsse_envelope).
func folded(key string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' {
			return -1
		}
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		return least
	}, key)
}

// unambiguous refuses objects with a key twice, also where it is written in
// another way.
func unambiguous(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	type level struct {
		keys map[string]bool // nil: an array
		key  bool            // a key is next
	}
	var stack []level
	for {
		tok, err := dec.Token()
		if err != nil {
			return err
		}
		if delim, ok := tok.(json.Delim); ok && (delim == '}' || delim == ']') {
			stack = stack[:len(stack)-1]
		} else if n := len(stack); n > 0 && stack[n-1].key {
			name := folded(tok.(string))
			if stack[n-1].keys[name] {
				return fmt.Errorf("key %q stands there twice", tok)
			}
			stack[n-1].keys[name], stack[n-1].key = true, false
			continue
		} else if ok {
			if n == maxDepth {
				return fmt.Errorf("more than %d levels", maxDepth)
			}
			next := level{}
			if delim == '{' {
				next = level{keys: map[string]bool{}, key: true}
			}
			stack = append(stack, next)
			continue
		}
		n := len(stack)
		if n == 0 {
			break
		}
		stack[n-1].key = stack[n-1].keys != nil
	}
	if dec.More() {
		return fmt.Errorf("more than one value")
	}
	return nil
}
