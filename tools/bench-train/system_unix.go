//go:build unix

package main

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
)

// cpuSeconds is what this process has used, on all threads.
func cpuSeconds() float64 {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return float64(r.Utime.Nano()+r.Stime.Nano()) / 1e9
}

// peakMiB is this process's largest resident set.
func peakMiB() float64 {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	if runtime.GOOS == "darwin" {
		return float64(r.Maxrss) / (1 << 20) // there in bytes
	}
	return float64(r.Maxrss) / (1 << 10)
}

// load is the machine's load average over a minute, 0 where the system does not
// say.
func load() float64 {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	var v float64
	fmt.Sscan(string(raw), &v)
	return v
}
