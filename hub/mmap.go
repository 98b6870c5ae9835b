//go:build linux || darwin || freebsd

package hub

import (
	"os"

	"golang.org/x/sys/unix"
)

// view shows the first size bytes of a file as memory: what is written to the
// file shows up there. It returns nil where that cannot be; release ends it.
func view(f *os.File, size int64) (b []byte, release func()) {
	n := int(size)
	if n <= 0 || int64(n) != size {
		return nil, func() {}
	}
	b, err := unix.Mmap(int(f.Fd()), 0, n, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, func() {}
	}
	return b, func() { _ = unix.Munmap(b) }
}
