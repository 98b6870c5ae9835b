//go:build !amd64

package tensor

import "testing"

func wideOff(*testing.T, func(t *testing.T)) {}

func eachKernel(b *testing.B, f func(b *testing.B)) { f(b) }
