//go:build interop && linux

// Package clustertest starts a real Ray and a real Slurm on this machine, for
// tests. Each has a configuration, ports and a folder of its own, so that tests
// of several packages may run at the same time, and ends with its test.
package clustertest

import (
	"net"
	"testing"
	"time"
)

// Until waits for what another process does, two minutes at most. It must be
// called by the test's own goroutine.
func Until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	if !within(ok) {
		t.Fatalf("waited in vain until %s", what)
	}
}

func within(ok func() bool) bool {
	for end := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
