package testspace

import (
	"os"

	"golang.org/x/sys/unix"
)

// room is how much has to be free in a folder in memory, in bytes: containers
// often have 64 MiB there.
const room = 4 << 30

// inMemory returns a folder in memory with room; "" if there is none.
func inMemory() string {
	const dir = "/dev/shm"
	var s unix.Statfs_t
	if unix.Statfs(dir, &s) != nil || s.Type != unix.TMPFS_MAGIC || s.Bavail*uint64(s.Bsize) < room {
		return ""
	}
	try, err := os.MkdirTemp(dir, "neuroseal")
	if err != nil {
		return ""
	}
	if os.Remove(try) != nil {
		return ""
	}
	return dir
}
