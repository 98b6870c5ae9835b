//go:build unix

package jobs

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// exe is this test program, to run one of its tests in another process.
func exe(t *testing.T, test string) *exec.Cmd {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exec.Command(path, "-test.run=^"+test+"$", "-test.v")
}

func wantResumable(t *testing.T, err error) {
	t.Helper()
	if err == nil || !strings.Contains(fault.HintOf(err), "the run can be resumed") {
		t.Errorf("error is %v, hint %q; want one that says that the run can be resumed", err, fault.HintOf(err))
	}
}
