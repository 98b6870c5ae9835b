//go:build !linux

package hub

import "os"

func allocate(*os.File, int64, int64) {}
