// Package parquet reads the string columns of Parquet files, as dataset folders
// of the hub hold them: flat columns and lists, dictionary or plain or delta
// encoded, uncompressed or compressed with Snappy, gzip or Zstandard. Everything
// else is refused by name.
//
// It exists because the library for all of Parquet
// (github.com/parquet-go/parquet-go) makes the binary seven megabytes larger,
// and takes the sizes that a file claims at their word. Here one page is in
// memory at a time, and no buffer is larger than what the file holds, or at most
// MaxPage where it is compressed.
//
// The format: https://parquet.apache.org/docs/file-format/
package parquet

import (
	"bufio"
	"encoding/binary"
	"io"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// MaxPage is the largest page that is read, in bytes after decompression. A page
// holds about a megabyte, unless single values are longer.
const MaxPage = 256 << 20

// What bounds the description at the end of a file.
const (
	maxFooter  = 32 << 20
	maxColumns = 1 << 16
	maxChunks  = 1 << 20
)

const magic = "PAR1"

// byteArray is the physical type of strings.
const byteArray = 6

// Column is a leaf of the schema.
type Column struct {
	Path   []string
	String bool // its values are strings of bytes
	Levels int  // lists around a value: 0 in a flat column

	maxDef  int // definition level of a value that is there
	listDef int // definition level from which the innermost list has an element
}

// chunk is a column's part of a row group.
type chunk struct {
	codec, values int64
	from, size    int64
}

type group struct {
	rows   int64
	chunks []chunk
}

// File is an open Parquet file.
type File struct {
	r       io.ReaderAt
	columns []Column
	groups  []group
}

// Open reads the footer of a file of the given size. Errors are of kind
// fault.Mismatch where the file is not sound and fault.Unsupported where it is
// but cannot be read; they do not name the file.
func Open(r io.ReaderAt, size int64) (*File, error) {
	var tail [8]byte
	if size < 12 {
		return nil, fault.New(fault.Mismatch, "%d bytes are too few for a Parquet file", size)
	}
	if _, err := r.ReadAt(tail[:], size-8); err != nil {
		return nil, fault.Wrap(fault.General, err, "reading the end")
	}
	if string(tail[4:]) != magic {
		if string(tail[4:]) == "PARE" {
			return nil, fault.New(fault.Unsupported, "the Parquet file is encrypted")
		}
		return nil, fault.New(fault.Mismatch, "it does not end as a Parquet file does").
			WithHint("the file may be incomplete, or a pointer to a file that was not downloaded")
	}
	n := int64(binary.LittleEndian.Uint32(tail[:]))
	if n > size-12 || n > maxFooter {
		return nil, fault.New(fault.Mismatch, "a footer of %d bytes in a file of %d", n, size)
	}
	f := &File{r: r}
	src := bufio.NewReaderSize(io.NewSectionReader(r, size-8-n, n), 1<<16)
	if err := f.footer(&thrift{r: src, left: n}, size); err != nil {
		return nil, err
	}
	return f, nil
}

// Columns returns the leaves of the schema, in the order of the file.
func (f *File) Columns() []Column { return f.columns }

// Groups returns the number of row groups.
func (f *File) Groups() int { return len(f.groups) }

// element is a node of the schema.
type element struct {
	name       string
	typ        int64
	repetition int64 // 0 required, 1 optional, 2 repeated
	children   int64
}

func (f *File) footer(t *thrift, size int64) error {
	var (
		schema []element
		chunks int
	)
	t.fields(0, func(id int, typ byte) bool {
		switch {
		case id == 2 && typ == typeList:
			t.each(func() {
				if schema = append(schema, readElement(t)); len(schema) > maxColumns {
					t.fail(errMany)
				}
			})
		case id == 4 && typ == typeList:
			t.each(func() {
				f.groups = append(f.groups, readGroup(t, maxChunks-chunks))
				chunks += 1 + len(f.groups[len(f.groups)-1].chunks)
			})
		default:
			return false
		}
		return true
	})
	if t.err != nil {
		return fault.Wrap(fault.Mismatch, t.err, "the footer")
	}
	if len(schema) == 0 {
		return fault.New(fault.Mismatch, "the footer has no schema")
	}
	rest := schema[1:]
	for range schema[0].children {
		var err error
		if rest, err = f.node(rest, Column{}, 0); err != nil {
			return err
		}
	}
	if len(rest) > 0 {
		return fault.New(fault.Mismatch, "the schema has %d nodes too many", len(rest))
	}
	return f.check(size)
}

// node takes one node of the schema and what is below it.
func (f *File) node(schema []element, c Column, depth int) ([]element, error) {
	if len(schema) == 0 || depth > maxNesting {
		return nil, fault.New(fault.Mismatch, "the schema is not a tree, or too deep")
	}
	e := schema[0]
	schema = schema[1:]
	c.Path = append(c.Path[:len(c.Path):len(c.Path)], e.name)
	if e.repetition != 0 {
		c.maxDef++
	}
	if e.repetition == 2 {
		c.Levels++
		c.listDef = c.maxDef
	}
	if e.children <= 0 {
		c.String = e.typ == byteArray
		f.columns = append(f.columns, c)
		return schema, nil
	}
	for range e.children {
		var err error
		if schema, err = f.node(schema, c, depth+1); err != nil {
			return nil, err
		}
	}
	return schema, nil
}

// check compares the row groups with the schema and the file's size.
func (f *File) check(size int64) error {
	for i, g := range f.groups {
		if len(g.chunks) != len(f.columns) {
			return fault.New(fault.Mismatch, "row group %d has %d columns, the schema %d", i, len(g.chunks), len(f.columns))
		}
		for j, c := range g.chunks {
			if c.values == 0 {
				continue // writers leave the offsets of nothing at 0
			}
			if c.from < 4 || c.size < 0 || c.values < 0 || c.from > size || c.size > size-c.from {
				return fault.New(fault.Mismatch, "row group %d, column %v: bytes %d to %d of a file of %d",
					i, f.columns[j].Path, c.from, c.from+c.size, size)
			}
		}
	}
	return nil
}

func readElement(t *thrift) element {
	e := element{typ: -1}
	t.fields(2, func(id int, typ byte) bool {
		switch {
		case id == 1 && typ == typeI32:
			e.typ = t.int()
		case id == 3 && typ == typeI32:
			e.repetition = t.int()
		case id == 4 && typ == typeBinary:
			e.name = t.string()
		case id == 5 && typ == typeI32:
			e.children = t.int()
		default:
			return false
		}
		return true
	})
	return e
}

// readGroup reads a row group of at most the given number of chunks.
func readGroup(t *thrift, most int) group {
	var g group
	t.fields(2, func(id int, typ byte) bool {
		switch {
		case id == 1 && typ == typeList:
			t.each(func() {
				if g.chunks = append(g.chunks, readChunk(t)); len(g.chunks) >= most {
					t.fail(errMany)
				}
			})
		case id == 3 && typ == typeI64:
			g.rows = t.int()
		default:
			return false
		}
		return true
	})
	return g
}

func readChunk(t *thrift) chunk {
	var (
		c          chunk
		data, dict int64
	)
	t.fields(4, func(id int, typ byte) bool {
		if id != 3 || typ != typeStruct {
			return false
		}
		t.fields(5, func(id int, typ byte) bool {
			to := map[int]*int64{4: &c.codec, 5: &c.values, 7: &c.size, 9: &data, 11: &dict}[id]
			if to == nil || typ != typeI32 && typ != typeI64 {
				return false
			}
			*to = t.int()
			return true
		})
		return true
	})
	c.from = data
	if dict > 0 && dict < data {
		c.from = dict
	}
	return c
}
