package jobs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// toolTime is how long one of Slurm's commands may take.
const toolTime = 60 * time.Second

// What Slurm's commands say when the controller is out of reach, and when the
// queue takes no more for now. Their exit status is 1 either way.
var (
	outageWords = []string{
		"Unable to contact slurm controller", "Socket timed out", "Connection refused", "Connection reset",
		"Connection timed out", "Resource temporarily unavailable", "Zero Bytes were transmitted", "Transport endpoint",
		"Unexpected message received", "Communication connection failure", "Message receive failure", "Message send failure",
		"Protocol authentication error", "Invalid authentication credential", "not responding",
		"Munge encode failed", "Unable to establish", "in standby mode",
	}
	fullWords = []string{
		"MaxSubmit", "SubmitJobLimit", "SubmitLimit", "submit limit", "temporarily unable to accept job", "job limit",
		"MaxJobCount", "MaxArraySize", "MaxJobsPer",
	}
)

// tool runs one of Slurm's commands and returns what it prints.
func tool(ctx context.Context, name string, args ...string) (string, error) {
	limited, done := context.WithTimeout(ctx, toolTime)
	defer done()
	cmd := exec.CommandContext(limited, name, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	cmd.Env = append(os.Environ(), "LC_ALL=C", "SLURM_TIME_FORMAT=standard")
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	switch {
	case err == nil:
		return string(out), nil
	case ctx.Err() != nil:
		return "", ctx.Err()
	case limited.Err() != nil:
		return "", outage{err: fmt.Errorf("%s did not answer within %v", name, toolTime)}
	}
	said := strings.TrimSpace(stderr.String())
	holds := func(word string) bool { return strings.Contains(said, word) }
	all := fault.Wrap(fault.General, err, "%s: %s", name, short(said))
	switch {
	case slices.ContainsFunc(fullWords, holds):
		return "", fmt.Errorf("%w: %w", errFull, all)
	case slices.ContainsFunc(outageWords, holds):
		return "", outage{err: all}
	}
	return "", all
}

// ask asks how many tasks an array may have, and whether memory is known.
func (c *slurm) ask(ctx context.Context) error {
	if c.largest > 0 {
		return nil
	}
	out, err := tool(ctx, "scontrol", "show", "config")
	if err != nil {
		return err
	}
	nodes, err := tool(ctx, "sinfo", "--noheader", "--Node", "--format=%m")
	if ctx.Err() != nil || errors.As(err, new(outage)) {
		return err
	}
	c.memory = err != nil || memoryKnown(nodes) // no sinfo: what is stated is right as a rule
	c.largest = arraySize(out)
	return nil
}

// memoryKnown reads the nodes' memory, a number of MB in each line. Where nobody
// has configured it (RealMemory) it is 1 MB, and Slurm would refuse every job
// that states what it needs.
func memoryKnown(nodes string) bool {
	lines := strings.Fields(nodes)
	return len(lines) == 0 || slices.ContainsFunc(lines, func(mb string) bool { return mb != "1" })
}

// arraySize reads MaxArraySize, which indices stay below. The default is 1001.
func arraySize(config string) int {
	for line := range strings.Lines(config) {
		key, value, _ := strings.Cut(line, "=")
		if strings.TrimSpace(key) == "MaxArraySize" {
			if n, err := strconv.Atoi(strings.TrimSpace(value)); err == nil && n > 0 {
				return min(n, 10000)
			}
		}
	}
	return 1000
}

// row is a task in squeue's list.
type row struct{ array, index, state, reason, name string }

func (r row) id() string { return r.array + "_" + r.index }

// squeue lists the user's tasks, one line each.
func (c *slurm) squeue(ctx context.Context) ([]row, error) {
	out, err := tool(ctx, "squeue", "--noheader", "--array", "--user="+strconv.Itoa(os.Getuid()), "--format=%F|%K|%T|%r|%j")
	if err != nil {
		return nil, err
	}
	return parseQueue(out), nil
}

// parseQueue reads lines of the format above. The name, which may hold
// anything, stands last.
func parseQueue(out string) []row {
	var rows []row
	for line := range strings.Lines(out) {
		f := strings.SplitN(strings.TrimSpace(line), "|", 5)
		if len(f) == 5 {
			rows = append(rows, row{f[0], f[1], f[2], f[3], f[4]})
		}
	}
	return rows
}

// live says whether the task has not ended.
func (r row) live() bool {
	switch r.state {
	case "PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT",
		"REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESIZING", "RESV_DEL_HOLD", "SPECIAL_EXIT":
		return true
	}
	return false
}

// hopeless are reasons for which a task that waits may wait forever.
var hopeless = []string{"BadConstraints", "PartitionConfig", "PartitionTimeLimit", "PartitionNodeLimit", "InvalidAccount",
	"InvalidQOS", "DependencyNeverSatisfied", "JobLaunchFailure", "launch failed requeued held"}

// waits says whether a live task has not started.
func (r row) waits() bool {
	switch r.state {
	case "PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT":
		return true
	}
	return false
}

// fates says what became of tasks that left the queue, as far as Slurm knows.
// Where it keeps no accounts, the controller knows for some minutes.
func (c *slurm) fates(ctx context.Context, ids []string) (map[string]status, error) {
	fates := map[string]status{}
	for part := range slices.Chunk(ids, 500) {
		out, err := tool(ctx, "sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State,ExitCode",
			"--jobs="+strings.Join(part, ","))
		if err != nil {
			break // no accounts, or no sacct
		}
		parseAccounts(out, fates)
	}
	for _, id := range ids {
		if _, told := fates[id]; told {
			continue
		}
		out, err := tool(ctx, "scontrol", "--oneliner", "show", "job", id)
		var unclear outage
		if errors.As(err, &unclear) || ctx.Err() != nil {
			return nil, err
		}
		if err == nil { // else the job is not known any more
			if s, ended := fate(field(out, "JobState"), field(out, "ExitCode")); ended {
				fates[id] = s
			}
		}
	}
	return fates, nil
}

// parseAccounts reads sacct's lines, such as "12_3|CANCELLED by 1000|0:15".
func parseAccounts(out string, fates map[string]status) {
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSpace(line), "|")
		if len(f) != 3 {
			continue
		}
		if s, ended := fate(f[1], f[2]); ended {
			fates[f[0]] = s
		}
	}
}

// field returns the value of key in "key=value key=value …".
func field(text, key string) string {
	for word := range strings.FieldsSeq(text) {
		if v, ok := strings.CutPrefix(word, key+"="); ok {
			return v
		}
	}
	return ""
}

// fate translates a final state and an exit code such as "1:0" (status:signal).
func fate(state, exit string) (s status, ended bool) {
	word, _, _ := strings.Cut(strings.TrimSuffix(state, "+"), " ")
	err := fmt.Errorf("Slurm says %s (exit %s)", state, exit)
	switch word {
	case "COMPLETED":
		return status{phase: succeeded}, true
	case "CANCELLED":
		return status{stoppedBy, err}, true
	case "TIMEOUT", "DEADLINE", "OUT_OF_MEMORY":
		return status{failed, err}, true
	case "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "REVOKED":
		return status{gone, err}, true
	case "FAILED":
		code, signal, _ := strings.Cut(exit, ":")
		if n, _ := strconv.Atoi(code); killedByCode(n) || signal == "9" || signal == "15" {
			return status{gone, err}, true
		}
		return status{failed, err}, true
	}
	return status{}, false
}
