//go:build interop && linux

package clustertest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Slurm is a real Slurm on this machine: one controller and one node, with
// an authentication daemon and a configuration of its own.
type Slurm struct {
	t             *testing.T // at whose end the daemons end
	Dir           string     // of the configuration and the state
	control, node *exec.Cmd
}

// NewSlurm starts the daemons in a temporary folder, with SLURM_CONF set. Where
// they are missing the test is skipped, or fails if NEUROSEAL_SLURM is 1.
func NewSlurm(t *testing.T) *Slurm {
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
	s := &Slurm{t: t, Dir: dir}
	s.configure(t)
	s.munge(t, missing)
	s.StartController()
	s.StartNode()
	Until(t, "the node is idle", func() bool { return strings.HasPrefix(s.Run("sinfo", "--noheader", "--format=%t"), "idle") })
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
func (s *Slurm) configure(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	host, _, _ = strings.Cut(host, ".")
	for _, d := range []string{"state", "spool"} {
		if err := os.Mkdir(filepath.Join(s.Dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// Processes of this test may have to go through /tmp/nsslurm…, made 0700.
	if err := os.Chmod(s.Dir, 0o755); err != nil {
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
NodeName=%[1]s NodeAddr=127.0.0.1 CPUs=2 RealMemory=2048 State=UNKNOWN
PartitionName=main Nodes=%[1]s Default=YES MaxTime=INFINITE State=UP
`, host, s.Dir, freePort(t), freePort(t))
	path := filepath.Join(s.Dir, "slurm.conf")
	if err := os.WriteFile(path, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SLURM_CONF", path)
}

// munge starts the authentication daemon with a key of its own, as the user
// munge, who must own all that it uses.
func (s *Slurm) munge(t *testing.T, missing func(string, ...any)) {
	owner, err := user.Lookup("munge")
	if err != nil {
		missing("no user for the authentication daemon: %v", err)
	}
	var uid, gid int
	fmt.Sscan(owner.Uid, &uid)
	fmt.Sscan(owner.Gid, &gid)
	dir := filepath.Join(s.Dir, "munge")
	key := filepath.Join(dir, "key")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(key, []byte(rand.Text()+rand.Text()), 0o400),
		os.Chown(dir, uid, gid), os.Chown(key, uid, gid)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("munged", "--foreground", "--force", "--key-file="+key, "--socket="+dir+"/socket",
		"--pid-file="+dir+"/pid", "--log-file="+dir+"/log", "--seed-file="+dir+"/seed", "--num-threads=2")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	daemon(t, cmd)
	Until(t, "munged listens", func() bool { _, err := os.Stat(dir + "/socket"); return err == nil })
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

// StartController starts slurmctld and waits until it answers.
func (s *Slurm) StartController() {
	s.control = exec.Command("slurmctld", "-D")
	daemon(s.t, s.control)
	// A test may call this from another goroutine, which must not end the test.
	if !within(func() bool { return strings.Contains(s.Run("scontrol", "ping"), "is UP") }) {
		s.t.Error("the controller does not answer")
	}
}

// StartNode starts slurmd.
func (s *Slurm) StartNode() {
	s.node = exec.Command("slurmd", "-D")
	daemon(s.t, s.node)
}

// Run runs one of Slurm's commands.
func (s *Slurm) Run(name string, args ...string) string {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return err.Error() + ": " + string(out)
	}
	return string(out)
}

// KillController kills slurmctld.
func (s *Slurm) KillController() { endDaemon(s.control, syscall.SIGKILL) }

// KillNode kills slurmd. The jobs go on.
func (s *Slurm) KillNode() { endDaemon(s.node, syscall.SIGKILL) }
