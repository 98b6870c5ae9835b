package neuroseal

import (
	"fmt"
	"hash/crc32"
	"strings"
	"sync"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/manifest"
)

// checksums collects a CRC-32C of every tensor before and after editing, so
// that a file whose SHA-256 differs can be traced to the tensor. SHA-256
// decides whether bytes are right; the CRC only says where they are not.
type checksums struct {
	mu  sync.Mutex
	sum map[string]*manifest.Checksum
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func newChecksums() *checksums { return &checksums{sum: map[string]*manifest.Checksum{}} }

// wrap returns an editor that also keeps the tensor's checksums.
func (c *checksums) wrap(t checkpoint.Tensor, ed checkpoint.Editor) checkpoint.Editor {
	s := &manifest.Checksum{Tensor: t.Name, Original: crcText(0), Sealed: crcText(0)}
	c.mu.Lock()
	c.sum[t.Name] = s
	c.mu.Unlock()
	return &summing{sum: s, ed: ed}
}

type summing struct {
	sum           *manifest.Checksum
	ed            checkpoint.Editor
	before, after uint32
}

func (s *summing) Edit(start int64, buf []byte) error {
	s.before = crc32.Update(s.before, castagnoli, buf)
	s.sum.Original = crcText(s.before)
	if s.ed == nil {
		s.after, s.sum.Sealed = s.before, s.sum.Original
		return nil
	}
	if err := s.ed.Edit(start, buf); err != nil {
		return err
	}
	s.after = crc32.Update(s.after, castagnoli, buf)
	s.sum.Sealed = crcText(s.after)
	return nil
}

func crcText(v uint32) string { return fmt.Sprintf("%08x", v) }

// list returns the checksums in the checkpoint's order.
func (c *checksums) list(ck *checkpoint.Checkpoint) []manifest.Checksum {
	var out []manifest.Checksum
	for _, t := range ck.Tensors() {
		if s := c.sum[t.Name]; s != nil {
			out = append(out, *s)
		}
	}
	return out
}

// blame names the tensors of a file whose checksum is not the recorded one,
// for the end of an error message.
func (c *checksums) blame(man *manifest.Manifest, ck *checkpoint.Checkpoint, file string, restored bool) string {
	var bad []string
	want := map[string]manifest.Checksum{}
	for _, s := range man.Checksums {
		want[s.Tensor] = s
	}
	found := false
	for _, t := range ck.Tensors() {
		if ck.Shards()[t.Shard].Path != file {
			continue
		}
		found = true
		got, w := c.sum[t.Name], want[t.Name]
		// The sums of an unlock run the other way: what comes in is sealed.
		if got != nil && (!restored && got.Original != w.Sealed || restored && got.Sealed != w.Original) {
			bad = append(bad, t.Name)
		}
	}
	switch {
	case !found:
		return ""
	case len(bad) == 0:
		return "; all tensors are as recorded, so the header differs"
	case len(bad) > 4:
		return fmt.Sprintf("; tensors %s and %d more differ", strings.Join(bad[:4], ", "), len(bad)-4)
	}
	return "; it differs in tensor " + strings.Join(bad, ", ")
}
