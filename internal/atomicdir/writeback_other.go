//go:build !linux

package atomicdir

import "os"

// startWriteBack does nothing: the system decides when to write.
func startWriteBack(*os.File, int64, int64) {}
