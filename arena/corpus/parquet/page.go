package parquet

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// maxValues bounds the values of a page, which take no space if they are equal.
const maxValues = 1 << 24

// Page types and encodings, as the format numbers them.
const (
	dataPage       = 0
	indexPage      = 1
	dictionaryPage = 2
	dataPageV2     = 3

	plain            = 0
	plainDictionary  = 2
	rle              = 3
	deltaLengthBytes = 6
	deltaBytes       = 7
	rleDictionary    = 8
)

// header is a page's header. Lengths of levels are those of version 2 only.
type header struct {
	typ, size, packed int64 // size is that after decompression
	crc               *uint32
	values, encoding  int64
	defEncoding       int64
	repEncoding       int64
	defLen, repLen    int64
	plainV2           bool // not compressed although the chunk is
}

func readHeader(t *thrift) header {
	h := header{defEncoding: rle, repEncoding: rle}
	t.fields(0, func(id int, typ byte) bool {
		switch {
		case typ == typeI32 && id == 4:
			crc := uint32(t.int())
			h.crc = &crc
		case typ == typeI32 && id <= 3:
			*[]*int64{&h.typ, &h.size, &h.packed}[max(id-1, 0)] = t.int()
		case typ == typeStruct && (id == 5 || id == 7):
			h.members(t, map[int]*int64{1: &h.values, 2: &h.encoding, 3: &h.defEncoding, 4: &h.repEncoding}, id == 7)
		case typ == typeStruct && id == 8:
			h.members(t, map[int]*int64{1: &h.values, 4: &h.encoding, 5: &h.defLen, 6: &h.repLen}, false)
		default:
			return false
		}
		return true
	})
	return h
}

func (h *header) members(t *thrift, to map[int]*int64, dictionary bool) {
	t.fields(1, func(id int, typ byte) bool {
		if id == 7 && !dictionary && typ == typeFalse {
			h.plainV2 = true
			return true
		}
		if to[id] == nil || typ != typeI32 || dictionary && id > 2 {
			return false
		}
		*to[id] = t.int()
		return true
	})
}

// pages reads the pages of one chunk.
type pages struct {
	src   *bufio.Reader
	left  int64 // bytes of the chunk not yet read
	codec int64
}

// next returns the next page and its levels and values, decompressed. It returns
// io.EOF after the last.
func (p *pages) next() (h header, levels, body []byte, err error) {
	if p.left <= 0 {
		return h, nil, nil, io.EOF
	}
	t := &thrift{r: p.src, left: p.left}
	h = readHeader(t)
	if t.err != nil {
		return h, nil, nil, fault.Wrap(fault.Mismatch, t.err, "a page header")
	}
	p.left = t.left
	switch {
	case h.packed < 0 || h.packed > p.left:
		return h, nil, nil, fault.New(fault.Mismatch, "a page of %d bytes where %d are left", h.packed, p.left)
	case h.size < 0 || h.size > MaxPage:
		return h, nil, nil, fault.New(fault.Unsupported, "a page of %d bytes: at most %d are read", h.size, MaxPage).
			WithHint("write the file again with smaller row groups")
	case h.values > maxValues:
		return h, nil, nil, fault.New(fault.Unsupported, "a page of %d values: at most %d are read", h.values, maxValues).
			WithHint("write the file again with smaller row groups")
	case h.values < 0 || h.defLen < 0 || h.repLen < 0 || h.defLen > h.packed || h.repLen > h.packed-h.defLen:
		return h, nil, nil, fault.New(fault.Mismatch, "a page header with impossible lengths")
	}
	raw, err := readFull(p.src, h.packed)
	if err != nil {
		return h, nil, nil, fault.Wrap(fault.Mismatch, err, "a page")
	}
	p.left -= h.packed
	if h.crc != nil && *h.crc != crc32.ChecksumIEEE(raw) {
		return h, nil, nil, fault.New(fault.Mismatch, "a page does not have its checksum")
	}
	levels, packed := raw[:h.defLen+h.repLen], raw[h.defLen+h.repLen:]
	if h.plainV2 {
		return h, levels, packed, nil
	}
	body, err = unpack(p.codec, packed, h.size-int64(len(levels)))
	return h, levels, body, err
}

// readFull reads n bytes and never holds more memory than twice what is there.
func readFull(r io.Reader, n int64) ([]byte, error) {
	var b bytes.Buffer
	got, err := io.CopyN(&b, r, n)
	if err == io.EOF && got < n {
		err = io.ErrUnexpectedEOF
	}
	return b.Bytes(), err
}

// unpack decompresses to exactly size bytes.
func unpack(codec int64, in []byte, size int64) ([]byte, error) {
	var (
		out []byte
		err error
	)
	switch {
	case size == 0:
		return nil, nil // some writers compress nothing to nothing
	case codec == 0:
		out = in
	case codec == 1:
		out, err = unpackSnappy(in, size)
	case codec == 2:
		var r *gzip.Reader
		if r, err = gzip.NewReader(bytes.NewReader(in)); err == nil {
			out, err = readFull(r, size)
		}
	case codec == 6:
		out, err = unpackZstd(in, size)
	default:
		names := map[int64]string{3: "LZO", 4: "Brotli", 5: "LZ4", 7: "LZ4"}
		return nil, fault.New(fault.Unsupported, "compression %d (%s) is not supported", codec, names[codec]).
			WithHint("write the file again with Snappy, Zstandard or gzip")
	}
	if err != nil {
		return nil, fault.Wrap(fault.Mismatch, err, "decompressing a page")
	}
	if int64(len(out)) != size {
		return nil, fault.New(fault.Mismatch, "a page of %d bytes should have %d", len(out), size)
	}
	return out, nil
}

// unpackSnappy does not believe a length that the input cannot have: three
// bytes make at most 64.
func unpackSnappy(in []byte, size int64) ([]byte, error) {
	n, err := snappy.DecodedLen(in)
	if err != nil {
		return nil, err
	}
	if int64(n) != size || n > 64*len(in) {
		return nil, fault.New(fault.Mismatch, "%d compressed bytes claim to be %d, the page %d", len(in), n, size)
	}
	return snappy.Decode(nil, in)
}

func unpackZstd(in []byte, size int64) ([]byte, error) {
	r, err := zstd.NewReader(bytes.NewReader(in), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(MaxPage))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return readFull(r, size)
}
