package atomicdir

import (
	"os"

	"golang.org/x/sys/unix"
)

// startWriteBack starts writing a range to the disk without waiting for it. It
// is only a matter of speed, so errors are left for fsync to report.
func startWriteBack(f *os.File, off, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}
