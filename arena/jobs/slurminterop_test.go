//go:build interop && linux

package jobs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// slurmCluster is a real Slurm on this machine: one controller and one node, with
// an authentication daemon and a configuration of its own.
type slurmCluster struct {
	t             *testing.T // at whose end the daemons end
	dir           string
	control, node *exec.Cmd
}

// newSlurm starts the daemons in a temporary folder.
func newSlurm(t *testing.T) *slurmCluster {
	t.Helper()
	missing := t.Skipf
	switch os.Getenv("NEUROSEAL_SLURM") {
	case "none":
		t.Skip("NEUROSEAL_SLURM=none")
	case "1":
		missing = t.Fatalf
	}
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	for _, daemon := range []string{"slurmctld", "slurmd", "munged", "sbatch"} {
		if _, err := exec.LookPath(daemon); err != nil {
			missing("there is no %s here; interop/slurm.sh installs it", daemon)
		}
	}
	if os.Getuid() != 0 {
		missing("Slurm's daemons need root")
	}
	dir, err := os.MkdirTemp("", "nsslurm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		endSteps(dir)
		os.RemoveAll(dir)
	})
	s := &slurmCluster{t: t, dir: dir}
	s.configure(t)
	s.munge(t, missing)
	s.controller()
	s.worker()
	until(t, "the node is idle", func() bool { return strings.HasPrefix(s.run("sinfo", "--noheader", "--format=%t"), "idle") })
	return s
}

// endSteps ends what slurmd has left running: its step daemons have our
// configuration in their environment or their arguments.
func endSteps(dir string) {
	names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range names {
		b, _ := os.ReadFile(name)
		env, _ := os.ReadFile(filepath.Join(filepath.Dir(name), "environ"))
		var pid int
		fmt.Sscanf(name, "/proc/%d/", &pid)
		if strings.HasPrefix(string(b), "slurmstepd") && strings.Contains(string(b)+string(env), dir) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// configure writes slurm.conf. Jobs end soon after they are told to.
func (s *slurmCluster) configure(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	host, _, _ = strings.Cut(host, ".")
	for _, d := range []string{"state", "spool"} {
		if err := os.Mkdir(filepath.Join(s.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// Processes of this test may have to go through /tmp/nsslurm…, made 0700.
	if err := os.Chmod(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	conf := fmt.Sprintf(`ClusterName=test
SlurmctldHost=%[1]s(127.0.0.1)
SlurmUser=root
SlurmctldPort=%[3]d
SlurmdPort=%[4]d
AuthType=auth/munge
AuthInfo=socket=%[2]s/munge/socket
CryptoType=crypto/munge
StateSaveLocation=%[2]s/state
SlurmdSpoolDir=%[2]s/spool
SlurmctldPidFile=%[2]s/slurmctld.pid
SlurmdPidFile=%[2]s/slurmd.pid
SlurmctldLogFile=%[2]s/slurmctld.log
SlurmdLogFile=%[2]s/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
SchedulerParameters=sched_interval=1,batch_sched_delay=0
KillWait=3
MinJobAge=300
InactiveLimit=0
SlurmdTimeout=300
MailProg=/bin/true
NodeName=%[1]s NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes=%[1]s Default=YES MaxTime=INFINITE State=UP
`, host, s.dir, freePort(t), freePort(t))
	path := filepath.Join(s.dir, "slurm.conf")
	if err := os.WriteFile(path, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SLURM_CONF", path)
}

// munge starts the authentication daemon with a key of its own, as the user
// munge, who must own all that it uses.
func (s *slurmCluster) munge(t *testing.T, missing func(string, ...any)) {
	owner, err := user.Lookup("munge")
	if err != nil {
		missing("no user for the authentication daemon: %v", err)
	}
	var uid, gid int
	fmt.Sscan(owner.Uid, &uid)
	fmt.Sscan(owner.Gid, &gid)
	dir := filepath.Join(s.dir, "munge")
	key := filepath.Join(dir, "key")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(key, []byte(randomName(64)), 0o400),
		os.Chown(dir, uid, gid), os.Chown(key, uid, gid)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("munged", "--foreground", "--force", "--key-file="+key, "--socket="+dir+"/socket",
		"--pid-file="+dir+"/pid", "--log-file="+dir+"/log", "--seed-file="+dir+"/seed", "--num-threads=2")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	daemon(t, cmd)
	until(t, "munged listens", func() bool { _, err := os.Stat(dir + "/socket"); return err == nil })
}

// daemon starts a process that ends with the test.
func daemon(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM // should this test be killed
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { endDaemon(cmd, syscall.SIGTERM) })
}

func endDaemon(cmd *exec.Cmd, signal syscall.Signal) {
	if cmd.ProcessState == nil {
		_ = cmd.Process.Signal(signal)
		_ = cmd.Wait()
	}
}

func (s *slurmCluster) controller() {
	s.control = exec.Command("slurmctld", "-D")
	daemon(s.t, s.control)
	until(s.t, "the controller answers", func() bool { return strings.Contains(s.run("scontrol", "ping"), "is UP") })
}

func (s *slurmCluster) worker() {
	s.node = exec.Command("slurmd", "-D")
	daemon(s.t, s.node)
}

// run runs one of Slurm's commands.
func (s *slurmCluster) run(name string, args ...string) string {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return err.Error() + ": " + string(out)
	}
	return string(out)
}

func slurmRunnerFor(parallel int) maker {
	return func(t *testing.T, folder string) Runner {
		r, err := Slurm(SlurmOptions{Options: quick(folder), Parallel: parallel})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}

func TestSlurmInterop(t *testing.T) {
	s := newSlurm(t)
	scenarios(t, "slurm", slurmRunnerFor(2))
	t.Run("node", s.testNode)
	t.Run("controller", s.testController)
	t.Run("forgotten", s.testForgotten)
	t.Run("refused", s.testRefused)
	t.Run("foreign", s.testForeign)
	t.Run("throttle", s.testThrottle)
}

// testNode: the node under a job goes down; the job runs again when it is back.
func (s *slurmCluster) testNode(t *testing.T) {
	dir := t.TempDir()
	name := strings.TrimSpace(s.run("sinfo", "--noheader", "--format=%N"))
	j := &journal{t: t, when: map[State]func(Event){Running: func(Event) {
		until(t, "it runs", func() bool { return len(starts(dir, "mover")) == 1 })
		t.Log(s.run("scontrol", "update", "nodename="+name, "state=down", "reason=test"))
		open(t, dir)
	}, Lost: func(Event) {
		// With ReturnToService=2 it is back by itself as soon as it reports.
		s.run("scontrol", "update", "nodename="+name, "state=resume")
	}}}
	if err := slurmRunnerFor(0)(t, filepath.Join(dir, "run")).Run(t.Context(), []Job{gated(dir, "mover")}, j.report); err != nil {
		t.Error(err)
	}
	if !j.has("mover", Lost) || len(starts(dir, "mover")) != 2 {
		t.Errorf("events: %v, starts %v", j.events, starts(dir, "mover"))
	}
}

// testController: the controller is killed under a job and started again with
// its state; the job is followed to its end and not started twice.
func (s *slurmCluster) testController(t *testing.T) {
	dir := t.TempDir()
	j := &journal{t: t, when: map[State]func(Event){Running: func(Event) {
		until(t, "it runs", func() bool { return len(starts(dir, "a")) == 1 })
		until(t, "the controller has saved that", func() bool {
			return modified(filepath.Join(s.dir, "state", "job_state")).After(modified(filepath.Join(dir, "a.starts")))
		})
		endDaemon(s.control, syscall.SIGKILL)
		time.AfterFunc(3*time.Second, func() { open(t, dir); s.controller() })
	}}}
	if err := slurmRunnerFor(0)(t, filepath.Join(dir, "run")).Run(t.Context(), []Job{gated(dir, "a"), gated(dir, "b"), gated(dir, "c")}, j.report); err != nil {
		t.Error(err)
	}
	for _, n := range []string{"a", "b", "c"} {
		if len(starts(dir, n)) != 1 {
			t.Errorf("%s was started %d times", n, len(starts(dir, n)))
		}
	}
}

func modified(path string) time.Time {
	st, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return st.ModTime()
}

// testForgotten: the controller comes back without its state: what it does not
// know any more is submitted again; and where it stays away, the run can be
// resumed.
func (s *slurmCluster) testForgotten(t *testing.T) {
	dir := t.TempDir()
	o := quick(filepath.Join(dir, "run"))
	o.Patience = 2 * time.Second
	r, err := Slurm(SlurmOptions{Options: o})
	if err != nil {
		t.Fatal(err)
	}
	j := &journal{t: t, when: map[State]func(Event){Running: func(Event) {
		until(t, "it runs", func() bool { return len(starts(dir, "a")) == 1 })
		endDaemon(s.control, syscall.SIGKILL)
	}}}
	list := []Job{gated(dir, "a"), gated(dir, "b"), gated(dir, "c")}
	wantResumable(t, r.Run(t.Context(), list, j.report))
	endDaemon(s.node, syscall.SIGKILL)
	open(t, dir)
	if err := errors.Join(os.RemoveAll(filepath.Join(s.dir, "state")), os.Mkdir(filepath.Join(s.dir, "state"), 0o755)); err != nil {
		t.Fatal(err)
	}
	s.controller()
	s.worker()
	if err := r.Run(t.Context(), list, j.report); err != nil {
		t.Error(err)
	}
}

// testRefused: a job that the cluster cannot run does not keep others from it.
func (s *slurmCluster) testRefused(t *testing.T) {
	dir := t.TempDir()
	huge := write(dir, "huge")
	huge.CPUs = 4096
	j := &journal{t: t}
	o := quick(filepath.Join(dir, "run"))
	o.Patience = 2 * time.Second
	r, err := Slurm(SlurmOptions{Options: o})
	if err != nil {
		t.Fatal(err)
	}
	err = r.Run(t.Context(), []Job{huge, write(dir, "small")}, j.report)
	if err == nil || !j.has("huge", Failed) || !j.has("small", Done) {
		t.Errorf("events: %v, error: %v", j.events, err)
	}
}

// testForeign: somebody else cancels a job with Slurm's own command.
func (s *slurmCluster) testForeign(t *testing.T) {
	dir := t.TempDir()
	j := &journal{t: t, when: map[State]func(Event){Running: func(Event) { t.Log(s.run("scancel", "--user=root")) }}}
	err := slurmRunnerFor(0)(t, filepath.Join(dir, "run")).Run(t.Context(), []Job{gated(dir, "a")}, j.report)
	if err == nil || !j.has("a", Cancelled) {
		t.Errorf("events: %v, error: %v", j.events, err)
	}
}

// testThrottle: %1 lets one task run at a time although the node has room for two.
func (s *slurmCluster) testThrottle(t *testing.T) {
	dir := t.TempDir()
	busy := filepath.Join(dir, "busy")
	var list []Job
	for i := range 3 {
		list = append(list, script(dir, fmt.Sprint("t", i), `mkdir `+quote(busy)+` || exit 9; sleep 0.5; rmdir `+quote(busy)+`; echo ok >"$R"`))
	}
	if err := slurmRunnerFor(1)(t, filepath.Join(dir, "run")).Run(context.Background(), list, nil); err != nil {
		t.Error(err)
	}
}
