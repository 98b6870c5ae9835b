//go:build !unix

package trl

import (
	"os"
	"os/exec"
)

func ownGroup(*exec.Cmd) {}

// terminate ends the process; its children end when their standard input closes.
func terminate(p *os.Process) error { return p.Kill() }

func kill(*os.Process) {}
