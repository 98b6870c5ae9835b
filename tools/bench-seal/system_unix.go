//go:build unix

package main

import (
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// peakMiB is the largest resident set of a process that has ended. It starts
// as that of its parent, which is therefore kept small.
func peakMiB(p *os.ProcessState) float64 {
	usage, ok := p.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0
	}
	if runtime.GOOS == "darwin" {
		return float64(usage.Maxrss) / (1 << 20) // there in bytes
	}
	return float64(usage.Maxrss) / (1 << 10)
}

// syncDisks waits until everything written is on the disk.
func syncDisks() { unix.Sync() }
