//go:build !linux && !darwin && !freebsd

package hub

import "os"

// view is for systems on which memory is known to show what is written.
func view(*os.File, int64) (b []byte, release func()) { return nil, func() {} }
