//go:build unix

package atomicdir

import (
	"errors"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

var noSpace = []error{unix.ENOSPC, unix.EDQUOT}

// tryLock locks f without waiting. Parallel file systems of clusters may know no
// locks; there two runs with one destination are the user's to avoid.
func tryLock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return errBusy
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.ENOLCK):
		return nil
	}
	return err
}

// fsync also works on folders, whose entries it brings to the disk. Some
// network file systems cannot do that and say EINVAL.
func fsync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOTSUP) {
		return err
	}
	return nil
}

func free(path string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, err
	}
	blocks, size := uint64(st.Bavail), uint64(st.Bsize)
	if size != 0 && blocks > math.MaxInt64/size {
		return math.MaxInt64, nil
	}
	return int64(blocks * size), nil
}
