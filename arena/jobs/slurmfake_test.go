//go:build linux

package jobs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fakeTools are Slurm's commands as shell scripts over files in $FAKE:
// queue/ID_INDEX holds a squeue line's end, acct/ID_INDEX sacct's, and
// sbatch.1, squeue.2 … what the first, second … call complains of. The script
// behave says what becomes of a task.
var fakeTools = map[string]string{
	"head": `#!/bin/sh
tool=${0##*/}
echo "$*" >>"$FAKE/$tool.calls"
n=$(wc -l <"$FAKE/$tool.calls"); n=$((n))
fail() { cat "$FAKE/$tool.$n" >&2; exit 1; }
`,
	"sbatch": `for a; do
  case $a in
  --array=*) last=${a#--array=0-}; last=${last%%%*} ;;
  --job-name=*) name=${a#*=} ;;
  esac
  script=$a
done
max=$(cat "$FAKE/max" 2>/dev/null || echo 1000)
used=$(ls "$FAKE/queue" | wc -l)
if [ $((last + 1 + used)) -gt $max ]; then
  echo "sbatch: error: AssocMaxSubmitJobLimit" >&2
  echo "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)" >&2
  exit 1
fi
[ -f "$FAKE/$tool.$n" ] && [ ! -f "$FAKE/unclear" ] && fail
id=$((100 + n)) i=0
while [ $i -le $last ]; do
  export SLURM_ARRAY_TASK_ID=$i TASK=${id}_$i NAME=$name SCRIPT=$script
  sh "$FAKE/behave" </dev/null >/dev/null 2>&1
  i=$((i + 1))
done
[ -f "$FAKE/$tool.$n" ] && fail
echo "$id;cluster"
`,
	"squeue": `[ -f "$FAKE/$tool.$n" ] && fail
for f in "$FAKE"/queue/*; do
  [ -f "$f" ] || continue
  t=${f##*/}
  echo "${t%_*}|${t#*_}|$(cat "$f")"
  [ -f "$FAKE/sticky" ] || rm "$f"
done
exit 0
`,
	"sacct": `[ -f "$FAKE/accounts" ] || { echo "Slurm accounting storage is disabled" >&2; exit 1; }
for f in "$FAKE"/acct/*; do [ -f "$f" ] && echo "${f##*/}|$(cat "$f")"; done
exit 0
`,
	"scontrol": `case $* in
*config) echo "MaxArraySize            = 5" ;;
*) for id; do :; done
  [ -f "$FAKE/acct/$id" ] || { echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1; }
  IFS='|' read -r state code <"$FAKE/acct/$id"
  echo "JobId=7 ArrayJobId=7 JobName=a b JobState=$state Reason=x ExitCode=$code" ;;
esac
`,
	"sinfo": `cat "$FAKE/memory" 2>/dev/null || echo 64000
`,
	"scancel": `for t; do rm -f "$FAKE/queue/$t"; done
`,
}

// What may become of a task.
const (
	runs      = `sh "$SCRIPT"` + "\n"
	vanishes  = "exit 0\n"
	queuesFor = `echo "PENDING|%s|$NAME" >"$FAKE/queue/$TASK"` + "\n"
	endsAs    = `echo '%s' >"$FAKE/acct/$TASK"` + "\n"
)

// once is what a task does the first time, and then.
func once(first, then string) string {
	return `if mkdir "$FAKE/once.$SLURM_ARRAY_TASK_ID"; then` + "\n" + first + "else\n" + then + "fi\n"
}

type fakeSlurm struct {
	t    *testing.T
	dir  string
	jobs string
}

func newFakeSlurm(t *testing.T, behave string) *fakeSlurm {
	t.Helper()
	f := &fakeSlurm{t: t, dir: t.TempDir(), jobs: t.TempDir()}
	bin := t.TempDir()
	for name, text := range fakeTools {
		if name != "head" {
			if err := os.WriteFile(filepath.Join(bin, name), []byte(fakeTools["head"]+text), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, d := range []string{"queue", "acct"} {
		if err := os.Mkdir(filepath.Join(f.dir, d), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	f.put("behave", behave)
	t.Setenv("FAKE", f.dir)
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	return f
}

func (f *fakeSlurm) put(name, text string) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o666); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fakeSlurm) calls(tool string) []string {
	b, _ := os.ReadFile(filepath.Join(f.dir, tool+".calls"))
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

// run runs n jobs that write their names.
func (f *fakeSlurm) run(n int, change func(*SlurmOptions)) (*journal, error) {
	f.t.Helper()
	o := SlurmOptions{Options: Options{Folder: filepath.Join(f.jobs, "run"), Poll: 2 * time.Millisecond, Settle: 10 * time.Millisecond,
		Patience: 30 * time.Second}, Parallel: 2, Partition: "p q", Account: "a;b", Extra: []string{"--qos=$(x)"}}
	if change != nil {
		change(&o)
	}
	r, err := Slurm(o)
	if err != nil {
		f.t.Fatal(err)
	}
	var list []Job
	for i := range n {
		list = append(list, write(f.jobs, fmt.Sprintf("j%d", i), hostile...))
	}
	j := &journal{t: f.t}
	return j, r.Run(f.t.Context(), list, j.report)
}

func (f *fakeSlurm) wantDone(j *journal, err error, n int) {
	f.t.Helper()
	if err != nil {
		f.t.Error(err)
	}
	for i := range n {
		if name := fmt.Sprintf("j%d", i); !j.has(name, Done) || len(starts(f.jobs, name)) != 1 {
			f.t.Errorf("%s: %v, started %d times", name, j.states(name), len(starts(f.jobs, name)))
		}
	}
}

func TestSlurmArrays(t *testing.T) {
	f := newFakeSlurm(t, runs)
	j, err := f.run(12, nil) // MaxArraySize is 5
	f.wantDone(j, err, 12)
	calls := f.calls("sbatch")
	if len(calls) != 3 {
		t.Fatalf("%d calls of sbatch", len(calls))
	}
	for i, want := range []string{"--array=0-4%2", "--array=0-4%2", "--array=0-1%2"} {
		for _, w := range []string{want, "--parsable", "--no-requeue", "--partition=p q", "--account=a;b", "--qos=$(x)", "--cpus-per-task=1"} {
			if !strings.Contains(calls[i], w) {
				t.Errorf("call %d lacks %s: %s", i, w, calls[i])
			}
		}
	}
}

// TestSlurmMemory: what a job needs is stated where Slurm knows what nodes have;
// where it does not, it would refuse the job.
func TestSlurmMemory(t *testing.T) {
	for nodes, want := range map[string]bool{"64000": true, "1\n64000+": true, "1": false, "1\n1": false} {
		f := newFakeSlurm(t, runs)
		f.put("memory", nodes+"\n")
		r, err := Slurm(SlurmOptions{Options: Options{Folder: filepath.Join(f.jobs, "run"), Poll: 2 * time.Millisecond}})
		if err != nil {
			t.Fatal(err)
		}
		job := write(f.jobs, "j")
		job.Memory = 1 << 30
		if err := r.Run(t.Context(), []Job{job}, nil); err != nil {
			t.Error(err)
		}
		if got := strings.Contains(f.calls("sbatch")[0], "--mem=1048576K"); got != want {
			t.Errorf("nodes with %q MB: memory stated: %v", nodes, got)
		}
	}
}

// TestSlurmTrouble: outages and a full queue are waited for; no job is started
// twice.
func TestSlurmTrouble(t *testing.T) {
	const contact = "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)\n"
	for name, prepare := range map[string]func(*fakeSlurm){
		"controller away": func(f *fakeSlurm) {
			f.put("sbatch.1", contact)
			f.put("sbatch.2", "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n")
			f.put("squeue.1", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n")
			f.put("squeue.4", "slurm_load_jobs error: Socket timed out on send/recv operation\n")
		},
		"answer lost": func(f *fakeSlurm) {
			f.put("unclear", "")
			f.put("sticky", "")
			f.put("sbatch.1", "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n")
			f.put("behave", fmt.Sprintf(queuesFor, "None")+runs)
		},
		"full queue": func(f *fakeSlurm) { f.put("max", "2") },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeSlurm(t, runs)
			prepare(f)
			j, err := f.run(4, nil)
			f.wantDone(j, err, 4)
		})
	}
}

func TestSlurmGivesUp(t *testing.T) {
	f := newFakeSlurm(t, runs)
	for i := range 100 {
		f.put(fmt.Sprint("squeue.", i+1), "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n")
	}
	_, err := f.run(1, func(o *SlurmOptions) { o.Patience = 5 * time.Millisecond })
	wantResumable(t, err)
}

// TestSlurmLosses: what is lost is tried again, what failed is not.
func TestSlurmLosses(t *testing.T) {
	for _, c := range []struct {
		name, behave string
		accounts     bool
		want         []State
	}{
		{"vanished", once(vanishes, runs), false, []State{Queued, Lost, Queued, Done}},
		{"preempted", once(fmt.Sprintf(endsAs, "PREEMPTED|0:0"), runs), true, []State{Queued, Lost, Queued, Done}},
		{"node failed, no accounts", once(fmt.Sprintf(endsAs, "NODE_FAIL|0:0"), runs), false, []State{Queued, Lost, Queued, Done}},
		{"over its time", fmt.Sprintf(endsAs, "TIMEOUT|0:0"), true, []State{Queued, Failed}},
		{"out of memory, no accounts", fmt.Sprintf(endsAs, "OUT_OF_MEMORY|0:125"), false, []State{Queued, Failed}},
		{"cancelled by somebody", fmt.Sprintf(endsAs, "CANCELLED by 7|0:15"), true, []State{Queued, Cancelled}},
		{"always lost", fmt.Sprintf(endsAs, "NODE_FAIL|0:0"), true, []State{Queued, Lost, Queued, Lost, Queued, Failed}},
		{"never starts", fmt.Sprintf(queuesFor, "BadConstraints"), true, []State{Queued, Failed}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFakeSlurm(t, c.behave)
			if c.accounts {
				f.put("accounts", "")
			}
			change := func(o *SlurmOptions) { o.Retries = 2 }
			if c.name == "never starts" {
				f.put("sticky", "")
				change = func(o *SlurmOptions) { o.Patience = 10 * time.Millisecond }
			}
			j, err := f.run(1, change)
			if got := j.states("j0"); fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("states %v, want %v", got, c.want)
			}
			if done := c.want[len(c.want)-1] == Done; done != (err == nil) {
				t.Errorf("error is %v", err)
			}
		})
	}
}

// TestSlurmRefuses: a lasting refusal fails the jobs at once.
func TestSlurmRefuses(t *testing.T) {
	f := newFakeSlurm(t, runs)
	f.put("sbatch.1", "sbatch: error: invalid partition specified: p q\n")
	j, err := f.run(2, nil)
	if err == nil || !strings.Contains(err.Error(), "invalid partition") || !j.has("j0", Failed) || !j.has("j1", Failed) {
		t.Errorf("events %v, error %v", j.events, err)
	}
}

func TestSlurmIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := Slurm(SlurmOptions{}); err == nil || !strings.Contains(err.Error(), "there is no sbatch here") {
		t.Errorf("error is %v", err)
	}
}
