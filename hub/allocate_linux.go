package hub

import (
	"os"

	"golang.org/x/sys/unix"
)

// allocate reserves disk for a range of a file within its size, as far as the file
// system can.
func allocate(f *os.File, off, n int64) {
	_ = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, off, n)
}
