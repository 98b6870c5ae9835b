package corpus

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/arena/corpus/parquet"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// A part of a row's text: one column of strings, or the two of a chat.
type part struct {
	text          int // column; -1 for a chat
	role, content int
}

// readParquet reads the rows of a Parquet file.
func readParquet(f *os.File, field string, emit emitter) error {
	info, err := f.Stat()
	if err != nil {
		return fault.Wrap(fault.General, err, "looking at it")
	}
	pf, err := parquet.Open(f, info.Size())
	if err != nil {
		return err
	}
	parts, err := choose(pf.Columns(), field)
	if err != nil {
		return err
	}
	for g := range pf.Groups() {
		if err := readGroup(pf, g, parts, emit); err != nil {
			if errors.Is(err, errEnough) {
				return err
			}
			return fault.Wrap(fault.KindOf(err), err, "row group %d", g)
		}
	}
	return nil
}

// choose finds the columns that hold the text.
func choose(columns []parquet.Column, field string) ([]part, error) {
	if field != "" {
		p, err := chooseOne(columns, field)
		return []part{p}, err
	}
	has := func(name string) bool {
		return slices.ContainsFunc(columns, func(c parquet.Column) bool { return c.Path[0] == name })
	}
	for _, fields := range [][]string{{"text"}, {"messages"}, {"prompt", "completion"}, {"content"}} {
		if slices.ContainsFunc(fields, func(f string) bool { return !has(f) }) {
			continue
		}
		var parts []part
		for _, f := range fields {
			p, err := chooseOne(columns, f)
			if err != nil {
				return nil, err
			}
			parts = append(parts, p)
		}
		return parts, nil
	}
	var names []string
	for _, c := range columns {
		if !slices.Contains(names, c.Path[0]) {
			names = append(names, c.Path[0])
		}
	}
	return nil, unknownFields(names)
}

// chooseOne finds a field: a column of strings, or a list of messages.
func chooseOne(columns []parquet.Column, field string) (part, error) {
	p := part{-1, -1, -1}
	for i, c := range columns {
		if c.Path[0] != field || !c.String {
			continue
		}
		switch {
		case len(c.Path) == 1 && c.Levels == 0:
			p.text = i
		case c.Levels != 1:
		case slices.Contains(c.Path, "role") || slices.Contains(c.Path, "from"):
			p.role = i
		case slices.Contains(c.Path, "content") || slices.Contains(c.Path, "value"):
			p.content = i
		}
	}
	if p.text < 0 && (p.role < 0 || p.content < 0) {
		var have []string
		for _, c := range columns {
			if c.Path[0] == field {
				have = append(have, strings.Join(c.Path, "."))
			}
		}
		if have == nil {
			return p, fault.New(fault.Unsupported, "it has no column %q", field)
		}
		return p, fault.New(fault.Unsupported, "the column %q is neither of strings nor of messages with role and content: it has %s",
			field, strings.Join(have, ", "))
	}
	return p, nil
}

// readGroup reads a row group, all its columns in step.
func readGroup(pf *parquet.File, g int, parts []part, emit emitter) error {
	rows := make([]rowReader, len(parts))
	for i, p := range parts {
		var err error
		if rows[i], err = newRowReader(pf, g, p); err != nil {
			return err
		}
	}
	for {
		var text strings.Builder
		ended := 0
		for i := range rows {
			err := rows[i].next(&text)
			if err == io.EOF {
				ended++
			} else if err != nil {
				return err
			}
		}
		if ended == len(rows) {
			return nil
		}
		if ended > 0 {
			return fault.New(fault.Mismatch, "its columns do not have equally many rows")
		}
		if err := emitDocument(emit, text.String()); err != nil {
			return err
		}
	}
}

// rowReader reads one part of each row.
type rowReader struct {
	text, role, content *parquet.Reader
	ahead               *[2]parquet.Value // the message that begins the next row
	ended               bool
}

func newRowReader(pf *parquet.File, g int, p part) (r rowReader, err error) {
	if p.text >= 0 {
		r.text, err = pf.Values(g, p.text)
		return r, err
	}
	if r.role, err = pf.Values(g, p.role); err != nil {
		return r, err
	}
	r.content, err = pf.Values(g, p.content)
	return r, err
}

// next writes the next row's text, io.EOF after the last.
func (r *rowReader) next(to *strings.Builder) error {
	if r.text == nil {
		return r.chat(to)
	}
	v, err := r.text.Next()
	if err != nil {
		return err
	}
	return write(to, string(v.Data))
}

func write(to *strings.Builder, s string) error {
	if to.Len()+len(s) > maxRow {
		return fault.New(fault.Unsupported, "a row is longer than %d bytes", maxRow)
	}
	to.WriteString(s)
	return nil
}

// chat writes the messages up to the one that begins another row.
func (r *rowReader) chat(to *strings.Builder) error {
	if r.ended {
		return io.EOF
	}
	for begun := false; ; begun = true {
		m, err := r.message()
		if err == io.EOF {
			if r.ended = true; begun {
				return nil
			}
			return io.EOF
		}
		if err != nil {
			return err
		}
		if m[0].First && begun {
			r.ahead = m
			return nil
		}
		if m[0].Empty {
			continue
		}
		if m[0].Null {
			return fault.New(fault.Unsupported, "a message has no role")
		}
		if err := write(to, turn(string(m[0].Data), string(m[1].Data))); err != nil {
			return err
		}
	}
}

// message reads a role and its content.
func (r *rowReader) message() (*[2]parquet.Value, error) {
	if m := r.ahead; m != nil {
		r.ahead = nil
		return m, nil
	}
	role, err := r.role.Next()
	content, err2 := r.content.Next()
	if err == io.EOF && err2 == io.EOF {
		return nil, io.EOF
	}
	if err == nil {
		err = err2
	}
	if err == io.EOF || err2 == io.EOF || err == nil && (role.First != content.First || role.Empty != content.Empty) {
		return nil, fault.New(fault.Mismatch, "roles and contents are not equally many")
	}
	return &[2]parquet.Value{role, content}, err
}
