//go:build !unix

package main

import "os"

// peakMiB is not known on this system.
func peakMiB(*os.ProcessState) float64 { return 0 }

// syncDisks does nothing: this system has no call for it.
func syncDisks() {}
