package jobs

import (
	"strings"
	"testing"
)

func TestFate(t *testing.T) {
	for _, c := range []struct {
		state, exit string
		want        phase
		ended       bool
	}{
		{"COMPLETED", "0:0", succeeded, true},
		{"FAILED", "3:0", failed, true},
		{"FAILED", "0:9", gone, true},
		{"FAILED", "137:0", gone, true},
		{"FAILED", "0:53", failed, true}, // its output file could not be opened
		{"CANCELLED by 1000", "0:15", stoppedBy, true},
		{"CANCELLED+", "0:0", stoppedBy, true},
		{"TIMEOUT", "0:0", failed, true},
		{"OUT_OF_MEMORY", "0:125", failed, true},
		{"NODE_FAIL", "0:0", gone, true},
		{"PREEMPTED", "0:0", gone, true},
		{"BOOT_FAIL", "0:0", gone, true},
		{"RUNNING", "0:0", 0, false},
		{"PENDING", "0:0", 0, false},
		{"", "", 0, false},
	} {
		if s, ended := fate(c.state, c.exit); ended != c.ended || ended && s.phase != c.want {
			t.Errorf("%s %s: %v, %v; want %v, %v", c.state, c.exit, s.phase, ended, c.want, c.ended)
		}
	}
}

func TestParseQueue(t *testing.T) {
	rows := parseQueue("12|0|RUNNING|None|neuroseal-a|b\n\nnonsense\n12|1|PENDING|Resources|x\n13|N/A|PENDING|launch failed requeued held|y\n")
	if len(rows) != 3 || rows[0].name != "neuroseal-a|b" || rows[0].id() != "12_0" || !rows[1].waits() || rows[0].waits() || !rows[2].live() {
		t.Errorf("rows are %+v", rows)
	}
	if (row{state: "COMPLETED"}).live() || (row{state: "TIMEOUT"}).live() {
		t.Error("an ended task is live")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("12|0|RUNNING|None|name\n")
	f.Add("12_3|CANCELLED by 0|0:15\n")
	f.Add("JobId=1 JobState=FAILED ExitCode=1:0")
	f.Add("MaxArraySize = 1001\n")
	f.Fuzz(func(t *testing.T, s string) {
		if rows := parseQueue(s); len(rows) > strings.Count(s, "|")/4 {
			t.Errorf("%d rows", len(rows))
		}
		parseAccounts(s, map[string]status{})
		fate(field(s, "JobState"), field(s, "ExitCode"))
		if n := arraySize(s); n < 1 || n > 10000 {
			t.Errorf("array size %d", n)
		}
	})
}

func TestArraySize(t *testing.T) {
	for config, want := range map[string]int{
		"":                                 1000,
		"MaxArraySize            = 1001\n": 1001,
		"MaxArraySize = 0\n":               1000,
		"MaxArraySize = 4000001\n":         10000,
	} {
		if got := arraySize(config); got != want {
			t.Errorf("%q: %d, want %d", config, got, want)
		}
	}
}

// TestOutput: Slurm replaces % in the whole path.
func TestOutput(t *testing.T) {
	if got := (&batch{folder: "/a%A/b"}).output(); got != "/a%%A/b/slurm-%A_%a.out" {
		t.Error(got)
	}
	if got := (&batch{folder: `/a\b`}).output(); strings.Contains(got, "slurm") {
		t.Error(got)
	}
}
