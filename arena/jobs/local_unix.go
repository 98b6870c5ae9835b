//go:build unix

package jobs

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

var errBusy = errors.New("locked by another process")

// tryLock locks f without waiting. File systems that know no locks cannot tell
// that a job still runs.
func tryLock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return errBusy
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.ENOLCK):
		return nil
	}
	return err
}

// separate puts the command into a process group of its own, so that Ctrl-C on
// the terminal reaches it through us only, and lets it inherit the lock, which
// is free when the last process that has it ends.
func separate(cmd *exec.Cmd, lock *os.File) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.ExtraFiles = []*os.File{lock}
}

// recordGroup writes the process group into the lock file, for endOrphan.
func recordGroup(lock *os.File, cmd *exec.Cmd) {
	if lock.Truncate(0) == nil {
		_, _ = lock.WriteAt(strconv.AppendInt(nil, int64(cmd.Process.Pid), 10), 0)
	}
}

// endOrphan ends the processes that hold the lock: as long as they do, the
// process group that the file names is theirs.
func endOrphan(lock *os.File) {
	b, _ := io.ReadAll(io.LimitReader(lock, 32))
	if pid, err := strconv.Atoi(string(bytes.TrimSpace(b))); err == nil && pid > 1 {
		_ = syscall.Kill(-pid, syscall.SIGTERM)
	}
}

func askGroup(cmd *exec.Cmd)  { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
func killGroup(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }

// killRest kills what an ended job left in the background.
func killRest(cmd *exec.Cmd) { killGroup(cmd) }
