// Package testspace gives tests room, so that they spend their time on what they
// test: hundreds of small checkpoints are written, read once and removed.
package testspace

import (
	"os"
	"runtime/debug"
)

// heap bounds what is allocated between two collections of garbage, in bytes.
const heap = 512 << 20

// Take lets a process of tests collect garbage only when there is much of it,
// and puts its temporary files into memory where the system has a folder for
// that with room, unless the environment says where to or how. TestMain calls it
// first; what a test measures of memory belongs into a process of its own.
func Take() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(-1)
		debug.SetMemoryLimit(heap)
	}
	if dir := inMemory(); dir != "" && os.Getenv("TMPDIR") == "" {
		// A test's own processes put theirs there, too.
		_ = os.Setenv("TMPDIR", dir)
	}
}
