package parquet

import (
	"bufio"
	"encoding/binary"
	"io"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// Value is one value of a column.
type Value struct {
	Data  []byte // valid until the next call of Next
	Null  bool   // there is none: a null, or a list that is null or empty
	First bool   // it begins a row
	Empty bool   // its list is null or empty, so that it is no element
}

// Reader reads a column's values in one row group.
type Reader struct {
	column Column
	pages  pages
	total  int64 // values of the chunk not yet read
	left   int64 // of the page
	dict   [][]byte
	rep    hybrid
	def    hybrid
	data   stringReader
}

// stringReader reads the strings of a page.
type stringReader interface{ next() ([]byte, error) }

// Values returns a reader of the strings of a column of at most one list level.
func (f *File) Values(g, column int) (*Reader, error) {
	c, ch := f.columns[column], f.groups[g].chunks[column]
	switch {
	case !c.String:
		return nil, fault.New(fault.Unsupported, "column %v does not hold strings", c.Path)
	case c.Levels > 1:
		return nil, fault.New(fault.Unsupported, "column %v holds lists of lists", c.Path)
	}
	return &Reader{column: c, total: ch.values, pages: pages{
		src:  bufio.NewReaderSize(io.NewSectionReader(f.r, ch.from, ch.size), 1<<16),
		left: ch.size, codec: ch.codec,
	}}, nil
}

// Next returns the next value, io.EOF after the last.
func (r *Reader) Next() (Value, error) {
	if r.total == 0 {
		return Value{}, io.EOF
	}
	for r.left == 0 {
		if err := r.page(); err == io.EOF {
			return Value{}, r.wrap(fault.New(fault.Mismatch, "the pages end %d values early", r.total))
		} else if err != nil {
			return Value{}, r.wrap(err)
		}
	}
	v, err := r.value()
	if err != nil {
		return Value{}, r.wrap(err)
	}
	r.left--
	r.total--
	return v, nil
}

func (r *Reader) wrap(err error) error {
	return fault.Wrap(fault.KindOf(err), err, "column %v", r.column.Path)
}

func (r *Reader) value() (Value, error) {
	rep, err := r.rep.next()
	if err != nil {
		return Value{}, err
	}
	def, err := r.def.next()
	if err != nil {
		return Value{}, err
	}
	if int(rep) > r.column.Levels || int(def) > r.column.maxDef {
		return Value{}, errRange
	}
	v := Value{First: rep == 0, Empty: int(def) < r.column.listDef, Null: int(def) < r.column.maxDef}
	if !v.Null {
		v.Data, err = r.data.next()
	}
	return v, err
}

// page begins the next page that holds values, and takes the dictionary.
func (r *Reader) page() error {
	h, levels, body, err := r.pages.next()
	if err != nil {
		return err
	}
	switch h.typ {
	case indexPage:
		return nil
	case dictionaryPage:
		return r.dictionary(h, body)
	case dataPage:
		if h.defEncoding != rle || h.repEncoding != rle {
			return fault.New(fault.Unsupported, "levels in the encoding %d", max(h.defEncoding, h.repEncoding))
		}
		if r.rep, body, err = prefixed(body, r.column.Levels); err != nil {
			return err
		}
		if r.def, body, err = prefixed(body, r.column.maxDef); err != nil {
			return err
		}
	case dataPageV2:
		r.rep = hybrid{in: levels[:h.repLen], width: width(r.column.Levels)}
		r.def = hybrid{in: levels[h.repLen:], width: width(r.column.maxDef)}
	default:
		return fault.New(fault.Unsupported, "a page of type %d", h.typ)
	}
	r.left = min(h.values, r.total)
	r.data, err = r.strings(h, body)
	return err
}

// prefixed takes levels that stand in front of a page's values, behind their
// length; there are none if the only level is 0.
func prefixed(body []byte, most int) (hybrid, []byte, error) {
	if most == 0 {
		return hybrid{}, body, nil
	}
	if len(body) < 4 {
		return hybrid{}, nil, errEnds
	}
	n := binary.LittleEndian.Uint32(body)
	if uint64(n) > uint64(len(body)-4) {
		return hybrid{}, nil, errEnds
	}
	return hybrid{in: body[4 : 4+n], width: width(most)}, body[4+n:], nil
}

func (r *Reader) dictionary(h header, body []byte) error {
	if h.encoding != plain && h.encoding != plainDictionary {
		return fault.New(fault.Unsupported, "a dictionary in the encoding %d", h.encoding)
	}
	p := plainStrings{body}
	r.dict = nil
	for range h.values {
		s, err := p.next()
		if err != nil {
			return err
		}
		r.dict = append(r.dict, s)
	}
	return nil
}

func (r *Reader) strings(h header, body []byte) (stringReader, error) {
	switch h.encoding {
	case plain:
		return &plainStrings{body}, nil
	case plainDictionary, rleDictionary:
		if len(body) == 0 {
			return &plainStrings{}, nil // all null
		}
		if body[0] > 32 {
			return nil, errRange
		}
		return &dictStrings{r.dict, hybrid{in: body[1:], width: int(body[0])}}, nil
	case deltaLengthBytes:
		return newDeltaStrings(body)
	case deltaBytes:
		return newPrefixStrings(body)
	}
	return nil, fault.New(fault.Unsupported, "strings in the encoding %d", h.encoding)
}

// plainStrings are strings behind their lengths.
type plainStrings struct{ in []byte }

func (p *plainStrings) next() ([]byte, error) {
	if len(p.in) < 4 {
		return nil, errEnds
	}
	n := binary.LittleEndian.Uint32(p.in)
	if uint64(n) > uint64(len(p.in)-4) {
		return nil, errEnds
	}
	s := p.in[4 : 4+n]
	p.in = p.in[4+n:]
	return s, nil
}

// dictStrings are indices into a dictionary.
type dictStrings struct {
	dict [][]byte
	at   hybrid
}

func (d *dictStrings) next() ([]byte, error) {
	i, err := d.at.next()
	if err != nil {
		return nil, err
	}
	if int64(i) >= int64(len(d.dict)) {
		return nil, errRange
	}
	return d.dict[i], nil
}

// deltaStrings are all lengths, then all bytes.
type deltaStrings struct {
	lengths delta
	bytes   []byte
}

// newDeltaStrings goes through the lengths once to find the bytes.
func newDeltaStrings(body []byte) (*deltaStrings, error) {
	lengths, rest, err := openDelta(body)
	return &deltaStrings{lengths, rest}, err
}

// openDelta returns a decoder of numbers and the bytes behind them.
func openDelta(body []byte) (delta, []byte, error) {
	d := delta{in: body}
	if err := d.start(); err != nil {
		return delta{}, nil, err
	}
	first := d
	for d.left > 0 {
		if _, err := d.next(); err != nil {
			return delta{}, nil, err
		}
	}
	return first, d.rest(), nil
}

func (d *deltaStrings) next() ([]byte, error) {
	n, err := d.lengths.next()
	if err != nil {
		return nil, err
	}
	if n < 0 || n > int64(len(d.bytes)) {
		return nil, errRange
	}
	s := d.bytes[:n]
	d.bytes = d.bytes[n:]
	return s, nil
}

// prefixStrings share a number of bytes with the string before.
type prefixStrings struct {
	prefixes delta
	suffixes *deltaStrings
	last     []byte
}

func newPrefixStrings(body []byte) (*prefixStrings, error) {
	prefixes, rest, err := openDelta(body)
	if err != nil {
		return nil, err
	}
	suffixes, err := newDeltaStrings(rest)
	return &prefixStrings{prefixes: prefixes, suffixes: suffixes}, err
}

func (p *prefixStrings) next() ([]byte, error) {
	n, err := p.prefixes.next()
	if err != nil {
		return nil, err
	}
	s, err := p.suffixes.next()
	if err != nil {
		return nil, err
	}
	if n < 0 || n > int64(len(p.last)) || n+int64(len(s)) > MaxPage {
		return nil, errRange
	}
	p.last = append(p.last[:n], s...)
	return p.last, nil
}
