//go:build !unix

package jobs

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
)

var errBusy = errors.New("locked by another process")

// Without inherited locks a job that outlives us is not found again: it may run
// twice, and the result that is renamed into place last stays.
func tryLock(*os.File) error          { return nil }
func separate(*exec.Cmd, *os.File)    {}
func recordGroup(*os.File, *exec.Cmd) {}
func endOrphan(*os.File)              {}
func askGroup(cmd *exec.Cmd)          { killGroup(cmd) }
func killRest(*exec.Cmd)              {}

// killGroup ends the process and its children.
func killGroup(cmd *exec.Cmd) {
	_ = exec.Command("taskkill", "/T", "/F", "/PID", strconv.Itoa(cmd.Process.Pid)).Run()
	_ = cmd.Process.Kill()
}
