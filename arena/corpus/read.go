package corpus

import (
	"bufio"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// An emitter takes a part of a document; last says that the document ends with
// it. The bytes are valid during the call only.
type emitter func(part []byte, last bool) error

const (
	// A plain text is encoded in pieces of this size, cut behind a line.
	textPiece = 64 << 10
	// maxRow bounds a line of JSON, and a row of a Parquet file.
	maxRow = 16 << 20
)

// readFile reads one file. An error of emit ends it. A panic, which would be a
// defect of a decoder, becomes an error: a file of somebody else's must not end
// a run of a night.
func readFile(path, field string, emit emitter) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fault.New(fault.General, "reading it went wrong: %v", p).
				WithHint("the file may be damaged; please report it with the file")
		}
	}()
	f, err := os.Open(path)
	if err != nil {
		return fault.Wrap(fault.General, err, "opening it")
	}
	defer f.Close()
	kind, compression := formatOf(path)
	if kind == parquetFile {
		if compression != "" {
			return fault.New(fault.Unsupported, "a Parquet file compressed as a whole").WithHint("unpack it first")
		}
		return readParquet(f, field, emit)
	}
	r, closer, err := decompressed(f, compression)
	if err != nil {
		return err
	}
	defer closer()
	if kind == jsonLines {
		return readJSONLines(r, field, emit)
	}
	return readText(r, emit)
}

func decompressed(f io.Reader, compression string) (io.Reader, func(), error) {
	switch compression {
	case ".gz":
		r, err := gzip.NewReader(f)
		if err != nil {
			return nil, nil, fault.Wrap(fault.Mismatch, err, "it is no gzip file")
		}
		return r, func() { r.Close() }, nil
	case ".zst":
		r, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, nil, fault.Wrap(fault.Mismatch, err, "it is no Zstandard file")
		}
		return r, r.Close, nil
	}
	return f, func() {}, nil
}

// readText reads a plain text as one document.
func readText(r io.Reader, emit emitter) error {
	buf := make([]byte, 0, textPiece)
	for offset := int64(0); ; {
		n, err := io.ReadFull(r, buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
			if err := compressionEnded(r, err); err != nil {
				return err
			}
			return at(offset, emit(buf, true))
		}
		if err != nil {
			return fault.Wrap(fault.General, err, "reading near byte %d", offset+int64(len(buf)))
		}
		cut := pieceEnd(buf)
		if err := emit(buf[:cut], false); err != nil {
			return at(offset, err)
		}
		offset += int64(cut)
		buf = buf[:copy(buf, buf[cut:])]
	}
}

// compressionEnded tells the end of a text from that of a compressed file that
// was cut: io.ReadFull gives both the same error.
func compressionEnded(r io.Reader, err error) error {
	if err == io.EOF {
		return nil
	}
	if _, again := r.Read(make([]byte, 1)); again != nil && again != io.EOF {
		return fault.Wrap(fault.Mismatch, again, "the compressed file")
	}
	return nil
}

// at says in which piece of a text an error came up.
func at(offset int64, err error) error {
	if err == nil || offset == 0 || errors.Is(err, errEnough) {
		return err
	}
	return fault.Wrap(fault.KindOf(err), err, "in the text from byte %d on", offset)
}

// pieceEnd is where a full piece is cut: behind its last line feed, or behind
// its last whole character.
func pieceEnd(b []byte) int {
	for i := len(b) - 1; i >= len(b)/2; i-- {
		if b[i] == '\n' {
			return i + 1
		}
	}
	for i := 1; i <= utf8.UTFMax; i++ {
		if c := b[len(b)-i]; utf8.RuneStart(c) {
			if !utf8.FullRune(b[len(b)-i:]) {
				return len(b) - i
			}
			break
		}
	}
	return len(b)
}

// readJSONLines reads one object per line, or one array of objects.
func readJSONLines(r io.Reader, field string, emit emitter) error {
	lines := bufio.NewReaderSize(r, 1<<16)
	if first, err := firstByte(lines); err == nil && first == '[' {
		return readJSONArray(lines, field, emit)
	}
	var row []byte
	for number := 1; ; number++ {
		var err error
		row, err = readLine(lines, row[:0])
		if err != nil && err != io.EOF {
			return fault.Wrap(fault.KindOf(err), err, "line %d", number)
		}
		if text, rowErr := jsonRow(row, field); rowErr != nil {
			return fault.Wrap(fault.KindOf(rowErr), rowErr, "line %d", number)
		} else if emitErr := emitDocument(emit, text); emitErr != nil {
			if errors.Is(emitErr, errEnough) {
				return emitErr
			}
			return fault.Wrap(fault.KindOf(emitErr), emitErr, "line %d", number)
		}
		if err == io.EOF {
			return nil
		}
	}
}

// emitDocument emits a whole document; an empty one is none.
func emitDocument(emit emitter, text string) error {
	if text == "" {
		return nil
	}
	return emit([]byte(text), true)
}

// firstByte looks at the first byte that is not white space, and passes over the
// white space and a byte order mark.
func firstByte(r *bufio.Reader) (byte, error) {
	if mark, err := r.Peek(3); err == nil && string(mark) == "\ufeff" {
		r.Discard(3)
	}
	for {
		b, err := r.Peek(1)
		if err != nil {
			return 0, err
		}
		if b[0] != ' ' && b[0] != '\t' && b[0] != '\r' && b[0] != '\n' {
			return b[0], nil
		}
		r.Discard(1)
	}
}

// readLine appends a line without its end to row; io.EOF comes with the last.
func readLine(r *bufio.Reader, row []byte) ([]byte, error) {
	for {
		part, err := r.ReadSlice('\n')
		if row = append(row, part...); len(row) > maxRow {
			return nil, fault.New(fault.Unsupported, "it is longer than %d bytes", maxRow).
				WithHint("split the document, or write the dataset as Parquet")
		}
		switch {
		case err == nil:
			return row[:len(row)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
		case err == io.EOF:
			return row, io.EOF
		default:
			return nil, fault.Wrap(fault.Mismatch, err, "reading it")
		}
	}
}
