package hub

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime/debug"
	"sync"

	"github.com/neuroseal/neuroseal/internal/fault"
)

const (
	// chunkSize is how many bytes one request for a part of a large file asks
	// for, and what an interrupted download loses of each at most.
	chunkSize = 16 << 20
	// trailerMagic begins the record behind the content of a partial file. It
	// changes with chunkSize.
	trailerMagic = "NSHUB16\n"
)

// partial is a file that is being downloaded in chunks, in any order. Behind
// the content stands one byte per chunk: 1 when the chunk is there. So a killed
// download goes on where it was. The name differs from huggingface_hub's own,
// whose older versions take a partial file for a prefix.
type partial struct {
	f    *os.File
	path string
	size int64
	step int64 // bytes of a chunk: chunkSize, less in tests

	writing sync.Mutex

	mu   sync.Mutex
	cond *sync.Cond
	done []byte // per chunk
	dead bool   // nobody will write any more
}

// openPartial opens or begins the partial file at path. prefix, if it exists, is
// a file of huggingface_hub's that holds the beginning of the content, which is
// taken over. The caller holds the blob's lock.
func openPartial(path, prefix string, size int64) (*partial, error) {
	return newPartial(path, size, chunkSize).open(prefix)
}

func newPartial(path string, size, step int64) *partial {
	return &partial{path: path, size: size, step: step, done: make([]byte, (size+step-1)/step)}
}

func (p *partial) open(prefix string) (*partial, error) {
	path, size := p.path, p.size
	p.cond = sync.NewCond(&p.mu)
	adopted := int64(-1)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) && prefix != "" {
		if info, err := os.Lstat(prefix); err == nil && info.Mode().IsRegular() && os.Rename(prefix, path) == nil {
			adopted = min(info.Size(), size)
		}
	}
	var err error
	if p.f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666); err != nil {
		return nil, cacheError(err)
	}
	if adopted < 0 && p.load() {
		return p, nil
	}
	if err := p.begin(max(adopted, 0)); err != nil {
		p.f.Close()
		return nil, cacheError(err)
	}
	return p, nil
}

// load reads the record of an earlier run; false if there is none for this size.
func (p *partial) load() bool {
	trailer := make([]byte, len(trailerMagic)+len(p.done))
	info, err := p.f.Stat()
	if err != nil || info.Size() != p.size+int64(len(trailer)) {
		return false
	}
	if _, err := p.f.ReadAt(trailer, p.size); err != nil || string(trailer[:len(trailerMagic)]) != trailerMagic {
		return false
	}
	for i, b := range trailer[len(trailerMagic):] {
		p.done[i] = b & 1
	}
	return true
}

// begin writes a new record, in which the chunks of the first n bytes are there.
func (p *partial) begin(n int64) error {
	clear(p.done)
	for i := range p.done {
		if p.end(i) <= n {
			p.done[i] = 1
		}
	}
	// A new file is not truncated: Linux's ext4 brings one that was cut to nothing
	// to the disk when it is closed, and the close waits for that.
	info, err := p.f.Stat()
	if err == nil && info.Size() != n {
		err = p.f.Truncate(n)
	}
	if err != nil {
		return err
	}
	_, err = p.f.WriteAt(append([]byte(trailerMagic), p.done...), p.size)
	return err
}

func (p *partial) start(i int) int64 { return int64(i) * p.step }
func (p *partial) end(i int) int64   { return min(int64(i+1)*p.step, p.size) }

// missing lists the chunks that are not there, and counts the bytes that are.
func (p *partial) missing() (chunks []int, have int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, d := range p.done {
		if d == 1 {
			have += p.end(i) - p.start(i)
		} else {
			chunks = append(chunks, i)
		}
	}
	return chunks, have
}

// WriteAt writes a piece of a chunk. Pieces go one at a time: the system would
// let the others spin.
func (p *partial) WriteAt(b []byte, off int64) (int, error) {
	p.writing.Lock()
	defer p.writing.Unlock()
	return p.f.WriteAt(b, off)
}

// reserve asks the file system for a chunk's place: all at once costs it less than
// piece by piece. Where it cannot, writing will tell.
func (p *partial) reserve(i int) {
	allocate(p.f, p.start(i), p.end(i)-p.start(i))
}

// mark records a chunk whose bytes are written.
func (p *partial) mark(i int) error {
	if _, err := p.f.WriteAt([]byte{1}, p.size+int64(len(trailerMagic)+i)); err != nil {
		return cacheError(err)
	}
	p.mu.Lock()
	p.done[i] = 1
	p.mu.Unlock()
	p.cond.Broadcast()
	return nil
}

// stop tells hash that no more chunks come.
func (p *partial) stop() {
	p.mu.Lock()
	p.dead = true
	p.mu.Unlock()
	p.cond.Broadcast()
}

// wait returns when chunk i is there, false if it never will be.
func (p *partial) wait(i int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.done[i] == 0 && !p.dead {
		p.cond.Wait()
	}
	return p.done[i] == 1
}

// sumPiece is how much of the content sum takes at a time, in bytes: less than a
// processor's cache holds, so that whoever comes after the hash finds it there.
const sumPiece = 1 << 20

// sum feeds w with the content in order, each chunk as soon as it is there, when
// its bytes still are in memory. false: the content never became whole.
func (p *partial) sum(w io.Writer) (whole bool, err error) {
	v, release := view(p.f, p.size)
	defer release()
	// A disk that fails shows as a fault of the memory that stands for it.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch r := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }:
			whole, err = false, fault.New(fault.General, "reading %s back: the file cannot be read, or was cut", p.path)
		default:
			panic(r)
		}
	}()
	var buf []byte
	if v == nil {
		buf = make([]byte, sumPiece)
	}
	for i := range p.done {
		if !p.wait(i) {
			return false, nil
		}
		for off := p.start(i); off < p.end(i); {
			n := min(sumPiece, p.end(i)-off)
			b := buf
			if v != nil {
				b = v[off : off+n]
			} else if m, err := p.f.ReadAt(b[:n], off); int64(m) < n {
				return false, fault.Wrap(fault.General, err, "reading %s back", p.path)
			}
			if _, err := w.Write(b[:n]); err != nil {
				return false, err
			}
			off += n
		}
	}
	return true, nil
}

// commit gives the complete file its name.
func (p *partial) commit(path, dir string) error {
	err := p.f.Truncate(p.size)
	if cerr := p.f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		_ = os.Chmod(p.path, fileMode(dir))
		err = os.Rename(p.path, path)
	}
	return cacheError(err)
}

// discard removes what was downloaded.
func (p *partial) discard() {
	p.f.Close()
	_ = os.Remove(p.path)
}
