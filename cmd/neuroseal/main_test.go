package main

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/testspace"
)

// failEnv makes the command fail in tests, at its n-th operation on the file
// system: "kill:n" exits as if killed, "nospace:n" lets the disk be full from
// then on, "interrupt:n" sends the process a SIGINT. The product knows no such
// variable: the hook is set here.
const failEnv = "NEUROSEAL_TEST_FAIL"

const killedCode = 77

// costEnv lets passphrases cost as much in tests as they do elsewhere, if set.
const costEnv = "NEUROSEAL_TEST_SCRYPT"

// TestMain lets the test binary itself be the command that scripts run.
func TestMain(m *testing.M) {
	testscript.Main(tests{m}, map[string]func(){
		"neuroseal": func() {
			setHook(os.Getenv(failEnv))
			if os.Getenv(costEnv) == "" {
				workFactor = 4
			}
			main()
		},
		"agekeygen": ageKeygen,
		"say":       func() { fmt.Println(strings.Join(os.Args[1:], " ")) },
	})
}

// tests has room, which the command that scripts run does not share.
type tests struct{ m *testing.M }

func (t tests) Run() int {
	testspace.Take()
	return t.m.Run()
}

func setHook(how string) {
	what, at, ok := strings.Cut(how, ":")
	n, err := strconv.ParseInt(at, 10, 64)
	if !ok || err != nil || n < 1 {
		return
	}
	var count atomic.Int64
	var once sync.Once
	atomicdir.Hook = func(op, _ string) error {
		k := count.Add(1)
		switch {
		case k < n:
		case what == "kill":
			os.Exit(killedCode)
		case what == "nospace" && op != "remove":
			return syscall.ENOSPC
		case what == "interrupt":
			once.Do(interruptSelf)
		}
		return nil
	}
}

// interruptSelf returns when the signal has been delivered.
func interruptSelf() {
	got := make(chan os.Signal, 1)
	signal.Notify(got, os.Interrupt)
	if p, err := os.FindProcess(os.Getpid()); err == nil {
		_ = p.Signal(os.Interrupt)
	}
	<-got
	time.Sleep(50 * time.Millisecond) // for the command's own handler to cancel the work
	signal.Stop(got)
}

// ageKeygen writes a new age identity, a post-quantum one if "pq" follows, to
// the file in its argument and prints its recipient.
func ageKeygen() {
	secret, public, err := ageKey(len(os.Args) > 2 && os.Args[2] == "pq")
	if err == nil {
		err = os.WriteFile(os.Args[1], []byte(secret+"\n"), 0o600)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(public)
}

func ageKey(hybrid bool) (secret, public string, err error) {
	if hybrid {
		id, err := age.GenerateHybridIdentity()
		if err != nil {
			return "", "", err
		}
		return id.String(), id.Recipient().String(), nil
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return "", "", err
	}
	return id.String(), id.Recipient().String(), nil
}
